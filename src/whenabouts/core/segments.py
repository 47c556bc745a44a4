"""The segment grid: frames <-> seconds, in this one place.

A video is a sequence of frames, `frames_per_s` of them a second; segment k of a video covers the
seconds [k * length_s, (k + 1) * length_s). A last segment with fewer frames is *partial* and is
kept, with a mask. All starts are whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.lookup import Lookup

WHOLE_VIDEO = -1  # the start of a row that is no segment but a video as a whole


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
    starts_s: start of each segment in seconds [S]; WHOLE_VIDEO where a row is a whole video.
    """

    video_ids: NDArray[np.bytes_]
    video: NDArray[np.int64]
    starts_s: NDArray[np.int64]

    @classmethod
    def of_videos(cls, video_ids: NDArray[np.bytes_]) -> Self:
        """A row a video, as a video classifier scores them."""
        return cls(video_ids, np.arange(len(video_ids)), np.full(len(video_ids), WHOLE_VIDEO))

    def __len__(self) -> int:
        return len(self.video)

    @property
    def has_whole_videos(self) -> bool:
        """True where any row is a whole video."""
        return bool((self.starts_s == WHOLE_VIDEO).any())

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
        # Of other starts, the low 32 bits may be those of one that is there.
        return np.where((starts_s >= WHOLE_VIDEO) & (starts_s < 1 << 31), rows, -1)


def _key(video: NDArray[np.int64], starts_s: NDArray[np.integer]) -> NDArray[np.int64]:
    return (video << 32) | (starts_s.astype(np.int64) & 0xFFFFFFFF)
