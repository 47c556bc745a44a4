"""The tables, from a folder of numbers written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from numbers_folder import put_made_by, put_numbers
from toy_plan import INDEX, TEST, WHOLE
from whenabouts.core.errors import StageError
from whenabouts.recipes.published import ENSEMBLES, PAPER_MAP, members, published_weights
from whenabouts.reproduce.late import (
    best_result,
    fuse_as_on_v2,
    mean_ap,
    refine_as_on_v2,
    report_best,
    submit_best,
)
from whenabouts.reproduce.markdown import markdown
from whenabouts.reproduce.tables import spread, tables
from whenabouts.workflow.stage import LateCommands

FUSED = {
    "exponents": {"video": 1.0, "segment": 4.0},
    "candidates": {"top_topics": 20, "top_videos": None, "min_video_score": None},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two repeats of NL-1, one of F-Logi-1, E1 of two members, E1 and E2 fused."""
    put_numbers(tmp_path, "nl-1", 0.75, (0.5, None, 1.0))
    put_numbers(tmp_path, "nl-1.r2", 0.65, (0.4, None, 0.9))
    put_numbers(tmp_path, "f-logi-1", 0.69, (0.5, None, 0.9))
    put_numbers(tmp_path, "E1", 0.8, (0.7, None, 0.9))
    put_numbers(tmp_path, "E1.r2", 0.7, (0.7, None, 0.7))
    put_numbers(tmp_path, "E1-fused-1-2", 0.5, (0.5, None, 0.5))
    put_numbers(tmp_path, "E1.r2-fused-1-2", 0.6, (0.5, None, 0.5))
    put_numbers(tmp_path, "E1-fused", 0.8, (0.8, None, 0.8))
    put_numbers(tmp_path, "E2-fused", 0.9, (0.9, None, 0.95))
    used = [
        {"scores": "scores/v2/nl-1", "weight": 0.5},
        {"scores": "scores/v2/se-1", "weight": 0.5},
    ]
    put_made_by(tmp_path, "E1", {"members": used})
    searched = {"fused": FUSED, "search": {"cross_validated": {"mean_ap": 0.77}}}
    put_made_by(tmp_path, "E1-fused", searched)
    return tmp_path


def test_the_models(folder):
    found = tables(folder, "small", 2)
    models = {model["name"]: model for model in found["models"]}
    assert list(models) == [m.name for m in members("small")]
    nl = models["nl-1"]
    assert (nl["group"], nl["recipe"], nl["paper"]) == ("nl", "nl", PAPER_MAP["nl"])
    assert nl["values"] == [0.75, 0.65]
    assert (nl["mean"], nl["sd"]) == pytest.approx((0.70, 0.0707106781))
    assert (models["f-logi-1"]["mean"], models["f-logi-1"]["sd"]) == (0.69, None)
    assert (models["se-1"]["mean"], models["se-1"]["values"]) == (None, [])
    assert models["student-1"]["paper"] is None
    assert found["best_single"] == "nl-1"


def test_the_ensembles(folder):
    first = tables(folder, "small", 2)["ensembles"][0]
    assert first["name"] == "E1"
    assert first["values"] == [0.8, 0.7]
    assert (first["paper_public"], first["paper_private"]) == (0.7957, 0.7864)
    assert [(f["video"], f["segment"], f["values"]) for f in first["fused"]] == [
        (1, 1, []), (1, 2, [0.5, 0.6]), (2, 1, []),
    ]  # fmt: skip
    assert first["searched"]["values"] == [0.8]
    assert first["searched"]["settings"] == FUSED
    assert first["searched"]["cross_validated"] == {"mean_ap": 0.77}
    assert first["weights"] == {"nl-1": 0.5, "se-1": 0.5}
    published = published_weights("E1", members("small"))
    assert first["published_weights"] == published
    assert first["missing"] == sorted(published.keys() - {"nl-1", "se-1"})


