"""Members are matched by name; what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from ensemble_world import random_scores, shuffled
from fusion_world import scores_by_name, write_scores, write_videos
from ranking_oracle import table
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.scores import Scores
from whenabouts.ensemble.members import by_path, match_members, shares


def zeros(path: Path, names: tuple[str, ...], classes: tuple[int, ...] = (7, 3)) -> Scores:
    return write_scores(
        path, table(*names), classes, np.zeros((len(names), len(classes)), np.float32)
    )


# ---- matching ------------------------------------------------------------------------------------


def test_members_in_the_same_order_keep_one_table(tmp_path: Path) -> None:
    first, *others = match_members(random_scores(tmp_path, 0))
    assert len(others) == 2
    for member in others:
        assert member.row is member.column is None
        assert member.scores.segments is first.scores.segments


@pytest.mark.parametrize("seed", range(3))
def test_each_pair_gets_its_own_score(seed: int, tmp_path: Path) -> None:
    first, other = random_scores(tmp_path, seed, 2)
    moved = shuffled(other, tmp_path / "moved", np.random.default_rng(seed))
    _, member = match_members([first, moved])
    assert member.row is not None
    rows = np.array([4, 29, 0, 4])
    for where in (slice(0, 30), slice(7, 12), rows):
        np.testing.assert_array_equal(member.rows(where), other.values[where])
    column = np.array([3, 0, 2, 3])
    np.testing.assert_array_equal(member.at(rows, column), other.values[rows, column])
    assert scores_by_name(moved) == scores_by_name(other)


def test_rows_and_classes_are_matched_apart(tmp_path: Path) -> None:
    first = zeros(tmp_path / "a", ("v:0", "v:5", "w:0"))
    rows, classes = (
        zeros(tmp_path / "b", ("w:0", "v:5", "v:0")),
        zeros(tmp_path / "c", ("v:0", "v:5", "w:0"), (3, 7)),
    )
    _, by_row, by_class = match_members([first, rows, classes])
    assert by_row.row is not None
    assert by_row.row.tolist() == [2, 1, 0]
    assert by_row.column is None
    assert by_class.row is None
    assert by_class.column is not None
    assert by_class.column.tolist() == [1, 0]


def test_videos_that_have_no_row_do_not_matter(tmp_path: Path) -> None:
    first = zeros(tmp_path / "a", ("v:0", "w:0"))
    more = zeros(tmp_path / "b", ("v:0", "w:0", "x:0"))
    rows = replace(more.segments, video=np.array([0, 1]), starts_s=np.array([0, 0]))
    fewer = replace(more, segments=rows, values=more.values[:2])
    assert match_members([first, fewer])[1].rows(slice(0, 2)).shape == (2, 2)


# ---- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "classes", "told"),
    [
        (("v:0", "w:5"), (7, 3), "no score of segment v:5, which .*a has; members of an ensemble"),
        (("w:5",), (7, 3), "no score of segment v:0 and 1 more, which .*a has; .*predict the"),
        (("w:5", "v:5", "v:0", "v:10", "x:0"), (7, 3),
         "a score of segment v:10 and 1 more, which .*a has not; "),
        (("v:0", "v:5", "w:0"), (7, 3), "no score of segment w:5, "),
        (("v:0", "v:5", "w:5"), (7,), "no score of class 3, which .*a has; "),
        (("v:0", "v:5", "w:5"), (4, 9), "no score of class 7 and 1 more, which .*a has; "),
        (("v:0", "v:5", "w:5"), (9, 3, 7, 8),
         "a score of class 9 and 1 more, which .*a has not; "),
        (("v:0", "v:5", "w:5", "v:5"), (7, 3), "segment v:5 stands in row 1 and in row 3"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(
    names: tuple[str, ...], classes: tuple[int, ...], told: str, tmp_path: Path
) -> None:
    first, like = (zeros(tmp_path / name, ("v:0", "v:5", "w:5")) for name in "ab")
    odd = zeros(tmp_path / "odd", names, classes)
    with pytest.raises(ScoresError, match=told) as caught:
        match_members([first, like, odd])
    assert caught.value.where == str(odd.path)


def test_a_video_is_no_segment(tmp_path: Path) -> None:
    first = write_videos(tmp_path / "a", [b"v", b"w"], (7, 3), np.zeros((2, 2), np.float32))
    with pytest.raises(ScoresError, match="no score of video v and 1 more, which"):
        match_members([first, zeros(tmp_path / "b", ("v:0", "w:0"))])
    with pytest.raises(ScoresError, match="no score of segment v:0 and 1 more, which"):
        match_members([zeros(tmp_path / "b", ("v:0", "w:0")), first])


def test_a_row_that_stands_twice_is_refused_in_the_first_too(tmp_path: Path) -> None:
    twice = zeros(tmp_path / "a", ("v:0", "v:0"))
    with pytest.raises(ScoresError, match="v:0 stands in row 0 and in row 1") as caught:
        match_members([twice, twice])
    assert caught.value.where == str(twice.path)


def test_no_member_is_no_ensemble() -> None:
    with pytest.raises(SettingsError, match="an ensemble has a member at least"):
        match_members([])


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((), (0.25, 0.25, 0.25, 0.25)),
        ((1, 1, 1, 1), (0.25, 0.25, 0.25, 0.25)),
        ((3, 0, 1, 0), (0.75, 0, 0.25, 0)),
        ((0.5, 0.25, 0.125, 0.125), (0.5, 0.25, 0.125, 0.125)),
        ((1e-300, 0, 0, 0), (1, 0, 0, 0)),
    ],
)
def test_shares(weights: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert shares(weights, 4) == expected


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((1, -0.5), "the weights are 1, -0.5; weights are at least 0, finite, and one of them"),
        ((0, 0), "the weights are 0, 0; "),
        ((1, nan), "the weights are 1, nan; "),
        ((1, inf), "the weights are 1, inf; "),
        ((1e308, 1e308), "finite"),
        ((1,), "1 weights for 2 members; each member has a weight"),
        ((1, 1, 1), "3 weights for 2 members"),
    ],
)
def test_weights_that_mean_nothing(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        shares(weights, 2)


def test_the_order_of_sums_is_that_of_paths(tmp_path: Path) -> None:
    a, b, c = match_members(random_scores(tmp_path, 0))
    assert by_path([c, a, b], [0.5, 0.3, 0]) == [(a, 0.3), (c, 0.5)]
