"""Every segment of some videos, a chunk at a time: what prediction reads.

A chunk holds a fixed number of segments, whatever the length of the videos, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SegmentChunk:
    """Segments first .. first + B of the table."""

    first: int
    features: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]


class SegmentChunks:
    """The segments of the given videos of a corpus, in the order of `corpus.segments(rows)`."""

    def __init__(
        self, corpus: Corpus, rows: NDArray[np.int64], device: torch.device, chunk_size: int = 4096
    ) -> None:
        self.table = corpus.segments(rows)
        self._corpus, self._rows, self._device = corpus, rows, device
        self._chunk_size, self._grid = chunk_size, corpus.dataset.grid
        self._gatherer, self._buffer = Gatherer(corpus), BatchBuffer(device)

    def chunks(self, first: int, end: int) -> Iterator[SegmentChunk]:
        """The segments first .. end of the table."""
        for start in range(first, end, self._chunk_size):
            yield self._chunk(start, min(start + self._chunk_size, end))

    def _chunk(self, first: int, end: int) -> SegmentChunk:
        """Neighbouring segments of a video lie side by side: one stretch of frames each video."""
        video = self.table.video[first:end]
        first_frame = self._grid.first_frame(self.table.starts_s[first:end])
        left = self._corpus.num_frames[self._rows[video]] - first_frame
        count = np.minimum(left, self._grid.num_frames)
        opens = np.flatnonzero(np.r_[True, video[1:] != video[:-1]])
        shape = (end - first, self._grid.num_frames, self._corpus.dataset.width)
        block = self._buffer.take(shape)
        self._gatherer.gather(
            self._rows[video[opens]],
            first_frame[opens],
            np.add.reduceat(count, opens),
            opens * self._grid.num_frames,
            block.numpy().reshape(-1, shape[-1]),
        )
        mask = torch.from_numpy(np.arange(self._grid.num_frames) < count[:, None])
        mask = mask.to(self._device)
        frames = block.to(self._device, non_blocking=True)
        return SegmentChunk(first, normalised(frames, mask, self._corpus.dataset), mask)
