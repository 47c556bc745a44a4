"""The search of weights: planted ones are found, choices are worth what they are on the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from fusion_world import write_scores, write_videos
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble.halves import choose_across
from whenabouts.ensemble.members import Member, match_members
from whenabouts.ensemble.trials import Gathered, PairLoss, segment_trials, video_trials
from whenabouts.ensemble.weights import (
    WAYS,
    Way,
    WeightSearch,
    ascend,
    descend,
    search_weights,
    weights_to_try,
)

PLANTED = np.array([0.6, 0.0, 0.3, 0.1])


@dataclass
class Hill:
    """Trials whose metric falls with the distance from a peak: one for all videos, and one for
    each half."""

    peaks: np.ndarray
    metric: str = "height"
    judged_on: str = "a hill"
    asked: list[np.ndarray] = field(default_factory=list)

    @property
    def num_members(self) -> int:
        return self.peaks.shape[1]

    def metrics(self, weights: np.ndarray) -> tuple[float, float, float]:
        assert weights.shape == (self.num_members,)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
        self.asked.append(weights)
        return tuple((1 - np.square(self.peaks - weights).sum(axis=1)).tolist())

    def pair_loss(self, part: int) -> Bowl:
        return Bowl(self.peaks[part])


@dataclass
class Bowl:
    """A convex loss that is smallest at the peak."""

    peak: np.ndarray

    def at(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.square(weights - self.peak).sum()), 2 * (weights - self.peak)


def hill(*peaks: tuple[float, ...]) -> Hill:
    return Hill(np.array(peaks if len(peaks) == 3 else peaks * 3))


def ways_of(search: WeightSearch) -> dict[str, Way]:
    return {way.name: way for way in search.ways}


def planted_segments(folder: Path) -> tuple[SegmentLabels, tuple[Member, ...]]:
    """60 videos of 10 segments, 4 classes; a segment shows a class where the planted mean is above
    the class's median, so that nothing ranks better."""
    rng = np.random.default_rng(0)
    ids = np.array([b"v%02d" % v for v in range(60)])
    video, start = np.divmod(np.arange(600), 10)
    values = rng.random((4, 600, 4), np.float32)
    members = match_members(
        write_scores(folder / name, SegmentTable(ids, video, start * 5), range(4), each)
        for name, each in zip("abcd", values)
    )
    mean = np.tensordot(PLANTED, values, 1)
    shows = (mean > np.median(mean, axis=0)).astype(float)
    row, column = np.divmod(rng.choice(2400, 1200, replace=False), 4)
    return segment_labels(ids[video[row]], start[row] * 5, column, shows[row, column]), members


# ---- planted weights are found -------------------------------------------------------------------


def test_planted_weights_of_segments_are_found(tmp_path: Path) -> None:
    truth, members = planted_segments(tmp_path)
    search = search_weights(segment_trials(truth, members, "mean"))
    ways = ways_of(search)
    assert search.best.name in ("draws", "ascent", "convex")
    assert search.best.value > 0.995 > 0.9 > ways["equal"].value
    np.testing.assert_allclose(search.best.weights, PLANTED, atol=0.06)
    assert search.best.across_halves > 0.99
    assert search.alone == tuple(
        search_weights(segment_trials(truth, (member,), "mean"), 0).best.value for member in members
    )


def test_planted_weights_of_videos_are_found(tmp_path: Path) -> None:
    """The label of a video is the class where the planted mean is highest."""
    rng, ids = np.random.default_rng(1), [b"%04d" % v for v in range(400)]
    values = rng.random((4, 400, 10), np.float32)
    members = match_members(
        write_videos(tmp_path / name, ids, range(10), each) for name, each in zip("abcd", values)
    )
    mean = np.tensordot(PLANTED, values, 1)
    video, column = np.nonzero(mean > np.quantile(mean, 0.9))
    offsets = np.searchsorted(video, np.arange(401))
    search = search_weights(video_trials(np.array(ids), column, offsets, members, "mean"))
    assert search.metric == "GAP@20"
    assert search.best.value > 0.98 > 0.9 > ways_of(search)["equal"].value
    np.testing.assert_allclose(search.best.weights, PLANTED, atol=0.06)


def test_what_is_chosen_by_chance_does_not_survive_the_halves(tmp_path: Path) -> None:
    """Labels that have nothing to do with the scores; a mean over some, each is noise."""
    truth, members = planted_segments(tmp_path)
    flattered, survives = [], []
    for seed in range(8):
        score = np.random.default_rng(seed).permutation(truth.score)
        noise = segment_labels(truth.video, truth.start_s, truth.class_id, score)
        ways = ways_of(search_weights(segment_trials(noise, members, "mean"), 100))
        for way in (ways["draws"], ways["ascent"]):
            flattered.append(way.value - ways["equal"].value)
            survives.append(way.across_halves - ways["equal"].across_halves)
    assert min(flattered) >= 0
    assert np.mean(flattered) > 0.01
    assert abs(np.mean(survives)) < np.mean(flattered) / 3


