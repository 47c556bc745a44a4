"""Every segment of some videos, a chunk at a time: what prediction reads.

A chunk holds a fixed number of segments, whatever the length of the videos, so memory stays flat.
What needs a video whole (attention over its segments) goes through groups of whole videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer, normalised
from whenabouts.feed.gather import Gatherer

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

MAX_PADDING = 4  # padded, the segments of a group then take less room than the frames of a chunk


@dataclass(frozen=True)
class SegmentChunk:
    """Segments first .. first + B of the table."""

    first: int
    features: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]


@dataclass(frozen=True)
class VideoGroup:
    """B whole videos: the N segments first .. end of the table.

    segment_mask has N places that are True; read row by row they are in the order of the table.
    A group holds at most a chunk of segments, and a video longer than that alone; padded it is at
    most MAX_PADDING times a chunk.
    """

    first: int
    end: int
    segment_mask: Bool[Tensor, "B S"]


class SegmentChunks:
    """The segments of the given videos of a corpus, in the order of `corpus.segments(rows)`."""

    unit = "segments"

    def __init__(
        self, corpus: Corpus, rows: NDArray[np.int64], device: torch.device, chunk_size: int = 512
    ) -> None:
        self.table = corpus.segments(rows)
        self._corpus, self._rows, self._device = corpus, rows, device
        self._chunk_size, self._grid = chunk_size, corpus.dataset.grid
        self._gatherer, self._buffer = Gatherer(corpus, streams=True), BatchBuffer(device)

    def chunks(self, first: int, end: int) -> Iterator[SegmentChunk]:
        """The segments first .. end of the table."""
        for start in range(first, end, self._chunk_size):
            yield self._chunk(start, min(start + self._chunk_size, end))

    def groups(self, first: int, end: int) -> Iterator[VideoGroup]:
        """The videos that begin in first .. end, whole, as few groups as their size allows.

        Blocks that cut the table thus cut it between videos.
        """
        video, last = np.searchsorted(self._bounds, (first, end)).tolist()
        while video < last:
            bounds = self._bounds[video : self._group_end(video, last) + 1]
            counts = np.diff(bounds)
            mask = torch.from_numpy(np.arange(counts.max()) < counts[:, None])
            yield VideoGroup(int(bounds[0]), int(bounds[-1]), mask.to(self._device))
            video += len(counts)

    def _group_end(self, video: int, last: int) -> int:
        """The video before which a group that begins with `video` ends."""
        counts = np.diff(self._bounds[video : min(video + self._chunk_size, last) + 1])
        padded = np.maximum.accumulate(counts) * np.arange(1, len(counts) + 1)
        fits = (counts.cumsum() <= self._chunk_size) & (padded <= MAX_PADDING * self._chunk_size)
        return video + max(int(fits.sum()), 1)

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """The rows of the table where a video begins, and the end of the table."""
        return np.append(np.flatnonzero(np.diff(self.table.video, prepend=-1)), len(self.table))

    def _chunk(self, first: int, end: int) -> SegmentChunk:
        video, length = self.table.video[first:end], self._grid.num_frames
        first_frame = self._grid.first_frame(self.table.starts_s[first:end])
        block = self._buffer.take((end - first, length, self._corpus.dataset.width))
        out = block.numpy().reshape(-1, self._corpus.dataset.width)
        count = self._gatherer.gather_segments(self._rows[video], first_frame, length, out)
        mask = torch.from_numpy(np.arange(length) < count[:, None])
        mask = mask.to(self._device)
        frames = block.to(self._device, non_blocking=True)
        return SegmentChunk(first, normalised(frames, mask, self._corpus.dataset), mask)
