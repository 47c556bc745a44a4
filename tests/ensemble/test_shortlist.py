"""Lists of one kind of scores in the order of another: by definition, bit for bit, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_world import random_scores, shuffled, with_values
from fusion_world import order_of, write_videos
from ranking_oracle import labels
from whenabouts.core.errors import ScoresError
from whenabouts.core.list_length import ListLength, list_length
from whenabouts.core.scores import Scores, open_scores
from whenabouts.ensemble import shortlist as module
from whenabouts.ensemble.shortlist import shortlist
from whenabouts.metrics.segment_map import evaluate_scores


def listed(order: Scores, members: Scores, out: Path, k: str, **more: object) -> Scores:
    shortlist(order, members, out, list_length(k), **more)
    return open_scores(out)


@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize("k", ["1", "7", "30%", "29"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_best_by_one_come_first_in_the_order_of_the_other(
    k: str, levels: int, dtype: type, tmp_path: Path
) -> None:
    order, members = random_scores(tmp_path, levels, 2, dtype, levels)
    members = shuffled(members, tmp_path / "moved", np.random.default_rng(0))
    found = listed(order, members, tmp_path / "o", k)
    entries = list_length(k).of(30)
    by_order, by_members = order_of(order), order_of(members)
    for class_id, ranked in order_of(found).items():
        chosen = set(by_members[class_id][:entries])
        assert set(ranked[:entries]) == chosen
        for part in (ranked[:entries], ranked[entries:]):
            assert part == [pair for pair in by_order[class_id] if pair in set(part)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_those_listed_keep_their_scores_and_the_others_fall_below_0(
    dtype: type, tmp_path: Path
) -> None:
    order, members = random_scores(tmp_path, 0, 2, dtype)
    found = listed(order, members, tmp_path / "o", "7").values
    assert found.dtype == np.float32
    kept = found >= 0
    assert (kept.sum(axis=0) == 7).all()
    np.testing.assert_array_equal(found[kept], order.values[kept])
    assert (found[~kept] > -1e-6).all(), "so that a sum or a plot takes them for 0"


@pytest.mark.parametrize("k", ["30", "100000", "100%"])
def test_a_list_of_all_is_the_order_itself(k: str, tmp_path: Path) -> None:
    order, members = random_scores(tmp_path, 1, 2)
    told: list[float] = []
    found = listed(order, members, tmp_path / "o", k, on_rows=told.append).values
    np.testing.assert_array_equal(found, order.values, strict=True)
    assert sum(told) == 60


def test_of_its_own_list_an_order_stays(tmp_path: Path) -> None:
    order, _ = random_scores(tmp_path, 2, 2, levels=5)
    assert order_of(listed(order, order, tmp_path / "o", "9")) == order_of(order)


def test_what_is_listed_may_have_any_scores(tmp_path: Path) -> None:
    order, members = random_scores(tmp_path, 3, 2)
    expected = listed(order, members, tmp_path / "a", "7").values
    logits = with_values(members, np.log(members.values) - 3)
    np.testing.assert_array_equal(listed(order, logits, tmp_path / "b", "7").values, expected)


@pytest.mark.parametrize("more", [{"chunk_bytes": 40}, {"budget_bytes": 300}])
def test_pieces_do_not_show(more: dict[str, int], tmp_path: Path) -> None:
    order, members = random_scores(tmp_path, 4, 2)
    told: list[float] = []
    expected = listed(order, members, tmp_path / "a", "7").values
    found = listed(order, members, tmp_path / "b", "7", on_rows=told.append, **more).values
    np.testing.assert_array_equal(found, expected)
    assert sum(told) == pytest.approx(60)


def test_pages_of_both_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order, members = random_scores(tmp_path, 4, 2)
    given_back: list[int] = []
    monkeypatch.setattr(module, "let_go", lambda values: given_back.append(id(values)))
    listed(order, members, tmp_path / "o", "7", chunk_bytes=40)
    assert given_back.count(id(members.values)) > 1


def test_both_parts_of_map_count(tmp_path: Path) -> None:
    """One score finds the positive, the other puts it first: only both make AP 1."""
    order, members = random_scores(tmp_path, 5, 2)
    by_order, by_members = order_of(order)[7], order_of(members)[7]
    positive = next(p for p in by_order[7:] if p in by_members[1:7])
    above = by_members[: by_members.index(positive)]
    negative = next(p for p in above if by_order.index(p) > by_order.index(positive))
    truth = labels(*((f"{v.decode()}:{s}", 7, float((v, s) == positive))
                     for v, s in (positive, negative)))  # fmt: skip

    def mean_ap(scores: Scores) -> float:
        return evaluate_scores(truth, scores.segments, scores.classes, scores.values, 7).mean_ap

    assert mean_ap(order) == 0
    assert mean_ap(members) == 0.5
    assert mean_ap(listed(order, members, tmp_path / "o", "7")) == 1


def test_what_it_was_made_of_is_kept(tmp_path: Path) -> None:
    order, members = random_scores(tmp_path, 6, 2)
    members = replace(members, made_by={"trained_on": ["v1"]})
    assert shortlist(order, members, tmp_path / "o", list_length("20%")) == 6
    made_by = open_scores(tmp_path / "o").made_by
    assert made_by["shortlisted"] == {"k": "20%", "entries": 6}
    assert made_by["order"]["scores"] == str(tmp_path / "a")
    assert made_by["listed_by"]["scores"] == str(tmp_path / "b")
    assert made_by["trained_on"] == ["train", "v1"]
    assert shortlist(order, members, tmp_path / "o", list_length("31")) == 30
    assert open_scores(tmp_path / "o").made_by["shortlisted"] == {"k": "31", "entries": 30}


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    order, members = random_scores(tmp_path, 7, 2)
    videos = write_videos(tmp_path / "v", [b"a", b"b"], [7, 3], np.ones((2, 2), np.float32))
    negative, nan = np.array(order.values), np.array(members.values)
    negative[3, 1], nan[5, 2] = -0.5, np.nan
    fewer = random_scores(tmp_path / "x", 8, 1)[0]
    length = ListLength("7", 7)
    for one, other, told in (
        (order, videos, "v: scores of whole videos; a list is of segments"),
        (videos, order, "v: scores of whole videos; a list is of segments"),
        (with_values(order, negative), members, r"a: the score of class 3 in row 3 is -0\.5.*"),
        (
            order,
            with_values(members, nan),
            "b: the score of class 11 in row 5 is NaN.*no place",
        ),
        (order, fewer, "a: no score of segment .*; what says the order and what is listed by it"),
    ):
        with pytest.raises(ScoresError, match=told):
            shortlist(one, other, tmp_path / "o", length)
        assert not [path for path in tmp_path.iterdir() if "o" in path.name]
