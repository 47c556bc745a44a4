"""Lists that cannot hold every segment: what stages are told, and what they are made of then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion_world import write_videos
from numbers_folder import put_made_by, put_numbers
from toy_plan import INDEX, TEST, WHOLE, our_models, stages, words
from whenabouts.core.errors import StageError, UsageError
from whenabouts.core.list_length import list_length
from whenabouts.reproduce.late import fuse_as_on_v2, submit_best
from whenabouts.reproduce.markdown import markdown
from whenabouts.reproduce.plan import Plan
from whenabouts.reproduce.request import Request
from whenabouts.reproduce.tables import tables
from whenabouts.workflow.stage import Stage

__all__ = ["our_models"]

SHARE = list_length("4.85%")
OURS = replace(WHOLE, presets=("best",))
LISTED = ("v2.best-listed", "test.best-listed", "other.best-listed")


def with_lists(plan: Plan, text: str) -> Plan:
    length = list_length(text)
    targets = tuple(replace(target, length=length) for target in plan.targets)
    return replace(plan, length=length, targets=targets)


@pytest.fixture(scope="module")
def cut() -> dict[str, Stage]:
    return stages(with_lists(OURS, "4.85%"))


def test_v2_chooses_the_mean_by_its_lists_and_the_order_without(cut):
    there = frozenset(cut["v2.best-mean"].wanted)
    first, evaluated = words(cut["v2.best-mean"], there=there).splitlines()
    assert first.endswith(f" --kind geometric --search {INDEX} --k 4.85%")
    assert evaluated.endswith(" --splits v2 --k 4.85% --halves --out numbers/best-mean")
    refined, evaluated = words(cut["v2.best-refined"]).splitlines()
    assert refined.endswith(f"-o scores/v2/best-refined --search {INDEX} --k 100%")
    assert "--k 4.85%" in evaluated


def test_what_is_found_by_one_is_listed_in_the_order_of_the_other(cut):
    assert words(cut["v2.best-listed"]).splitlines() == [
        "fuse scores/v2/best-mean -o scores/v2/best-found",
        "shortlist scores/v2/best-refined scores/v2/best-found -o scores/v2/best-listed --k 4.85%",
        f"evaluate scores/v2/best-listed {INDEX} --splits v2 --k 4.85% --halves "
        "--out numbers/best-listed",
    ]
    other = cut["other.best-listed"]
    assert words(other).splitlines() == [
        "fuse scores/other/best-mean -o scores/other/best-found",
        "shortlist scores/other/best-refined scores/other/best-found "
        "-o scores/other/best-listed --k 4.85%",
    ]
    assert set(other.inputs) == {
        Path("scores/other/best-mean"), Path("scores/other/best-refined"),
    }  # fmt: skip
    assert set(other.outputs) == {
        Path("scores/other/best-listed"), Path("scores/other/best-found"),
    }  # fmt: skip


def test_results_and_tables_want_the_lists(cut):
    assert {Path("numbers/best-listed"), Path("scores/test/best-listed")} <= set(
        cut["submit.test"].wanted
    )
    assert Path("numbers/best-listed") in cut["tables"].wanted
    repeated = stages(with_lists(replace(OURS, repeats=2), "4.85%"))
    assert "scores/v2/best-refined.r2 scores/v2/best-found.r2" in words(
        repeated["v2.best-listed.r2"]
    )
    assert Path("numbers/best-listed.r2") in repeated["tables"].wanted


def test_the_published_fusion_is_searched_by_its_lists():
    found = stages(with_lists(WHOLE, "4.85%"))
    told = words(found["v2.E1-fused"]).splitlines()
    assert told[3].endswith(f"--search {INDEX} --k 4.85%")
    assert all("--k 4.85%" in line for line in told[4:])
    assert words(found["v2.E1-refined"]).splitlines()[0].endswith(f"--search {INDEX} --k 4.85%")
    assert not any("best-listed" in name for name in found)


@pytest.mark.parametrize("text", ["100%", "82000"])
def test_where_each_list_holds_all_there_is_nothing_to_list(text: str) -> None:
    found = stages(with_lists(OURS, text))
    assert not any("listed" in name for name in found)
    assert "listed" not in str([found[name].wanted for name in ("submit.test", "tables")])
    assert f"evaluate scores/v2/best-refined {INDEX} --splits v2 --k {text} " in words(
        found["v2.best-refined"]
    )


def test_one_target_whose_lists_are_cut_is_enough() -> None:
    """Up to 82,000 segments are scored of `other`, 40,000 and one begun in each of 1,000 videos of
    V2 and of test."""
    found = stages(with_lists(replace(OURS, repeats=2), "79999"))
    assert found.keys() >= {*LISTED, "v2.best-listed.r2"}
    assert Path("scores/test/best-listed") in found["submit.test"].wanted
    for name in ("v2.best-refined", "v2.best-refined.r2"):
        first, evaluated = words(found[name]).splitlines()
        assert first.endswith("--k 100%")
        assert "--k 79999" in evaluated
    assert words(found["tables"]).endswith(" --preset best --k 79999")


def test_by_itself_k_is_that_of_the_challenge_and_no_command_is_told() -> None:
    plain = stages(OURS)
    assert not any("--k" in words(s) for s in plain.values() if not callable(s.commands))
    assert not plain.keys() & set(LISTED)
    size = replace(WHOLE.size, frames={**WHOLE.size.frames, "test": 600_000})
    large = replace(OURS, targets=(replace(TEST, size=size),))
    assert "test.best-listed" in stages(large), "120,000 segments, and lists of 100,000"


def test_what_a_call_asks_for_is_checked() -> None:
    assert Request("/d").k == "100000"
    with pytest.raises(UsageError, match=r"--k: '101%' is no length of a list"):
        Request("/d", k="101%")


# ---- what V2 chose -------------------------------------------------------------------------------


def put_listed(root: Path, value: float, k: str = "4.85%") -> None:
    put_numbers(root, "best-listed", value, (0.5, None, 0.9), k)
    put_made_by(root, "best-listed", {"shortlisted": {"k": k, "entries": 40}})


@pytest.mark.parametrize(
    ("listed", "expected"), [(0.7, "best-listed"), (0.9, "best-listed"), (0.6, "best-refined")]
)
def test_lists_are_submitted_unless_they_are_worse(tmp_path, listed, expected):
    put_numbers(tmp_path, "best-refined", 0.7, ())
    put_listed(tmp_path, listed)
    there = frozenset(Path(*place, f"best-{name}") for name in ("listed", "refined")
                      for place in (("numbers",), ("scores", "test")))  # fmt: skip
    target = replace(TEST, length=SHARE)
    assert submit_best(target, Path("s.csv"))(tmp_path, there) == (
        ("submit", f"scores/test/{expected}", "-o", "s.csv", "--k", "4.85%"),
    )


def test_the_tables_show_them_with_their_length(tmp_path):
    put_numbers(tmp_path, "best-lse-1", 0.6, (0.5, None, 0.9), "4.85%")
    put_numbers(tmp_path, "best-refined", 0.7, (0.5, None, 0.9), "4.85%")
    put_made_by(tmp_path, "best-refined", {
        "refined": {"smooth": 0.3, "centre": 0.5, "alike": 1.25},
        "search": {"k": "100%", "cross_validated": None},
    })  # fmt: skip
    put_listed(tmp_path, 0.75)
    found = tables(tmp_path, "small", 1, ("best",), SHARE)
    assert found["measure"] == "mAP@4.85% on V2"
    assert found["chosen"] == "best-listed"
    assert found["best"]["steps"][2] == {
        "name": "best-listed",
        "says": "listed by mean x best of the video, ordered as best-refined",
        "settings": {"k": "4.85%", "entries": 40},
        "cross_validated": None,
        "mean": 0.75, "sd": None, "values": [0.75],
    }  # fmt: skip
    told = markdown(found)
    assert (
        "| best-refined | smoothed and centred by video, settings from V2 by the order alone |"
        in told
    )
    assert told.startswith("mAP@4.85% on V2 of this corpus (`--scale small`).")
    assert "| 0.7500 | +0.0500 | 40 segments a class |  |" in told
    assert "of best-refined over best-mean; of best-listed over best-refined." in told


def test_lists_of_another_length_are_those_of_an_earlier_call(tmp_path):
    put_numbers(tmp_path, "best-refined", 0.7, (0.5, None, 0.9))
    put_numbers(tmp_path, "best-lse-1", 0.6, (0.5, None, 0.9))
    put_numbers(tmp_path, "best-lse-2", 0.8, (0.5, None, 0.9), "10%")
    put_listed(tmp_path, 0.9, "10%")
    found = tables(tmp_path, "small", 1, ("best",))
    assert (found["chosen"], found["best_single"]) == ("best-refined", "best-lse-1")
    assert len(found["best"]["steps"]) == 2
    assert found["classes"]["ap"].keys() == {"best-lse-1", "best-refined"}
    found = tables(tmp_path, "small", 1, ("best",), list_length("10%"))
    assert (found["chosen"], found["best_single"]) == ("best-listed", "best-lse-2")
    assert found["classes"]["ap"].keys() == {"best-lse-2", "best-listed"}
    with pytest.raises(StageError, match="no model is evaluated on V2 yet"):
        tables(tmp_path, "small", 1, ("best",), SHARE)


def test_a_target_has_as_large_a_share_of_best_videos_as_v2(tmp_path):
    for name, num in (("scores/v2/E1-fused", 200), ("scores/test/E1", 1000)):
        ids = [b"v%04d" % v for v in range(num)]
        write_videos(tmp_path / name, ids, [7], np.ones((num, 1), np.float32))
    kept = {
        "exponents": {"video": 0, "segment": 1},
        "candidates": {"top_topics": None, "top_videos": 20, "min_video_score": 0.5},
    }
    path = tmp_path / "scores/v2/E1-fused/made-by.json"
    path.write_text(json.dumps({"format": 1, "fused": kept}))
    late = fuse_as_on_v2(Path("scores/test/E1"), Path("v"), Path("scores/v2/E1-fused"), Path("o"))
    [told] = late(tmp_path, frozenset())
    assert told[told.index("--top-videos") + 1] == "100"
    assert told[-2:] == ("--min-video-score", "0.5")
