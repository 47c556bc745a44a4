"""Searches count what reaches a class's list: exactly while all segments are drawn, else nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble_world import averaged, random_scores, shuffled
from fusion_world import CLASSES, World, write_scores, write_videos
from fusion_world import random_world as random_fusion
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.list_length import LONGEST, list_length
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble import rated_pairs as rated_pairs_module
from whenabouts.ensemble.context import Context, refine
from whenabouts.ensemble.context_search import RatedInVideos, search_context
from whenabouts.ensemble.fusion import fuse
from whenabouts.ensemble.members import match_members
from whenabouts.ensemble.rated_pairs import first_half, judged_pairs, rated_pairs
from whenabouts.ensemble.search import GRID, search_fusion
from whenabouts.ensemble.trials import segment_trials
from whenabouts.ensemble.video_scores import match_videos
from whenabouts.metrics.segment_map import evaluate_scores

LENGTHS = ("1", "6", "25%", "39")
SETTINGS = GRID[::7]
CONTEXTS = tuple(Context(*each) for each in ((0.3, 0, 0), (0, 0.5, 0), (0.2, 0.3, 0.4)))


def ratings_of(scores: Scores, seed: int, share: float = 0.5) -> SegmentLabels:
    """Ratings of some of the scored segments, of segments nobody scored and of two classes more,
    one below and one above all scored ones."""
    rng = np.random.default_rng(seed)
    table = scores.segments
    ids = np.concatenate([table.video_ids[table.video], np.full(5, b"unseen")])
    starts = np.concatenate([table.starts_s, np.arange(5) * 5])
    classes = np.array([*scores.classes.ids, 2, 5000])
    pairs = rng.permutation(len(ids) * len(classes))[: int(share * len(ids) * len(classes))]
    row, column = np.divmod(pairs, len(classes))
    return segment_labels(ids[row], starts[row], classes[column], rng.random(len(pairs)))


def mean_aps(truth: SegmentLabels, scores: Scores, k: int) -> list[float]:
    in_first = first_half(truth.video)
    parts = (truth, truth.take(in_first), truth.take(~in_first))
    return [
        evaluate_scores(part, scores.segments, scores.classes, scores.values, k).mean_ap
        for part in parts
    ]


@pytest.mark.parametrize("text", LENGTHS)
def test_a_fusion_has_the_map_of_its_lists(text: str, tmp_path: Path) -> None:
    world, length = random_fusion(tmp_path, 0), list_length(text)
    truth, k = ratings_of(world.segments, 0), length.of(40)
    pairs = rated_pairs(truth, world.segments, match_videos(*world), length)
    of_each = {}
    for settings in SETTINGS:
        fuse(*world, tmp_path / "o", settings)
        expected = mean_aps(truth, open_scores(tmp_path / "o"), k)
        assert pairs.mean_aps(settings) == pytest.approx(expected, rel=1e-12), settings
        of_each[settings] = expected[0]
    found = search_fusion(truth, *world, SETTINGS, length=length)
    told = {trial.settings: trial.mean_ap for trial in found.trials}
    assert {each: told[each] for each in SETTINGS} == pytest.approx(of_each, rel=1e-12)
    table, classes, values = _parts(world.segments)
    listed = evaluate_scores(truth, table, classes, values).num_listed.sum()
    assert found.num_pairs == listed, "of the rated pairs alone"


@pytest.mark.parametrize("text", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_context_has_the_map_of_its_lists(text: str, dtype: type, tmp_path: Path) -> None:
    scores, length = random_fusion(tmp_path, 1, dtype, levels=33).segments, list_length(text)
    truth = ratings_of(scores, 1)
    pairs = RatedInVideos.of(truth, scores, length).in_context((0, 0.4))
    of_each = {}
    for settings in CONTEXTS:
        refine(scores, tmp_path / "o", settings)
        expected = mean_aps(truth, open_scores(tmp_path / "o"), length.of(40))
        assert pairs.mean_aps(settings) == pytest.approx(expected, rel=1e-12), settings
        of_each[settings] = expected[0]
    found = search_context(truth, scores, CONTEXTS, length)
    told = {trial.settings: trial.mean_ap for trial in found.trials}
    assert {each: told[each] for each in CONTEXTS} == pytest.approx(of_each, rel=1e-12)
    assert found.num_pairs == search_context(truth, scores, CONTEXTS, LONGEST).num_pairs
    assert found.judged_on == (
        f"{found.num_pairs} rated pairs in lists of {length.of(40)} of 40 segments"
    )


def test_rivals_do_not_say_how_far_segments_are_apart(tmp_path: Path) -> None:
    scores = random_fusion(tmp_path, 1, levels=33).segments
    truth = ratings_of(scores, 1, 0.02)
    plain, cut = (
        RatedInVideos.of(truth, scores, list_length(text)).typical_distance()
        for text in ("100%", "10%")
    )
    assert plain == cut > 0


@pytest.mark.parametrize("text", LENGTHS[:3])
@pytest.mark.parametrize("kind", ["mean", "geometric", "rank"])
def test_an_ensemble_has_the_map_of_its_lists(text: str, kind: str, tmp_path: Path) -> None:
    members, length = random_scores(tmp_path, 2, levels=9), list_length(text)
    truth = ratings_of(members[0], 2)
    trials = segment_trials(truth, match_members(members), kind, length)
    plain = segment_trials(truth, match_members(members), kind, LONGEST)
    for weights in ((1, 0, 0), (0.2, 0.3, 0.5)):
        found = averaged(members, tmp_path / "o", kind, weights)
        expected = mean_aps(truth, found, length.of(30))
        assert trials.metrics(np.array(weights)) == pytest.approx(expected, rel=1e-12)
    lists = f"in lists of {length.of(30)} of 30 segments"
    assert trials.judged_on == f"{plain.judged_on} {lists}"
    for part in range(3):
        np.testing.assert_array_equal(
            trials.pair_loss(part).differences, plain.pair_loss(part).differences
        )


@pytest.mark.parametrize("text", ["40", "100000", "100%"])
def test_where_all_are_listed_there_are_no_rivals(text: str, tmp_path: Path) -> None:
    scores = random_fusion(tmp_path, 3).segments
    truth = ratings_of(scores, 3)
    rows, columns, judged = judged_pairs(truth, scores, list_length(text))
    assert judged.rivals is None
    assert len(rows) == len(columns) == len(judged) < len(truth)


def many_segments(folder: Path) -> tuple[SegmentLabels, World]:
    """4,000 segments of 200 videos; a quarter of the pairs is rated."""
    rng = np.random.default_rng(0)
    ids = [b"v%03d" % v for v in range(200)]
    table = SegmentTable(np.array(ids), np.repeat(np.arange(200), 20), np.tile(np.arange(20), 200))
    of_segments = rng.random((4000, 5)).astype(np.float32)
    of_videos = rng.random((200, 5)).astype(np.float32)
    world = World(
        write_scores(folder / "segments", table, CLASSES, of_segments),
        write_videos(folder / "videos", ids, CLASSES, of_videos),
    )
    return ratings_of(world.segments, 0, 0.2), world


def test_of_many_segments_some_stand_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rated_pairs_module, "RIVAL_PAIRS", 5)
    truth, world = many_segments(tmp_path)
    rows, _, judged = judged_pairs(truth, world.segments, list_length("10%"))
    assert judged.rivals is not None
    assert len(judged.rivals.tie_ranks) == 1000
    assert judged.rivals.entries == 100
    assert len(rows) == len(judged) + 5 * 1000
    pairs = rated_pairs(truth, world.segments, match_videos(*world), list_length("10%"))
    for settings in GRID[::20]:
        fuse(*world, tmp_path / "o", settings)
        expected = mean_aps(truth, open_scores(tmp_path / "o"), 400)
        assert 0 < expected[0] < 0.3, "the lists are cut"
        assert pairs.mean_aps(settings) == pytest.approx(expected, rel=0.15), settings


@pytest.mark.parametrize(
    ("pairs", "text", "drawn", "entries"),
    [(20_000, "10%", 4000, 400), (7_500, "10%", 1500, 150), (7_500, "399", 1500, 150),
     (7_500, "397", 1500, 149), (5, "3999", 1000, 1000), (5, "1", 1000, 1)],
)  # fmt: skip
def test_how_many_are_drawn_and_listed(
    pairs: int, text: str, drawn: int, entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of 5 classes, of 4,000 segments."""
    monkeypatch.setattr(rated_pairs_module, "RIVAL_PAIRS", pairs)
    truth, world = many_segments(tmp_path)
    _, _, judged = judged_pairs(truth, world.segments, list_length(text))
    assert judged.rivals is not None
    assert (len(judged.rivals.tie_ranks), judged.rivals.entries) == (drawn, entries)
    by_some = f", judged by {drawn:,} of them" if drawn < 4000 else ""
    k = list_length(text).of(4000)
    assert judged.in_words == (
        f"{len(judged):,} rated pairs in lists of {k:,} of 4,000 segments{by_some}"
    )


def test_the_order_of_rows_is_irrelevant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rated_pairs_module, "RIVAL_PAIRS", 5)
    truth, world = many_segments(tmp_path)
    moved = shuffled(world.segments, tmp_path / "moved", np.random.default_rng(1))
    length = list_length("10%")
    expected, found = (
        search_fusion(truth, scores, world.videos, GRID[::20], length=length)
        for scores in (world.segments, moved)
    )
    assert found == expected


def test_the_same_are_drawn_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rated_pairs_module, "RIVAL_PAIRS", 5)
    truth, world = many_segments(tmp_path)
    first, second = (judged_pairs(truth, world.segments, list_length("10%"))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def _parts(scores: Scores) -> tuple:
    return scores.segments, scores.classes, scores.values
