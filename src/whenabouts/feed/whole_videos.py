"""Whole videos as their frames: what a video classifier reads.

Training draws a fixed number of frames of each video, with replacement (Skalic & Austin 2018: 300).
Prediction reads all frames of every video, in order. A video-level corpus has one frame a video,
which is taken as it is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.segments import SegmentTable
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer, normalised
from whenabouts.feed.gather import Gatherer
from whenabouts.feed.labels import video_labels
from whenabouts.feed.order import ShuffledOrder

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

NUM_DRAWN = 300
MAX_FRAMES = 2560  # those of 512 segments: on a CPU, larger chunks leave the cache and cost more
DRAWS = 1  # tells the draw of frames from the order of videos, which has the same seed


@dataclass(frozen=True)
class DrawnBatch:
    """B videos of T frames each, and their labels as 0 and 1 in the order of the video classes.

    Frames rise in time, so that a recurrent model sees them in order; mask is True throughout.
    num_videos: videos of the batch over all processes.
    """

    features: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    labels: Float[Tensor, "B C"]
    num_videos: int


class DrawnVideos:
    """Shuffled batches of drawn frames of some videos of a corpus: a function of the step.

    num_frames: how many are drawn of each video. A video-level corpus has one, and none is drawn.
    """

    def __init__(
        self,
        corpus: Corpus,
        rows: NDArray[np.int64],
        classes: ClassOrder,
        order: ShuffledOrder,
        device: torch.device,
        num_frames: int = NUM_DRAWN,
    ) -> None:
        assert order.num_examples == len(rows)
        assert num_frames >= 1
        self._corpus, self._rows, self._order, self._device = corpus, rows, order, device
        self._classes = classes
        self._num_frames = 1 if corpus.dataset.is_video_level else num_frames
        self._gatherer, self._buffer = Gatherer(corpus), BatchBuffer(device, corpus.dataset.dtype)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, step: int, rank: int = 0, size: int = 1) -> DrawnBatch:
        """This process's share (of `size`) of the videos of batch `step`."""
        whole = self._rows[self._order.batch(step)]
        rows, drawn = whole[rank::size], self._draw(whole, step)[rank::size]
        block = self._buffer.take((*drawn.shape, self._corpus.dataset.width))
        self._gatherer.gather_drawn(rows, drawn, block.numpy())
        mask = torch.ones(drawn.shape, dtype=torch.bool, device=self._device)
        frames = block.to(self._device, non_blocking=True)
        labels = torch.from_numpy(video_labels(self._corpus, rows, self._classes))
        return DrawnBatch(
            features=normalised(frames, mask, self._corpus.dataset),
            mask=mask,
            labels=labels.to(self._device),
            num_videos=len(whole),
        )

    def _draw(self, rows: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Frames of each video [B, T], rising.

        The draw covers the whole batch, so that it does not depend on who computes which part.
        """
        lengths, shape = self._corpus.num_frames[rows], (len(rows), self._num_frames)
        if self._corpus.dataset.is_video_level:
            return np.zeros(shape, np.int64)
        draw = np.random.default_rng([self._order.seed, step, DRAWS])
        return np.sort(draw.integers(0, lengths[:, None], shape), axis=1)


@dataclass(frozen=True)
class VideoChunk:
    """Videos first .. first + B of the table; T frames are those of the longest of them."""

    first: int
    features: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]


class VideoChunks:
    """All frames of the given videos of a corpus, in order, a chunk of videos at a time.

    A chunk has at most max_frames frames, padding included, whatever the length of the videos, so
    that memory stays flat; a video that is longer is a chunk of its own. `table` has a row a video.
    """

    unit = "videos"

    def __init__(
        self,
        corpus: Corpus,
        rows: NDArray[np.int64],
        device: torch.device,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        assert max_frames >= 1
        self.table = SegmentTable.of_videos(corpus.video_ids[rows])
        self._corpus, self._rows, self._device = corpus, rows, device
        self._max_frames = max_frames
        self._gatherer = Gatherer(corpus, streams=True)
        self._buffer = BatchBuffer(device, corpus.dataset.dtype)

    def chunks(self, first: int, end: int) -> Iterator[VideoChunk]:
        """The videos first .. end of the table."""
        while first < end:
            stop = first + self._count(first, end)
            yield self._chunk(first, stop)
            first = stop

    def _count(self, first: int, end: int) -> int:
        """How many videos from `first` on make a chunk: at least one."""
        most = min(end, first + self._max_frames)  # every video has a frame
        lengths = self._corpus.num_frames[self._rows[first:most]].astype(np.int64)
        padded = np.maximum.accumulate(lengths) * np.arange(1, len(lengths) + 1)
        return max(1, int(np.searchsorted(padded, self._max_frames, side="right")))

    def _chunk(self, first: int, stop: int) -> VideoChunk:
        rows, width = self._rows[first:stop], self._corpus.dataset.width
        lengths = self._corpus.num_frames[rows].astype(np.int64)
        longest = int(lengths.max())
        block = self._buffer.take((len(rows), longest, width))
        starts, slots = np.zeros_like(lengths), np.arange(len(rows)) * longest
        self._gatherer.gather(rows, starts, lengths, slots, block.numpy().reshape(-1, width))
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None]).to(self._device)
        frames = block.to(self._device, non_blocking=True)
        return VideoChunk(first, normalised(frames, mask, self._corpus.dataset), mask)
