"""The plan: every model is in it, each stage stands behind what it needs, nothing has seen V2."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from toy_plan import INDEX, OTHER, SIZE, SPLITS, TEST, WHOLE, stages, words
from whenabouts.recipes.published import ENSEMBLES, members, published_weights, video_members
from whenabouts.reproduce import cost
from whenabouts.reproduce.cost import Size
from whenabouts.reproduce.plan import Plan, graph_of_plan
from whenabouts.workflow.stage import Graph, Stage


@pytest.fixture(scope="module")
def whole() -> dict[str, Stage]:
    return stages(WHOLE)


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_every_model_is_trained_and_scores_every_target(scale):
    found = stages(replace(WHOLE, scale=scale))
    for member in (*members(scale), *video_members(scale)):
        told = words(found[f"train.{member.name}"])
        assert told.startswith(f"train {member.recipe} {INDEX} -o runs/{member.name} ")
        assert f"--loop.seed {member.seed} " in told
        assert told.endswith("--resume")
        assert {f"{target}.{member.name}" for target in ("v2", "test", "other")} <= set(found)
    trained = [name for name in found if name.startswith("train.")]
    assert len(trained) == 20 + len(video_members(scale))


@pytest.mark.parametrize(
    "changes",
    [{}, {"final": True}, {"repeats": 3}, {"scale": "paper"},
     {"presets": ("best",), "final": True}, {"presets": ("published", "best"), "repeats": 2}],
)  # fmt: skip
def test_each_input_is_made_by_an_earlier_stage_or_given(changes):
    graph: Graph = graph_of_plan(replace(WHOLE, **changes))
    for stage in graph.stages:
        for path in (*stage.inputs, *stage.wanted):
            assert path in (INDEX, OTHER) or graph.maker(path), f"nobody makes {path}"
        for command in () if callable(stage.commands) else stage.commands:
            for word in command:
                if re.match(r"(runs|final-runs|scores|labels|numbers|submissions)/", word):
                    made = {graph.maker(Path(word)), stage.name} - {None}
                    known = graph.waits_for(stage) | {stage.name}
                    assert made <= known, f"{stage.name} reads {word} and does not say so"


def test_every_output_is_named_by_the_commands(whole):
    for stage in whole.values():
        if not callable(stage.commands) and stage.name != "tables":
            told = words(stage)
            assert all(str(path) in told for path in stage.outputs), stage.name


def test_pseudo_labels_come_from_the_teacher_and_from_deep_clusters(whole):
    assert words(whole["teach"]).endswith("--splits train v1")
    assert words(whole["teach"]).startswith("predict runs/f-logi-1 ")
    assert words(whole["labels.teacher"]) == (
        f"pseudo-label teacher scores/teacher/f-logi-1 {INDEX} -o labels/teacher.parquet"
    )
    assert words(whole["labels.cluster"]) == (
        f"pseudo-label cluster {INDEX} -o labels/cluster.parquet --run runs/nl-1 --seed 0"
    )
    for member in members("small"):
        told = words(whole[f"train.{member.name}"])
        source = re.findall(r"--strategy\.pseudo\.labels labels/(\w+)\.parquet", told)
        assert source == [member.labels] * bool(member.labels)


def test_nothing_that_is_watched_on_v2_has_seen_it(whole):
    for name, stage in whole.items():
        if name.startswith(("train.", "teach", "labels.")):
            assert "--final" not in words(stage)
            assert not re.search(r"--splits [^-]*v2", words(stage))
        if name.startswith("v2."):
            assert "--final" not in words(stage, there=frozenset(stage.wanted))
            assert not any("final" in str(path) for path in stage.inputs)


def test_final_models_score_the_targets_alone():
    found = stages(replace(WHOLE, final=True))
    assert words(found["final.nl-1"]).endswith("--final --resume")
    assert Path("final-runs/nl-1/final.safetensors") in found["test.nl-1"].inputs
    assert Path("runs/nl-1/v1.safetensors") in found["v2.nl-1"].inputs
    assert " final-runs/nl-1 " not in words(found["v2.nl-1"])
    assert len([n for n in found if n.startswith("final.")]) == 21
    alone = stages(Plan(INDEX, SIZE, "small", final=True))
    assert not [n for n in alone if n.startswith("final.")], "with no target there is no use"


def test_v2_is_scored_evaluated_and_fused_in_all_published_ways(whole):
    assert words(whole["v2.nl-1"]) == (
        f"predict runs/nl-1 {INDEX} -o scores/v2/nl-1 --splits v2\n"
        f"evaluate scores/v2/nl-1 {INDEX} --splits v2 --halves --out numbers/nl-1"
    )
    assert "evaluate" not in words(whole["v2.video-logistic"]), "its labels are of videos"
    told = words(whole["v2.E1-fused"]).splitlines()
    base = "fuse scores/v2/E1 scores/v2/video -o scores/v2/E1-fused"
    assert told[:4] == [
        f"{base}-1-1 --video-exponent 1 --segment-exponent 1",
        f"{base}-1-2 --video-exponent 1 --segment-exponent 2",
        f"{base}-2-1 --video-exponent 2 --segment-exponent 1",
        f"{base} --search {INDEX}",
    ]
    assert len(told) == 8
    assert words(whole["v2.E1-refined"]) == (
        f"refine scores/v2/E1 -o scores/v2/E1-refined --search {INDEX}\n"
        f"evaluate scores/v2/E1-refined {INDEX} --splits v2 --halves --out numbers/E1-refined"
    )
    assert "scores/v2/E1.r2 -o scores/v2/E1.r2-refined" in words(
        stages(replace(WHOLE, repeats=2))["v2.E1.r2-refined"]
    )
    assert (
        told[-1]
        == f"evaluate scores/v2/E1-fused {INDEX} --splits v2 --halves --out numbers/E1-fused"
    )


def test_no_truth_of_a_target_is_looked_at(whole):
    for name, stage in whole.items():
        if name.startswith(("test.", "other.", "submit.")) and not callable(stage.commands):
            assert "evaluate" not in words(stage)
            assert "--search" not in words(stage)
    assert words(whole["other.nl-1"]) == (
        f"predict runs/nl-1 {OTHER} -o scores/other/nl-1 --splits train v2"
    )


@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_averages_those_that_are_there(name, whole):
    weights = published_weights(name, members("small"))
    stage = whole[f"v2.{name}"]
    assert {path.name for path in stage.wanted} == set(weights)
    everything = words(stage, there=frozenset(stage.wanted)).splitlines()[0].split()
    at = everything.index("--weights")
    paths = everything[1 : everything.index("-o")]
    told = dict(zip((Path(p).name for p in paths), map(float, everything[at + 1 :])))
    assert told == pytest.approx(weights, abs=1e-12)
    two = frozenset(Path("scores/v2", member) for member in ("f-logi-1", "s-logi"))
    total = weights["f-logi-1"] + weights["s-logi"]
    some = words(stage, there=two).splitlines()[0]
    a, b = map(float, some.split("--weights ")[1].split())
    assert some.startswith(f"ensemble scores/v2/f-logi-1 scores/v2/s-logi -o scores/v2/{name} ")
    assert (a, b) == pytest.approx((weights["f-logi-1"] / total, weights["s-logi"] / total))


def test_several_video_classifiers_are_averaged():
    found = stages(replace(WHOLE, scale="paper"))
    stage = found["v2.video"]
    told = words(stage, there=frozenset(stage.wanted)).split()
    assert told[1:6] == [f"scores/v2/{m.name}" for m in video_members("paper")]
    assert told[6:] == ["-o", "scores/v2/video", "--weights", *["0.2"] * 5]
    assert Path("scores/v2/video") in found["v2.E1-fused"].inputs


def test_repeats_are_whole_sets_and_score_v2_alone():
    found = stages(replace(WHOLE, repeats=2))
    assert "--loop.seed 104 " in words(found["train.nl-1.r2"])
    assert "runs/nl-1.r2" in words(found["labels.cluster.r2"])
    assert "labels/cluster.r2.parquet" in words(found["train.cluster-nl-1.r2"])
    assert words(found["labels.cluster.r2"]).endswith(" --seed 1")
    assert "scores/v2/E1.r2 scores/v2/video.r2" in words(found["v2.E1.r2-fused"])
    assert "test.nl-1.r2" not in found
    twice = replace(WHOLE, repeats=2)
    assert sum(len(each.models) for each in twice.all_sets()) == 40
    assert Path("numbers/E5.r2-fused-2-1") in found["tables"].wanted


def test_tables_want_every_number(whole):
    made = {p for s in whole.values() for p in s.outputs if p.parts[0] == "numbers"}
    assert set(whole["tables"].wanted) == made
    assert len(made) == 20 + 5 * 6


def test_the_index_is_made_where_shards_are_given():
    made = ("index", "/shards", "-o", "corpus.index")
    given = Plan(
        Path("corpus.index"), SIZE, "tiny", index_commands=(made,), shards=(Path("/shards/a"),)
    )
    graph = graph_of_plan(given)
    assert graph.stages[0].name == "index"
    assert graph.stages[0].stamped == (Path("/shards/a"),)
    for stage in graph.stages[1:]:
        if stage.name.startswith(("train.", "v2.")):
            assert "index" in graph.waits_for(stage), stage.name


def test_the_device_is_passed_on(whole):
    on_gpu = stages(replace(WHOLE, device="cuda"))
    for name in ("train.nl-1", "v2.nl-1", "labels.cluster", "teach"):
        assert "--device cuda" in words(on_gpu[name])
        assert "--device" not in words(whole[name])


def test_the_precision_is_of_attention_models_in_training():
    found = stages(replace(WHOLE, precision="bfloat16", final=True))
    logistic = {m.name for m in members("small") if m.group in ("f-logi", "s-logi")}
    for member in members("small"):
        expected = 0 if member.name in logistic else 1
        for stage in (f"train.{member.name}", f"final.{member.name}"):
            assert words(found[stage]).count("--loop.precision bfloat16") == expected, stage
        assert "--loop.precision" not in words(found[f"test.{member.name}"])
    for member in video_members("small"):
        assert "--loop.precision" not in words(found[f"train.{member.name}"])
    assert len(logistic) == 4


def test_no_precision_is_named_where_none_is_asked_for(whole):
    assert not [name for name, stage in whole.items() if name.startswith("train.")
                and "precision" in words(stage)]  # fmt: skip


def test_what_a_stage_reads_of_a_run_does_not_tell_the_time(whole):
    """run.json and metrics.jsonl differ from run to run; the weights do not."""
    for stage in whole.values():
        of_runs = [path for path in stage.inputs if path.parts[0] in ("runs", "final-runs")]
        assert all(path.name in ("v1.safetensors", "recipe.json") for path in of_runs)


def test_estimates_grow_with_the_data_and_the_scale(whole):
    counts = (dict.fromkeys(SPLITS, 2 * n) for n in (1000, 200_000))
    twice = Size(*counts, 1152, 100, 400)
    larger = stages(Plan(INDEX, twice, "small", (replace(TEST, size=twice),)))
    paper = stages(replace(WHOLE, scale="paper"))
    assert all(stage.seconds > 0 for stage in whole.values())
    assert larger["test.nl-1"].size_bytes == 2 * whole["test.nl-1"].size_bytes
    assert larger["test.nl-1"].size_bytes == 2 * 200_000 // 5 * 100 * 4
    assert larger["v2.E1"].seconds > whole["v2.E1"].seconds
    assert paper["train.nl-1"].seconds > 10 * whole["train.nl-1"].seconds
    assert whole["train.nl-2"].seconds > whole["train.nl-1"].seconds
    again = stages(replace(WHOLE, repeats=2))
    assert again["train.nl-2.r2"].seconds == whole["train.nl-2"].seconds
    assert whole["test.nl-2"].seconds > whole["test.nl-1"].seconds


def test_the_size_of_shards_is_guessed_from_their_bytes(tmp_path):
    for name in ("t", "v"):
        (tmp_path / name).write_bytes(bytes(1152 * 1000))
    size = Size.of_shards({"train": [tmp_path / "t"], "validate": [tmp_path / "v"]})
    assert size.frames == {"train": 1000, "v1": 500, "v2": 500, "test": 0}
    assert cost.of_index(size).seconds > 0


def test_the_report_shows_the_tables(whole):
    report = whole["report"]
    assert Path("tables.json") in report.inputs
    assert "tables" in graph_of_plan(WHOLE).needs(report)


def test_stage_names_are_told_apart_by_a_glob(whole):
    graph = graph_of_plan(WHOLE)
    assert graph.chosen(["*.nl-1"]) == {"train.nl-1", "v2.nl-1", "test.nl-1", "other.nl-1"}
    assert whole["tables"].outputs == (Path("tables.md"), Path("tables.json"))
