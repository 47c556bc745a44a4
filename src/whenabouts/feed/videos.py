"""Whole videos as batches: their segments, packed; their labels; their rated pairs, if any.

The segments of all videos of a batch lie one after another, without padding between videos: `place`
says where each belongs in a padded array [B videos, S segments]. Only a partial last segment has
padded frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import SegmentLabels
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer, normalised
from whenabouts.feed.gather import Gatherer
from whenabouts.feed.labels import flat_places, video_labels
from whenabouts.feed.order import ShuffledOrder

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class VideoBatch:
    """B videos of N segments in all, T frames each; C classes of the video head.

    num_videos, num_rated: videos and rated segments of the batch over all processes.
    """

    features: Float[Tensor, "N T D"]
    mask: Bool[Tensor, "N T"]
    place: Int[Tensor, " N"]
    segment_mask: Bool[Tensor, "B S"]
    labels: Float[Tensor, "B C"]
    pair_segment: Int[Tensor, " P"]
    pair_class: Int[Tensor, " P"]
    pair_label: Float[Tensor, " P"]
    pair_weight: Float[Tensor, " P"]
    num_videos: int
    num_rated: int
    pseudo: PseudoPairs | None = None


@dataclass(frozen=True)
class PseudoPairs:
    """The pseudo-labelled pairs of a batch, apart from the rated ones.

    num_segments: segments of the batch, over all processes, that have such a pair.
    """

    segment: Int[Tensor, " P"]
    column: Int[Tensor, " P"]
    label: Float[Tensor, " P"]
    weight: Float[Tensor, " P"]
    num_segments: int


@dataclass(frozen=True)
class Drawing:
    """Which segments of a video are in a batch, drawn anew for each.

    max_segments: at most so many of a video (0: all of them); rated ones come first. shift: a
    window begins up to so many frames off the grid, either way, within the video.
    """

    max_segments: int = 0
    shift: int = 0


@dataclass(frozen=True)
class _Pairs:
    """Pairs sorted by (row, start); of corpus row r: offsets[r] .. offsets[r + 1]."""

    offsets: NDArray[np.int64]
    segment: NDArray[np.int64]
    column: NDArray[np.int64]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]


class Videos:
    """Shuffled batches of some videos of a corpus: a function of the step.

    rated: pairs that carry a segment loss, if any: they are of the grid, which nothing may shift
    then. pseudo: more of them, kept apart; they give no segment a place in a draw.
    """

    def __init__(
        self,
        corpus: Corpus,
        rows: NDArray[np.int64],
        classes: ClassOrder,
        video_classes: ClassOrder,
        order: ShuffledOrder,
        device: torch.device,
        rated: SegmentLabels | None = None,
        drawing: Drawing = Drawing(),
        pseudo: SegmentLabels | None = None,
    ) -> None:
        assert order.num_examples == len(rows)
        assert rated is None or not drawing.shift
        self._corpus, self._rows, self._order, self._device = corpus, rows, order, device
        self._video_classes, self._drawing = video_classes, drawing
        self._grid, self._width = corpus.grid, corpus.dataset.width
        self._gatherer, self._buffer = Gatherer(corpus), BatchBuffer(device)
        self._pairs = _sorted_pairs(corpus, classes, rated)
        self._pseudo = None if pseudo is None else _sorted_pairs(corpus, classes, pseudo)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, step: int, rank: int = 0, size: int = 1) -> VideoBatch:
        """This process's share (of `size`) of the videos of batch `step`."""
        whole = self._rows[self._order.batch(step)]
        draw = np.random.default_rng([self._order.seed, step])
        all_chosen = self._choose(whole, draw)
        all_starts = self._starts(whole, all_chosen, draw)
        rows, chosen = whole[rank::size], all_chosen[rank::size]
        video, _ = np.nonzero(chosen)
        pair_segment, pair = _pairs_in(self._pairs, rows, chosen)
        frames, mask = self._frames(rows[video], all_starts[rank::size][chosen])
        pairs = self._pairs
        return VideoBatch(
            features=normalised(frames, mask, self._corpus.dataset),
            mask=mask,
            place=self._on_device(_places(chosen)),
            segment_mask=self._on_device(_segment_mask(chosen)),
            labels=self._on_device(video_labels(self._corpus, rows, self._video_classes)),
            pair_segment=self._on_device(pair_segment),
            pair_class=self._on_device(pairs.column[pair]),
            pair_label=self._on_device(pairs.label[pair]),
            pair_weight=self._on_device(pairs.weight[pair]),
            num_videos=len(whole),
            num_rated=int(_has_pair(self._pairs, whole, self._counts(whole)).sum()),
            pseudo=self._pseudo_pairs(whole, all_chosen, rank, size),
        )

    def _pseudo_pairs(
        self, whole: NDArray[np.int64], chosen: NDArray[np.bool_], rank: int, size: int
    ) -> PseudoPairs | None:
        pairs = self._pseudo
        if pairs is None:
            return None
        segment, pair = _pairs_in(pairs, whole[rank::size], chosen[rank::size])
        return PseudoPairs(
            segment=self._on_device(segment),
            column=self._on_device(pairs.column[pair]),
            label=self._on_device(pairs.label[pair]),
            weight=self._on_device(pairs.weight[pair]),
            num_segments=int((_has_pair(pairs, whole, self._counts(whole)) & chosen).sum()),
        )

    def _counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._grid.count(self._corpus.num_frames[rows])

    def _choose(self, rows: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.bool_]:
        """Which segments of each video are in the batch [B, S].

        The draw covers the whole batch, so that it does not depend on who computes which part.
        """
        counts = self._counts(rows)
        real = np.arange(int(counts.max())) < counts[:, None]
        most = self._drawing.max_segments
        if not most or counts.max() <= most:
            return real
        lot = draw.random(real.shape)
        lot = np.where(_has_pair(self._pairs, rows, counts), lot - 1, lot)
        lot = np.where(real, lot, np.inf)
        last = np.partition(lot, most - 1, axis=1)[:, most - 1]
        chosen: NDArray[np.bool_] = real & (lot <= last[:, None])
        return chosen

    def _starts(
        self, rows: NDArray[np.int64], chosen: NDArray[np.bool_], draw: np.random.Generator
    ) -> NDArray[np.int64]:
        """The first frame of each segment of each video [B, S]; as with the choice, all of them."""
        length, shift = self._grid.num_frames, self._drawing.shift
        starts = np.broadcast_to(np.arange(chosen.shape[1]) * length, chosen.shape)
        if not shift:
            return starts
        last = np.maximum(self._corpus.num_frames[rows].astype(np.int64) - length, 0)
        moved = starts + draw.integers(-shift, shift, chosen.shape, endpoint=True)
        inside: NDArray[np.int64] = np.clip(moved, 0, last[:, None])
        return inside

    def _frames(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Bytes [N, T, D] and mask [N, T] of the segment from frame starts[n] of video rows[n]."""
        length = self._grid.num_frames
        block = self._buffer.take((len(rows), length, self._width))
        count = self._gatherer.gather_segments(
            rows, starts, length, block.numpy().reshape(-1, self._width)
        )
        mask = self._on_device(np.arange(length) < count[:, None])
        return block.to(self._device, non_blocking=True), mask

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _sorted_pairs(corpus: Corpus, classes: ClassOrder, rated: SegmentLabels | None) -> _Pairs:
    if rated is None:
        nothing = np.zeros(0, np.int64)
        zeros = np.zeros(len(corpus) + 1, np.int64)
        return _Pairs(zeros, nothing, nothing, nothing.astype("f4"), nothing.astype("f4"))
    row, column = corpus.rows_of(rated.video), classes.columns(rated.class_id)
    known = np.flatnonzero((row >= 0) & (column >= 0))
    kept = known[np.lexsort((column[known], rated.start_s[known], row[known]))]
    counts = np.bincount(row[kept], minlength=len(corpus))
    return _Pairs(
        offsets=np.r_[0, np.cumsum(counts)],
        segment=rated.start_s[kept] // corpus.dataset.segment_s,
        column=column[kept],
        label=rated.score[kept],
        weight=rated.weight[kept],
    )


def _has_pair(
    pairs: _Pairs, rows: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """True at the segments of each video that have a pair [B, S]."""
    found = np.zeros((len(rows), int(counts.max())), bool)
    video, pair = flat_places(pairs.offsets, rows)
    found[video, pairs.segment[pair]] = True
    return found


def _pairs_in(
    pairs: _Pairs, rows: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(index among the chosen segments, index among all pairs) of the pairs of these videos."""
    video, pair = flat_places(pairs.offsets, rows)
    packed = np.cumsum(chosen.ravel()).reshape(chosen.shape) - 1
    segment = pairs.segment[pair]
    kept = chosen[video, segment]
    return packed[video, segment][kept], pair[kept]


def _places(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where each chosen segment stands in the padded array [B, S'], S' the most of any video."""
    position = np.cumsum(chosen, axis=1) - 1
    most = int(chosen.sum(axis=1).max(initial=0))
    return (position + np.arange(len(chosen))[:, None] * most)[chosen]


def _segment_mask(chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    counts = chosen.sum(axis=1)
    mask: NDArray[np.bool_] = np.arange(int(counts.max(initial=0))) < counts[:, None]
    return mask
