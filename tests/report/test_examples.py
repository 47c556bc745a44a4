import numpy as np
import pytest
from report_world import make_video_world, make_videos
from sklearn.metrics import average_precision_score

from whenabouts.report import examples
from whenabouts.report.examples import build_example, choose_examples, video_ap
from whenabouts.report.timelines import RANKED, Choice


@pytest.mark.parametrize("rows_at_once", [1, 7, 512])
def test_ap_of_a_video_agrees_with_scikit_learn(rows_at_once, monkeypatch):
    monkeypatch.setattr(examples, "ROWS_AT_ONCE", rows_at_once)
    videos = make_video_world(12, 30)
    rows = np.random.default_rng(0).permutation(30)[:20]
    found = video_ap(videos.truth, videos.values, rows)
    dense = videos.truth.dense(0, 30)
    expected = [average_precision_score(dense[row], videos.values[row]) for row in rows]
    np.testing.assert_allclose(found, expected)


def test_ap_of_a_video_by_hand_with_ties_and_without_labels():
    videos = make_videos([[0.5, 0.9, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]], [[10, 12, 13], []])
    # Order: 11 no, 10 yes, 12 yes (equal, by column), 13 yes.
    found = video_ap(videos.truth, videos.values, np.array([0, 1]))
    assert found[0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert np.isnan(found[1])
    assert len(video_ap(videos.truth, videos.values, np.array([], np.int64))) == 0


def worlds_of_three():
    """Nine videos of one class at rank 1, 2 or 3; two of a third have a second label at the end."""
    values, labels = [], []
    for rank in (2, 0, 1):
        for second in ([], [15], [15]):
            values.append(np.linspace(0.9, 0.1, 6))
            labels.append([10 + rank, *second])
    return make_videos(values, labels)


def test_examples_are_the_best_the_middle_and_the_worst_of_those_with_many_labels():
    videos = worlds_of_three()
    ap = video_ap(videos.truth, videos.values, np.arange(9))
    choices = choose_examples(videos, 3)
    assert [c.group for c in choices] == list(RANKED)
    many = videos.truth.labels_per_video() == 2
    order = sorted(np.flatnonzero(many), key=lambda v: (-ap[v], v))
    assert [c.video for c in choices] == [order[0], order[2], order[4]]
    assert [c.ap for c in choices] == [ap[c.video] for c in choices]
    assert [c.place for c in choices] == [1 + (ap > c.ap).sum() for c in choices]


def test_videos_without_labels_are_no_examples():
    videos = make_videos([[0.9, 0.1]] * 4, [[], [10], [], [11]])
    assert sorted(c.video for c in choose_examples(videos, 12)) == [1, 3]
    assert choose_examples(make_videos([[0.9, 0.1]], [[]]), 12) == []


def test_of_many_videos_some_at_even_distances_are_ordered(monkeypatch):
    monkeypatch.setattr(examples, "MOST_RANKED", 4)
    videos = make_videos([[0.9, 0.1]] * 11, [[], *[[10]] * 10])
    assert sorted(c.video for c in choose_examples(videos, 12)) == [1, 4, 7, 10]


def test_an_example_has_the_best_topics_and_the_labels_that_follow():
    values = [[0.9, 0.2, 0.8, 0.1, 0.7]]
    videos = make_videos(values, [[10, 11, 13]], names=tuple("abcde"))
    shown = build_example(videos, Choice(0, 0.6, "x"), 2)
    assert (shown.video_id, shown.choice.group, shown.num_labels) == ("v000", "x", 3)
    assert [(t.topic, t.rank, t.is_label) for t in shown.best] == [("a", 1, True), ("c", 2, False)]
    assert [(t.topic, t.rank, t.is_label) for t in shown.missed] == [("b", 4, True), ("d", 5, True)]
    assert [t.score for t in (*shown.best, *shown.missed)] == pytest.approx([0.9, 0.8, 0.2, 0.1])
    assert shown.num_missed_hidden == 0


def test_of_many_missed_labels_five_are_listed():
    videos = make_videos([np.linspace(0.9, 0.1, 9)], [list(range(11, 19))])
    shown = build_example(videos, Choice(0, 0.5, "x"), 1)
    assert [t.rank for t in shown.missed] == [2, 3, 4, 5, 6]
    assert shown.num_missed_hidden == 3


def test_fewer_classes_than_topics_are_all_shown():
    videos = make_videos([[0.1, 0.9]], [[10]])
    shown = build_example(videos, Choice(0, 0.5, "x"), 5)
    assert [t.topic for t in shown.best] == ["topic 11", "topic 10"]
    assert shown.missed == ()
