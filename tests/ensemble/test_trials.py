"""A trial of weights has the metric of the Scores that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ensemble_world import averaged, random_scores, shuffled, with_values
from fusion_world import IDS, write_videos
from ranking_oracle import labels
from whenabouts.core.errors import LabelsError, ScoresError
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.scores import Scores
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.ensemble.candidates import topic_ranks
from whenabouts.ensemble.members import Member, match_members
from whenabouts.ensemble.ranks import ranks_at
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.ensemble.trials import (
    Trials,
    VideoTrials,
    candidate_columns,
    segment_trials,
    video_trials,
)
from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.metrics.video import gap, video_truth

KINDS = ("mean", "geometric", "rank")
WEIGHTS = ((1, 0, 0), (0.2, 0.3, 0.5), (0.25, 0.25, 0.5), (0, 0.9, 0.1))


def random_truth(seed: int, num: int = 150) -> SegmentLabels:
    """Ratings of the segments of `random_scores`; some of segments and classes nobody scored."""
    rng = np.random.default_rng(seed)
    ids, classes = np.array([*IDS, b"unseen"], np.bytes_), np.array([7, 3, 11, 0, 2])
    video, rest = np.divmod(rng.choice(len(ids) * 8 * 5, num, replace=False), 8 * 5)
    start, column = np.divmod(rest, 5)
    return segment_labels(ids[video], start * 5, classes[column], rng.random(num))


def with_one_moved(members: list[Scores], folder: Path) -> list[Scores]:
    moved = shuffled(members[1], folder / "moved", np.random.default_rng(0))
    return [members[0], moved, *members[2:]]


class Labelled(NamedTuple):
    """Videos and their labels, class ids; some of no scored class."""

    ids: np.ndarray
    values: np.ndarray
    offsets: np.ndarray

    def take(self, rows: np.ndarray) -> Labelled:
        parts = [self.values[self.offsets[r] : self.offsets[r + 1]] for r in rows.tolist()]
        offsets = np.cumsum([0, *(len(part) for part in parts)])
        return Labelled(self.ids[rows], np.concatenate([self.values[:0], *parts]), offsets)


def random_videos(
    folder: Path, seed: int, num_classes: int = 12, levels: int = 1000
) -> tuple[list[Scores], Labelled]:
    """Three members with 40 videos, of which 30 are labelled, in another order."""
    rng = np.random.default_rng(seed)
    ids = [b"%03d" % v for v in rng.permutation(40)]
    values = (rng.integers(1, levels, (3, 40, num_classes)) / levels).astype(np.float32)
    members = [
        write_videos(folder / name, ids, range(num_classes), each)
        for name, each in zip("abc", values)
    ]
    counts = rng.integers(1, 4, 30)
    of_videos = [rng.choice(num_classes + 2, count, replace=False) for count in counts]
    offsets = np.cumsum([0, *counts])
    return members, Labelled(rng.permutation(ids)[:30], np.concatenate(of_videos), offsets)


def gap_of(scores: Scores, labelled: Labelled) -> float:
    truth = video_truth(labelled.values, labelled.offsets, scores.classes)
    whole = np.full(len(labelled.ids), WHOLE_VIDEO)
    return gap(truth, scores.values[scores.segments.rows_of(labelled.ids, whole)])


def trials_on(
    labelled: Labelled, members: tuple[Member, ...], kind: str, *more: int
) -> VideoTrials:
    return video_trials(*labelled, members, kind, *more)


def metrics(trials: Trials, weights: tuple[float, ...]) -> tuple[float, float, float]:
    return trials.metrics(np.array(weights))


# ---- segments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_segments_have_the_map_of_the_scores_they_stand_for(
    kind: str, levels: int, tmp_path: Path
) -> None:
    truth = random_truth(levels, 200)
    scored = with_one_moved(random_scores(tmp_path, levels, levels=levels), tmp_path)
    trials = segment_trials(truth, match_members(scored), kind)
    in_first = first_half(truth.video)
    for weights in WEIGHTS:
        found = averaged(scored, tmp_path / "o", kind, weights)
        expected = [
            evaluate_scores(part, found.segments, found.classes, found.values).mean_ap
            for part in (truth, truth.take(in_first), truth.take(~in_first))
        ]
        assert metrics(trials, weights) == pytest.approx(expected, rel=1e-12)
    assert (trials.metric, trials.num_members) == ("mAP", 3)
    listed = evaluate_scores(truth, found.segments, found.classes, found.values).num_listed
    assert trials.judged_on == f"{listed.sum()} rated pairs"


def test_ratings_that_cannot_be_searched_on(tmp_path: Path) -> None:
    members = match_members(random_scores(tmp_path, 0))
    with pytest.raises(ScoresError, match="a: none of the rated segments is scored"):
        segment_trials(labels(("unseen:0", 7, 1)), members, "mean")
    truth = random_truth(0)
    zeros = segment_labels(truth.video, truth.start_s, truth.class_id, truth.score * 0)
    with pytest.raises(LabelsError, match="no rated pair is positive"):
        segment_trials(zeros, members, "mean")


def test_scores_that_cannot_be_averaged(tmp_path: Path) -> None:
    a, b, _ = random_scores(tmp_path, 0)
    wrong = with_values(b, np.full_like(b.values, 2))
    with pytest.raises(ScoresError, match=r"b: the score of class 7 in row 0 is 2\.0"):
        segment_trials(random_truth(0), match_members([a, wrong]), "mean")
    segment_trials(random_truth(0), match_members([a, wrong]), "rank")
    wrong = with_values(b, np.full_like(b.values, np.nan))
    with pytest.raises(ScoresError, match="b: the score of class 7 in row 0 is NaN"):
        segment_trials(random_truth(0), match_members([a, wrong]), "rank")


@pytest.mark.parametrize("budget_bytes", [1, 30 * 12 * 3])
def test_ranks_at_pairs_take_few_classes_at_once(budget_bytes: int, tmp_path: Path) -> None:
    scored = with_one_moved(random_scores(tmp_path, 1, levels=5), tmp_path)
    member = match_members(scored)[1]
    row, column = np.divmod(np.random.default_rng(0).permutation(120)[:50], 4)
    expected = averaged([scored[0], scored[1]], tmp_path / "o", "rank", (0, 1)).values[row, column]
    np.testing.assert_allclose(ranks_at(member, row, column), expected, rtol=1e-7)
    np.testing.assert_array_equal(
        ranks_at(member, row, column, budget_bytes), ranks_at(member, row, column)
    )


# ---- videos --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "levels"), [(12, 1000), (12, 4), (30, 6)])
@pytest.mark.parametrize("kind", KINDS)
def test_videos_have_the_gap_of_the_scores_they_stand_for(
    kind: str, num_classes: int, levels: int, tmp_path: Path
) -> None:
    scored, labelled = random_videos(tmp_path, num_classes + levels, num_classes, levels)
    scored = with_one_moved(scored, tmp_path)
    trials = trials_on(labelled, match_members(scored), kind)
    in_first = first_half(labelled.ids)
    assert 5 < in_first.sum() < 25
    parts = [labelled, *(labelled.take(np.flatnonzero(in_first == half)) for half in (True, False))]
    for weights in WEIGHTS:
        found = averaged(scored, tmp_path / "o", kind, weights)
        expected = [gap_of(found, part) for part in parts]
        assert metrics(trials, weights) == pytest.approx(expected, rel=1e-12)
    assert (trials.metric, trials.num_members) == ("GAP@20", 3)
    assert trials.judged_on == "30 videos"


def test_of_one_member_the_candidates_are_enough(tmp_path: Path) -> None:
    scored, labelled = random_videos(tmp_path, 0, 40)
    members = match_members(scored[:1])
    every, best = (trials_on(labelled, members, "mean", 1000, width) for width in (40, 20))
    assert best.positive.shape == (30, 20)
    assert metrics(best, (1,)) == metrics(every, (1,))


@pytest.mark.parametrize("levels", [4, 1000])
def test_candidates_stand_highest_in_any_member(levels: int, tmp_path: Path) -> None:
    scored, _ = random_videos(tmp_path, 1, 15, levels)
    rows = np.array([7, 0, 39])
    found = candidate_columns(match_members(scored), rows, 6)
    assert found.shape == (3, 6)
    for row, columns in zip(rows.tolist(), found.tolist()):
        places = [topic_ranks(np.asarray(s.values[[row]]))[0].tolist() for s in scored]
        best = [min(of_class) for of_class in zip(*places)]
        expected = sorted(range(15), key=lambda column: (best[column], column))[:6]
        assert columns == sorted(expected)


def test_of_many_videos_a_sample_is_enough(tmp_path: Path) -> None:
    scored, labelled = random_videos(tmp_path, 2)
    members = match_members(scored)
    trials = trials_on(labelled, members, "mean", 9)
    assert trials.judged_on == "9 of 30 videos"
    again = trials_on(labelled, members, "mean", 9)
    np.testing.assert_array_equal(trials.gathered.values, again.gathered.values)
    sample = np.sort(np.random.default_rng(0).permutation(30)[:9])
    assert metrics(trials, WEIGHTS[1]) == metrics(
        trials_on(labelled.take(sample), members, "mean"), WEIGHTS[1]
    )


def test_few_videos_at_once_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored, labelled = random_videos(tmp_path, 3)
    expected = trials_on(labelled, match_members(scored), "mean", 1000, 5)
    monkeypatch.setattr("whenabouts.ensemble.trials.VIDEOS_AT_ONCE", 7)
    found = trials_on(labelled, match_members(scored), "mean", 1000, 5)
    np.testing.assert_array_equal(found.gathered.values, expected.gathered.values)
    np.testing.assert_array_equal(found.positive, expected.positive)


def test_labels_of_other_classes_cannot_be_searched_on(tmp_path: Path) -> None:
    scored, labelled = random_videos(tmp_path, 4)
    other = labelled._replace(values=np.full_like(labelled.values, 99))
    with pytest.raises(LabelsError, match="no label is of a scored class"):
        trials_on(other, match_members(scored), "mean")
