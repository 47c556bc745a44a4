from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fusion_world import CLASSES, IDS, World, random_world, write_scores, write_videos
from ranking_oracle import labels
from whenabouts.core.errors import LabelsError, ScoresError
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.scores import open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.corpus.splits import half_of
from whenabouts.ensemble import rated_pairs as rated_pairs_module
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import PUBLISHED, Exponents, FusionSettings, fuse
from whenabouts.ensemble.rated_pairs import first_half, rated_pairs
from whenabouts.ensemble.search import DEFAULT, GRID, SEGMENTS_ALONE, search_fusion
from whenabouts.ensemble.video_scores import match_videos
from whenabouts.metrics.segment_map import evaluate_scores

SMALL_GRID = tuple(
    FusionSettings(Exponents(a, b), CandidateFilter(*chosen))
    for (a, b), chosen in product(
        ((1, 1), (1, 2), (0, 1), (1, 0)),
        ((), (2,), (None, 3), (None, None, 0.5), (3, 5, 0.25)),
    )
)


def random_truth(seed: int, num: int = 150) -> SegmentLabels:
    """Ratings of the segments of a random world; some of segments and of a class that nobody
    scored."""
    rng = np.random.default_rng(seed)
    ids = np.array([*IDS, b"unseen"], np.bytes_)
    classes = np.array([*CLASSES, 2])
    every = len(ids) * 8 * len(classes)
    video, rest = np.divmod(rng.choice(every, num, replace=False), 8 * len(classes))
    start, class_id = np.divmod(rest, len(classes))
    return segment_labels(ids[video], start * 5, classes[class_id], rng.random(num))


def fused_maps(
    world: World, settings: FusionSettings, out: Path, *truths: SegmentLabels
) -> list[float]:
    """mAP of the fused Scores, written and evaluated."""
    fuse(*world, out, settings, keep_unscored=True)
    scores = open_scores(out)
    return [
        evaluate_scores(truth, scores.segments, scores.classes, scores.values).mean_ap
        for truth in truths
    ]


def planted_world(folder: Path, a: float, b: float, seed: int = 0) -> tuple[SegmentLabels, World]:
    """60 videos of 10 segments, 4 classes; a segment shows a class where video^a segment^b is
    above the class's median, so that nothing ranks better than these exponents."""
    rng = np.random.default_rng(seed)
    ids = [b"v%02d" % v for v in range(60)]
    video, starts = np.repeat(np.arange(60), 10), np.tile(np.arange(10) * 5, 60)
    of_videos = rng.uniform(0.01, 1, (60, 4)).astype(np.float32)
    of_segments = rng.uniform(0.01, 1, (600, 4)).astype(np.float32)
    truth_score = of_videos[video].astype(float) ** a * of_segments.astype(float) ** b
    shows = truth_score > np.median(truth_score, axis=0)
    table = SegmentTable(np.array(ids), video, starts)
    row, column = np.divmod(rng.choice(2400, 1200, replace=False), 4)
    truth = segment_labels(
        np.array(ids)[video[row]], starts[row], column, shows[row, column].astype(float)
    )
    return truth, World(
        write_scores(folder / "segments", table, range(4), of_segments),
        write_videos(folder / "videos", ids, range(4), of_videos),
    )


# ---- a trial -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("seed", "lacking"), [(0, (0, 0)), (1, (2, 1))])
def test_every_trial_has_the_map_of_the_scores_it_stands_for(
    seed: int, lacking: tuple[int, int], dtype: type, tmp_path: Path
) -> None:
    world, truth = random_world(tmp_path, seed, dtype, lacking=lacking), random_truth(seed)
    found = search_fusion(truth, *world, SMALL_GRID, keep_unscored=True)
    assert {t.settings for t in found.trials} == {*SMALL_GRID, DEFAULT, SEGMENTS_ALONE}
    for trial in found.trials:
        [expected] = fused_maps(world, trial.settings, tmp_path / "out", truth)
        assert trial.mean_ap == pytest.approx(expected, rel=1e-12), trial
    table, classes = world.segments.segments, world.segments.classes
    alone = evaluate_scores(truth, table, classes, world.segments.values)
    assert found.segments_alone.mean_ap == pytest.approx(alone.mean_ap, rel=1e-12)
    assert found.num_pairs == alone.num_listed.sum() < len(truth)


def test_each_half_has_the_map_of_its_own_videos(tmp_path: Path) -> None:
    world, truth = random_world(tmp_path, 2), random_truth(2, 200)
    pairs = rated_pairs(truth, world.segments, match_videos(*world))
    in_first = first_half(truth.video)
    assert 0 < in_first.sum() < len(truth)
    for settings in SMALL_GRID:
        parts = (truth, truth.take(in_first), truth.take(~in_first))
        expected = fused_maps(world, settings, tmp_path / "out", *parts)
        assert pairs.mean_aps(settings) == pytest.approx(expected, rel=1e-12)


