"""How alike segments are, by hand and by definition; means over alike ones."""

from __future__ import annotations

from itertools import pairwise
from math import exp, sqrt

import numpy as np
import pytest

from whenabouts.ensemble import alike as alike_module
from whenabouts.ensemble.alike import alike_means, distances, roots

FIRST = np.array([0, 1, 4, 9])


def world(seed: int = 0, num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Values and scores of three videos of 1, 3 and 5 segments."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(9, num_classes)), rng.random((9, num_classes), np.float32)


def means(values: np.ndarray, scores: np.ndarray, *alike: float) -> list[np.ndarray]:
    return list(alike_means(values, scores, FIRST, alike))


# ---- distances -----------------------------------------------------------------------------------


def test_distances_by_hand() -> None:
    """1 a class in which one is sure of it and the other of its absence; 1 - sqrt(1/2) where one is
    sure and the other does not know."""
    of = roots(np.array([[1, 0, 0.5], [1, 1, 0.5], [0, 1, 0.5], [0.5, 0, 0.5]]))
    unsure = 1 - sqrt(0.5)
    expected = [
        [0, 1, 2, unsure],
        [1, 0, 1, 1 + unsure],
        [2, 1, 0, 1 + unsure],
        [unsure, 1 + unsure, 1 + unsure, 0],
    ]
    np.testing.assert_allclose(distances(of, of), expected, atol=1e-12)
    assert distances(of[:1], of[2:]).tolist() == [pytest.approx([2, unsure])]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_segment_is_at_0_from_itself_and_never_below(dtype: type) -> None:
    scores = np.random.default_rng(0).random((40, 1000)).astype(dtype)
    scores[3] = scores[7]
    found = distances(roots(scores), roots(scores))
    assert found.min() >= 0
    np.testing.assert_allclose([*np.diag(found), found[3, 7]], 0, atol=1e-10)
    np.testing.assert_allclose(found, found.T, atol=1e-10)
    assert found[3, 4] > 10


# ---- means ---------------------------------------------------------------------------------------


def by_definition(values: np.ndarray, scores: np.ndarray, alike: float) -> np.ndarray:
    found = np.empty_like(values)
    for start, stop in pairwise(FIRST):
        for s in range(start, stop):
            weights = []
            for t in range(start, stop):
                apart = sum(
                    1 - sqrt(p * q) - sqrt((1 - p) * (1 - q))
                    for p, q in zip(scores[s].tolist(), scores[t].tolist())
                )
                weights.append(exp(-apart / alike))
            found[s] = np.average(values[start:stop], axis=0, weights=weights)
    return found


@pytest.mark.parametrize("alike", [0.05, 0.5, 3])
def test_means_by_definition(alike: float) -> None:
    values, scores = world()
    [found] = means(values, scores, alike)
    np.testing.assert_allclose(found, by_definition(values, scores, alike), rtol=1e-9)
    assert np.abs(found - values).max() > 0.01


def test_each_of_several_and_0_leaves_the_values() -> None:
    values, scores = world(1)
    several = means(values, scores, 0.5, 0, 2)
    assert several[1] is values
    for found, alike in zip(several, (0.5, 0, 2)):
        np.testing.assert_array_equal(found, means(values, scores, alike)[0])


def test_very_little_shares_nothing_and_very_much_all() -> None:
    values, scores = world(2)
    for little in (1e-4, 1e-300):
        np.testing.assert_allclose(means(values, scores, little)[0], values, rtol=1e-12)
    [whole] = means(values, scores, 1e9)
    for start, stop in pairwise(FIRST):
        mean = values[start:stop].mean(0, keepdims=True)
        np.testing.assert_allclose(whole[start:stop], np.repeat(mean, stop - start, 0), rtol=1e-6)


def test_equal_segments_get_equal_values() -> None:
    values, scores = world(3)
    scores[5] = scores[8]
    [found] = means(values, scores, 0.3)
    np.testing.assert_allclose(found[5], found[8], rtol=1e-9)
    assert not np.allclose(values[5], values[8])


def test_other_videos_do_not_count() -> None:
    values, scores = world(4)
    expected = means(values, scores, 1)[0][1:4]
    values[4:], scores[4:], values[0] = 100, 0.5, -100
    np.testing.assert_array_equal(means(values, scores, 1)[0][1:4], expected)


@pytest.mark.parametrize("at_once", [1, 7, 10])
def test_few_distances_at_once_change_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, scores = world(5)
    [expected] = means(values, scores, 0.5)
    monkeypatch.setattr(alike_module, "AT_ONCE", at_once)
    np.testing.assert_allclose(means(values, scores, 0.5)[0], expected, rtol=1e-12)


def test_no_classes_and_no_videos() -> None:
    nothing = np.zeros((9, 0))
    assert means(nothing, nothing.astype(np.float32), 1)[0].shape == (9, 0)
    empty = np.zeros((0, 3))
    [found] = alike_means(empty, empty.astype(np.float32), np.array([0]), [1.0])
    assert found.shape == (0, 3)