# ---- the ways, by definition ---------------------------------------------------------------------


def test_what_is_tried() -> None:
    tried = weights_to_try(3, 5, 0)
    assert tried.shape == (9, 3)
    assert tried[0].tolist() == [1 / 3] * 3
    np.testing.assert_array_equal(tried[1:4], np.eye(3))
    np.testing.assert_allclose(tried.sum(axis=1), 1)
    np.testing.assert_array_equal(weights_to_try(3, 5, 0), tried)
    assert (weights_to_try(3, 5, 1)[4:] != tried[4:]).all()


def test_draws_are_uniform_over_the_simplex() -> None:
    """Each weight of K is above t with probability (1 - t)^(K - 1)."""
    draws = weights_to_try(4, 20_000, 0)[5:]
    for t in (0.1, 0.25, 0.5):
        assert (draws > t).mean(axis=0) == pytest.approx([(1 - t) ** 3] * 4, abs=0.015)


def test_every_way_by_definition() -> None:
    trials = hill((0.5, 0.3, 0.2), (0.7, 0.2, 0.1), (0.1, 0.3, 0.6))
    drawn: list[int] = []
    search = search_weights(trials, 40, seed=3, on_draw=drawn.append)
    assert len(drawn) == sum(drawn) == 1 + trials.num_members + 40
    tried = weights_to_try(3, 40, 3)
    rows = {"equal": [0], "single": [1, 2, 3], "draws": list(range(44))}
    values = np.array([trials.metrics(weights) for weights in tried])
    assert tuple(way.name for way in search.ways) == WAYS
    for name, of_way in rows.items():
        way = ways_of(search)[name]
        best, on_first, on_second = (max(of_way, key=lambda r, p=p: values[r, p]) for p in range(3))
        assert way.weights == tuple(tried[best])
        assert way.value == values[best, 0]
        assert way.across_halves == (values[on_first, 2] + values[on_second, 1]) / 2
        assert way.num_trials == len(of_way)
    assert search.alone == tuple(values[1:4, 0])
    halves = [1 - np.square(trials.peaks[1] - trials.peaks[2]).sum()] * 2
    for name, error in (("ascent", 0.06), ("convex", 0.001)):
        way = ways_of(search)[name]
        np.testing.assert_allclose(way.weights, trials.peaks[0], atol=error)
        assert way.across_halves == pytest.approx(np.mean(halves), abs=error)
    assert (search.metric, search.judged_on) == ("height", "a hill")


@pytest.mark.parametrize("peak", [(1, 0, 0), (0, 0.5, 0.5), (0.05, 0.9, 0.05), (0.25, 0.35, 0.4)])
def test_ascent_reaches_the_top(peak: tuple[float, ...]) -> None:
    trials = hill(peak)
    start = np.full(3, 1 / 3)
    weights, num_trials = ascend(lambda w: trials.metrics(w)[0], start)
    np.testing.assert_allclose(weights, peak, atol=0.05)
    assert num_trials == len(trials.asked)
    best = trials.metrics(weights)[0]
    assert best == max(trials.metrics(asked)[0] for asked in list(trials.asked))


def test_ascent_leaves_a_corner_and_stays_on_a_plain() -> None:
    weights, _ = ascend(lambda w: -abs(w[1] - w[2]) - w[0], np.array([1.0, 0, 0]))
    np.testing.assert_allclose(weights, (0, 0.5, 0.5), atol=0.03)
    weights, num_trials = ascend(lambda w: 1.0, np.array([0.9, 0.1]))
    assert weights.tolist() == [0.9, 0.1]
    assert num_trials == 1 + 4 * 4


def test_a_step_of_ascent_by_hand() -> None:
    """The others change in proportion; those that are all 0 share what is left."""
    for start, expected in (
        ((1, 0, 0), [(1, 0, 0), (1, 0, 0), (0.6, 0.2, 0.2), (0.6, 0.4, 0)]),
        ((0.2, 0.6, 0.2), [(0.2, 0.6, 0.2), (0.6, 0.3, 0.1), (0, 0.75, 0.25), (0, 1, 0)]),
    ):
        trials = hill((0.2, 0.6, 0.2))
        ascend(lambda w, of=trials: of.metrics(w)[0] * 0, np.array(start, float))
        np.testing.assert_allclose(trials.asked[:4], expected, atol=1e-12)


