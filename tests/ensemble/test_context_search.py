"""Search of a context: each trial is what it stands for, the planted one is found, or none is."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ensemble_world import shuffled, with_values
from fusion_world import CLASSES, write_scores, write_videos
from ranking_oracle import labels, table
from whenabouts.core.errors import LabelsError, ScoresError
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble import context_search as search_module
from whenabouts.ensemble.context import AS_IT_IS, Context, refine
from whenabouts.ensemble.context_search import (
    ALIKE,
    CENTRE,
    SMOOTH,
    RatedInVideos,
    grid_of,
    search_context,
)
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.metrics.segment_map import evaluate_scores

SMALL_GRID = tuple(Context(*each) for each in product((0, 0.3, 1), (0, 0.5, 1), (0, 0.4)))
WIDTHS = (0.4, 0)


def random_world(
    folder: Path, seed: int, dtype: type = np.float32, num: int = 200
) -> tuple[SegmentLabels, Scores]:
    """16 videos of 1 to 9 segments, rows in no order; some ratings of segments and of a class that
    nobody scored."""
    rng = np.random.default_rng(seed)
    ids = np.array([*(b"v%d" % v for v in range(16)), b"unseen"])
    counts = rng.integers(1, 10, 16)
    video = np.repeat(np.arange(16), counts)
    starts = np.concatenate([rng.choice(12, n, replace=False) * 5 for n in counts])
    order = rng.permutation(len(video))
    table = SegmentTable(ids[:16], video[order], starts[order])
    values = (rng.integers(0, 33, (len(video), len(CLASSES))) / 32).astype(dtype)
    scores = write_scores(folder / f"s{seed}", table, CLASSES, values)
    classes = np.array([*CLASSES, 2])
    rated, column = np.divmod(rng.choice(17 * 12 * 6, num, replace=False), 6)
    of_video, start = np.divmod(rated, 12)
    return segment_labels(ids[of_video], start * 5, classes[column], rng.random(num)), scores


def planted_world(
    folder: Path, offsets: float, noise: float, seed: int = 0
) -> tuple[SegmentLabels, Scores]:
    """60 videos of 12 segments, 4 classes, shown by whole scenes of 3 segments, half of them. The
    logit is 1 or -1, and noise of each segment, and an offset of each video."""
    rng = np.random.default_rng(seed)
    ids = np.array([b"v%02d" % v for v in range(60)])
    video, starts = np.repeat(np.arange(60), 12), np.tile(np.arange(12) * 5, 60)
    scenes = rng.permuted(np.tile([[0, 0, 1, 1]], (240, 1)), axis=1).reshape(60, 4, 4)
    shows = np.repeat(scenes.swapaxes(1, 2), 3, axis=1).reshape(720, 4)
    of_video = offsets * rng.normal(size=(60, 4))[video]
    logits = 2 * shows - 1 + noise * rng.normal(size=shows.shape) + of_video
    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
    scores = write_scores(folder / "s", SegmentTable(ids, video, starts), range(4), values)
    row, column = np.divmod(rng.choice(2880, 2000, replace=False), 4)
    truth = segment_labels(ids[video[row]], starts[row], column, shows[row, column].astype(float))
    return truth, scores


def written_map(scores: Scores, settings: Context, out: Path, truth: SegmentLabels) -> float:
    """mAP of the refined Scores, written and evaluated."""
    refine(scores, out, settings)
    found = open_scores(out)
    return evaluate_scores(truth, found.segments, found.classes, found.values).mean_ap


# ---- a trial -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_trial_has_the_map_of_the_scores_it_stands_for(dtype: type, tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 0, dtype)
    found = search_context(truth, scores, SMALL_GRID)
    assert {trial.settings for trial in found.trials} == set(SMALL_GRID)
    for trial in found.trials:
        expected = written_map(scores, trial.settings, tmp_path / "o", truth)
        assert trial.mean_ap == pytest.approx(expected, rel=1e-12), trial
    alone = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
    assert found.as_it_is.mean_ap == pytest.approx(alone.mean_ap, rel=1e-12)
    assert found.num_pairs == alone.num_listed.sum() < len(truth)
    assert len({trial.mean_ap for trial in found.trials}) > 5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_gathered_is_what_is_written(dtype: type, tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 1, dtype)
    rows = scores.segments.rows_of(truth.video, truth.start_s)
    columns = scores.classes.columns(truth.class_id)
    kept = (rows >= 0) & (columns >= 0)
    pairs = RatedInVideos.of(truth, scores).in_context(WIDTHS)
    for settings in SMALL_GRID:
        refine(scores, tmp_path / "o", settings)
        expected = open_scores(tmp_path / "o").values[rows[kept], columns[kept]]
        assert pairs.scores(settings).dtype == dtype
        np.testing.assert_array_equal(np.sort(pairs.scores(settings)), np.sort(expected))


def test_each_half_has_the_map_of_its_own_videos(tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 2)
    in_first = first_half(truth.video)
    assert 0 < in_first.sum() < len(truth)
    pairs = RatedInVideos.of(truth, scores).in_context(WIDTHS)
    for settings in SMALL_GRID:
        parts = (truth, truth.take(in_first), truth.take(~in_first))
        expected = [written_map(scores, settings, tmp_path / "o", part) for part in parts]
        assert pairs.mean_aps(settings) == pytest.approx(expected, rel=1e-12)


def test_the_order_of_ratings_and_rows_is_irrelevant(tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 3)
    expected = search_context(truth, scores, SMALL_GRID)
    rng = np.random.default_rng(0)
    mixed = truth.take(rng.permutation(len(truth)))
    assert search_context(mixed, scores, SMALL_GRID) == expected
    assert search_context(mixed, shuffled(scores, tmp_path / "m", rng), SMALL_GRID) == expected


# ---- the search ----------------------------------------------------------------------------------


def test_offsets_of_videos_are_found_and_taken_off(tmp_path: Path) -> None:
    """Of a constant in all of a video, all is to be taken off; and there is nothing to smooth."""
    found = search_context(*planted_world(tmp_path, offsets=3, noise=0))
    assert found.best.settings.centre == 1
    assert found.best.mean_ap == 1 > found.as_it_is.mean_ap + 0.2
    assert Context(0, 1) in {t.settings for t in found.trials if t.mean_ap == 1}
    cross = found.cross_validated
    assert cross is not None
    assert cross.mean_ap == 1 > cross.as_it_is_mean_ap + 0.2
    assert found.pays
    assert found.used == found.best


def test_noise_of_segments_is_found_and_smoothed(tmp_path: Path) -> None:
    found = search_context(*planted_world(tmp_path, offsets=0, noise=2))
    assert found.best.settings.smooth >= 0.4
    assert found.best.mean_ap > found.as_it_is.mean_ap + 0.05
    assert found.used == found.best


def test_what_comes_back_is_found_and_shared(tmp_path: Path) -> None:
    """Of 20 classes, two scenes take turns: what is beside a segment in time is never like it."""
    rng = np.random.default_rng(0)
    ids = np.array([b"v%02d" % v for v in range(60)])
    video, starts = np.repeat(np.arange(60), 12), np.tile(np.arange(12) * 5, 60)
    scenes = rng.random((60, 2, 20)) < 0.5
    shows = scenes[video, np.arange(720) % 2]
    logits = 2 * shows - 1 + 2 * rng.normal(size=shows.shape)
    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
    scores = write_scores(tmp_path / "s", SegmentTable(ids, video, starts), range(20), values)
    row, column = np.divmod(rng.choice(14400, 4000, replace=False), 20)
    truth = segment_labels(ids[video[row]], starts[row], column, shows[row, column].astype(float))
    found = search_context(truth, scores)
    best = found.best.settings
    assert (best.alike > 0, best.smooth) == (True, 0)
    in_time = max(trial.mean_ap for trial in found.trials if not trial.settings.alike)
    assert found.best.mean_ap > in_time + 0.03
    assert found.used == found.best


def test_where_there_is_nothing_the_scores_stay(tmp_path: Path) -> None:
    """Nothing ranks before scores that are right."""
    found = search_context(*planted_world(tmp_path, offsets=0, noise=0))
    assert found.best.settings == AS_IT_IS
    assert found.as_it_is.mean_ap == 1
    assert not found.pays
    assert found.used == found.as_it_is


def test_what_is_best_by_chance_is_not_used(tmp_path: Path) -> None:
    """Of scores that say nothing some trial is always ahead; across halves in half the worlds."""
    used = 0
    for seed in range(6):
        truth, scores = planted_world(tmp_path, 0, 1, seed)
        values = np.random.default_rng(seed).random(scores.values.shape, np.float32)
        found = search_context(truth, with_values(scores, values))
        assert found.best.mean_ap > found.as_it_is.mean_ap
        cross = found.cross_validated
        assert cross is not None
        assert found.pays == (cross.mean_ap > cross.as_it_is_mean_ap)
        assert found.used == (found.best if found.pays else found.as_it_is)
        used += found.pays
    assert used < 6, "the rule is put to the test"


def test_trials_are_best_first_and_equals_as_tried(tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 5)
    found = search_context(truth, scores, [Context(0.3, 0.5), *SMALL_GRID, Context(0.3, 0.5)])
    mean_aps = [trial.mean_ap for trial in found.trials]
    assert mean_aps == sorted(mean_aps, reverse=True)
    assert len(found.trials) == len(SMALL_GRID)
    assert found.best == found.trials[0]
    assert found.as_it_is.settings == AS_IT_IS
    ones = with_values(scores, np.ones_like(scores.values))
    tried = [Context(0.1, 0), Context(0.2, 0), Context(0.3, 0)]
    equal = search_context(truth, ones, tried)
    assert [trial.settings for trial in equal.trials] == [AS_IT_IS, *tried]
    assert not equal.pays


def test_the_grid() -> None:
    assert SMOOTH == (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert CENTRE == (0, 0.1, 0.2, 0.3, 0.5, 0.7, 1)
    assert ALIKE == (0, 0.1, 0.15, 0.2, 0.25, 0.3)
    grid = grid_of(4)
    assert len(set(grid)) == 252
    assert grid[0] == AS_IT_IS
    assert {each.alike for each in grid} == {0, 0.4, 0.6, 0.8, 1, 1.2}
    assert set(grid_of(0)) == {each for each in grid if not each.alike}


def test_the_grid_has_parts_of_the_typical_distance(tmp_path: Path) -> None:
    """Of two videos with a rating: their segments are 1, 1 and 2 classes apart, and 2. The third
    has none."""
    values = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]]
    rows = table("a:0", "a:5", "a:10", "b:0", "b:5", "c:0", "c:5")
    scores = write_scores(tmp_path / "s", rows, [7, 3, 1], np.array(values, np.float32))
    truth = labels(("a:0", 7, 1), ("b:0", 3, 0))
    found = search_context(truth, scores)
    tried = {trial.settings.alike for trial in found.trials}
    assert sorted(tried) == pytest.approx([share * 1.5 for share in ALIKE])
    alone = write_scores(tmp_path / "t", table("a:0", "b:0"), [7], np.ones((2, 1), np.float32))
    found = search_context(labels(("a:0", 7, 1)), alone)
    assert {trial.settings.alike for trial in found.trials} == {0}


def test_the_estimate_is_chosen_on_one_half_and_scored_on_the_other(tmp_path: Path) -> None:
    different = 0
    for seed in range(4):
        truth, scores = random_world(tmp_path, seed, num=500)
        cross = search_context(truth, scores, SMALL_GRID).cross_validated
        assert cross is not None
        halves = [truth.take(first_half(truth.video) == h) for h in (True, False)]
        trials = [search_context(half, scores, SMALL_GRID).trials for half in halves]
        of = [{trial.settings: trial.mean_ap for trial in half} for half in trials]
        chosen = trials[0][0].settings, trials[1][0].settings
        assert cross.chosen == chosen
        assert cross.mean_ap == pytest.approx((of[1][chosen[0]] + of[0][chosen[1]]) / 2)
        expected = (of[0][AS_IT_IS] + of[1][AS_IT_IS]) / 2
        assert cross.as_it_is_mean_ap == pytest.approx(expected)
        different += chosen[0] != chosen[1]
    assert different, "both ways are told apart"


def test_the_scores_stay_where_a_half_has_no_positive(tmp_path: Path) -> None:
    _, scores = random_world(tmp_path, 6)
    table = scores.segments
    named = [f"{table.video_ids[table.video[r]].decode()}:{table.starts_s[r]}" for r in range(20)]
    worst = int(np.argmin(scores.values[:20, 0]))
    truth = labels(*((name, 7, float(place == worst)) for place, name in enumerate(named)))
    found = search_context(truth, scores)
    assert found.cross_validated is None
    assert found.best.mean_ap > found.as_it_is.mean_ap
    assert not found.pays
    assert found.used == found.as_it_is
    assert found.to_dict()["cross_validated"] is None


def test_what_is_typical_is_asked_of_few_videos_evenly_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five rated videos the first, the third and the fifth; of the first segments of each."""
    names = [f"{video}:{at_s}" for video in "abcde" for at_s in (0, 5, 10)]
    apart = [0.0, 0.9, 0.1, 0.9, 0.3]  # scores of the second segment; the first has 1, in 1 class
    values = np.array([[1, share, 0] for share in apart], np.float32).reshape(-1, 1)
    scores = write_scores(tmp_path / "s", table(*names), [7], values)
    truth = labels(*((f"{video}:0", 7, 1) for video in "abcde"))
    monkeypatch.setattr(search_module, "MOST_SAMPLED", 3)
    monkeypatch.setattr(search_module, "MOST_SEGMENTS", 2)
    found = RatedInVideos.of(truth, scores).typical_distance()
    assert found == pytest.approx(1 - np.sqrt(0.1))
    monkeypatch.setattr(search_module, "MOST_SAMPLED", 5)
    found = RatedInVideos.of(truth, scores).typical_distance()
    assert found == pytest.approx(1 - np.sqrt(0.3))


