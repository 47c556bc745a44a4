"""The segment grid: frames <-> seconds, in this one place.

A video is a sequence of frames, `frames_per_s` of them a second; segment k of a video covers the
seconds [k * length_s, (k + 1) * length_s). A last segment with fewer frames is *partial* and is
kept, with a mask. All starts are whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.lookup import Lookup


@dataclass(frozen=True, slots=True)
class SegmentGrid:
    length_s: int = 5
    frames_per_s: int = 1

    @property
    def num_frames(self) -> int:
        """Frames of a whole segment."""
        return self.length_s * self.frames_per_s

    def count(self, num_frames: NDArray[np.int32]) -> NDArray[np.int64]:
        """Segments (the partial one too) of videos of `num_frames` frames."""
        return -(-num_frames.astype(np.int64) // self.num_frames)

    def first_frame(self, start_s: NDArray[np.int64]) -> NDArray[np.int64]:
        return start_s * self.frames_per_s

    def starts(self, num_frames: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(video row, start in s) of every segment of the given videos, in order."""
        count = self.count(num_frames)
        video = np.repeat(np.arange(len(count)), count)
        first_of_video = np.repeat(np.cumsum(count) - count, count)
        return video, (np.arange(len(video)) - first_of_video) * self.length_s


@dataclass(frozen=True)
class SegmentTable:
    """Which segment each row of a score array is.

    video_ids: bytes [V], unique; video: row into `video_ids` of each segment [S];
    starts_s: start of each segment in seconds [S].
    """

    video_ids: NDArray[np.bytes_]
    video: NDArray[np.int64]
    starts_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.video)

    @cached_property
    def tie_ranks(self) -> NDArray[np.uint32]:
        """Place of each row in the order (video id, start): how equal scores are ordered."""
        name_rank = np.argsort(np.argsort(self.video_ids, kind="stable"), kind="stable")
        ranks = np.empty(len(self), np.uint32)
        ranks[np.lexsort((self.starts_s, name_rank[self.video]))] = np.arange(len(self))
        return ranks

    @cached_property
    def _keys(self) -> Lookup:
        return Lookup(_key(self.video, self.starts_s))

    @cached_property
    def _ids(self) -> Lookup:
        return Lookup(self.video_ids)

    def videos_of(self, video_ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The video row of each id; -1 where the table does not have the video."""
        return self._ids.places(video_ids)

    def rows_of(
        self, video_ids: NDArray[np.bytes_], starts_s: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """The row of each (video, start); -1 where the table does not have the segment."""
        video = self.videos_of(video_ids)
        rows = self._keys.places(_key(video, starts_s))
        # A start of more than 32 bits would reach into the number of the video.
        return np.where(starts_s < 1 << 32, rows, -1)


def _key(video: NDArray[np.int64], starts_s: NDArray[np.integer]) -> NDArray[np.int64]:
    return (video << 32) | starts_s.astype(np.int64)