def test_the_order_of_the_ratings_is_irrelevant(tmp_path: Path) -> None:
    world, truth = random_world(tmp_path, 3, levels=3), random_truth(3)
    expected = search_fusion(truth, *world, SMALL_GRID)
    shuffled = truth.take(np.random.default_rng(0).permutation(len(truth)))
    assert search_fusion(shuffled, *world, SMALL_GRID) == expected


def test_few_videos_at_once_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, truth = random_world(tmp_path, 4), random_truth(4)
    expected = search_fusion(truth, *world, SMALL_GRID)
    for few in (1, 3):
        monkeypatch.setattr(rated_pairs_module, "VIDEOS_AT_ONCE", few)
        assert search_fusion(truth, *world, SMALL_GRID) == expected


# ---- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 4), (2, 1), (0, 1)])
def test_planted_exponents_are_found(a: float, b: float, tmp_path: Path) -> None:
    truth, world = planted_world(tmp_path, a, b)
    found = search_fusion(truth, *world)
    assert found.best.settings == FusionSettings(Exponents(a, b))
    assert found.best.mean_ap == 1
    cross = found.cross_validated
    assert cross is not None
    assert cross.chosen == (found.best.settings, found.best.settings)
    assert cross.mean_ap == 1
    assert (cross.default_mean_ap < 1) == ((a, b) != (1, 1))
    assert (cross.segments_alone_mean_ap < 1) == found.pays == ((a, b) != (0, 1))
    assert found.used == found.best


def test_a_planted_filter_is_found(tmp_path: Path) -> None:
    """Nothing is shown where the video score is not among the two best of its video."""
    truth, world = planted_world(tmp_path, 0, 1)
    of_videos = np.asarray(world.videos.values)
    rank = np.argsort(np.argsort(-of_videos, axis=1), axis=1)
    row = world.segments.segments.videos_of(truth.video)
    score = truth.score * (rank[row, truth.class_id] < 2)
    truth = segment_labels(truth.video, truth.start_s, truth.class_id, score)
    filters = [CandidateFilter(top_topics=n) for n in (1, 2, 3)]
    grid = [FusionSettings(*each) for each in product((*PUBLISHED, Exponents(0, 1)), filters)]
    found = search_fusion(truth, *world, grid)
    assert found.best.settings == FusionSettings(Exponents(0, 1), CandidateFilter(top_topics=2))
    assert found.best.mean_ap == 1 > found.default.mean_ap


def test_trials_are_best_first_and_equals_as_tried(tmp_path: Path) -> None:
    world, truth = random_world(tmp_path, 5), random_truth(5)
    no_filter = [FusionSettings(Exponents(n, n), CandidateFilter(100)) for n in (1, 2, 3)]
    found = search_fusion(truth, *world, [*no_filter, *no_filter, *SMALL_GRID])
    mean_aps = [t.mean_ap for t in found.trials]
    assert mean_aps == sorted(mean_aps, reverse=True)
    tried = [DEFAULT, SEGMENTS_ALONE, *no_filter, *SMALL_GRID]
    assert len(found.trials) == len(set(tried))
    equal = [t.settings for t in found.trials if t.mean_ap == found.default.mean_ap]
    assert equal == sorted(equal, key=tried.index)
    assert {DEFAULT, *no_filter} <= set(equal)
    assert found.default.settings == DEFAULT == FusionSettings(Exponents(1, 1))
    assert found.segments_alone.settings == SEGMENTS_ALONE == FusionSettings(Exponents(0, 1))
    assert found.best == found.trials[0]


def test_the_default_is_tried_even_if_the_grid_is_empty(tmp_path: Path) -> None:
    found = search_fusion(random_truth(5), *random_world(tmp_path, 5), [])
    assert {t.settings for t in found.trials} == {DEFAULT, SEGMENTS_ALONE}


def test_the_grid_holds_what_is_published_first() -> None:
    assert GRID[0] == DEFAULT
    assert {FusionSettings(e) for e in PUBLISHED} <= set(GRID)
    assert FusionSettings(Exponents(1, 1), CandidateFilter(top_topics=20)) in GRID
    assert len(set(GRID)) == len(GRID)


# ---- cross-validation ----------------------------------------------------------------------------


def test_the_estimate_is_chosen_on_one_half_and_scored_on_the_other(tmp_path: Path) -> None:
    different = 0
    for seed in range(4):
        world, truth = random_world(tmp_path, seed), random_truth(seed, 250)
        cross = search_fusion(truth, *world, SMALL_GRID).cross_validated
        assert cross is not None
        tried = list(dict.fromkeys([DEFAULT, SEGMENTS_ALONE, *SMALL_GRID]))
        halves = [truth.take(first_half(truth.video) == h) for h in (True, False)]
        trials = [search_fusion(half, *world, SMALL_GRID).trials for half in halves]
        of = [[{t.settings: t.mean_ap for t in half}[s] for s in tried] for half in trials]
        chosen = [mean_aps.index(max(mean_aps)) for mean_aps in of]
        assert cross.chosen == (tried[chosen[0]], tried[chosen[1]])
        assert cross.mean_ap == pytest.approx((of[1][chosen[0]] + of[0][chosen[1]]) / 2)
        assert cross.default_mean_ap == pytest.approx((of[0][0] + of[1][0]) / 2)
        assert cross.segments_alone_mean_ap == pytest.approx((of[0][1] + of[1][1]) / 2)
        different += chosen[0] != chosen[1]
    assert different, "both ways are told apart"


