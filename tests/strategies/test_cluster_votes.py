"""Votes of rated frames: tables by hand, ties, majorities, soft labels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import SettingsError
from whenabouts.strategies.cluster_judge import concordance, judgement
from whenabouts.strategies.cluster_votes import (
    Opinions,
    Votes,
    Voting,
    count_votes,
    published_lists,
    reader_of,
    soft_lists,
)

CLASSES = ClassOrder.of([30, 10, 20])  # the columns 0, 1, 2; not sorted by id
NONE: set[int] = set()


def votes_of(table: dict[tuple[int, int], tuple[int, int]], num_clusters: int = 3) -> Votes:
    """{(cluster, column): (votes for, votes against)}, given frame by frame in a shuffled order."""
    frames = [
        (k, c, side == 0) for (k, c), n in table.items() for side in (0, 1) for _ in range(n[side])
    ]
    order = np.random.default_rng(0).permutation(len(frames))
    cluster, column, is_positive = (np.array(x)[order] for x in zip(*frames))
    return count_votes(cluster, column, is_positive, num_clusters, len(CLASSES))


def read(
    votes: Votes, settings: Voting, clusters: list[list[int]], labels: list[set[int]]
) -> Opinions:
    """What segments of these clusters take, each of a video of its own with these labels."""
    may_be = np.array([[c in of for c in range(3)] for of in labels])
    return reader_of(votes, settings, CLASSES)(np.array(clusters), np.arange(len(labels)), may_be)


def taken(opinions: Opinions) -> list[tuple[int, int, float, float]]:
    """(segment, column, score, share) of what became a label."""
    columns = (opinions.segment, opinions.column, opinions.score, opinions.share)
    kept = (values[opinions.is_label].tolist() for values in columns)
    return [(s, c, pytest.approx(x), pytest.approx(w)) for s, c, x, w in zip(*kept)]


def lists(found: object) -> list[list[int]]:
    return [found.of(k).tolist() for k in range(len(found.offsets) - 1)]  # type: ignore[attr-defined]


def test_votes_are_counted_by_cluster_and_class() -> None:
    table = {(0, 1): (4, 2), (2, 0): (0, 3), (2, 1): (1, 0)}
    votes = votes_of(table)
    rows = zip(
        votes.cluster.tolist(),
        votes.column.tolist(),
        votes.positive.tolist(),
        votes.negative.tolist(),
    )
    assert {(k, c): (p, n) for k, c, p, n in rows} == table
    assert votes.of_clusters(votes.positive).tolist() == [4, 0, 1]
    assert votes.of_classes(votes.negative).tolist() == [3, 2, 0]
    assert votes.shares().tolist() == [0, pytest.approx(5 / 7), 0]


# ---- the published reading -----------------------------------------------------------------------


def test_lists_are_by_falling_count_and_equal_ones_by_class_id() -> None:
    votes = votes_of({(0, 0): (4, 0), (0, 1): (4, 0), (0, 2): (9, 0), (2, 2): (5, 9)})
    assert lists(published_lists(votes, Voting(), CLASSES)) == [[2, 1, 0], [], [2]]


@pytest.mark.parametrize(("votes", "listed"), [(2, []), (3, [1]), (4, [1])])
def test_a_class_needs_the_least_votes(votes: int, listed: list[int]) -> None:
    """Votes against count for nothing here."""
    table = {(0, 1): (votes, 99), (1, 0): (9, 0)}
    assert lists(published_lists(votes_of(table), Voting(), CLASSES))[0] == listed


def test_by_rate_a_frequent_class_does_not_lead_every_list() -> None:
    votes = votes_of({(0, 0): (6, 0), (0, 1): (4, 0), (1, 0): (94, 0)})
    assert lists(published_lists(votes, Voting(), CLASSES))[0] == [0, 1]
    assert lists(published_lists(votes, Voting(by_rate=True), CLASSES))[0] == [1, 0]
    few = votes_of({(0, 0): (6, 0), (0, 1): (2, 0), (1, 0): (94, 0)})
    assert lists(published_lists(few, Voting(by_rate=True), CLASSES))[0] == [0]


TABLE = {(0, 2): (9, 0), (0, 1): (5, 0), (1, 0): (4, 0), (1, 1): (3, 0)}


def test_a_frame_takes_the_first_class_that_is_a_label_of_its_video() -> None:
    clusters = [[0] * 5] * 4
    found = read(votes_of(TABLE), Voting(), clusters, [{1, 2}, {0, 1}, {0}, NONE])
    assert taken(found) == [(0, 2, 1, 1), (1, 1, 1, 1)]


def test_without_the_labels_the_clusters_alone_decide() -> None:
    """All classes are then given as labels, and the first of the list is taken."""
    assert taken(read(votes_of(TABLE), Voting(), [[0] * 5], [{0, 1, 2}])) == [(0, 2, 1, 1)]


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        ([0, 0, 0, 1, 1], [(2, 3 / 5)]),
        ([0, 0, 1, 1, 1], [(0, 3 / 5)]),
        ([0, 0, 1, 1, 2], []),  # a tie, and no class has more than half
        ([0, 0, 2, 2, 2], []),  # what no list has counts among the frames
        ([0, 0, 0, -1, -1], [(2, 1)]),  # a partial segment: of the frames that are there
        ([0, -1, -1, -1, -1], [(2, 1)]),
        ([0, 1, -1, -1, -1], []),
        ([2, 2, 2, 2, 2], []),
    ],
)
def test_a_segment_takes_what_most_of_its_frames_take(
    clusters: list[int], expected: list[tuple[int, float]]
) -> None:
    found = read(votes_of(TABLE), Voting(), [clusters], [{0, 2}])
    assert taken(found) == [(0, column, 1, share) for column, share in expected]


def test_frames_of_two_clusters_can_agree() -> None:
    assert taken(read(votes_of(TABLE), Voting(), [[0, 0, 1, 1, 2]], [{1}])) == [(0, 1, 1, 4 / 5)]


def test_a_larger_share_can_be_asked_for() -> None:
    for share, count in ((0.6, 0), (0.59, 1)):
        found = read(votes_of(TABLE), Voting(min_share=share), [[0, 0, 0, 1, 1]], [{0, 2}])
        assert found.is_label.sum() == count


def test_segments_of_one_video_share_its_labels() -> None:
    reader = reader_of(votes_of(TABLE), Voting(), CLASSES)
    labels = np.array([[True, False, False], [False, True, False]])
    clusters = np.array([[0] * 5, [1] * 5, [1] * 5])
    found = reader(clusters, np.array([1, 1, 0]), labels)
    assert taken(found) == [(0, 1, 1, 1), (1, 1, 1, 1), (2, 0, 1, 1)]


# ---- the soft reading ----------------------------------------------------------------------------


def test_soft_values_are_shares_of_votes_drawn_to_that_of_the_class() -> None:
    votes = votes_of({(0, 1): (6, 2), (2, 1): (0, 4), (1, 0): (2, 0)})
    found = soft_lists(votes, Voting(soft=True, smoothing=5))
    assert lists(found) == [[1], [], [1]]
    share = 6 / 12
    assert found.value.tolist() == pytest.approx([(6 + 5 * share) / 13, (0 + 5 * share) / 9])
    unsmoothed = soft_lists(votes, Voting(soft=True, smoothing=0))
    assert unsmoothed.value.tolist() == [6 / 8, 0]


def test_soft_labels_are_means_over_the_frames_that_know_and_of_every_label() -> None:
    votes = votes_of({(0, 1): (6, 2), (1, 1): (1, 3), (0, 2): (0, 5), (1, 0): (1, 1)})
    settings = Voting(soft=True, smoothing=0)
    found = read(votes, settings, [[0, 0, 0, 1, 2], [0, 0, 1, 1, 2]], [{0, 1, 2}] * 2)
    both = (3 * 6 / 8 + 1 / 4) / 4
    assert taken(found) == [(0, 1, both, 4 / 5), (0, 2, 0, 3 / 5), (1, 1, 1 / 2, 4 / 5)]
    assert taken(read(votes, settings, [[0, 0, 0, 1, 2]], [{0, 2}])) == [(0, 2, 0, 3 / 5)]


# ---- against ratings that were held back ---------------------------------------------------------


def judged(opinions: Opinions, truth: list[float]) -> dict[str, float | int | None]:
    """Rated pairs of column 0: segments 0, 1, ...; the last one is no label of its video."""
    segment = np.arange(len(truth))
    in_label = segment < len(truth) - 1
    return judgement(segment, np.zeros_like(segment), np.array(truth), opinions, in_label, 3)


def opinions_of(*rows: tuple[int, int, float, float, bool]) -> Opinions:
    segment, column, score, share, is_label = zip(*rows)
    arrays: list[NDArray[np.generic]] = [
        np.array(x) for x in (segment, column, score, share, is_label)
    ]
    return Opinions(*arrays)  # type: ignore[arg-type]


def test_judgement_by_hand() -> None:
    opinions = opinions_of(
        (0, 0, 1, 1, True), (1, 0, 1, 0.6, True), (2, 0, 1, 0.4, False), (4, 0, 0.25, 1, True),
        (4, 2, 1, 1, True), (6, 0, 1, 1, True),
    )  # fmt: skip
    found = judged(opinions, [1, 0, 1, 1, 0, 1, 1])
    assert found == {
        "pairs": 6,
        "base_rate": pytest.approx(4 / 6),
        "labelled": 3,
        "coverage": pytest.approx(3 / 6),
        "mean_label": pytest.approx(2.25 / 3),
        "precision": 0.5,
        "recall": 0.25,
        "negative_precision": 1,
        "brier": pytest.approx((0 + 1 + 0.25**2) / 3),
        # positives 1, 0.4, 0, 0 against negatives 0.6 and 0.25
        "concordance": pytest.approx((2 + 1 + 0 + 0) / 8),
    }


def test_judgement_without_opinions() -> None:
    nothing = np.zeros(0, np.int64)
    opinions = Opinions(nothing, nothing, np.zeros(0), np.zeros(0), np.zeros(0, bool))
    found = judged(opinions, [1, 0, 1])
    assert (found["labelled"], found["precision"], found["coverage"]) == (0, None, 0)
    assert found["concordance"] == 0.5


def test_concordance_stays_within_a_class() -> None:
    column, strength = np.array([0, 0, 1, 1]), np.array([0.2, 0.1, 0.9, 0.8])
    assert concordance(column, np.array([True, False, True, False]), strength) == 1
    assert concordance(column, np.array([False, True, True, False]), strength) == 0.5
    assert concordance(column, np.array([True, True, False, False]), strength) is None


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("min_votes", 0, "at least 1"),
        ("smoothing", -1.0, "at least 0"),
        ("min_share", 0.4, "at least 0.5, below 1"),
        ("min_share", 1.0, "at least 0.5, below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float, rule: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: the value is {value}.*{rule}"):
        Voting(**{name: value})  # type: ignore[arg-type]
