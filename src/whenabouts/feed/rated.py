"""Rated segments as batches: the frames of each segment and its rated (segment, class) pairs.

A split that fits the budget is gathered once and kept on the device (RAM or GPU) as bytes; a larger
one is gathered batch by batch. Both give the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError
from whenabouts.core.labels import SegmentLabels
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer, normalised
from whenabouts.feed.gather import Gatherer
from whenabouts.feed.labels import outside_labels
from whenabouts.models.logistic import mean_over_frames

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor

RESIDENT_BYTES = 4 << 30
LOAD_SIZE = 4096


@dataclass(frozen=True)
class RatedBatch:
    """B segments and their P rated pairs. `num_segments` counts the batch over all processes.

    outside: which of the C classes the labels of a segment's video leave out, if asked for.
    """

    features: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    pair_segment: Int[Tensor, " P"]
    pair_class: Int[Tensor, " P"]
    pair_label: Float[Tensor, " P"]
    pair_weight: Float[Tensor, " P"]
    num_segments: int
    outside: Bool[Tensor, "B C"] | None = None


def evaluated_pairs(
    corpus: Corpus, labels: SegmentLabels, classes: ClassOrder, of: str = "the chosen splits"
) -> tuple[SegmentLabels, NDArray[np.int64]]:
    """The pairs of these classes, and the column of each; of: where they are from, for people.

    Raises CorpusError if there is none.
    """
    column = classes.columns(labels.class_id)
    if not (column >= 0).any():
        raise CorpusError(
            f"no rated segment of an evaluated class in {of}",
            where=corpus.path,
            remedy="index shards with rated segments as --validate, and check the class file",
        )
    return labels.take(column >= 0), column[column >= 0]


class RatedSegments:
    """The S rated segments of some videos of a corpus, with random access by segment.

    `labels` holds their rated pairs, in the order of the segments.
    """

    def __init__(
        self,
        corpus: Corpus,
        labels: SegmentLabels,
        classes: ClassOrder,
        device: torch.device,
        resident_bytes: int = RESIDENT_BYTES,
        *,
        averaged: bool = False,
        with_outside: bool = False,
    ) -> None:
        """labels: pairs of segments of the corpus; of other classes than `classes` are dropped.

        averaged: batches hold the mean of each segment's features as its one frame, for a model
        that needs no more; a resident split then keeps the means. with_outside: batches say which
        classes the labels of their videos leave out. Raises CorpusError if a segment is not in the
        corpus, or if no pair is left.
        """
        self._grid = corpus.grid  # before all else: without segments there is nothing to rate
        labels, column = evaluated_pairs(corpus, labels, classes)
        self._corpus, self._classes, self._device = corpus, classes, device
        self._with_outside = with_outside
        self._gatherer, self._buffer = Gatherer(corpus), BatchBuffer(device)
        self._group(labels, column)
        self._averaged, frame_bytes = averaged, 4 if averaged else self._grid.num_frames
        self.bytes = len(self) * frame_bytes * corpus.dataset.width
        self._resident: Tensor | None = None
        if self.bytes <= resident_bytes:
            self._resident = self._load()
            self._buffer = BatchBuffer(device)  # the first may be as large as the split

    def _load(self) -> Tensor:
        """All segments on the device: bytes [S, T, D], or means [S, 1, D]."""
        everything = np.arange(len(self))
        if not self._averaged:
            return self._gather(everything).to(self._device)
        parts = np.array_split(everything, -(-len(self) // LOAD_SIZE))
        return torch.cat([self._features(part)[0] for part in parts])

    def _group(self, labels: SegmentLabels, column: NDArray[np.int64]) -> None:
        """Sort the pairs by segment; segments in the order of the corpus."""
        row = self._rows_of(labels)
        order = np.lexsort((column, labels.start_s, row))
        segment = np.stack([row, labels.start_s], axis=1)[order]
        is_first = np.r_[True, (segment[1:] != segment[:-1]).any(axis=1)]
        self.labels = labels.take(order)
        self._row, self._start_s = segment[is_first].T
        self._pair_offset = np.r_[np.flatnonzero(is_first), len(order)]
        self._pair_class = column[order]
        self._first = self._grid.first_frame(self._start_s)
        left = self._corpus.num_frames[self._row] - self._first
        self._count = np.minimum(left, self._grid.num_frames)

    def _rows_of(self, labels: SegmentLabels) -> NDArray[np.int64]:
        """The video row of each pair."""
        row = self._corpus.rows_of(labels.video)
        first = self._grid.first_frame(labels.start_s)
        outside = (row < 0) | (first < 0) | (first >= self._corpus.num_frames[row])
        if outside.any():
            at = int(outside.argmax())
            raise CorpusError(
                f"it has no segment {labels.video[at].decode()}:{labels.start_s[at]}",
                where=self._corpus.path,
                rule="labels are of segments of the corpus",
            )
        return row

    def __len__(self) -> int:
        return len(self._row)

    def pairs_of(self, first: int, end: int) -> slice:
        """Where the pairs of segments first .. end stand in `labels`."""
        return slice(int(self._pair_offset[first]), int(self._pair_offset[end]))

    @property
    def is_resident(self) -> bool:
        return self._resident is not None

    def _gather(self, segments: NDArray[np.int64]) -> UInt8[Tensor, "B T D"]:
        length, width = self._grid.num_frames, self._corpus.dataset.width
        block = self._buffer.take((len(segments), length, width))
        out = block.numpy().reshape(-1, width)
        rows, first = self._row[segments], self._first[segments]
        self._gatherer.gather_segments(rows, first, length, out)
        return block

    def _features(self, segments: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Features and mask of the segments: [B, T, D] and [B, T], or T = 1 if averaged."""
        mask = self._to_device(np.arange(self._grid.num_frames) < self._count[segments][:, None])
        kept = None
        if self._resident is not None:
            kept = self._resident.index_select(0, self._to_device(segments))
        if kept is not None and self._averaged:
            return kept, mask[:, :1]
        frames = (
            self._gather(segments).to(self._device, non_blocking=True) if kept is None else kept
        )
        features = normalised(frames, mask, self._corpus.dataset)
        if not self._averaged:
            return features, mask
        return mean_over_frames(features, mask).unsqueeze(1), mask[:, :1]

    def batch(self, segments: NDArray[np.int64], num_segments: int | None = None) -> RatedBatch:
        """The given segments (indices into this set), features ready for a model."""
        offset, end = self._pair_offset[segments], self._pair_offset[segments + 1]
        num_pairs = end - offset
        pair_segment = np.repeat(np.arange(len(segments)), num_pairs)
        within = np.arange(len(pair_segment)) - np.repeat(
            np.cumsum(num_pairs) - num_pairs, num_pairs
        )
        pair = np.repeat(offset, num_pairs) + within
        features, mask = self._features(segments)
        return RatedBatch(
            features,
            mask,
            self._to_device(pair_segment),
            self._to_device(self._pair_class[pair]),
            self._to_device(self.labels.score[pair]),
            self._to_device(self.labels.weight[pair]),
            num_segments or len(segments),
            self._outside(segments) if self._with_outside else None,
        )

    def _outside(self, segments: NDArray[np.int64]) -> Bool[Tensor, "B C"]:
        return self._to_device(outside_labels(self._corpus, self._row[segments], self._classes))

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