def halve(folder: Path, name: str, first: float | None, second: float | None) -> None:
    path = folder / "numbers" / name / "evaluation.json"
    told = json.loads(path.read_text())
    told["segments"]["mean_ap_of_halves"] = [first, second]
    path.write_text(json.dumps(told))


def test_the_best_single_model_is_chosen_on_the_other_half(folder):
    """NL-1 is best on the first half, where F-Logi-1 is on the second: each gives its other."""
    assert tables(folder, "small", 2)["single"] == {
        **spread([0.75, 0.65]), "across_halves": spread([])
    }  # fmt: skip
    halve(folder, "nl-1", 0.75, 0.5)
    halve(folder, "f-logi-1", 0.625, 0.6875)
    halve(folder, "nl-1.r2", 0.5, 0.75)
    assert tables(folder, "small", 2)["single"]["across_halves"] == spread([0.5625, 0.625])
    halve(folder, "f-logi-1", 0.625, None)
    assert tables(folder, "small", 2)["single"]["across_halves"] == spread([0.625])


def test_an_ensemble_has_the_mean_of_its_halves(folder):
    halve(folder, "E1", 0.75, 0.875)
    halve(folder, "E1.r2", 0.5, 0.75)
    found = tables(folder, "small", 2)
    assert found["ensembles"][0]["across_halves"] == spread([0.8125, 0.625])
    assert found["ensembles"][1]["across_halves"] == spread([])
    [e1] = [line for line in markdown(found).splitlines() if line.startswith("| E1 | ")]
    assert e1.split(" | ")[2] == "0.7188 ± 0.1326"


def test_an_ensemble_refined(folder):
    assert tables(folder, "small", 2)["ensembles"][0]["refined"] == {
        "settings": None, "cross_validated": None, **spread([])
    }  # fmt: skip
    put_numbers(folder, "E1-refined", 0.85, (0.7, None, 0.9))
    put_numbers(folder, "E1.r2-refined", 0.75, (0.7, None, 0.9))
    refined = {"alike": 0.05, "smooth": 0.2, "centre": 0.5}
    across = {"mean_ap": 0.81, "as_it_is_mean_ap": 0.8}
    kept = {"refined": refined, "search": {"cross_validated": across}}
    put_made_by(folder, "E1-refined", kept)
    found = tables(folder, "small", 2)
    assert found["ensembles"][0]["refined"] == {
        "settings": refined, "cross_validated": across, **spread([0.85, 0.75])
    }  # fmt: skip
    assert found["chosen"] == "E2-fused", "no part of what is published"
    [e1] = [line for line in markdown(found).splitlines() if line.startswith("| E1 | ")]
    assert e1.split(" | ")[8] == "0.8000 ± 0.0707"


def test_what_is_not_there(folder):
    second, last = tables(folder, "small", 1)["ensembles"][1::3]
    assert (second["mean"], second["missing"], second["weights"]) == (None, [], {})
    assert second["searched"]["mean"] == 0.9
    assert "settings" not in last["searched"]


def test_repeats_beyond_those_asked_for_do_not_count(folder):
    assert tables(folder, "small", 1)["models"][4]["values"] == [0.75]


def test_ap_a_class_of_the_best_single_and_the_ensembles(folder):
    found = tables(folder, "small", 1)
    assert found["chosen"] == "E2-fused"
    classes = found["classes"]
    assert classes["ids"] == [7, 3, 9]
    assert classes["names"] == ["Car", "", "Dog"]
    assert classes["positives"] == [1, 2, 3]
    assert classes["ap"] == {
        "nl-1": [0.5, None, 1.0], "E1": [0.7, None, 0.9], "E1-fused": [0.8, None, 0.8],
        "E2-fused": [0.9, None, 0.95],
    }  # fmt: skip


