"""The plan of our preset: its stages alone or beside the published ones, and what V2 chooses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numbers_folder import put_made_by, put_numbers
from toy_plan import INDEX, OTHER, OUR_MODELS, TEST, WHOLE, our_models, stages, words
from whenabouts.core.errors import StageError
from whenabouts.recipes import best
from whenabouts.recipes.published import members
from whenabouts.reproduce.late import report_best, submit_best
from whenabouts.reproduce.plan import graph_of_plan
from whenabouts.workflow.stage import Stage

__all__ = ["our_models"]

OURS = replace(WHOLE, presets=("best",))
BOTH = replace(WHOLE, presets=("best", "published"))
NAMES = [name for name, _, _ in OUR_MODELS]
TARGETS = ("v2", "test", "other")
RESULTS = ("tables", "report", "submit.v2", "submit.test", "submit.other")


@pytest.fixture(scope="module")
def ours() -> dict[str, Stage]:
    return stages(OURS)


def all_words(stage: Stage) -> str:
    """With everything it wants there."""
    return words(stage, there=frozenset(stage.wanted))


def test_there_is_no_stage_of_the_published_system(ours):
    of_targets = [f"{target}.{name}" for target in TARGETS
                  for name in (*NAMES, "best-mean", "best-refined")]  # fmt: skip
    assert set(ours) == {*(f"train.{name}" for name in NAMES), *of_targets, *RESULTS}


def test_both_presets_are_the_stages_of_one_and_of_the_other(ours):
    both, published = stages(BOTH), stages(WHOLE)
    assert set(both) == {*ours, *published}
    for alone in (ours, published):
        for name in alone.keys() - RESULTS:
            if callable(alone[name].commands):
                assert replace(both[name], commands=()) == replace(alone[name], commands=())
            else:
                assert both[name] == alone[name]


def test_no_published_stage_waits_for_ours(ours):
    graph = graph_of_plan(BOTH)
    for stage in graph.stages:
        others = graph.waits_for(stage) & ours.keys() - set(RESULTS)
        if stage.name not in {*ours}:
            assert not others, stage.name


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_every_model_is_trained_and_scores_every_target(scale):
    found = stages(replace(OURS, scale=scale))
    for member in best.members(scale):
        assert words(found[f"train.{member.name}"]) == " ".join(
            ["train", member.recipe, str(INDEX), "-o", f"runs/{member.name}", *member.settings,
             "--loop.seed", str(member.seed), "--resume"]
        )  # fmt: skip
        assert words(found[f"other.{member.name}"]) == (
            f"predict runs/{member.name} {OTHER} -o scores/other/{member.name} --splits train v2"
        )


def test_models_take_the_precision_and_the_device_that_are_asked_for(ours):
    found = stages(replace(OURS, precision="bfloat16", device="cuda"))
    for name in NAMES:
        assert "--loop.precision bfloat16 --device cuda" in words(found[f"train.{name}"])
        assert words(found[f"v2.{name}"]).splitlines()[0].endswith("--device cuda")
        assert "--loop.precision" not in words(found[f"v2.{name}"])
        assert "precision" not in words(ours[f"train.{name}"])


def test_v2_is_scored_averaged_refined_and_evaluated(ours):
    assert words(ours["v2.best-nl"]) == (
        f"predict runs/best-nl {INDEX} -o scores/v2/best-nl --splits v2\n"
        f"evaluate scores/v2/best-nl {INDEX} --splits v2 --halves --out numbers/best-nl"
    )
    scored = " ".join(f"scores/v2/{name}" for name in NAMES)
    assert all_words(ours["v2.best-mean"]) == (
        f"ensemble {scored} -o scores/v2/best-mean --kind geometric --search {INDEX}\n"
        f"evaluate scores/v2/best-mean {INDEX} --splits v2 --halves --out numbers/best-mean"
    )
    assert words(ours["v2.best-refined"]) == (
        f"refine scores/v2/best-mean -o scores/v2/best-refined --search {INDEX}\n"
        f"evaluate scores/v2/best-refined {INDEX} --splits v2 --halves --out numbers/best-refined"
    )


def test_the_mean_is_of_the_models_that_are_there(ours):
    stage = ours["v2.best-mean"]
    two = frozenset({Path("scores/v2/best-nl"), Path("scores/v2/best-lse-2")})
    assert words(stage, there=two).startswith(
        "ensemble scores/v2/best-lse-2 scores/v2/best-nl -o scores/v2/best-mean "
    )
    with pytest.raises(StageError, match="none of the members"):
        words(stage)


# ---- what has seen V2 ----------------------------------------------------------------------------


def test_nothing_that_v2_judges_has_seen_it():
    found = stages(replace(OURS, final=True))
    for name, stage in found.items():
        if name.startswith(("train.", "v2.")):
            assert "final" not in all_words(stage), name
            assert not any("final" in str(path) for path in (*stage.inputs, *stage.wanted)), name


def test_final_models_score_the_targets_alone():
    found = stages(replace(OURS, final=True))
    for name in NAMES:
        assert words(found[f"final.{name}"]).endswith("--final --resume")
        for target in ("test", "other"):
            assert Path(f"final-runs/{name}/final.safetensors") in found[f"{target}.{name}"].inputs
            assert words(found[f"{target}.{name}"]).startswith(f"predict final-runs/{name} ")
    alone = stages(replace(OURS, final=True, targets=()))
    assert not [n for n in alone if n.startswith("final.")], "with no target there is no use"


# ---- what V2 chose -------------------------------------------------------------------------------


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    """V2 gave att2 nothing; members stand in another order than in the preset."""
    weights = {"best-att2": 0.0, "best-nl": 0.5, "best-lse-2": 0.2, "best-lse-1": 0.3}
    used = [{"scores": f"scores/v2/{name}", "weight": w} for name, w in weights.items()]
    put_made_by(tmp_path, "best-mean", {"ensemble": {"kind": "geometric"}, "members": used})
    put_refined(tmp_path, {"smooth": 0.3, "centre": 0.5, "alike": 2.5})
    return tmp_path


def put_refined(root: Path, settings: dict[str, Any]) -> None:
    folder = root / "scores" / "v2" / "best-refined"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made-by.json").write_text(json.dumps({"refined": settings}))


def test_a_target_is_averaged_with_the_weights_that_v2_chose(ours, chosen):
    stage = ours["test.best-mean"]
    assert stage.inputs == (Path("scores/v2/best-mean"),)
    assert set(stage.wanted) == {Path("scores/test", name) for name in NAMES}
    assert words(stage, chosen, frozenset(stage.wanted)) == (
        "ensemble scores/test/best-lse-1 scores/test/best-lse-2 scores/test/best-nl "
        "-o scores/test/best-mean --weights 0.3 0.2 0.5 --kind geometric"
    )


def test_weights_of_models_that_do_not_score_the_target_raise_the_others(ours, chosen):
    two = frozenset(Path("scores/other", name) for name in ("best-lse-1", "best-lse-2"))
    told = words(ours["other.best-mean"], chosen, two).split()
    assert told[1:3] == ["scores/other/best-lse-1", "scores/other/best-lse-2"]
    at = told.index("--weights")
    assert list(map(float, told[at + 1 : at + 3])) == pytest.approx([0.6, 0.4])
    left = frozenset({Path("scores/other/best-att2")})
    with pytest.raises(StageError, match="none of the members"):
        words(ours["other.best-mean"], chosen, left)


@pytest.mark.parametrize("settings", [(1.25, 0.3, 0.5), (0.0, 0.0, 0.0)])
def test_a_target_is_refined_as_v2_chose(ours, chosen, settings):
    alike, smooth, centre = settings
    put_refined(chosen, {"smooth": smooth, "centre": centre, "alike": alike})
    stage = ours["test.best-refined"]
    assert stage.inputs == (Path("scores/test/best-mean"), Path("scores/v2/best-refined"))
    assert words(stage, chosen) == (
        "refine scores/test/best-mean -o scores/test/best-refined "
        f"--alike={alike} --smooth={smooth} --centre={centre}"
    )


def test_no_truth_of_a_target_is_looked_at(ours, chosen):
    for name, stage in ours.items():
        if name.startswith(("test.", "other.")):
            told = words(stage, chosen, frozenset(stage.wanted))
            assert "evaluate" not in told, name
            assert "--search" not in told, name


# ---- repeats and results -------------------------------------------------------------------------


def test_repeats_are_whole_sets_and_score_v2_alone():
    found = stages(replace(OURS, repeats=2))
    seed = best.members("small")[0].seed
    assert f"--loop.seed {seed + 100} " in words(found["train.best-lse-1.r2"])
    told = all_words(found["v2.best-mean.r2"]).splitlines()[0]
    scored = " ".join(f"scores/v2/{name}.r2" for name in NAMES)
    assert told.startswith(f"ensemble {scored} -o scores/v2/best-mean.r2 ")
    assert words(found["v2.best-refined.r2"]).startswith(
        "refine scores/v2/best-mean.r2 -o scores/v2/best-refined.r2 "
    )
    assert "test.best-mean.r2" not in found
    assert len([name for name in found if name.startswith("train.")]) == 2 * len(NAMES)


@pytest.mark.parametrize("plan", [OURS, replace(BOTH, repeats=2)])
def test_tables_want_every_number(plan):
    found = stages(plan)
    made = {p for s in found.values() for p in s.outputs if p.parts[0] == "numbers"}
    assert set(found["tables"].wanted) == made
    assert {Path("numbers/best-mean"), Path("numbers/best-refined")} < made
    assert words(found["tables"]).endswith(" --preset " + " ".join(plan.presets))


def test_results_are_chosen_among_those_of_the_presets(ours):
    assert set(ours["submit.test"].wanted) == {
        Path("numbers/best-refined"), Path("scores/test/best-refined"),
    }  # fmt: skip
    assert set(stages(BOTH)["report"].wanted) == {
        path for name in ("best-refined", *(f"E{k}-fused" for k in range(1, 6)))
        for path in (Path("numbers", name), Path("scores/v2", name))
    }  # fmt: skip
    assert "best-refined" not in str(stages(WHOLE)["submit.test"].wanted)


@pytest.mark.parametrize(
    ("ours", "expected", "title"),
    [(0.8, "best-refined", "our preset, refined"),
     (0.6, "E2-fused", "E2, fused with the video classifier"),
     (0.7, "E2-fused", "E2, fused with the video classifier")],
)  # fmt: skip
def test_submission_and_report_are_of_what_is_best_on_v2(tmp_path, ours, expected, title):
    put_numbers(tmp_path, "E2-fused", 0.7, ())
    put_numbers(tmp_path, "best-refined", ours, ())
    fused = {"exponents": {"video": 1, "segment": 2}, "candidates": {"top_topics": None}}
    put_made_by(tmp_path, "E2-fused", {"fused": fused})
    names = ("E2-fused", "best-refined")
    there = frozenset(Path(*place, name) for name in names
                      for place in (("numbers",), ("scores", "test")))  # fmt: skip
    submit = submit_best(TEST, Path("s.csv"))
    assert submit(tmp_path, there) == (("submit", f"scores/test/{expected}", "-o", "s.csv"),)
    (told,) = report_best(OURS.v2, Path("t.json"), Path("r.html"))(tmp_path, there)
    assert told[1] == f"scores/v2/{expected}"
    assert told[-1] == f"whenabouts reproduce: {title}"


def test_estimates_know_how_wide_a_model_is(ours):
    published = stages(WHOLE)
    assert ours["train.best-nl"].seconds > 1.5 * published["train.nl-1"].seconds
    assert ours["train.best-lse-2"].seconds > ours["train.best-lse-1"].seconds
    assert ours["v2.best-nl"].seconds > published["v2.nl-1"].seconds
    assert all(stage.seconds > 0 for stage in ours.values())


def test_it_costs_a_fraction_of_the_published_system(ours):
    whole = sum(stage.seconds for stage in stages(WHOLE).values())
    assert sum(stage.seconds for stage in ours.values()) < whole / 2
    assert len(NAMES) < len(members("small")) / 2