def test_of_one_member_there_is_nothing_to_choose() -> None:
    search = search_weights(hill((1.0,)), 3)
    assert all(way.weights == (1,) for way in search.ways)
    assert search.best.name == "equal"


# ---- convex --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peak",
    [(0.2, 0.3, 0.5), (-0.1, 0.4, 0.6), (-0.5, -0.3, 1), (0.9, 0.4, -0.7), (4, 2, 2), (30, -5, 10)],
)
def test_descent_arrives_at_the_bottom(peak: tuple[float, ...]) -> None:
    """Among weights of 0 or more, whatever they sum to, the nearest to the peak."""
    weights, _ = descend(Bowl(np.array(peak)), 3)
    nearest = np.maximum(peak, 0)
    np.testing.assert_allclose(weights, nearest / nearest.sum(), atol=1e-3)
    assert (weights[np.array(peak) < 0] == 0).all()


def test_pairs_by_hand() -> None:
    """Two members, two classes: in the first a positive before two others; the second has no other,
    and so no pair. The pairs are two; drawn often, each is about half of the loss."""
    values = np.array([[0.8, 0.2, 0.4, 0.5], [0.3, 0.5, 0.1, 0.5]])
    positive = np.array([True, False, False, True])
    gathered = Gathered("mean", values)
    loss = gathered.pair_loss(np.array([0, 0, 0, 1]), positive, np.ones(4, bool))
    apart = np.array([[0.6, 0.4], [-0.2, 0.2]])  # of (0, 1) and of (0, 2)
    apart /= np.sqrt(np.square(apart.mean(axis=0)).mean())
    for weights in ((1.0, 0.0), (0.5, 2.0)):
        expected = np.log1p(np.exp(-np.array(weights) @ apart)).mean()
        assert loss.at(np.array(weights))[0] == pytest.approx(expected, rel=0.01)
    only_first = gathered.pair_loss(
        np.zeros(4, int), positive, np.array([True, True, False, False])
    )
    assert np.unique(only_first.differences, axis=1).shape == (2, 1)
    none = gathered.pair_loss(np.zeros(4, int), positive, np.array([True, False, False, True]))
    assert none.at(np.ones(2)) == (0, pytest.approx([0, 0]))


