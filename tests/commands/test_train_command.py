"""`whenabouts train`: settings in, a run out; interrupted, killed, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

from commandline import QUICK, run, start
from small_corpus import index_small, make_small
from toy_work import log_lines
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import RunError
from whenabouts.core.lock import alone_in
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.feed.rated import RatedSegments
from whenabouts.models.hierarchical import Scale
from whenabouts.recipes.logistic import f_logi
from whenabouts.recipes.table import RECIPES, recipe_named
from whenabouts.strategies.s2 import S2
from whenabouts.strategies.video_labels import VideoLabels
from whenabouts.train import fit as fit_module
from whenabouts.train import log as log_module
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.run import open_run

STEPS = 20


def kept(run_path: Path) -> tuple[bytes, list[dict]]:
    return (run_path / "v1.safetensors").read_bytes(), log_lines(run_path, without_times=True)


def test_a_run_and_what_is_told_of_it(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code, told, _ = run(capsys, "train", "f-logi", corpus.path, "-o", out, *QUICK, "--json")
    assert code == 0
    result = json.loads(told)
    assert json.loads((out / "run.json").read_text()) == result
    looks = [line for line in log_lines(out) if line["kind"] == "evaluate"]
    best = max(looks, key=lambda line: line["mean_ap"])
    assert result.pop("time_s") > 0
    assert result == {
        "recipe": "f-logi",
        "best_v2_map": best["mean_ap"],
        "best_step": best["step"],
        "trained_on": ["v1"],
    }
    files = {path.name for path in out.iterdir()}
    assert {"checkpoints", "classes.csv", "metrics.jsonl", "recipe.json"} < files
    assert {"run.json", "v1.safetensors"} < files
    assert not any("partial" in name for name in files)
    _, facts = open_run(out).load_model()
    assert facts["step"] == best["step"]


def test_the_result_in_words(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code, told, _ = run(capsys, "train", "s-logi", corpus.path, "-o", out, *QUICK)
    assert code == 0
    result = json.loads((out / "run.json").read_text())
    expected = f"{out}: V2 mAP {result['best_v2_map']:.4f} at step {result['best_step']}, "
    assert told.startswith(expected)
    assert told.endswith(" s\n")


def test_settings_of_the_recipe_are_flags(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        *("--loop.max-steps", 2, "--loop.batch-size", 9, "--loop.seed", 4),
        *("--optimiser.name", "adamw", "--optimiser.weight-decay", 0.5),
        *("--strategy.negatives.unrated", 0.25),
    )
    out = tmp_path / "run"
    assert run(capsys, "train", "f-logi", corpus.path, "-o", out, *words).code == 0
    expected = to_dict(f_logi())
    expected["loop"] |= {"max_steps": 2, "batch_size": 9, "seed": 4}
    expected["optimiser"] |= {"name": "adamw", "weight_decay": 0.5}
    expected["strategy"]["negatives"] |= {"unrated": 0.25}
    assert open_run(out).recipe == expected
    assert log_lines(out)[-1]["step"] == 2


def test_settings_reach_the_training(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each changes the weights."""
    changes = (
        (),
        ("--optimiser.learning-rate", 0.05),
        ("--optimiser.weight-decay", 0.5),
        ("--strategy.negatives.unrated", 0.5),
        ("--loop.batch-size", 15),
        ("--loop.seed", 1),
    )
    found = []
    for number, words in enumerate(changes):
        out = tmp_path / str(number)
        code, *_ = run(capsys, "train", "s-logi", corpus.path, "-o", out, *QUICK, *words)
        assert code == 0
        found.append(kept(out)[0])
    assert len(set(found)) == len(changes)


