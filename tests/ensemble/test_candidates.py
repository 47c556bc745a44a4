from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fusion_world import (
    Pair,
    World,
    candidates_by_definition,
    random_world,
    scores_by_name,
    write_scores,
    write_videos,
)
from ranking_oracle import table
from whenabouts.core.errors import SettingsError
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble import candidates as candidates_module
from whenabouts.ensemble.candidates import CandidateFilter, Candidates, topic_ranks
from whenabouts.ensemble.video_scores import match_videos

FILTERS = [
    CandidateFilter(*chosen) for chosen in product((None, 1, 2, 4), (None, 1, 3, 7), (None, 0.5))
]


def candidates(world: World, chosen: CandidateFilter, **more: bool) -> dict[Pair, bool]:
    """Is each (video, start, class) a candidate?"""
    matched = match_videos(*world, **more)
    table = world.segments.segments
    rows = np.arange(len(table.video_ids))
    of_videos = Candidates(chosen, matched).of(rows, matched.of(rows))
    return dict(zip(scores_by_name(world.segments), of_videos[table.video].ravel().tolist()))


def small_world(
    folder: Path, ids: list[bytes], classes: list[int], values: list[list[float]], **more: object
) -> World:
    """Video scores as given; one segment of each video in the classes 5, 3, 7 (in that order)."""
    dtype = more.pop("dtype", np.float32)
    names = more.pop("segments", [f"{i.decode()}:0" for i in ids])
    segments = table(*names)
    return World(
        write_scores(folder / "s", segments, (5, 3, 7), np.zeros((len(segments), 3), np.float32)),
        write_videos(folder / "v", ids, classes, np.array(values, dtype)),
    )


def passed(world: World, *chosen: float | None) -> set[tuple[str, int]]:
    found = candidates(world, CandidateFilter(*chosen))
    return {(video.decode(), class_id) for (video, _, class_id), passes in found.items() if passes}


# ---- by hand -------------------------------------------------------------------------------------


def test_top_topics_by_hand(tmp_path: Path) -> None:
    values = [[0.1, 0.3, 0.2], [0.5, 0.5, 0.5], [0, 0, 0.1]]
    world = small_world(tmp_path, [b"a", b"b", b"c"], [3, 5, 7], values)
    # Of equal topics the one whose column comes first in the segment scores: 5, then 3, then 7.
    assert passed(world, 1) == {("a", 5), ("b", 5), ("c", 7)}
    assert passed(world, 2) == {("a", 5), ("a", 7), ("b", 5), ("b", 3), ("c", 7), ("c", 5)}
    assert passed(world, 3) == passed(world, 100) == passed(world)
    assert len(passed(world)) == 9


def test_top_videos_by_hand(tmp_path: Path) -> None:
    values = [[0.1, 0.5, 0], [0.3, 0.5, 0], [0.2, 0.5, 0.1]]
    world = small_world(tmp_path, [b"c", b"a", b"b"], [3, 5, 7], values)
    # Of equal videos the one whose id comes first.
    assert passed(world, None, 1) == {("a", 3), ("a", 5), ("b", 7)}
    assert passed(world, None, 2) == passed(world, None, 1) | {("b", 3), ("b", 5), ("a", 7)}
    assert passed(world, None, 3) == passed(world, None, 100) == passed(world)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("threshold", [0, 0.1, 0.3, 0.7, 0.9, 1])
def test_a_score_equal_to_the_threshold_passes(
    threshold: float, dtype: type, tmp_path: Path
) -> None:
    """Also where the stored score is a little less than the number that was written (0.7)."""
    stored = np.array(threshold, dtype)
    values = [[stored, np.nextafter(stored, dtype(-1)), np.nextafter(stored, dtype(2))]]
    world = small_world(tmp_path, [b"a"], [5, 3, 7], np.clip(values, 0, 1), dtype=dtype)
    expected = {("a", 5), ("a", 7)} | ({("a", 3)} if threshold == 0 else set())
    assert passed(world, None, None, threshold) == expected


def test_a_candidate_passes_all_filters(tmp_path: Path) -> None:
    values = [[0.9, 0.8, 0.1], [0.8, 0.9, 0.7], [0.5, 0.1, 0.4]]
    world = small_world(tmp_path, [b"a", b"b", b"c"], [5, 3, 7], values)
    assert passed(world, 2, 1, 0.5) == passed(world, 2) & passed(world, None, 1) & passed(
        world, None, None, 0.5
    )
    assert passed(world, 2, 1, 0.5) == {("a", 5), ("b", 3)}


def test_only_what_is_ranked_takes_a_place(tmp_path: Path) -> None:
    """A class that has no segment scores, a video without segments: however high they are."""
    values = [[0.9, 0.2, 0.3, 0.1], [0.9, 0.9, 0.9, 0.9], [0.9, 0.1, 0.2, 0.3]]
    world = small_world(
        tmp_path, [b"a", b"unseen", b"c"], [4, 3, 5, 7], values, segments=["a:0", "a:5", "c:0"]
    )
    assert passed(world, 1) == {("a", 5), ("c", 7)}
    assert passed(world, None, 1) == {("a", 3), ("a", 5), ("c", 7)}
    table = world.segments.segments
    listed = SegmentTable(np.array([b"unseen", *table.video_ids]), table.video + 1, table.starts_s)
    zeros = np.zeros((3, 3), np.float32)
    segments = write_scores(tmp_path / "listed", listed, (5, 3, 7), zeros)
    assert passed(world._replace(segments=segments), None, 1) == passed(world, None, 1)


def test_ranks_by_hand() -> None:
    scores = np.array([[0.2, 0.5, 0.5, 0.1], [0, np.nan, 1, 0]], np.float32)
    assert topic_ranks(scores).tolist() == [[2, 0, 1, 3], [1, 3, 0, 2]]
    assert np.isnan(scores[1, 1]), "the scores are left as they are"


# ---- against the definition ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("lacking", [(0, 0), (2, 0), (0, 1), (3, 2), (8, 5)])
def test_all_filters_against_the_definition(
    lacking: tuple[int, int], dtype: type, tmp_path: Path
) -> None:
    for seed in range(2):
        world = random_world(tmp_path, seed, dtype, levels=3, lacking=lacking)
        for chosen in FILTERS:
            found = candidates(world, chosen, keep_unscored=True)
            assert found == candidates_by_definition(world, chosen), chosen


def test_every_class_block_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut of each class is found a few columns at a time."""
    world, chosen = random_world(tmp_path, 7), CandidateFilter(top_videos=3)
    blocks = candidates_module.class_blocks
    monkeypatch.setattr(candidates_module, "class_blocks", lambda values: blocks(values, 1))
    assert candidates(world, chosen) == candidates_by_definition(world, chosen)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"top_topics": 0}, "top_topics is 0; at least one must stay a candidate"),
        ({"top_videos": -3}, "top_videos is -3; at least one"),
        ({"min_video_score": 1.5}, r"min_video_score is 1.5; scores are in \[0, 1\]"),
        ({"min_video_score": -0.1}, "min_video_score is -0.1"),
        ({"min_video_score": np.nan}, "min_video_score is nan"),
    ],
)
def test_filters_that_mean_nothing(chosen: dict[str, float], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        CandidateFilter(**chosen)