@pytest.mark.parametrize("kind", ["mean", "geometric", "rank"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_pairs_are_of_one_class_and_of_the_asked_part(kind: str, part: int, tmp_path: Path) -> None:
    trials = segment_trials(*planted_segments(tmp_path), kind)
    values, pairs, loss = trials.gathered.values, trials.pairs, trials.pair_loss(part)
    taken = (np.ones_like(pairs.first_half), pairs.first_half, ~pairs.first_half)[part]
    per_class = loss.differences.shape[1] // 4
    for number in range(4):
        of_class = (pairs.class_number == number) & taken
        positives, others = (
            values[:, of_class & pairs.positive],
            values[:, of_class & ~pairs.positive],
        )
        apart = (positives[:, :, None] - others[:, None]).reshape(4, -1)
        drawn = loss.differences[:, number * per_class : (number + 1) * per_class]
        assert np.square(drawn.mean(axis=0)).mean() == pytest.approx(1)
        means = drawn.mean(axis=1), apart.mean(axis=1)
        found, expected = (mean / np.linalg.norm(mean) for mean in means)
        np.testing.assert_allclose(found, expected, atol=0.05)
        # Each is one of the pairs, but for the scale.
        ways = [np.arctan2(each[0], each[1]).round(7) for each in (drawn, apart)]
        assert np.isin(*ways).mean() > 0.99


def test_the_gradient_is_the_slope() -> None:
    loss, weights = PairLoss(np.random.default_rng(0).normal(size=(3, 50))), np.array([0.3, 2, 0.7])
    moved = [loss.at(weights + d)[0] - loss.at(weights - d)[0] for d in np.eye(3) * 1e-6]
    np.testing.assert_allclose(loss.at(weights)[1], np.array(moved) / 2e-6, rtol=1e-6)


def test_a_badly_calibrated_member_is_weighted_by_its_order(tmp_path: Path) -> None:
    """One orders all pairs right, by scores that are all near 0; the other is noise."""
    truth, members = planted_segments(tmp_path)
    trials = segment_trials(truth, members, "mean")
    rng = np.random.default_rng(0)
    right = 0.001 * trials.pairs.positive + 0.0005 * rng.random(len(trials.pairs.positive))
    noise = rng.random(len(right))
    trials = replace(trials, gathered=Gathered("mean", np.stack([right, noise])))
    way = ways_of(search_weights(trials, 0))["convex"]
    assert way.value > 0.95 > ways_of(search_weights(trials, 0))["equal"].value


def test_pairs_of_videos_are_of_all_of_them(tmp_path: Path) -> None:
    ids = [b"a", b"b", b"c", b"d"]
    scores = np.array([[0.5, 0.25], [0.125, 0.5], [0.75, 0.5], [0.5, 0.0]], np.float32)
    members = match_members([write_videos(tmp_path / "a", ids, range(2), scores)])
    trials = video_trials(np.array(ids), np.array([0, 1, 0, 0]), np.arange(5), members, "mean")
    apart = trials.pair_loss(0).differences[0]
    found = np.unique((apart / apart.max()).round(9))
    expected = {(p - q) / 0.75 for p in (0.5, 0.75) for q in (0, 0.125, 0.25, 0.5)}
    assert found.tolist() == pytest.approx(sorted(expected))


def test_a_member_that_knows_nothing_gets_little_weight(tmp_path: Path) -> None:
    truth, members = planted_segments(tmp_path)
    way = ways_of(search_weights(segment_trials(truth, members, "mean"), 0))["convex"]
    np.testing.assert_allclose(way.weights, PLANTED, atol=0.03)
    assert way.value > 0.99


# ---- weights that are given ----------------------------------------------------------------------


def test_given_weights_stand_beside_what_is_found() -> None:
    trials = hill((0.5, 0.3, 0.2), (0.7, 0.2, 0.1), (0.1, 0.3, 0.6))
    given = (0.4, 0.4, 0.2)
    search = search_weights(trials, 3, given=given)
    whole, first, second = trials.metrics(np.array(given))
    assert search.ways[0] == Way("given", given, whole, (first + second) / 2, 1)
    assert search.ways[1:] == search_weights(trials, 3).ways


def test_given_weights_are_used_if_they_are_best() -> None:
    trials = hill((0.5, 0.3, 0.2), (0.9, 0.1, 0), (0, 0, 1))
    assert search_weights(trials, 3, given=(0.5, 0.0, 0.5)).best.name == "given"


# ---- which is used -------------------------------------------------------------------------------


def searched(*estimates: float | None) -> WeightSearch:
    ways = [
        Way(name, (1.0,), 0.1 * place, estimate, 1)
        for place, (name, estimate) in enumerate(zip(WAYS, estimates))
    ]
    return WeightSearch("mAP", "", tuple(ways), (0.5,))


@pytest.mark.parametrize(
    ("estimates", "used"),
    [
        ((0.5, 0.6, 0.8, 0.7, 0.6), "draws"),
        ((0.5, 0.6, 0.7, 0.7, 0.7), "draws"),
        ((0.7, 0.7, 0.7, 0.7, 0.7), "equal"),
        ((0.8, 0.6, 0.7, 0.7, 0.9), "convex"),
        ((None, None, None, None, None), "convex"),
    ],
)
def test_the_best_across_halves_is_used(estimates: tuple[float | None, ...], used: str) -> None:
    assert searched(*estimates).best.name == used
    assert searched(*estimates).to_dict()["used"] == used


def test_no_estimate_where_a_half_has_no_positive() -> None:
    trials = hill((0.5, 0.5), (0.5, 0.5), (np.nan, np.nan))
    search = search_weights(trials, 5)
    assert [way.across_halves for way in search.ways] == [None] * 5
    assert search.best.value == max(way.value for way in search.ways)


def test_a_search_can_be_repeated(tmp_path: Path) -> None:
    trials = segment_trials(*planted_segments(tmp_path), "geometric")
    search = search_weights(trials, 20)
    assert search_weights(trials, 20) == search
    told = json.loads(json.dumps(search.to_dict(), allow_nan=False))
    assert [way["name"] for way in told["ways"]] == list(WAYS)
    assert told["ways"][2] == {**vars(search.ways[2]), "weights": list(search.ways[2].weights)}
    assert told["alone"] == list(search.alone)
    other = search_weights(trials, 20, seed=1)
    assert replace(other, ways=()) == replace(search, ways=())
    assert ways_of(other)["draws"] != ways_of(search)["draws"]


# ---- across halves -------------------------------------------------------------------------------


def test_across_halves_by_hand() -> None:
    found = choose_across(np.array([[0.1, 0.9], [0.5, 0.2], [0.5, 0.9], [0.4, 0.8]]))
    assert found is not None
    assert found.chosen == (1, 0)
    assert found.estimate == pytest.approx((0.2 + 0.1) / 2)
    assert choose_across(np.array([[0.1, np.nan], [0.2, np.nan]])) is None