def test_final(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """V2 is then among what it was trained on; an earlier run can still be made final."""
    out = tmp_path / "run"
    words = "train", "s-logi", corpus.path, "-o", out, *QUICK
    assert run(capsys, *words).code == 0
    before = kept(out)[0]
    code, told, _ = run(capsys, *words, "--final", "--resume", "--json")
    assert code == 0
    result = json.loads(told)
    assert result["trained_on"] == ["v1", "v2"]
    assert kept(out)[0] == before
    _, facts = open_run(out).load_model()
    assert facts == {
        "phase": "final",
        "step": 2 * result["best_step"],
        "trained_on": ["v1", "v2"],
    }


def test_a_final_run_stays_final(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed without --final, too, it says that it has seen V2; the time is that of all phases."""
    out = tmp_path / "run"
    words = "train", "s-logi", corpus.path, "-o", out, *QUICK
    assert run(capsys, *words, "--final").code == 0
    before = json.loads((out / "run.json").read_text())
    times = {line["phase"]: line["time_s"] for line in log_lines(out) if line["kind"] == "train"}
    assert list(times) == ["v1", "final"]
    assert before["time_s"] >= sum(times.values()) - 0.002
    assert run(capsys, *words, "--resume").code == 0
    assert json.loads((out / "run.json").read_text()) == before
    assert before["trained_on"] == ["v1", "v2"]


def test_a_final_phase_that_was_begun_is_ended(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also where --resume comes without --final."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = "train", "s-logi", corpus.path, *QUICK
    assert run(capsys, *words, "-o", whole, "--final").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "save_weights", failing_save("final"))
        assert run(capsys, *words, "-o", out, "--final").code == 1
    assert not (out / "final.safetensors").exists()
    assert (out / "checkpoints" / "final.safetensors").exists()
    assert run(capsys, *words, "-o", out, "--resume").code == 0
    assert (out / "final.safetensors").read_bytes() == (whole / "final.safetensors").read_bytes()
    assert json.loads((out / "run.json").read_text())["trained_on"] == ["v1", "v2"]


def failing_save(phase: str) -> Callable[..., None]:
    """In place of `save_weights`: the disk is full when this phase ends."""

    def save(path: Path, *rest: Any, **more: Any) -> None:
        if path.stem == phase:
            raise OSError(28, "No space left on device", str(path))
        save_weights(path, *rest, **more)

    return save


def test_how_much_stays_in_memory_is_no_matter(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for gigabytes in (0, 4):
        words = "train", "s-logi", corpus.path, "-o", tmp_path / str(gigabytes), *QUICK
        assert run(capsys, *words, "--resident-gb", gigabytes).code == 0
    assert kept(tmp_path / "0") == kept(tmp_path / "4")


@pytest.mark.parametrize(("gigabytes", "fits"), [(1e-6, False), (1e-4, True)])
def test_resident_gb_are_gigabytes(
    gigabytes: float, fits: bool, corpus: Corpus, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The rated segments take 10 to 20 kB: more than 1 kB, less than 100."""
    seen = []
    build = RatedSegments.__init__

    def watch(segments: RatedSegments, *words: Any, **more: Any) -> None:
        build(segments, *words, **more)
        seen.append((segments.is_resident, 5_000 < segments.bytes < 50_000))

    monkeypatch.setattr(RatedSegments, "__init__", watch)
    words = "train", "s-logi", corpus.path, "-o", tmp_path / "run", *QUICK
    assert run(capsys, *words, "--resident-gb", gigabytes).code == 0
    assert set(seen) == {(fits, True)}


def test_tensorboard_is_written_if_asked_for(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = []

    class Fake:
        def __init__(self, folder: str) -> None:
            seen.append(folder)

        def add_scalar(self, *values: object) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(log_module, "SummaryWriter", Fake)
    words = "train", "s-logi", corpus.path, *QUICK
    assert run(capsys, *words, "-o", tmp_path / "a").code == 0
    assert seen == []
    assert run(capsys, *words, "-o", tmp_path / "b", "--tensorboard").code == 0
    assert seen == [str(tmp_path / "b" / "tensorboard")]


# ---- wrong use -----------------------------------------------------------------------------------


def test_without_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--final", "s-logi", "x.index")):
        code, out, err = run(capsys, "train", *words)
        assert (code, out) == (2, "")
        assert "usage: whenabouts train RECIPE INDEX" in err
    code, out, err = run(capsys, "train", "--help")
    assert (code, err) == (0, "")
    assert "  s-logi          S-Logi: mean of the frames" in out
    assert "  f-logi          F-Logi: linear and sigmoid on each frame" in out


def test_a_misspelt_recipe(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "flogi", corpus.path)
    assert (code, out) == (2, "")
    assert err == "whenabouts: no recipe 'flogi'; did you mean 'f-logi'?\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--loop.sed", 1], "--loop.seed"),
        (["--optimizer.learning-rate", 1], "--optimiser.learning-rate"),
        (["--loop.seed", "one"], "--loop.seed"),
        (["--loop.batch-size", 0], "at least 1"),
        (["--optimiser.learning-rate", -1], "at least 0"),
        (["--strategy.negatives.unrated", -1], "at least 0"),
        (["--optimiser.name", "sgd"], "adamw"),
    ],
)
def test_a_setting_that_is_wrong(
    words: list[object], told: str, corpus: Corpus, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "run"
    code, said, err = run(capsys, "train", "s-logi", corpus.path, "-o", out, *words)
    assert (code, said) == (2, "")
    assert told in err
    assert not out.exists()


def test_a_device_that_is_not_there(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train", "s-logi", corpus.path, "-o", tmp_path / "run", "--device", "abacus"
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err == "whenabouts: no device 'abacus'; use auto, cpu, cuda or cuda:N\n"


def test_a_run_is_there_already(
    corpus: Corpus, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept(trained)
    code, out, err = run(capsys, "train", "f-logi", corpus.path, "-o", trained, *QUICK)
    assert (code, out) == (1, "")
    assert f"{trained}: a run is here already; go on with --resume" in err
    words = "train", "f-logi", corpus.path, "-o", trained, *QUICK, "--loop.seed", 1, "--resume"
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "recipe.loop.seed is 1, and was 0 when the run began" in err
    assert kept(trained) == before


def test_corpora_that_cannot_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    make_small(made, num_validate=4)
    classes = open_corpus(made / "corpus.index").classes
    index_small(made, "bare.index", ("train", "test"), classes)
    index_small(made, "half.index", ("v1",), classes)
    for name, lacks in (("bare.index", "V1"), ("half.index", "V2")):
        words = "train", "s-logi", made / name, "-o", tmp_path / name, *QUICK
        code, out, err = run(capsys, *words)
        assert (code, out) == (1, "")
        assert f"{name}: no rated segment of an evaluated class in {lacks}; index shards" in err
        assert not (tmp_path / name).exists()


def test_a_video_classifier_needs_labels_to_be_watched_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    classes = make_small(made, num_validate=4).classes
    index_small(made, "half.index", ("train", "v1"), classes)
    code, out, err = run(capsys, "train", "netvlad", made / "half.index", "-o", tmp_path / "run")
    assert (code, out) == (1, "")
    assert "half.index: no video of v2 has labels" in err
    assert not (tmp_path / "run").exists()


def test_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train", "s-logi", tmp_path / "gone.index", "-o", tmp_path / "run"
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "gone.index: no index here; make one with 'whenabouts index" in err
    assert not (tmp_path / "run").exists()


NEEDS_LABELS = ("cluster", "student")  # pseudo-labels, without which there is nothing to train


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in NEEDS_LABELS])
def test_every_recipe_trains_in_bfloat16(
    name: str, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on CUDA it does unless told otherwise; with every term that its loss may have."""
    out = tmp_path / "run"
    words: list[object] = ["--loop.max-steps", 2, "--loop.batch-size", 8]
    scale: Scale | None = None if name.endswith("-logi") else "tiny"
    words += ["--loop.precision", "bfloat16", *(("--scale", scale) if scale else ())]
    words += ["--strategy.fine-tuning", "gradient"] if name == "lse" else []
    if isinstance(recipe_named(name, scale).strategy, S2):
        words += ["--strategy.pretrain.max-steps", 2]
    if not isinstance(recipe_named(name, scale).strategy, VideoLabels):
        words += ["--strategy.negatives.unrated", 0.05]
        words += ["--strategy.negatives.outside", 0.1] if name != "loss2" else []
    code, _, err = run(capsys, "train", name, corpus.path, "-o", out, *words)
    assert code == 0, err
    losses = [line["loss"] for line in log_lines(out) if line["kind"] == "train"]
    assert losses
    assert all(0 < loss < 1000 for loss in losses)


def test_two_trainings_do_not_go_on_in_one_folder(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("train", "s-logi", corpus.path, "-o", out, *QUICK)
    assert run(capsys, *words).code == 0
    kept = (out / "run.json").read_bytes()
    with alone_in(out, RunError):
        code, _, err = run(capsys, *words, "--resume")
    assert (code, (out / "run.json").read_bytes()) == (1, kept)
    assert f"{out}: another process is at work here; wait for it" in err
    assert run(capsys, *words, "--resume").code == 0


def test_a_training_that_diverges_says_why(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("train", "s-logi", corpus.path, "-o", out, *QUICK)
    code, told, err = run(capsys, *words, "--optimiser.learning-rate", 3e38)
    assert (code, told) == (1, "")
    assert f"{out}: the loss is " in err
    assert "of v1; a training that has diverged does not come back; lower --optimiser" in err
    assert not (out / "v1.safetensors").exists()


# ---- interrupted and killed ----------------------------------------------------------------------


@pytest.fixture
def uninterrupted(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[bytes, list[dict]]:
    words = "train", "f-logi", corpus.path, "-o", tmp_path / "whole", *QUICK
    assert run(capsys, *words).code == 0
    return kept(tmp_path / "whole")


def test_ctrl_c_leaves_a_run_that_goes_on(
    uninterrupted: tuple[bytes, list[dict]], corpus: Corpus, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    steps = []

    def interrupt(*_: object) -> None:
        steps.append(len(steps))
        if len(steps) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    words = "train", "f-logi", corpus.path, "-o", out, *QUICK
    hook = register_optimizer_step_post_hook(interrupt)
    try:
        code, told, err = run(capsys, *words)
    finally:
        hook.remove()
    assert (code, told) == (130, "")
    assert f"whenabouts: {out}: stopped at step 10; go on with --resume\n" in err
    assert not (out / "run.json").exists()
    assert run(capsys, *words, "--resume").code == 0
    assert kept(out) == uninterrupted


KILLED = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from whenabouts.cli import main

steps = []

def kill(*_):
    steps.append(1)
    if len(steps) == 14:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(kill)
main(sys.argv[1:])
"""


def test_killed_and_resumed_is_as_if_nothing_had_happened(
    uninterrupted: tuple[bytes, list[dict]], corpus: Corpus, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """SIGKILL within step 14; a checkpoint after every step."""
    out = tmp_path / "run"
    words = ["train", "f-logi", corpus.path, "-o", out, *QUICK, "--loop.checkpoint-every-s", 0]
    outcome = start((sys.executable, "-c", KILLED), *words)
    assert outcome.code == -signal.SIGKILL
    assert [line["step"] for line in log_lines(out)] == [4, 4, 8, 8, 12, 12]
    assert (out / "checkpoints" / "v1.safetensors").is_file()
    seen = []
    hook = register_optimizer_step_post_hook(lambda *_: seen.append(1))
    try:
        assert run(capsys, *words, "--resume").code == 0
    finally:
        hook.remove()
    assert len(seen) == STEPS - 13
    assert kept(out) == uninterrupted


def test_the_seed_decides(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for number, seed in enumerate((1, 1, 2)):
        words = "train", "s-logi", corpus.path, "-o", tmp_path / str(number), *QUICK
        assert run(capsys, *words, "--loop.seed", seed).code == 0
        found.append(kept(tmp_path / str(number))[0])
    assert found[0] == found[1] != found[2]


def test_classes_that_nobody_rated_in_v1_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_small(tmp_path / "made")
    classes = open_corpus(tmp_path / "made" / "corpus.index").classes
    more = ClassOrder.of((*classes.ids, 3000, 3001), {3000: "Zither"})
    index = index_small(tmp_path / "made", "more.index", ("train", "v1", "v2"), more).path
    for recipe, words in (("s-logi", QUICK), ("video-logistic", ("--loop.max-steps", 1))):
        code, _, err = run(capsys, "train", recipe, index, "-o", tmp_path / recipe, *words)
        assert code == 0
        note = "note: 2 of 6 classes have no rated segment in V1 to learn from, such as Zither\n"
        assert (note in err) == (recipe == "s-logi"), (
            "video classifiers learn from labels of videos"
        )
