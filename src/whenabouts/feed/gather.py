"""Gather frames of many videos from the mapped shards into one batch, as they are stored.

Each feature list of a video is one strided copy from the page cache into the batch; the bytes are
touched once and stay uint8 until they are on the device. Lists of floats are float32 throughout.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmap import MADV_WILLNEED, PAGESIZE
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.corpus.corpus import Corpus
from whenabouts.records.quantize import QuantizeRange

HELD_BYTES = 1 << 26  # of a stream that may stay mapped: letting go costs a call a shard
FAULT_BYTES = 1 << 16  # that the system maps around a byte that is touched


class Gatherer:
    """Copies stretches of frames of a corpus into an array of frames, features side by side.

    streams: what was read is not read again soon. Its pages are given back to the system, which
    keeps them cached, so that the process does not come to hold all of a corpus.
    """

    def __init__(self, corpus: Corpus, *, streams: bool = False) -> None:
        dataset = corpus.dataset
        self._corpus, self._buffers = corpus, corpus.buffers
        self._dtype = np.dtype(dataset.dtype)
        self._zero_byte = QuantizeRange(dataset.low, dataset.high).zero_byte
        widths = [feature.width for feature in corpus.dataset.features]
        ends = np.cumsum(widths).tolist()
        self._columns = [(end - width, end) for width, end in zip(widths, ends)]
        self._is_cold = True
        self._streams, self._held_bytes = streams, 0

    def gather(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
        slots: NDArray[np.int64],
        out: NDArray[Any],
    ) -> None:
        """Copy frames first_frames[i] .. + num_frames[i] of video rows[i] to out[slots[i]] ...

        out: [N, D] in C order, of the data set's type. Frames that only the first feature list has
        are filled, in the other lists, with the byte nearest to 0. What no stretch covers is not
        touched.
        """
        assert out.flags.c_contiguous
        assert out.dtype == self._dtype
        if not out.size:
            return
        with self._announced(rows, first_frames, num_frames):
            self._gather_lists(rows, first_frames, num_frames, slots, out)
        if self._streams:
            self._held_bytes += out.nbytes + len(rows) * FAULT_BYTES
            if self._held_bytes >= HELD_BYTES:
                self._buffers.let_go()
                self._held_bytes = 0

    def _gather_lists(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
        slots: NDArray[np.int64],
        out: NDArray[Any],
    ) -> None:
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

    @contextmanager
    def _announced(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
    ) -> Iterator[None]:
        """Within it these stretches are copied; they are announced while the disk is being read.

        Of stretches in the page cache, announcing would cost a third of the copy. So it is done
        for the first batch, and after a batch for which something came from a disk.
        """
        before = blocks_read()
        if self._is_cold:
            self._announce(rows, first_frames, num_frames)
        yield
        self._is_cold = blocks_read() > before

    def _announce(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
    ) -> None:
        """Have the system read all these stretches from the disk at once, and nothing else.

        The copies alone would fault one page after the other, each with the read-ahead of the
        disk around it: ten times the bytes.
        """
        shards = self._corpus.shard[rows].tolist()
        for place in self._corpus.places:
            stride = place.stride[rows]
            starts = place.offset[rows] + first_frames * stride
            sizes = np.clip(place.num_frames[rows] - first_frames, 0, num_frames) * stride
            within = starts % PAGESIZE
            spans = zip(shards, (starts - within).tolist(), (sizes + within).tolist(), sizes)
            for shard, start, length, size in spans:
                if size > 0:
                    self._buffers[shard].madvise(MADV_WILLNEED, start, length)

    def _copy(
        self,
        stretches: Iterable[tuple[int, ...]],
        left: int,
        width: int,
        out: NDArray[Any],
    ) -> None:
        """Copy (shard, start, stride, count, slot) each to columns left .. left + width of out.

        A frame is one item of all its bytes: one copy of so many. As a row of `width` items it
        would cost numpy half as much again.
        """
        frame, frames = self._items(left, width, out)
        for shard, start, stride, count, slot in stretches:
            if stride and count:
                found = np.ndarray((count,), frame, self._buffers[shard], start, (stride,))
                frames[slot : slot + count] = found

    def _items(
        self, left: int, width: int, out: NDArray[Any]
    ) -> tuple[np.dtype[np.void], NDArray[np.void]]:
        """Columns left .. left + width of out as one item a row [N], and the type of an item."""
        size = self._dtype.itemsize
        item = np.dtype((np.void, width * size))
        return item, np.ndarray((len(out),), item, out, left * size, (out.shape[1] * size,))

    def gather_segments(
        self,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        length: int,
        out: NDArray[Any],
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

    def gather_drawn(
        self, rows: NDArray[np.int64], drawn: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        """Copy frames drawn[i] of video rows[i] to out[i].

        drawn: [B, T]; out: [B, T, D] in C order, of the data set's type. Missing frames are filled
        as in `gather`. Each frame is copied from the map, one that is drawn twice twice: the cost
        is that of the frames drawn, however long the video is.
        """
        assert out.shape[:2] == drawn.shape
        assert out.flags.c_contiguous
        assert out.dtype == self._dtype
        if not out.size:
            return
        everything = np.zeros_like(rows), self._corpus.num_frames[rows].astype(np.int64)
        with self._announced(rows, *everything):
            self._draw_lists(rows, drawn, out)

    def _draw_lists(
        self, rows: NDArray[np.int64], drawn: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        flat, num_drawn = out.reshape(-1, out.shape[2]), drawn.shape[1]
        shards, last = self._corpus.shard[rows].tolist(), drawn.max(axis=1).tolist()
        for feature, (left, right) in enumerate(self._columns):
            place = self._corpus.places[feature]
            frame, frames = self._items(left, right - left, flat)
            columns = (place.offset[rows], place.stride[rows], place.num_frames[rows])
            places = zip(shards, last, *(values.tolist() for values in columns))
            for k, (shard, last_drawn, start, stride, count) in enumerate(places):
                if stride and last_drawn < count:
                    found = np.ndarray((count,), frame, self._buffers[shard], start, (stride,))
                    frames[k * num_drawn : (k + 1) * num_drawn] = found[drawn[k]]
                else:
                    self._draw_odd(feature, int(rows[k]), drawn[k], out[k, :, left:right])

    def _draw_odd(
        self, feature: int, row: int, drawn: NDArray[np.int64], column: NDArray[Any]
    ) -> None:
        """Missing frames and irregular lists, as in `_gather_odd`."""
        whole = self._corpus.frames(row)[feature]
        is_there = drawn < len(whole)
        column[~is_there] = self._zero_byte
        column[is_there] = whole[drawn[is_there]]

    def _gather_odd(
        self,
        feature: int,
        rows: NDArray[np.int64],
        first_frames: NDArray[np.int64],
        num_frames: NDArray[np.int64],
        slots: NDArray[np.int64],
        column: NDArray[Any],
    ) -> None:
        """Missing frames and irregular lists: rare, so that the usual loop need not ask.

        Only bytes are ever missing: a video-level record has one frame of each list.
        """
        place = self._corpus.places[feature]
        for row, first, count, slot in zip(rows, first_frames, num_frames, slots):
            have = int(np.clip(place.num_frames[row] - first, 0, count))
            column[slot + have : slot + count] = self._zero_byte
            if have and place.stride[row] <= 0:
                whole = self._corpus.frames(int(row))[feature]
                column[slot : slot + have] = whole[first : first + have]


def blocks_read() -> int:
    """Blocks that this thread has had read from disks so far (Linux counts them)."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_inblock
