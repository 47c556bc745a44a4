"""The best keys of each class against sorting them all."""

from __future__ import annotations

import numpy as np
import pytest

from whenabouts.strategies.class_bounds import NO_BOUND, ClassBounds


@pytest.mark.parametrize("pending", [0, 10, 10_000])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_sort_of_all(seed: int, pending: int) -> None:
    rng = np.random.default_rng(seed)
    column = rng.integers(0, 5, 400)
    column[column == 3] = 4  # no pair of class 3
    key = rng.permutation(10_000)[:400].astype(np.uint64)
    limits = np.array([7, 0, 1000, 5, 1])
    bounds = ClassBounds(limits, pending)
    for part in np.array_split(np.arange(400), 23):
        bounds.take(column[part], key[part])
    for counts in (limits, limits // 2, limits * 0):
        for c, (bound, count) in enumerate(zip(bounds.bounds(counts), counts)):
            of_class = np.sort(key[column == c])
            below = of_class[of_class < bound]
            np.testing.assert_array_equal(below, of_class[:count])
            if count > len(of_class):
                assert bound == NO_BOUND


def test_of_nothing() -> None:
    assert ClassBounds(np.array([2, 0])).bounds(np.array([1, 0])).tolist() == [int(NO_BOUND), 0]


def test_what_is_kept_is_bounded() -> None:
    bounds = ClassBounds(np.array([3, 2]), pending=100)
    most = 0
    for k in range(500):
        bounds.take(np.array([0, 1]), np.array([1000 - k, k], np.uint64))
        most = max(most, bounds._num_waiting + len(bounds._key))
    assert most <= 100 + 5 + 2
    assert bounds.bounds(np.array([3, 2])).tolist() == [504, 2]
