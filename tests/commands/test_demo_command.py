"""`whenabouts demo`: the main job from nothing to a page, and what it leaves."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from commandline import run
from whenabouts.cli import COMMANDS
from whenabouts.commands import demo


def quick_steps(args: demo.Demo) -> list[list[str]]:
    """The steps of the demo, with trainings of a few steps."""
    few = ["--loop.max-steps", "4", "--loop.evaluate-every", "2", "--loop.batch-size", "64"]
    return [words + few if words[0] == "train" else words for words in STEPS(args)]


STEPS = demo.steps


def test_it_runs_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "steps", quick_steps)
    code, told, _ = run(capsys, "demo", "-o", "my demo", "--num-train", 2, "--num-validate", 12)
    assert code == 0
    lines = told.splitlines()
    assert lines[-3:] == [
        "numbers:    my demo/numbers/evaluation.json",
        "submission: my demo/submission.csv",
        "report:     my demo/report.html",
    ]
    for line in lines[-3:]:
        assert (tmp_path / line[12:]).is_file()
    assert "on made data: no result of YouTube-8M." in lines[-4]
    numbers = json.loads((tmp_path / "my demo" / "numbers" / "evaluation.json").read_text())
    assert 0 < numbers["segments"]["mean_ap"] <= 1
    assert f"mAP@100000: {numbers['segments']['mean_ap']:.4f}" in told
    assert (
        f"{numbers['segments']['mean_ap']:.3f}"
        in (tmp_path / "my demo" / "report.html").read_text()
    )

    shown = [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]
    args = demo.Demo(Path("my demo"), num_train=2, num_validate=12)
    assert shown == [["whenabouts", *words] for words in quick_steps(args)]
    counts = [line for line in lines if "videos (train 2, v1 6, v2 6, test 0)" in line]
    assert len(counts) == 1


def test_its_steps_are_commands_anyone_can_type() -> None:
    args = demo.Demo(Path("a b"), num_train=7, num_validate=8, seed=9)
    steps = demo.steps(args)
    assert {words[0] for words in steps} <= set(COMMANDS)
    names = ["make-corpus", "index", "train", "train", "predict", "submit", "report", "evaluate"]
    assert [words[0] for words in steps] == names
    made = shlex.join(steps[0])
    assert made == ("make-corpus 'a b/corpus' --seed 9 --num-train 7 --num-validate 8 --num-test 0")
    for words in steps:
        if words[0] == "train":
            assert words[-4:] == ["--loop.seed", "9", "--loop.patience", "8"]


def test_something_is_there_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    code, told, err = run(capsys, "demo", "-o", tmp_path / "mine")
    assert (code, told) == (2, "")
    assert "mine: it is there already; remove it, or pass --out" in err
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_step_that_fails_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "steps", lambda args: [["submit", str(tmp_path / "gone")], ["x"]])
    code, told, err = run(capsys, "demo", "-o", tmp_path / "it")
    assert code == 1
    assert "Done" not in told
    assert "make one with 'whenabouts predict'" in err
