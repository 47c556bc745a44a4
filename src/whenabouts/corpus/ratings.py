"""Rated segments as the records give them -> those that can be used, checked a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder, are_class_ids
from whenabouts.core.segments import SegmentGrid

NOT_EVALUATED = "rating of a class that is not evaluated"


@dataclass(frozen=True, slots=True)
class Ratings:
    """Rated (segment, class) pairs as parallel arrays; `video` is the row of the video."""

    video: NDArray[np.int64]
    start_s: NDArray[np.int64]
    end_s: NDArray[np.int64]
    class_id: NDArray[np.int64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, keep: NDArray[np.bool_]) -> Ratings:
        return Ratings(
            self.video[keep],
            self.start_s[keep],
            self.end_s[keep],
            self.class_id[keep],
            self.score[keep],
        )


def usable_ratings(
    ratings: Ratings,
    num_frames: NDArray[np.int64],
    grid: SegmentGrid,
    classes: ClassOrder | None,
) -> tuple[Ratings, dict[str, Ratings]]:
    """The ratings that can be used, and those that were left out, by the reason.

    num_frames: frames of each video [V]. classes None: every class counts.
    """
    keep = np.ones(len(ratings), bool)
    left_out: dict[str, Ratings] = {}
    for reason, bad in _faults(ratings, num_frames, grid, classes):
        left_out[reason] = ratings.take(bad & keep)
        keep &= ~bad
    ratings = ratings.take(keep)
    repeated = _repeated(ratings)
    left_out["rating given twice"] = ratings.take(repeated)
    return ratings.take(~repeated), {reason: lost for reason, lost in left_out.items() if len(lost)}


def _faults(
    ratings: Ratings, num_frames: NDArray[np.int64], grid: SegmentGrid, classes: ClassOrder | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(reason, which ratings it hits), in the order in which they are counted."""
    start_s, class_id = ratings.start_s, ratings.class_id
    video_s = -(-num_frames[ratings.video] // grid.frames_per_s)
    yield "rating past the video's end", start_s >= video_s
    yield "rating off the segment grid", (start_s < 0) | (start_s % grid.length_s != 0)
    yield f"rated segment not {grid.length_s} s long", ratings.end_s - start_s != grid.length_s
    known = are_class_ids(class_id)
    if classes is not None:
        known &= classes.columns(class_id) >= 0
    yield NOT_EVALUATED, ~known
    yield "rating that is no score in [0, 1]", ~((ratings.score >= 0) & (ratings.score <= 1))


def _repeated(ratings: Ratings) -> NDArray[np.bool_]:
    """True where the same (video, start, class) has come before."""
    columns = (ratings.class_id, ratings.start_s, ratings.video)
    order = np.lexsort(columns)  # stable: of equal ones the first comes first
    repeated = np.zeros(len(order), bool)
    equal = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in columns])
    repeated[order[1:][equal]] = True
    return repeated