def test_what_is_chosen_by_chance_does_not_survive_the_estimate(tmp_path: Path) -> None:
    """Labels that have nothing to do with the scores: the best of many trials flatters itself."""
    truth, world = planted_world(tmp_path, 1, 1)
    noise = np.random.default_rng(1).permutation(truth.score)
    truth = segment_labels(truth.video, truth.start_s, truth.class_id, noise)
    found = search_fusion(truth, *world)
    cross = found.cross_validated
    assert cross is not None
    chance = found.default.mean_ap
    assert found.best.mean_ap - chance > 2 * (cross.mean_ap - cross.default_mean_ap)


def test_the_best_is_used_only_where_choosing_pays(tmp_path: Path) -> None:
    """Video scores that mean nothing: the best of the trials is ahead by chance, if at all."""
    used = []
    for seed in range(12):
        truth, world = planted_world(tmp_path, 0, 1, seed)
        noise = np.random.default_rng(seed).random(len(truth.score)) < 0.4
        truth = replace(truth, score=np.where(noise, 1 - truth.score, truth.score))
        found = search_fusion(truth, *world)
        cross = found.cross_validated
        assert cross is not None
        assert found.pays == (cross.mean_ap > cross.segments_alone_mean_ap)
        assert found.used == (found.best if found.pays else found.segments_alone)
        used.append(found.pays)
    assert 0 < sum(used) < len(used), used


def test_halves_are_of_videos_and_fixed() -> None:
    ids = np.array([b"%07d" % i for i in range(4000)])
    first = first_half(ids)
    assert 1900 < first.sum() < 2100
    twice = np.concatenate([ids[::-1], ids])
    np.testing.assert_array_equal(first_half(twice), np.concatenate([first[::-1], first]))
    assert first_half(ids[:12]).astype(int).tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0]
    wider = ids.astype("S40")
    np.testing.assert_array_equal(first_half(wider), first)


def test_halves_cut_each_of_v1_and_v2() -> None:
    """`validate` is cut by a hash, too: with that one all of V2 were in one half."""
    ids = np.array([b"%07d" % i for i in range(4000)])
    of_v2 = first_half(ids)[[half_of(i) == "v2" for i in ids.tolist()]]
    assert 0.45 < of_v2.mean() < 0.55


def test_no_estimate_where_a_half_has_no_positive(tmp_path: Path) -> None:
    world = random_world(tmp_path, 0)
    table = world.segments.segments
    name = f"{table.video_ids[table.video[0]].decode()}:{table.starts_s[0]}"
    found = search_fusion(labels((name, 7, 1)), *world, SMALL_GRID)
    assert found.cross_validated is None
    assert found.best.mean_ap == 1
    assert not found.pays
    assert found.used == found.segments_alone
    assert found.to_dict()["cross_validated"] is None


# ---- what is told, what is refused ---------------------------------------------------------------


def test_the_report_as_json(tmp_path: Path) -> None:
    found = search_fusion(random_truth(6), *random_world(tmp_path, 6), SMALL_GRID)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["num_trials"] == len(told["trials"]) == len(found.trials)
    assert told["best"] == told["trials"][0]
    assert told["used"] == found.used.to_dict()
    assert told["num_pairs"] == found.num_pairs
    assert told["default"] == {
        "exponents": {"video": 1, "segment": 1},
        "candidates": {"top_topics": None, "top_videos": None, "min_video_score": None},
        "mean_ap": found.default.mean_ap,
    }
    assert set(told["cross_validated"]) == {
        *("chosen", "mean_ap", "default_mean_ap", "segments_alone_mean_ap")
    }


def test_ratings_that_cannot_be_searched_on(tmp_path: Path) -> None:
    world, truth = random_world(tmp_path, 7), random_truth(7)
    zeros = segment_labels(truth.video, truth.start_s, truth.class_id, truth.score * 0)
    with pytest.raises(LabelsError, match="no rated pair is positive; a search needs positives"):
        search_fusion(zeros, *world)
    for other in (labels(("unseen:0", 7, 1)), labels(("a:0", 1234, 1)), labels()):
        with pytest.raises(ScoresError, match="segments: none of the rated segments is scored"):
            search_fusion(other, *world)


def test_scores_that_do_not_fit_are_refused_as_when_fusing(tmp_path: Path) -> None:
    world, truth = random_world(tmp_path, 8, lacking=(0, 1)), random_truth(8)
    with pytest.raises(ScoresError, match="no score of class 7"):
        search_fusion(truth, *world)
    filtered = FusionSettings(candidates=CandidateFilter(top_topics=1))
    fuse(*world, tmp_path / "f", filtered, keep_unscored=True)
    with pytest.raises(ScoresError, match=r"f: the score of class .* in row .* in \[0, 1\]"):
        search_fusion(truth, open_scores(tmp_path / "f"), world.videos, keep_unscored=True)
