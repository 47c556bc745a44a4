from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.core.classes import MAX_CLASS, ClassOrder
from whenabouts.core.segments import SegmentGrid
from whenabouts.corpus.ratings import Ratings, usable_ratings

NUM_FRAMES = np.array([10, 11, 300])
GRID = SegmentGrid()
ORDER = ClassOrder.of([9, 3])
Row = tuple[int, int, int, int, float]  # video, start, end, class, score
NAN = float("nan")


def ratings(rows: list[Row]) -> Ratings:
    columns = list(zip(*rows)) if rows else [()] * 5
    *integers, score = columns
    return Ratings(*(np.array(c, np.int64) for c in integers), np.array(score, np.float32))


def rows_of(kept: Ratings) -> list[Row]:
    columns = (kept.video, kept.start_s, kept.end_s, kept.class_id, kept.score)
    return list(zip(*(c.tolist() for c in columns)))


def usable(
    rows: list[Row], grid: SegmentGrid = GRID, classes: ClassOrder | None = ORDER
) -> tuple[list[Row], dict[str, int]]:
    kept, left_out = usable_ratings(ratings(rows), NUM_FRAMES, grid, classes)
    return rows_of(kept), {reason: len(lost) for reason, lost in left_out.items()}


@pytest.mark.parametrize(
    "row",
    [
        (0, 0, 5, 9, 1.0),
        (0, 5, 10, 3, 0.0),
        (1, 10, 15, 3, 0.5),  # a partial last segment of one frame
        (2, 295, 300, 3, 1.0),
    ],
)
def test_rating_that_can_be_used(row):
    assert usable([row]) == ([row], {})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0, 10, 15, 9, 1), "rating past the video's end"),
        ((1, 15, 20, 9, 1), "rating past the video's end"),
        ((2, 300, 305, 9, 1), "rating past the video's end"),
        ((2, 2**40, 2**40 + 5, 9, 1), "rating past the video's end"),
        ((0, 4, 9, 9, 1), "rating off the segment grid"),
        ((0, 6, 11, 9, 1), "rating off the segment grid"),
        ((0, -5, 0, 9, 1), "rating off the segment grid"),
        ((0, 5, 9, 9, 1), "rated segment not 5 s long"),
        ((0, 5, 11, 9, 1), "rated segment not 5 s long"),
        ((0, 0, 5, 8, 1), "rating of a class that is not evaluated"),
        ((0, 0, 5, -1, 1), "rating of a class that is not evaluated"),
        ((0, 0, 5, MAX_CLASS + 1, 1), "rating of a class that is not evaluated"),
        ((0, 0, 5, 9, 1.0001), "rating that is no score in [0, 1]"),
        ((0, 0, 5, 9, -0.0001), "rating that is no score in [0, 1]"),
        ((0, 0, 5, 9, NAN), "rating that is no score in [0, 1]"),
    ],
)
def test_rating_that_cannot_be_used(row, reason):
    good = (2, 5, 10, 3, 1.0)
    assert usable([row, good, row]) == ([good], {reason: 2})


def test_rating_has_one_reason_the_first():
    wrong_in_every_way = (0, 12, 12, 8, NAN)
    assert usable([wrong_in_every_way])[1] == {"rating past the video's end": 1}
    assert usable([(0, 4, 4, 8, NAN)])[1] == {"rating off the segment grid": 1}
    assert usable([(0, 5, 5, 8, NAN)])[1] == {"rated segment not 5 s long": 1}
    assert usable([(0, 5, 10, 8, NAN)])[1] == {"rating of a class that is not evaluated": 1}


def test_without_a_class_file_every_class_counts():
    rows = [(0, 0, 5, class_id, 1.0) for class_id in (0, 8, MAX_CLASS)]
    assert usable(rows, classes=None) == (rows, {})
    left_out = {"rating of a class that is not evaluated": 2}
    assert usable([(0, 0, 5, -1, 1), (0, 0, 5, MAX_CLASS + 1, 1)], classes=None)[1] == left_out


def test_rating_given_twice_counts_once_the_first():
    first, again, other = (0, 0, 5, 9, 1.0), (0, 0, 5, 9, 0.0), (0, 0, 5, 3, 1.0)
    assert usable([first, other, again, again]) == ([first, other], {"rating given twice": 2})
    near = [first, (1, 0, 5, 9, 1.0), (0, 5, 10, 9, 1.0), other]
    assert usable(near) == (near, {})


def test_useless_rating_does_not_push_out_a_good_one():
    good = (0, 0, 5, 9, 1.0)
    assert usable([(0, 0, 5, 9, NAN), good, (0, 0, 4, 9, 0)]) == (
        [good],
        {"rating that is no score in [0, 1]": 1, "rated segment not 5 s long": 1},
    )


def test_no_ratings():
    assert usable([]) == ([], {})


@pytest.mark.parametrize(("start_s", "is_kept"), [(0, True), (3, True), (6, False), (5, False)])
def test_grid_of_another_data_set(start_s, is_kept):
    """10 frames at 2 a second are 5 s; segments of 3 s start at 0 and 3."""
    rows = [(0, start_s, start_s + 3, 9, 1.0)]
    assert usable(rows, SegmentGrid(3, 2))[0] == (rows if is_kept else [])


def test_odd_number_of_frames_makes_a_last_second():
    """11 frames at 2 a second last into the sixth second; segments of 1 s."""
    rows = [(1, s, s + 1, 9, 1.0) for s in (4, 5, 6)]
    grid = SegmentGrid(1, 2)
    assert usable(rows, grid) == (rows[:2], {"rating past the video's end": 1})
    assert usable([(1, 5, 7, 9, 1)], grid)[1] == {"rated segment not 1 s long": 1}


def slow_usable(rows: list[Row]) -> tuple[list[Row], Counter[str]]:
    """One rating after another, as a person would check them."""
    kept: dict[tuple[int, int, int], Row] = {}
    left_out: Counter[str] = Counter()
    for video, start_s, end_s, class_id, score in rows:
        starts = [5 * k for k in range(100) if 5 * k < NUM_FRAMES[video]]
        if start_s >= NUM_FRAMES[video]:
            left_out["rating past the video's end"] += 1
        elif start_s not in starts:
            left_out["rating off the segment grid"] += 1
        elif end_s != start_s + 5:
            left_out["rated segment not 5 s long"] += 1
        elif class_id not in ORDER.ids:
            left_out["rating of a class that is not evaluated"] += 1
        elif score not in (0.0, 0.5, 1.0):
            left_out["rating that is no score in [0, 1]"] += 1
        elif (video, start_s, class_id) in kept:
            left_out["rating given twice"] += 1
        else:
            kept[video, start_s, class_id] = (video, start_s, end_s, class_id, score)
    return list(kept.values()), left_out


starts = st.sampled_from([0, 5, 10, 15, 3, -5])
rating = st.tuples(
    st.integers(0, 2), starts, st.sampled_from([3, 9, 9, 8]), st.sampled_from([0, 0.5, 1, 2])
)


@settings(deadline=None, max_examples=60)
@given(st.lists(rating, max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_many_ratings_as_one_by_one(drawn, is_long):
    rows = [
        (video, start, start + (4 if long else 5), class_id, float(score))
        for (video, start, class_id, score), long in zip(drawn, is_long)
    ]
    assert usable(rows) == slow_usable(rows)
