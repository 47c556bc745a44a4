"""`whenabouts reproduce`: a reduced system from index to submission, stopped, killed, looked at."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commandline import ALONE, run
from commandline import start as call_alone
from whenabouts.commands import reproduce as command
from whenabouts.commands.arguments import parse
from whenabouts.commands.reproduce import Reproduce
from whenabouts.commands.submit import submit
from whenabouts.core.list_length import OF_CHALLENGE
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.recipes import best
from whenabouts.reproduce.request import Request, write_request
from whenabouts.workflow.lock import locked

# One logistic model, the video classifier, and what is made of them.
REDUCED = ("train.video-logistic", "train.s-logi", "v2.video-logistic", "v2.s-logi", "v2.E2",
           "v2.E2-fused", "tables", "submit.v2")  # fmt: skip
STATUS = ("--status", "--json")
# What tells the time, or how often one tried.
VARYING = ("logs", "stages", "running.lock", "run.json", "metrics.jsonl", "checkpoints")


def start(corpus: Corpus, out: Path, *words: str) -> subprocess.Popen[bytes]:
    """The reduced system in a process of its own."""
    common = ("reproduce", "--data", str(corpus.path), "-o", str(out), "--scale", "tiny")
    return subprocess.Popen(
        [*ALONE, *common, "--jobs", "2", "--only", *REDUCED, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def files(out: Path) -> dict[str, bytes]:
    """Everything that must be the same each time."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not set(path.relative_to(out).parts) & set(VARYING)
    }


