"""`whenabouts search`: runs, the best of them, interrupted and begun again, refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commandline import QUICK, run
from whenabouts.cli import main
from whenabouts.commands import search as search_module
from whenabouts.commands.search import Job
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.metrics.segment_map import evaluate_pairs
from whenabouts.search import study as study_module
from whenabouts.search.study import Trial

Capture = pytest.CaptureFixture[str]
SPACE = (
    *("--space", "optimiser.learning-rate=0.001:0.2:log"),
    *("--space", "strategy.negatives.outside=0:0.5"),
)


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle of a trial."""


def searched(capsys: Capture, corpus: Corpus, out: Path, *words: object) -> dict[str, Any]:
    command = ("search", "s-logi", corpus.path, "-o", out, *QUICK, *SPACE, "--json")
    code, told, err = run(capsys, *command, *words)
    assert code == 0, err
    return json.loads(told)


def recipe_of(run_path: Path) -> dict[str, Any]:
    return json.loads((run_path / "recipe.json").read_text())["recipe"]


@pytest.fixture(scope="module")
def done(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A search of three trials, never written to, and what it told."""
    out = tmp_path_factory.mktemp("search") / "done"
    words = ("search", "s-logi", corpus.path, "-o", out, *QUICK, *SPACE, "--trials", 3)
    assert main([str(word) for word in words]) == 0
    return out, json.loads((out / "search.json").read_text())


def test_another_seed_draws_other_settings(
    done: tuple[Path, dict[str, Any]], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    searched(capsys, corpus, tmp_path / "other", "--trials", 2, "--seed", 1)
    one, other = (recipe_of(out / "trials" / "1") for out in (done[0], tmp_path / "other"))
    assert one["optimiser"]["learning_rate"] != other["optimiser"]["learning_rate"]


def test_a_search(done: tuple[Path, dict[str, Any]]) -> None:
    out, told = done
    assert told["trials"] == {"complete": 3, "pruned": 0, "failed": 0}
    runs = [out / "trials" / str(number) for number in range(3)]
    values = [json.loads((path / "run.json").read_text())["best_v2_map"] for path in runs]
    best = told["best"]
    assert (best["trial"], best["value"]) == (int(np.argmax(values)), max(values))
    assert best["run"] == f"trials/{best['trial']}"
    for number, path in enumerate(runs):
        recipe = recipe_of(path)
        assert recipe["loop"]["max_steps"] == 20
        if number == best["trial"]:
            assert (
                recipe["optimiser"]["learning_rate"] == best["settings"]["optimiser.learning_rate"]
            )
            outside = best["settings"]["strategy.negatives.outside"]
            assert recipe["strategy"]["negatives"]["outside"] == outside
    assert recipe_of(runs[0])["optimiser"]["learning_rate"] == 0.1  # of QUICK: the recipe itself
    files = {path.name for path in out.iterdir()}
    assert {"trials.csv", "trials.md", "search.png", "search.html", "plan.json"} <= files


def test_halves_by_definition(
    done: tuple[Path, dict[str, Any]], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """From what `predict` gives for each trial."""
    out, told = done
    labels, aps = corpus.rated(corpus.rows(["v2"])), []
    for number in range(3):
        words = (
            out / "trials" / str(number),
            corpus.path,
            "-o",
            tmp_path / "scores",
            "--splits",
            "v2",
        )
        assert run(capsys, "predict", *words).code == 0
        scores = open_scores(tmp_path / "scores")
        rows = scores.segments.rows_of(labels.video, labels.start_s)
        values = np.asarray(scores.values)[rows, scores.classes.columns(labels.class_id)]
        aps.append([
            evaluate_pairs(labels.take(half), values[half], corpus.classes).mean_ap
            for half in (first_half(labels.video), ~first_half(labels.video))
        ])  # fmt: skip
    chosen = np.argmax(aps, axis=0).tolist()
    assert told["across_halves"]["chosen"] == chosen
    estimate = (aps[chosen[0]][1] + aps[chosen[1]][0]) / 2
    assert told["across_halves"]["value"] == pytest.approx(estimate)
    assert told["first"]["across_halves"] == pytest.approx(np.mean(aps[0]))


def test_stopped_and_begun_again_it_ends_the_same(
    done: tuple[Path, dict[str, Any]], corpus: Corpus, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole, told = done
    parts, report = tmp_path / "parts", Trial.report

    def stop_in_trial_1(self: Trial, phase: str, step: int, value: float) -> None:
        report(self, phase, step, value)
        if (self.number, step) == (1, 12):
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "report", stop_in_trial_1)
        with pytest.raises(StoppedError):
            searched(capsys, corpus, parts, "--trials", 3)
    assert not (parts / "trials/1/run.json").exists()
    again = searched(capsys, corpus, parts, "--trials", 3)
    assert again == told
    for number in range(3):
        weights = f"trials/{number}/v1.safetensors"
        assert (parts / weights).read_bytes() == (whole / weights).read_bytes()
    looks = [line.split(",")[5] for line in (parts / "trials.csv").read_text().splitlines()[1:]]
    assert looks == ["5", "5", "5"]


def test_more_trials_then_the_retraining(
    done: tuple[Path, dict[str, Any]], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "more"
    shutil.copytree(done[0], out)
    told = searched(capsys, corpus, out, "--trials", 4, "--final")
    assert told["trials"]["complete"] == 4
    best = out / told["best"]["run"]
    assert told["final"] == {"run": told["best"]["run"], "trained_on": ["v1", "v2"]}
    assert (best / "final.safetensors").exists()
    assert [p.parent.name for p in out.glob("trials/*/final.safetensors")] == [best.name]
    steps = json.loads((best / "run.json").read_text())["best_step"]
    lines = [json.loads(line) for line in (best / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines if line["phase"] == "final") == 2 * steps


def test_pruned_trials(
    corpus: Corpus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STARTUP_TRIALS", "MIN_AT_STEP", "MIN_LOOKS"):
        monkeypatch.setattr(study_module, name, 1)
    told = searched(capsys, corpus, tmp_path / "s", "--trials", 6)
    assert told["trials"]["pruned"] > 0
    assert sum(told["trials"].values()) == 6
    pruned = [line.split(",") for line in (tmp_path / "s/trials.csv").read_text().splitlines()]
    numbers = [words[0] for words in pruned if words[1] == "pruned"]
    assert not any((tmp_path / "s/trials" / number / "run.json").exists() for number in numbers)
    told = searched(capsys, corpus, tmp_path / "n", "--trials", 4, "--no-prune")
    assert told["trials"] == {"complete": 4, "pruned": 0, "failed": 0}


def test_a_trial_that_fails_does_not_end_the_search(
    corpus: Corpus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = search_module.train

    def no_memory(args: Any, *more: Any) -> dict[str, object]:
        if args.out.name == failing:
            raise torch.OutOfMemoryError("no memory for so wide a model")
        return train(args, *more)

    monkeypatch.setattr(search_module, "train", no_memory)
    failing = "1"
    told = searched(capsys, corpus, tmp_path / "a", "--trials", 3)
    assert told["trials"] == {"complete": 2, "pruned": 0, "failed": 1}
    assert "no memory for so wide a model" in (tmp_path / "a/trials.csv").read_text()
    failing = "0"  # the first of all: something is wrong with every trial
    with pytest.raises(torch.OutOfMemoryError):
        searched(capsys, corpus, tmp_path / "b", "--trials", 3)


def test_several_jobs_share_the_trials(
    corpus: Corpus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one after another; test_study.py has trials given out to two processes at once."""
    done: list[int] = []

    def in_turn(work: Callable[[Job], int], jobs: list[Job], processes: int) -> Iterator[Any]:
        assert processes == len(jobs) == 2
        for number, job in enumerate(jobs):
            sent = pickle.loads(
                pickle.dumps(replace(job, args=replace(job.args, trials=number + 1)))
            )
            done.append(work(sent))
        yield from ()

    monkeypatch.setattr(search_module, "map_unordered", in_turn)
    threads = torch.get_num_threads()
    told = searched(capsys, corpus, tmp_path / "s", "--trials", 2, "--jobs", 2)
    torch.set_num_threads(threads)
    assert done == [1, 1]
    assert told["trials"]["complete"] == 2


def test_no_trial_begins_when_the_time_is_up(
    corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    told = searched(capsys, corpus, tmp_path / "s", "--trials", 4, "--seconds", 0)
    assert (sum(told["trials"].values()), told["best"]) == (0, None)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--trials", 0), 2, "--trials is 0; at least one"),
        (("--jobs", 0), 2, "--jobs is 0"),
        (("--space", "optimiser.lerning_rate=1:2"), 2, "did you mean 'optimiser.learning_rate'?"),
        (("--seed", 5), 1, "another seed was searched here"),
        (("--space", "loop.seed=1,2"), 1, "another space was searched here"),
        (("--loop.patience", 3), 1, "another settings was searched here"),
    ],
)
def test_refusals(
    words: tuple[object, ...], code: int, told: str, done: tuple[Path, dict[str, Any]],
    corpus: Corpus, capsys: Capture,
) -> None:  # fmt: skip
    command = ("search", "s-logi", corpus.path, "-o", done[0], *QUICK, *SPACE)
    found = run(capsys, *command, *words)
    assert found.code == code
    assert told in found.err


