"""The tables of our preset: alone, beside the published system, and where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from numbers_folder import put_made_by, put_numbers
from toy_plan import our_models
from whenabouts.recipes import best
from whenabouts.report.tables_file import read_tables
from whenabouts.reproduce.markdown import markdown
from whenabouts.reproduce.tables import tables

__all__ = ["our_models"]

ACROSS = {"chosen": [], "mean_ap": 0.81, "as_it_is_mean_ap": 0.79}


def way(name: str, across: float | None) -> dict[str, Any]:
    return {"name": name, "weights": [], "value": 1.0, "across_halves": across, "num_trials": 1}


MEAN = {
    "ensemble": {"kind": "geometric"},
    "members": [
        {"scores": "scores/v2/best-lse-1", "weight": 0.75},
        {"scores": "scores/v2/best-lse-2", "weight": 0.25},
        {"scores": "scores/v2/best-nl", "weight": 0.0},
    ],
    "search": {
        "used": "convex",
        "ways": [way("equal", 0.76), way("single", 0.74), way("convex", 0.77)],
    },
}
REFINED = {
    "refined": {"smooth": 0.3, "centre": 0.5, "alike": 1.25},
    "search": {"cross_validated": ACROSS},
}


def put_ours(root: Path) -> Path:
    """Two repeats of LSE-1 and of the mean; Att2 is not there."""
    put_numbers(root, "best-lse-1", 0.76, (0.5, None, 0.9))
    put_numbers(root, "best-lse-1.r2", 0.72, (0.5, None, 0.9))
    put_numbers(root, "best-lse-2", 0.75, (0.5, None, 0.9))
    put_numbers(root, "best-nl", 0.7, (0.5, None, 0.9))
    put_numbers(root, "best-mean", 0.8, (0.6, None, 0.9))
    put_numbers(root, "best-mean.r2", 0.78, (0.6, None, 0.9))
    put_numbers(root, "best-refined", 0.82, (0.7, None, 0.8))
    put_made_by(root, "best-mean", MEAN)
    put_made_by(root, "best-refined", REFINED)
    return root


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return put_ours(tmp_path)


@pytest.fixture
def both(ours: Path) -> Path:
    put_numbers(ours, "nl-1", 0.71, (0.4, None, 1.0))
    put_numbers(ours, "E1", 0.74, (0.5, None, 0.9))
    put_numbers(ours, "E1-fused", 0.75, (0.5, None, 0.9))
    put_numbers(ours, "E3-fused", 0.77, (0.5, None, 0.9))
    return ours


def test_models(ours):
    found = tables(ours, "small", 2)["best"]
    models = {model["name"]: model for model in found["models"]}
    assert [(m["name"], m["recipe"]) for m in found["models"]] == [
        (m.name, m.recipe) for m in best.members("small")
    ]
    assert models["best-lse-1"]["values"] == [0.76, 0.72]
    assert models["best-lse-1"]["mean"] == pytest.approx(0.74)
    assert models["best-lse-1"]["sd"] == pytest.approx(0.04 / 2**0.5)
    assert models["best-att2"] == {
        "name": "best-att2", "recipe": "att2", "mean": None, "sd": None, "values": [],
    }  # fmt: skip
    assert found["missing"] == ["best-att2"], "a weight of 0 is there"


def test_steps(ours):
    mean, refined = tables(ours, "small", 2)["best"]["steps"]
    assert mean == {
        "name": "best-mean",
        "says": "geometric mean, weights from V2",
        "settings": {
            "kind": "geometric",
            "by": "convex",
            "weights": {"best-lse-1": 0.75, "best-lse-2": 0.25, "best-nl": 0.0},
        },
        "cross_validated": {"mean_ap": 0.77, "single_mean_ap": 0.74, "equal_mean_ap": 0.76},
        "mean": pytest.approx(0.79),
        "sd": pytest.approx(0.02 / 2**0.5),
        "values": [0.8, 0.78],
    }
    assert (refined["name"], refined["values"]) == ("best-refined", [0.82])
    assert refined["settings"] == {"smooth": 0.3, "centre": 0.5, "alike": 1.25}
    assert refined["cross_validated"] == ACROSS


def test_halves_without_positives_have_no_estimate(ours):
    ways = [way(name, None) for name in ("equal", "single", "convex")]
    _write(ours, "best-mean", {**MEAN, "search": {"used": "convex", "ways": ways}})
    _write(ours, "best-refined", {**REFINED, "search": {"cross_validated": None}})
    found = tables(ours, "small", 1)
    assert [step["cross_validated"] for step in found["best"]["steps"]] == [None, None]
    assert "| convex: best-lse-1 0.75, best-lse-2 0.25 | - |" in markdown(found)


def _write(root: Path, name: str, made_by: dict[str, Any]) -> None:
    (root / "scores" / "v2" / name / "made-by.json").write_text(json.dumps(made_by))


def test_the_best_single_and_what_is_chosen(ours):
    alone = tables(ours, "small", 1)
    assert (alone["best_single"], alone["chosen"]) == ("best-lse-1", "best-refined")
    assert alone["classes"]["ap"].keys() == {"best-lse-1", "best-mean", "best-refined"}
    assert tables(ours, "small", 2)["best_single"] == "best-lse-2", "the mean over repeats counts"


def test_the_best_single_is_one_of_the_published_where_they_are_there(both):
    found = tables(both, "small", 1)
    assert (found["best_single"], found["chosen"]) == ("nl-1", "best-refined")
    assert {"nl-1", "E1", "E3-fused", "best-refined"} < found["classes"]["ap"].keys()


def test_a_fusion_that_is_ahead_is_chosen(both):
    put_numbers(both, "E2-fused", 0.9, (0.5, None, 0.9))
    assert tables(both, "small", 1)["chosen"] == "E2-fused"


def test_only_a_result_of_the_presets_is_chosen(both):
    published = tables(both, "small", 1, ("published",))
    assert published["chosen"] == "E3-fused"
    assert published["best"]["steps"][1]["mean"] == 0.82, "it is shown"
    put_numbers(both, "E2-fused", 0.9, (0.5, None, 0.9))
    assert tables(both, "small", 1, ("best",))["chosen"] == "best-refined"


def test_nothing_of_it_is_there(tmp_path):
    put_numbers(tmp_path, "nl-1", 0.71, (0.4, None, 1.0))
    found = tables(tmp_path, "small", 1)
    assert (found["best"], found["format"]) == (None, 2)
    assert "Our preset" not in markdown(found)


def test_a_single_model_of_it_is_there(tmp_path):
    put_numbers(tmp_path, "best-nl", 0.7, (0.5, None, 0.9))
    found = tables(tmp_path, "small", 1)
    assert (found["best_single"], found["chosen"]) == ("best-nl", None)
    assert [step["settings"] for step in found["best"]["steps"]] == [None, None]
    assert found["best"]["missing"] == []
    lines = markdown(found).splitlines()
    assert "| best-nl | nl | 0.7000 |  |  |  |" in lines
    assert "| best-mean | geometric mean, weights from V2 | - | - | - | - |" in lines


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_report_reads_them(both, repeats):
    found = tables(both, "small", repeats)
    path = both / "tables.json"
    path.write_text(json.dumps(found, allow_nan=False))
    read = read_tables(path)
    assert read.preset is not None
    assert [model.name for model in read.preset.models] == [m.name for m in best.members("small")]
    assert [s.found.mean for s in read.preset.steps] == [s["mean"] for s in found["best"]["steps"]]
    assert read.chosen == "best-refined"


# ---- for people ----------------------------------------------------------------------------------


def test_markdown_of_ours_alone(ours):
    lines = markdown(tables(ours, "small", 1)).splitlines()
    assert lines[0].startswith("mAP on V2 of this corpus (`--scale small`). V2 chose the best step")
    assert lines[2:10] == [
        "## Our preset",
        "",
        "|  | what | V2 | gain | chosen* | across halves |",
        "|---|---|---|---|---|---|",
        "| best-lse-1 | lse | 0.7600 |  |  |  |",
        "| best-lse-2 | lse | 0.7500 |  |  |  |",
        "| best-nl | nl | 0.7000 |  |  |  |",
        "| best-att2 | att2 | - |  |  |  |",
    ]
    assert lines[10] == (
        "| best-mean | geometric mean, weights from V2 | 0.8000 | +0.0400 | "
        "convex: best-lse-1 0.75, best-lse-2 0.25 | 0.7700 (0.7400) |"
    )
    assert lines[11] == (
        "| best-refined | smoothed and centred by video, settings from V2 | 0.8200 | +0.0200 | "
        "alike 1.25, smooth 0.3, centre 0.5 | 0.8100 (0.7900) |"
    )
    assert "best-mean lacks best-att2: its weights are of the others." in lines
    told = "\n".join(lines)
    assert "of best-mean over the best model, best-lse-1; of best-refined over" in told
    assert "beside it" not in told
    assert not {"## The models", "## The ensembles"} & set(lines)
    assert "## best-refined over best-lse-1, the best single model, a class" in lines
    assert lines[-2:] == [
        "| Car | 0.5000 | 0.7000 | +0.2000 |",
        "| Dog | 0.9000 | 0.8000 | -0.1000 |",
    ]


def test_markdown_of_repeats(ours):
    told = markdown(tables(ours, "small", 2))
    assert "| best-lse-1 | lse | 0.7400 ± 0.0283 |" in told
    assert "| best-mean | geometric mean, weights from V2 | 0.7900 ± 0.0141 | +0.0400 |" in told
    assert "| 0.8200 | +0.0300 | alike" in told


def test_markdown_of_both(both):
    lines = markdown(tables(both, "small", 1)).splitlines()
    titles = [line for line in lines if line.startswith("## ")]
    assert titles == [
        "## The models", "## The ensembles", "## Our preset",
        "## best-refined over nl-1, the best single model, a class",
    ]  # fmt: skip
    assert (
        "best-refined 0.8200, beside it: E1 0.7400 (+0.0800); E3 at its best fusion 0.7700 "
        "(+0.0500)."
    ) in lines


def test_scores_that_stay_as_they_are_say_so(ours):
    settings = {"refined": {"smooth": 0.0, "centre": 0.0, "alike": 0.0}}
    _write(ours, "best-refined", {**REFINED, **settings})
    assert "| as it is: nothing pays |" in markdown(tables(ours, "small", 1))
    half = {"refined": {"smooth": 0.0, "centre": 0.1, "alike": 0.0}}
    _write(ours, "best-refined", {**REFINED, **half})
    assert "| alike 0, smooth 0, centre 0.1 |" in markdown(tables(ours, "small", 1))
