"""Moments: where a topic begins and ends in a video, from the scores of its segments.

A moment is a run of segments of one video, each beginning where the one before it ends, that all
have at least a given score for a class; its own score is the highest among them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import let_go, refuse_repeated_segments
from whenabouts.core.scores import Scores
from whenabouts.core.segments import SegmentTable

HEADER = ("video", "start", "end", "class", "topic", "score")
CHUNK_BYTES = 64 << 20
USUAL_LENGTH_S = 5


@dataclass(frozen=True)
class Moments:
    """Parallel arrays over N moments: rows into the Scores' videos and classes, seconds, scores."""

    video: NDArray[np.int64]
    start_s: NDArray[np.int64]
    end_s: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: NDArray[np.integer]) -> Moments:
        return Moments(
            self.video[rows],
            self.start_s[rows],
            self.end_s[rows],
            self.column[rows],
            self.score[rows],
        )


def segment_length(segments: SegmentTable) -> int:
    """The smallest step between segments of one video, in seconds; 5 where no video has two."""
    order = np.lexsort((segments.starts_s, segments.video))
    video, starts = segments.video[order], segments.starts_s[order]
    steps = np.diff(starts)[np.diff(video) == 0]
    return int(steps.min()) if len(steps) else USUAL_LENGTH_S


def find_moments(
    scores: Scores, min_score: float, most_a_video: int, length_s: int | None = None
) -> Iterator[Moments]:
    """The moments of all videos, in the order of the videos, those of a video best first; at most
    `most_a_video` of each. They come a stretch of whole videos at a time.

    length_s: of a segment; None: see `segment_length`. Equal scores stand in the order of (class
    column, start). Raises ScoresError on NaN, repeated segments and rows that are whole videos.
    """
    segments = scores.segments
    scores.refuse_whole_videos("moments are found among segments")
    refuse_repeated_segments(segments)
    length_s = length_s or segment_length(segments)
    order = np.lexsort((segments.starts_s, segments.video))
    for rows in _stretches(segments.video[order], max(1, 4 * len(scores.classes))):
        at = order[rows]
        values = scores.values[at].astype(np.float32)
        if np.isnan(values).any():
            raise ScoresError("a score is NaN", where=scores.path)
        found = _runs(values, segments.video[at], segments.starts_s[at], min_score, length_s)
        yield _best(found, most_a_video)
        let_go(scores.values)


def _stretches(video: NDArray[np.int64], row_bytes: int) -> Iterator[slice]:
    """Slices of rows with whole videos, of about CHUNK_BYTES."""
    begins = np.r_[np.flatnonzero(np.diff(video, prepend=-1)), len(video)]
    most, first = max(1, CHUNK_BYTES // row_bytes), 0
    while first < len(video):
        place = np.searchsorted(begins, first + most, side="right") - 1
        end = begins[place] if begins[place] > first else begins[place + 1]
        yield slice(first, int(end))
        first = int(end)


def _runs(
    values: NDArray[np.float32],
    video: NDArray[np.int64],
    starts_s: NDArray[np.int64],
    min_score: float,
    length_s: int,
) -> Moments:
    """All moments in values [S, C], S >= 1, whose rows are sorted by (video, start)."""
    num_rows = len(values)
    flat = np.ascontiguousarray(values.T).reshape(-1)  # class by class
    goes_on = np.zeros(num_rows, bool)  # from the row before
    goes_on[1:] = (np.diff(video) == 0) & (np.diff(starts_s) == length_s)
    is_in = (flat >= min_score).reshape(-1, num_rows)
    begins = is_in.copy()
    begins[:, 1:] &= ~(is_in[:, :-1] & goes_on[1:])
    ends = is_in.copy()
    ends[:, :-1] &= ~(is_in[:, 1:] & goes_on[1:])
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    bounds = np.stack([first, last + 1], axis=1).reshape(-1)
    score = np.maximum.reduceat(np.append(flat, 0), bounds)[::2] if len(first) else flat[:0]
    return Moments(
        video=video[first % num_rows],
        start_s=starts_s[first % num_rows],
        end_s=starts_s[last % num_rows] + length_s,
        column=first // num_rows,
        score=score,
    )


def _best(moments: Moments, most_a_video: int) -> Moments:
    order = np.lexsort((moments.start_s, moments.column, -moments.score, moments.video))
    moments = moments.take(order)
    begins = np.flatnonzero(np.diff(moments.video, prepend=-1))
    counts = np.diff(np.r_[begins, len(moments)])
    rank = np.arange(len(moments)) - np.repeat(begins, counts)
    return moments.take(np.flatnonzero(rank < most_a_video))


def write_moments(
    path: str | Path,
    scores: Scores,
    min_score: float = 0.5,
    most_a_video: int = 20,
    length_s: int | None = None,
    on_moments: Callable[[Moments], object] | None = None,
) -> int:
    """Write the moments as CSV (HEADER; seconds), see `find_moments`; returns how many there are.

    The file appears when it is complete.
    """
    ids, classes, num_moments = scores.segments.video_ids, scores.classes, 0
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(HEADER)
        for found in find_moments(scores, min_score, most_a_video, length_s):
            columns = found.column.tolist()
            out.writerows(
                zip(
                    (ids[v].decode() for v in found.video.tolist()),
                    found.start_s.tolist(),
                    found.end_s.tolist(),
                    (classes.ids[c] for c in columns),
                    (classes.names[c] for c in columns),
                    (f"{score:.4f}" for score in found.score.tolist()),
                )
            )
            num_moments += len(found)
            if on_moments is not None:
                on_moments(found)
    return num_moments
