"""Gather frames of many videos from the mapped shards into one batch of bytes.

Each feature list of a video is one strided copy from the page cache into the batch; the bytes are
touched once and stay uint8 until they are on the device.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from whenabouts.corpus.corpus import Corpus
from whenabouts.records.quantize import QuantizeRange


class Gatherer:
    """Copies stretches of frames of a corpus into an array of frames, features side by side."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self._buffers = corpus, corpus.buffers
        self._zero_byte = QuantizeRange(corpus.dataset.low, corpus.dataset.high).zero_byte
        widths = [feature.width for feature in corpus.dataset.features]
        ends = np.cumsum(widths).tolist()
        self._columns = [(end - width, end) for width, end in zip(widths, ends)]

    def gather(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
        slots: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Copy frames first_frames[i] .. + num_frames[i] of video rows[i] to out[slots[i]] ...

        out: uint8 [N, D] in C order. Frames that only the first feature list has are filled, in
        the other lists, with the byte nearest to 0. What no stretch covers is not touched.
        """
        assert out.flags.c_contiguous
        if not out.size:
            return
        shards = self._corpus.shard[rows].tolist()
        for feature, (left, right) in enumerate(self._columns):
            place = self._corpus.places[feature]
            stride = place.stride[rows]
            present = np.clip(place.num_frames[rows] - first_frames, 0, num_frames)
            if (present < num_frames).any() or not stride.all():
                column = out[:, left:right]
                self._gather_odd(feature, rows, first_frames, num_frames, slots, column)
            starts = place.offset[rows] + first_frames * stride
            columns = (starts, stride, present, slots)
            stretches = zip(shards, *(values.tolist() for values in columns))
            self._copy(stretches, left, right - left, out)

    def _copy(
        self,
        stretches: Iterable[tuple[int, ...]],
        left: int,
        width: int,
        out: NDArray[np.uint8],
    ) -> None:
        """Copy (shard, start, stride, count, slot) each to columns left .. left + width of out.

        A frame is one item of `width` bytes: one copy of so many bytes. As a row of that many items
        it would cost numpy half as much again.
        """
        frame = np.dtype((np.void, width))
        frames = np.ndarray((len(out),), frame, out, left, (out.shape[1],))
        for shard, start, stride, count, slot in stretches:
            if stride and count:
                found = np.ndarray((count,), frame, self._buffers[shard], start, (stride,))
                frames[slot : slot + count] = found

    def gather_segments(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        length: int,
        out: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """Copy `length` frames from first_frames[n] of video rows[n] to out[n * length] ...

        Returns how many there are of each (a partial last segment has fewer). Segments that follow
        each other in a video are one stretch: one copy a feature list.
        """
        left = self._corpus.num_frames[rows] - first_frames
        count: NDArray[np.int64] = np.minimum(left, length)
        follows = (rows[1:] == rows[:-1]) & (first_frames[1:] == first_frames[:-1] + length)
        opens = np.flatnonzero(np.r_[True, ~follows][: len(rows)])
        total = np.add.reduceat(count, opens)
        self.gather(rows[opens], first_frames[opens], total, opens * length, out)
        return count

    def _gather_odd(
        self,
        feature: int,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
        slots: NDArray[np.int64],
        column: NDArray[np.uint8],
    ) -> None:
        """Missing frames and irregular lists: rare, so that the usual loop need not ask."""
        place = self._corpus.places[feature]
        for row, first, count, slot in zip(rows, first_frames, num_frames, slots):
            have = int(np.clip(place.num_frames[row] - first, 0, count))
            column[slot + have : slot + count] = self._zero_byte
            if have and place.stride[row] <= 0:
                whole = self._corpus.frames(int(row))[feature]
                column[slot : slot + have] = whole[first : first + have]