@pytest.fixture(scope="module")
def done(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reduced system, run without a stop."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    call = start(corpus, out, "--json")
    told, _ = call.communicate(timeout=200)
    assert call.returncode == 0, (out / "logs").exists() and _logs(out)
    assert json.loads(told)["stages"] == dict.fromkeys(REDUCED, "done")
    return out


def _logs(out: Path) -> str:
    return "\n".join(path.read_text() for path in (out / "logs").iterdir())


def test_from_the_index_to_the_submission(done):
    scores = open_scores(done / "scores" / "v2" / "E2")
    alone = open_scores(done / "scores" / "v2" / "s-logi")
    np.testing.assert_array_equal(scores.values, alone.values)
    assert scores.made_by["members"][0]["scores"] == "scores/v2/s-logi"
    assert "v2" not in scores.made_by["trained_on"]
    found = json.loads((done / "tables.json").read_text())
    assert found["best_single"] == "s-logi"
    assert found["ensembles"][1]["mean"] == found["models"][3]["mean"]
    assert len(found["ensembles"][1]["missing"]) == 11
    assert found["chosen"] == "E2-fused"
    assert "| s-logi | S-Logi |" in (done / "tables.md").read_text()
    assert (done / "submissions" / "v2.csv").read_text().startswith("Class,Segments\n")
    assert "note: E2 lacks" in (done / "logs" / "tables.log").read_text()
    assert {path.name for path in (done / "logs").iterdir()} == {f"{n}.log" for n in REDUCED}


def test_again_there_is_nothing_to_do(done, capsys):
    before = files(done)
    code, out, err = run(capsys, "reproduce", "-o", done, "--only", *REDUCED)
    assert (code, err) == (0, "")
    assert out.startswith(f"{done}: 0 stages done, 8 were up to date\n")
    assert f"tables:      {done / 'tables.md'}\n" in out
    assert files(done) == before


def test_killed_at_random_points_it_ends_with_the_same_files(corpus: Corpus, done, tmp_path):
    draw, out = random.Random(1), tmp_path / "out"
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        call = start(corpus, out)
        time.sleep(draw.uniform(1.5, 6.0))
        call.send_signal(number)
        call.communicate(timeout=100)
    call = start(corpus, out)
    call.communicate(timeout=200)
    assert call.returncode == 0, _logs(out)
    expected, found = files(done), files(out)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """To be changed."""
    return Path(shutil.copytree(done, tmp_path / "copied"))


def test_the_folder_may_be_moved(copied, capsys):
    told = json.loads(run(capsys, "reproduce", "-o", copied, *STATUS, "--only", *REDUCED).out)
    assert {stage["name"]: stage["standing"] for stage in told["stages"]} == dict.fromkeys(
        REDUCED, "done"
    )


def test_an_ensemble_of_some_is_to_do_where_all_are_asked_for(done, capsys):
    told = json.loads(run(capsys, "reproduce", "-o", done, *STATUS).out)["stages"]
    stages = {stage["name"]: (stage["standing"], stage["why"]) for stage in told}
    assert stages["v2.s-logi"] == ("done", "")
    assert stages["v2.E2"] == ("to do", "v2.att2-1 runs before it")


def test_status(done, capsys):
    code, out, _ = run(capsys, "reproduce", "-o", done, "--status", "--only", *REDUCED, "*.nl-1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["train.video-logistic", "done"]
    assert any(line.split() == ["train.nl-1", "to", "do", "not", "done", "yet"] for line in lines)
    assert "stages are done" in lines[-1]


def test_dry_run_tells_what_would_run_and_why(copied, capsys):
    (copied / "scores" / "v2" / "s-logi" / "classes.csv").write_text("Index,Name\n")
    before = files(copied)
    code, out, _ = run(capsys, "reproduce", "-o", copied, "--dry-run", "--only", *REDUCED)
    assert code == 0
    told = {line.split()[0]: line.split("B  ")[-1] for line in out.splitlines()[:-1]}
    assert told["v2.E2"] == "input scores/v2/s-logi changed"
    assert told["v2.E2-fused"] == "v2.E2 runs before it"
    assert "train.s-logi" not in told
    assert " of 8 stages would run: about " in out.splitlines()[-1]
    assert files(copied) == before


def test_from_a_stage_on(copied, capsys):
    words = ("--dry-run", "--only", *REDUCED, "--from", "v2.E2-*", "--json")
    told = json.loads(run(capsys, "reproduce", "-o", copied, *words).out)["stages"]
    whys = {stage["name"]: stage["why"] for stage in told if stage["why"]}
    assert whys["v2.E2-fused"] == "asked for anew"
    assert whys.keys() == {"v2.E2-fused", "tables", "submit.v2"}


def test_another_scale_trains_anew(copied, capsys):
    words = ("--dry-run", "--only", "train.s-logi", "--scale", "small", "--json")
    (stage,) = json.loads(run(capsys, "reproduce", "-o", copied, *words).out)["stages"]
    assert stage["why"] == "settings changed"
    assert json.loads((copied / "reproduce.json").read_text())["scale"] == "tiny"


def test_a_stage_that_fails_is_told_with_the_end_of_its_log(copied, capsys):
    path = copied / "runs" / "s-logi" / "v1.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    code, out, err = run(capsys, "reproduce", "-o", copied, "--only", *REDUCED)
    assert (code, out) == (1, "")
    assert "v2.s-logi failed: exit code 1\n" in err
    assert "    $ whenabouts predict runs/s-logi " in err
    assert "v2.s-logi" in err.splitlines()[-1]
    assert "the same call tries again, and goes on" in err.splitlines()[-1]


def test_tables_alone(copied, capsys):
    (copied / "tables.json").unlink()
    code, out, err = run(capsys, "reproduce", "-o", copied, "--tables")
    assert code == 0
    assert out.startswith("mAP on V2 of this corpus (`--scale tiny`)")
    assert "note: E2 lacks att2-1, " in err
    assert (copied / "tables.json").is_file()


# ---- our preset ----------------------------------------------------------------------------------

# What is made of Scores; no model is trained.
OURS = ("v2.best-mean", "v2.best-refined", "test.best-mean", "test.best-refined", "tables",
        "submit.test", "report")  # fmt: skip
AVERAGED = tuple(member.name for member in best.members("tiny"))[:2]


@pytest.fixture(scope="module")
def averaged(corpus: Corpus, done: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our preset from the Scores of two models on; those of the test split are the same ones."""
    out = tmp_path_factory.mktemp("ours") / "out"
    for known, name in enumerate(AVERAGED):
        shutil.copytree(done / "numbers" / "s-logi", out / "numbers" / name)
        for target in ("v2", "test"):
            scores = out / "scores" / target / name
            shutil.copytree(done / "scores" / "v2" / "s-logi", scores)
            _forget(scores / "scores.npy", columns=slice(1 - known, None, 2))
    request = Request(str(corpus.path.absolute()), "tiny", presets=("best",))
    write_request(out, request)
    call = call_alone(ALONE, "reproduce", "-o", out, "--only", *OURS)
    assert call.code == 0, (out / "logs").exists() and _logs(out)
    return out


def _forget(path: Path, columns: slice) -> None:
    """Scores of a model that knows nothing of these classes."""
    values = np.load(path)
    values[:, columns] = np.random.default_rng(0).uniform(0.4, 0.6, values[:, columns].shape)
    np.save(path, values)


def test_our_preset_from_scores_to_submissions(averaged):
    chosen = open_scores(averaged / "scores" / "v2" / "best-mean").made_by
    assert chosen["ensemble"] == {"kind": "geometric"}
    assert [m["scores"] for m in chosen["members"]] == [f"scores/v2/{name}" for name in AVERAGED]
    found = json.loads((averaged / "tables.json").read_text())
    mean, refined = found["best"]["steps"]
    missing = sorted(m.name for m in best.members("tiny") if m.name not in AVERAGED)
    assert found["best"]["missing"] == missing
    assert mean["settings"]["weights"] == pytest.approx(
        {Path(m["scores"]).name: m["weight"] for m in chosen["members"]}
    )
    assert min(mean["settings"]["weights"].values()) > 0, "each knows what the other does not"
    assert (found["chosen"], found["best_single"]) == ("best-refined", AVERAGED[0])
    assert refined["mean"] >= mean["mean"]
    assert "## Our preset" in (averaged / "tables.md").read_text()
    assert f"note: best-mean lacks {', '.join(missing)}" in _logs(averaged)
    assert "our preset, refined" in (averaged / "report.html").read_text()


def test_a_target_is_averaged_and_refined_as_v2(averaged):
    """The test split has V2's Scores here, and so gets V2's result."""
    for name in ("best-mean", "best-refined"):
        v2, test = (open_scores(averaged / "scores" / t / name) for t in ("v2", "test"))
        np.testing.assert_allclose(test.values, v2.values, rtol=1e-6)
    submit(test, averaged / "by-hand.csv", OF_CHALLENGE)
    assert (averaged / "submissions" / "test.csv").read_bytes() == (
        averaged / "by-hand.csv"
    ).read_bytes(), "it is of the last step"


def test_lists_that_are_cut(averaged, corpus, tmp_path, capsys):
    """The same Scores, lists of a tenth: what is chosen, evaluated and submitted is so long."""
    out = Path(shutil.copytree(averaged, tmp_path / "cut"))
    for name in AVERAGED:
        scores, told = out / "scores" / "v2" / name, ("--out", out / "numbers" / name)
        assert run(capsys, "evaluate", scores, corpus.path, "--k", "10%", *told).code == 0
    only = ("--only", *OURS, "v2.best-listed", "test.best-listed")
    assert call_alone(ALONE, "reproduce", "-o", out, "--k", "10%", *only).code == 0, _logs(out)
    found = json.loads((out / "tables.json").read_text())
    refined, listed = found["best"]["steps"][1:]
    k = round(len(open_scores(out / "scores" / "v2" / "best-listed").segments) / 10)
    assert (found["measure"], listed["settings"]["entries"]) == ("mAP@10% on V2", k)
    assert found["chosen"] == max((listed, refined), key=lambda step: step["mean"])["name"]
    for name in ("best-mean", "best-refined", "best-listed"):
        told = json.loads((out / "numbers" / name / "evaluation.json").read_text())["segments"]
        assert told["k"] == k
        assert told["num_found"] < told["num_positives"]
    submitted = (out / "submissions" / "test.csv").read_text().splitlines()[1:]
    assert {len(row.split(",")[1].split()) for row in submitted} == {k}
    assert f"mAP@{k}" in (out / "report.html").read_text()
    for name in AVERAGED:  # and back
        shutil.copytree(averaged / "numbers" / name, out / "numbers" / name, dirs_exist_ok=True)
    only = ("--only", "v2.best-mean", "v2.best-refined", "tables")
    assert call_alone(ALONE, "reproduce", "-o", out, "--k", "100000", *only).code == 0, _logs(out)
    assert (out / "tables.md").read_text() == (averaged / "tables.md").read_text()


def test_tables_are_of_the_presets_that_were_asked_for(averaged, tmp_path, capsys):
    out = Path(shutil.copytree(averaged, tmp_path / "copied"))
    shutil.copytree(out / "numbers" / AVERAGED[0], out / "numbers" / "E1-fused")
    asked = ((), ("--preset", "published"))
    told = [json.loads(run(capsys, "reproduce", "-o", out, "--tables", "--json", *words).out)
            for words in asked]  # fmt: skip
    assert [found["chosen"] for found in told] == ["best-refined", "E1-fused"]


# ---- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing was reproduced here yet; pass --data"),
        (("--dry-run", "--status"), "--dry-run, --status are given; a call shows one thing"),
        (("--jobs", "-1"), "--jobs is -1; it is 0 or more"),
        (("--data", "INDEX", "--only", "train.nl"), "no stage 'train.nl'; did you mean 'train.nl-"),
        (("--data", "INDEX", "--from", "E9"), "no stage 'E9'"),
        (("--data", "INDEX", "--seeds", "0"), "--seeds is 0; it is 1 to 100"),
        (("--data", "INDEX", "--preset", "best", "--only", "v2.E1"), "no stage 'v2.E1'"),
        (("--data", "INDEX", "--only", "v2.best-mean"), "no stage 'v2.best-mean'"),
        (("--data", "INDEX", "--preset", "worst"), "worst"),
    ],
)
def test_wrong_use(words, message, corpus: Corpus, tmp_path, capsys):
    given = [str(corpus.path) if word == "INDEX" else word for word in words]
    code, out, err = run(capsys, "reproduce", "-o", tmp_path / "new", *given)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "new").exists()


def test_data_that_is_not_there(tmp_path, capsys):
    words = ("-o", tmp_path / "new", "--data", tmp_path / "gone.index")
    code, _, err = run(capsys, "reproduce", *words)
    assert code == 1
    assert "gone.index" in err
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_things_is_left_alone(corpus: Corpus, tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    code, _, err = run(capsys, "reproduce", "-o", tmp_path, "--data", corpus.path)
    assert code == 2
    assert "stages replace what lies where they write; choose a new folder" in err
    assert os.listdir(tmp_path) == ["thesis.tex"]  # noqa: PTH208 - the names alone


def test_a_call_that_is_refused_leaves_what_the_folder_is_for(copied, capsys):
    before = (copied / "reproduce.json").read_bytes()
    with locked(copied):
        code, _, err = run(capsys, "reproduce", "-o", copied, "--scale", "paper", "--seeds", "3")
    assert code == 1
    assert "another call is at work here" in err
    assert (copied / "reproduce.json").read_bytes() == before


# ---- where stages run ----------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight cores, no GPU."""
    monkeypatch.setattr(command, "default_processes", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_each_job_has_its_share_of_the_cores(machine):
    assert command._environments(0) == ({"OMP_NUM_THREADS": "2"},) * 4
    assert command._environments(1) == ({"OMP_NUM_THREADS": "8"},)
    assert command._environments(16) == ({"OMP_NUM_THREADS": "1"},) * 16
    machine.setenv("OMP_NUM_THREADS", "3")
    assert command._environments(2) == ({"OMP_NUM_THREADS": "3"},) * 2


def test_each_job_has_a_gpu_where_there_are_any(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    gpus = [job["CUDA_VISIBLE_DEVICES"] for job in command._environments(0)]
    assert gpus == ["2", "5"]
    gpus = [job["CUDA_VISIBLE_DEVICES"] for job in command._environments(3)]
    assert gpus == ["2", "5", "2"]


def test_what_an_earlier_call_was_told_holds(corpus: Corpus, tmp_path):
    words = ("-o", str(tmp_path), "--seeds", "2", "--final", "--predict", "a.index", "b.index")
    more = ("--scale", "paper", "--device", "cpu", "--precision", "bfloat16", "--preset", "best")
    more += ("--k", "4.85%")
    first = _asked(*words, "--data", str(corpus.path), *more)
    here = Path.cwd()
    further = (f"{here}/a.index", f"{here}/b.index")
    assert first == Request(
        str(corpus.path), "paper", further, 2, final=True, device="cpu", precision="bfloat16",
        presets=("best",), k="4.85%",
    )  # fmt: skip
    write_request(tmp_path, first)
    assert _asked("-o", str(tmp_path)) == first
    assert _asked("-o", str(tmp_path), "--seeds", "3") == replace(first, seeds=3)
    assert _asked("-o", str(tmp_path), "--no-final") == replace(first, final=False)
    both = _asked("-o", str(tmp_path), "--preset", "published", "best")
    assert both == replace(first, presets=("published", "best"))
    assert _asked("-o", str(tmp_path), "--precision", "auto") == replace(first, precision="auto")
    assert _asked("-o", str(tmp_path), "--k", "100000") == replace(first, k="100000")
    assert _asked("-o", str(tmp_path / "new"), "--data", "x") == Request(f"{here}/x")
    assert Request("x").presets == ("published",)


def _asked(*words: str) -> Request:
    args = parse(Reproduce, "reproduce", words)
    return command._request(args, args.out.absolute(), words)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")],
)
def test_times(seconds, told):
    assert command._time(seconds) == told