@pytest.mark.parametrize("plan", ["{", "[]"])
def test_a_damaged_plan(plan: str, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "plan.json").write_text(plan)
    found = run(capsys, "search", "s-logi", corpus.path, "-o", tmp_path, *QUICK, *SPACE)
    assert found.code == 1
    assert f"{tmp_path}/plan.json: not " in found.err


def test_a_search_is_not_made_in_a_run(trained: Path, corpus: Corpus, capsys: Capture) -> None:
    found = run(capsys, "search", "s-logi", corpus.path, "-o", trained, *QUICK, *SPACE)
    assert found.code == 2
    assert f"{trained}: a run is here, in recipe.json; choose another --out" in found.err


def test_words_for_people(
    done: tuple[Path, dict[str, Any]], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(done[0], tmp_path / "s")
    command = ("search", "s-logi", corpus.path, "-o", tmp_path / "s", *QUICK, *SPACE)
    code, out, err = run(capsys, *command, "--trials", 4)
    assert code == 0
    assert out.startswith("trial  V2 mAP")
    assert "its value flatters it" in out
    assert "trial 3: optimiser.learning_rate" in err
    assert "trial 2:" not in err


def test_help(capsys: Capture) -> None:
    code, out, _ = run(capsys, "search", "--help")
    assert code == 0
    assert "usage: whenabouts search RECIPE" in out
    assert run(capsys, "search").code == 2
    assert "no recipe 's-lgi'; did you mean 's-logi'?" in run(capsys, "search", "s-lgi", "x").err
    _, out, _ = run(capsys, "search", "s-logi", "--help")
    assert "--space" in out
    assert "--optimiser.learning-rate FLOAT" in out