def test_they_can_be_written_as_json(folder):
    put_numbers(folder, "se-2", None, (None, None, None))
    found = tables(folder, "small", 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_nothing_at_all(tmp_path):
    with pytest.raises(StageError, match="no model is evaluated on V2 yet"):
        tables(tmp_path, "small", 1)


def test_a_damaged_file_is_named(folder):
    (folder / "numbers" / "nl-1" / "evaluation.json").write_text("{")
    with pytest.raises(StageError, match=r"numbers/nl-1/evaluation.json: not JSON"):
        tables(folder, "small", 1)


def test_spread():
    assert spread([]) == {"mean": None, "sd": None, "values": []}
    assert spread([0.5]) == {"mean": 0.5, "sd": None, "values": [0.5]}
    assert spread([1.0, 3.0, 5.0]) == {"mean": 3.0, "sd": 2.0, "values": [1.0, 3.0, 5.0]}


# ---- for people ----------------------------------------------------------------------------------


def test_markdown(folder):
    lines = markdown(tables(folder, "small", 2)).splitlines()
    assert "| nl-1 | NL | 0.789 | 0.7000 ± 0.0707 |" in lines
    assert "| f-logi-1 | F-Logi | 0.791 | 0.6900 |" in lines
    assert "| student-1 | Student | - | - |" in lines
    e1 = (
        "| E1 | 0.7500 ± 0.0707 | - | - | 0.5500 ± 0.0707 | - | 0.8000 | 1, 4; top topics 20 | - | "
    )
    assert f"{e1}0.7864 (0.7957) |" in lines
    assert "| E2 | - | - | - | - | - | 0.9000 | - | - | 0.7774 (0.7868) |" in lines
    assert "| best single model* | 0.7000 ± 0.0707 | - |  |  |  |  |  |  |  |" in lines
    assert any(line.startswith("E1 lacks att2-1, att2-2, f-logi-1") for line in lines)
    assert "1 of 2 classes gain. Those that gain most, and those that lose most:" in lines
    assert lines[-2:] == [
        "| Car | 0.5000 | 0.9000 | +0.4000 |",
        "| Dog | 1.0000 | 0.9500 | -0.0500 |",
    ]
    columns = {line.count("|") for line in lines if line.startswith(("| E", "| best single"))}
    assert len(columns) == 1


def test_a_bar_in_the_name_of_a_class_ends_no_cell(folder):
    found = tables(folder, "small", 1)
    found["classes"]["names"][0] = "Car | van"
    assert "| Car \\| van | 0.5000 | 0.9000 | +0.4000 |" in markdown(found).splitlines()


def test_another_made_by_is_named(folder):
    (folder / "scores/v2/E1/made-by.json").write_text('{"members": 5}')
    with pytest.raises(StageError, match=r"E1/made-by\.json: it does not say"):
        tables(folder, "small", 1)


def test_markdown_of_a_beginning(tmp_path):
    put_numbers(tmp_path, "s-logi", 0.5, (0.5, 0.5, 0.5))
    told = markdown(tables(tmp_path, "tiny", 1))
    assert "| s-logi | S-Logi | 0.789 | 0.5000 |" in told
    assert "best single model, a class" not in told


# ---- what V2 chooses -----------------------------------------------------------------------------


def test_the_best_ensemble_by_its_fusion(folder):
    fused = [Path("numbers", f"{name}-fused") for name in ("E1", "E2")]
    assert best_result(folder, fused) == "E2-fused"
    assert best_result(folder, fused[:1]) == "E1-fused"
    put_numbers(folder, "E3-fused", 0.9, ())
    fused.append(Path("numbers/E3-fused"))
    assert best_result(folder, fused) == "E2-fused", "the first of equals"
    with pytest.raises(StageError, match=r"no ensemble is evaluated on V2; run one of E1\.\.E5"):
        best_result(folder, [Path("numbers/E1"), Path("numbers/nl-1")])


def test_an_ensemble_without_a_number_is_behind_all(folder):
    put_numbers(folder, "best-refined", 0.1, ())
    (folder / "numbers/E1-fused/evaluation.json").write_text('{"segments": {"mean_ap": null}}')
    paths = [Path("numbers/E1-fused"), Path("numbers/best-refined")]
    assert best_result(folder, paths) == "best-refined"


def test_no_rated_positive_is_no_number(tmp_path):
    put_numbers(tmp_path, "x", None, ())
    assert mean_ap(tmp_path / "numbers" / "x") != mean_ap(tmp_path / "numbers" / "x")


def test_submission_and_report_are_of_the_best(folder):
    there = {Path("numbers", f"{n}-fused") for n in ENSEMBLES if n in ("E1", "E2")}
    there |= {Path("scores/test/E1-fused"), Path("scores/test/E2-fused")}
    submit, report = submit_best(TEST, Path("s.csv")), _report()
    assert submit(folder, frozenset(there)) == (
        ("submit", "scores/test/E2-fused", "-o", "s.csv"),
    )  # fmt: skip
    put_made_by(folder, "E2-fused", {"fused": FUSED})
    (words,) = report(folder, frozenset(there))
    assert words == (
        "report", "scores/v2/E2-fused", str(INDEX), "-o", "r.html", "--tables", "t.json", "--title",
        "whenabouts reproduce: E2, fused with the video classifier",
    )  # fmt: skip
    with pytest.raises(StageError, match=r"scores/test/E2-fused: not there; E2-fused is the best"):
        submit(folder, frozenset(there - {Path("scores/test/E2-fused")}))


@pytest.mark.parametrize(
    ("video", "top_topics", "told"),
    [
        (0, None, "E1, which no fusion with the video classifier improves"),
        (0.5, None, "E1, fused with the video classifier"),
        (0, 20, "E1, fused with the video classifier"),
    ],
)
def test_the_report_says_where_no_fusion_is_best(tmp_path, video, top_topics, told):
    put_numbers(tmp_path, "E1-fused", 0.5, ())
    settings = {"exponents": {"video": video, "segment": 1}, "candidates": {"top_videos": None}}
    settings["candidates"]["top_topics"] = top_topics
    put_made_by(tmp_path, "E1-fused", {"fused": settings})
    (words,) = _report()(tmp_path, frozenset({Path("numbers/E1-fused")}))
    assert words[-1] == f"whenabouts reproduce: {told}"


def _report() -> LateCommands:
    return report_best(WHOLE.v2, Path("t.json"), Path("r.html"))


def test_a_target_is_fused_as_v2_chose(folder):
    late = fuse_as_on_v2(Path("s"), Path("v"), Path("scores/v2/E1-fused"), Path("o"))
    assert late(folder, frozenset()) == (
        ("fuse", "s", "v", "-o", "o", "--video-exponent", "1.0", "--segment-exponent", "4.0",
         "--top-topics", "20"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made_by", "told"),
    [
        ({}, "it does not say 'fused'"),
        ({"fused": {"exponents": {"video": 1}}}, "it does not say 'candidates'"),
        ({"fused": 3}, "it does not say"),
        ({"fused": {"exponents": {"video": 1, "segment": 1}, "candidates": 3}}, "does not say"),
    ],
)
def test_what_v2_chose_is_not_told(tmp_path, made_by, told):
    put_made_by(tmp_path, "E1-fused", made_by)
    late = fuse_as_on_v2(Path("s"), Path("v"), Path("scores/v2/E1-fused"), Path("o"))
    with pytest.raises(StageError, match=rf"made-by.json: .*{told}.*; do the stage that makes it"):
        late(tmp_path, frozenset())
    late = refine_as_on_v2(Path("s"), Path("scores/v2/E1-fused"), Path("o"))
    with pytest.raises(StageError, match=r"made-by.json: it does not say 'refined'"):
        late(tmp_path, frozenset())
