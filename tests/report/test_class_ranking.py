import itertools

import numpy as np
import pytest

from whenabouts.metrics.segment_map import average_precision
from whenabouts.report.ranking import best_first, chosen_columns, extremes, random_order_ap

NAN = float("nan")


@pytest.mark.parametrize(("rated", "positive"), [(1, 1), (2, 1), (5, 2), (6, 3), (7, 7), (6, 1)])
def test_random_order_is_the_mean_over_all_orders(rated, positive):
    places = itertools.combinations(range(rated), positive)
    orders = [np.isin(np.arange(rated), chosen) for chosen in places]
    expected = np.mean([average_precision(order, positive) for order in orders])
    found = random_order_ap(np.array([rated]), np.array([positive]))
    assert found == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize(
    ("rated", "positive", "ranked", "k"),
    [
        (3, 1, 6, 2),
        (3, 2, 6, 2),
        (2, 2, 5, 1),
        (4, 2, 6, 3),
        (1, 1, 7, 3),
        (5, 3, 5, 2),
        (3, 2, 6, 5),
    ],
)
def test_random_order_of_lists_that_are_cut(rated, positive, ranked, k):
    """Items 0..rated - 1 are rated, the first of them positive; the others only take places."""
    found = []
    for order in itertools.permutations(range(ranked)):
        listed = np.array([item < positive for item in order[:k] if item < rated], bool)
        hits = np.flatnonzero(listed)
        found.append((np.arange(1, len(hits) + 1) / (hits + 1)).sum() / positive)
    expected = random_order_ap(np.array([rated]), np.array([positive]), ranked, k)
    assert expected == pytest.approx([np.mean(found)], abs=1e-12)


def test_random_order_of_whole_lists_and_of_large_ones():
    counts = np.array([1, 4, 240]), np.array([1, 2, 130])
    whole = random_order_ap(*counts)
    np.testing.assert_array_equal(random_order_ap(*counts, 500, 500), whole)
    np.testing.assert_array_equal(random_order_ap(*counts, 500, 100_000), whole)
    nearly = random_order_ap(*counts, 2_062_258, 2_062_257)
    np.testing.assert_allclose(nearly, whole, rtol=1e-6)
    challenge = random_order_ap(*counts, 2_062_258, 100_000)
    assert challenge[0] == pytest.approx(100_000 / 2_062_258)
    assert challenge[2] == pytest.approx(0.032, abs=0.0005), "the challenge had about 0.03"


def test_random_order_agrees_with_shuffles():
    rng = np.random.default_rng(0)
    truth = np.arange(240) < 130
    shuffled = [average_precision(rng.permutation(truth), 130) for _ in range(400)]
    found = random_order_ap(np.array([240]), np.array([130]))[0]
    assert abs(found - np.mean(shuffled)) < 4 * np.std(shuffled) / np.sqrt(len(shuffled))


def test_random_order_without_positives_is_not_a_number():
    found = random_order_ap(np.array([3, 0, 2]), np.array([0, 0, 2]))
    assert np.isnan(found).tolist() == [True, True, False]
    assert found[2] == 1
    assert len(random_order_ap(np.array([], np.int64), np.array([], np.int64))) == 0


def test_best_first_leaves_out_classes_without_ap():
    assert best_first(np.array([0.2, NAN, 0.9, 0.2])).tolist() == [2, 0, 3]


def test_extremes_do_not_meet():
    ap = np.array([0.5, 0.1, 0.9, 0.3, 0.7])
    assert [e.tolist() for e in extremes(ap, 1)] == [[2], [1]]
    assert [e.tolist() for e in extremes(ap, 2)] == [[2, 4], [3, 1]]
    assert [e.tolist() for e in extremes(ap, 20)] == [[2, 4, 0], [3, 1]]
    assert [e.tolist() for e in extremes(np.array([0.4]), 20)] == [[0], []]


def test_chosen_are_best_quartiles_and_worst_of_those_with_enough_positives():
    ap = np.array([0.99, 0.9, 0.8, 0.7, 0.6, 0.5, NAN])
    positives = np.array([4, 5, 5, 6, 7, 8, 0])
    assert chosen_columns(ap, positives, 5) == {
        1: "best",
        2: "upper quartile",
        3: "median",
        4: "lower quartile",
        5: "worst",
    }


def test_chosen_falls_back_to_all_and_names_no_class_twice():
    assert chosen_columns(np.array([0.1, 0.2]), np.array([1, 2]), 5) == {
        1: "best",
        0: "lower quartile",
    }
    assert chosen_columns(np.array([NAN]), np.array([0]), 5) == {}
