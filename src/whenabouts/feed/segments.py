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
        self, corpus: Corpus, rows: NDArray[np.int64], device: torch.device, chunk_size: int = 512
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
        video, length = self.table.video[first:end], self._grid.num_frames
        first_frame = self._grid.first_frame(self.table.starts_s[first:end])
        block = self._buffer.take((end - first, length, self._corpus.dataset.width))
        out = block.numpy().reshape(-1, self._corpus.dataset.width)
        count = self._gatherer.gather_segments(self._rows[video], first_frame, length, out)
        mask = torch.from_numpy(np.arange(length) < count[:, None])
        mask = mask.to(self._device)
        frames = block.to(self._device, non_blocking=True)
        return SegmentChunk(first, normalised(frames, mask, self._corpus.dataset), mask)