# ---- what is told, what is refused ---------------------------------------------------------------


def test_the_report_as_json(tmp_path: Path) -> None:
    found = search_context(*planted_world(tmp_path, 2, 1), SMALL_GRID)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["num_trials"] == len(told["trials"]) == len(SMALL_GRID)
    assert told["best"] == told["used"] == told["trials"][0]
    assert told["num_pairs"] == found.num_pairs == 2000
    expected = {"smooth": 0, "centre": 0, "alike": 0, "mean_ap": found.as_it_is.mean_ap}
    assert told["as_it_is"] == expected
    assert set(told["cross_validated"]) == {"chosen", "mean_ap", "as_it_is_mean_ap"}


def test_ratings_that_cannot_be_searched_on(tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 7)
    zeros = segment_labels(truth.video, truth.start_s, truth.class_id, truth.score * 0)
    with pytest.raises(LabelsError, match="no rated pair is positive"):
        search_context(zeros, scores)
    for other in (labels(("unseen:0", 7, 1)), labels(("v0:0", 1234, 1)), labels()):
        with pytest.raises(ScoresError, match="s7: none of the rated segments is scored"):
            search_context(other, scores)


def test_scores_that_cannot_be_refined_are_refused(tmp_path: Path) -> None:
    truth, scores = random_world(tmp_path, 8)
    values = np.array(scores.values)
    values[3] = np.nan
    with pytest.raises(ScoresError, match=r"s8: the score of class 7 in row 3 is nan"):
        search_context(truth, with_values(scores, values))
    half = np.full((1, 1), 0.5, np.float32)
    videos = write_videos(tmp_path / "v", [b"v0"], [7], half)
    with pytest.raises(ScoresError, match="v: scores of whole videos"):
        search_context(truth, videos)
