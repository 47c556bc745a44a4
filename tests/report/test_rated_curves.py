import numpy as np
import pytest
from report_world import make_labels, make_scores, make_world
from sklearn.metrics import average_precision_score

from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.report.precision_recall import precision_recall
from whenabouts.report.rated import grouped_ap, rated_pairs


def test_pairs_stand_beside_their_scores():
    scores = make_scores([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], ids=(11, 10))
    truth = make_labels(
        [
            (b"vid0", 10, 10, 1.0),
            (b"vid0", 5, 11, 0.0),
            (b"vid0", 15, 10, 1.0),  # past the end: no score
            (b"vid0", 0, 12, 1.0),  # a class without scores
            (b"vid9", 0, 10, 1.0),  # a video without scores
        ]
    )
    pairs = rated_pairs(truth, scores)
    assert pairs.row.tolist() == [2, 1, -1]
    assert pairs.column.tolist() == [1, 0, 1]
    assert pairs.positive.tolist() == [True, False, True]
    assert pairs.start_s.tolist() == [10, 5, 15]
    np.testing.assert_allclose(pairs.score, [0.6, 0.3, np.nan], rtol=1e-6)


def test_a_soft_label_is_positive_from_one_half():
    scores = make_scores([[0.1], [0.2]])
    pairs = rated_pairs(make_labels([(b"vid0", 0, 10, 0.5), (b"vid0", 5, 10, 0.49)]), scores)
    assert pairs.positive.tolist() == [True, False]


def test_grouped_ap_agrees_with_scikit_learn():
    scores, truth = make_world(8, 40, 10)
    pairs = rated_pairs(truth, scores)
    found = grouped_ap(pairs.column, pairs, 8)
    for column in range(8):
        of = pairs.column == column
        expected = average_precision_score(pairs.positive[of], pairs.score[of])
        assert found[column] == pytest.approx(expected)


def test_grouped_ap_by_hand():
    scores = make_scores([[0.9], [0.5], [0.5], [0.1]])
    rated = [(0, 0.0), (5, 1.0), (10, 0.0), (15, 1.0), (20, 1.0)]
    pairs = rated_pairs(make_labels([(b"vid0", s, 10, y) for s, y in rated]), scores)
    # Places: no, yes (earlier of two equals), no, yes; one positive is in no list.
    assert grouped_ap(np.zeros(5, np.int64), pairs, 2)[0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert np.isnan(grouped_ap(np.zeros(5, np.int64), pairs, 2)[1])


@pytest.mark.parametrize("k", [100_000, 400, 37, 1])
def test_the_area_below_the_curve_is_the_ap_of_the_metric(k):
    scores, truth = make_world(12, 40, 10)
    evaluation = evaluate_scores(truth, scores.segments, scores.classes, scores.values, k)
    for column, class_id in enumerate(scores.classes.ids):
        curve = precision_recall(truth, scores, class_id, k)
        assert curve.num_positives == evaluation.num_positives[column]
        assert curve.num_rated == evaluation.num_rated[column]
        area = np.sum(np.diff(curve.recall, prepend=0) * curve.precision)
        assert area == pytest.approx(evaluation.ap[column], abs=1e-12)
        assert curve.ap == pytest.approx(evaluation.ap[column], abs=1e-12)


def test_a_curve_by_hand():
    scores = make_scores([[0.9], [0.8], [0.7], [0.6]])
    rated = [(0, 1.0), (5, 0.0), (10, 1.0), (15, 0.0), (20, 1.0)]
    curve = precision_recall(
        make_labels([(b"vid0", s, 10, y) for s, y in rated]), scores, 10, k=100, role="best"
    )
    np.testing.assert_allclose(curve.recall, [1 / 3, 2 / 3])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3])
    assert (curve.topic, curve.role, curve.num_rated, curve.num_positives) == (
        "topic 10", "best", 5, 3,
    )  # fmt: skip


def test_the_list_is_cut_after_k_entries_of_all_segments():
    scores = make_scores([[0.9], [0.8], [0.8], [0.6]])
    truth = make_labels([(b"vid0", start, 10, 1.0) for start in (5, 10, 15)])
    num_listed = [len(precision_recall(truth, scores, 10, k).recall) for k in (1, 2, 3, 4)]
    assert num_listed == [0, 1, 2, 3]
