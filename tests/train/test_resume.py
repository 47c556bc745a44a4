"""A run that was killed and goes on ends with the same bytes as one that never stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from toy_work import BATCH, CrashError, Toy, crash_at, log_lines, scripted, signal_at, toy_evaluate
from whenabouts.core.errors import InterruptedRunError
from whenabouts.train.settings import Loop

STEPS = 9
LOOP = Loop(batch_size=BATCH, max_steps=STEPS, evaluate_every=2, patience=100, checkpoint_every_s=3)


def result(run: Path) -> tuple[bytes, bytes, list[dict]]:
    """Weights, what a checkpoint keeps, and the log, without the time of day in any of them."""
    checkpoint = (run / "checkpoints" / "v1.safetensors").read_bytes()
    tensors = checkpoint[int.from_bytes(checkpoint[:8], "little") :]
    return (run / "v1.safetensors").read_bytes(), tensors, log_lines(run, without_times=True)


@pytest.fixture
def never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple:
    position = Toy(tmp_path / "whole", LOOP).fit(monkeypatch)
    return position, result(tmp_path / "whole")


def go_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple:
    """A new process as far as it can be told: another model, any random state."""
    toy = Toy(run, LOOP)
    torch.manual_seed(12345)
    nn.init.constant_(toy.model[0].weight, 3.0)
    position = toy.fit(monkeypatch)
    return position, result(run)


def assert_equal(found: tuple, expected: tuple) -> None:
    assert found[1][2] == expected[1][2]
    assert found[1][:2] == expected[1][:2]
    assert replace(found[0], log_position=0, elapsed_s=0) == replace(
        expected[0], log_position=0, elapsed_s=0
    )


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_before_any_step(
    step: int, never_stopped: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are at steps 0, 3 and 6: steps are run again, lines are logged again."""
    run = tmp_path / "run"
    with pytest.raises(CrashError):
        Toy(run, LOOP, hook=crash_at(step)).fit(monkeypatch)
    assert_equal(go_on(run, monkeypatch), never_stopped)


def test_killed_three_times(
    never_stopped: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for step in (2, 5, 8):
        torch.manual_seed(step)
        with pytest.raises(CrashError):
            Toy(run, LOOP, hook=crash_at(step)).fit(monkeypatch)
    assert_equal(go_on(run, monkeypatch), never_stopped)


def test_killed_in_a_look_before_the_first_checkpoint(
    never_stopped: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The train line of the step is on the disk, its evaluation is not."""

    def fail(model: nn.Module) -> float:
        raise CrashError

    run = tmp_path / "run"
    with pytest.raises(CrashError):
        Toy(run, LOOP, evaluate=fail).fit(monkeypatch)
    assert len(log_lines(run)) == 1
    assert_equal(go_on(run, monkeypatch), never_stopped)


@pytest.mark.parametrize("step", range(STEPS))
def test_stopped_by_a_signal(
    step: int, never_stopped: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(InterruptedRunError):
        Toy(run, LOOP, hook=signal_at(step, signal.SIGINT)).fit(monkeypatch)
    assert_equal(go_on(run, monkeypatch), never_stopped)


@pytest.mark.parametrize("every_s", [0, 1, 5, 1e9])
def test_how_often_it_saves_never_changes_the_result(
    every_s: float, never_stopped: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tmp_path / "run", replace(LOOP, checkpoint_every_s=every_s))
    assert_equal((toy.fit(monkeypatch), result(toy.run)), never_stopped)


def test_patience_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 at step 2, then worse ones; killed after two of them; two more and it is over."""
    loop = replace(LOOP, max_steps=100, patience=4, checkpoint_every_s=0)
    toy = Toy(tmp_path, loop, evaluate=scripted([0.5, 0.4, 0.3]), hook=crash_at(6))
    with pytest.raises(CrashError):
        toy.fit(monkeypatch)
    position = Toy(tmp_path, loop, evaluate=scripted([0.2, 0.1, 0.9])).fit(monkeypatch)
    assert (position.step, position.best_step, position.is_done) == (10, 2, True)
    assert position.history == (0.5, 0.4, 0.3, 0.2, 0.1)


# ---- a second phase behind the first -------------------------------------------------------------

Evaluate = Callable[[nn.Module], float]


def two_phases(
    run: Path, monkeypatch: pytest.MonkeyPatch, hook: Callable[[int], object] = lambda step: None
) -> tuple:
    """A search, then a final phase; the hook is that of the final phase."""
    Toy(run, LOOP, evaluate=toy_evaluate).fit(monkeypatch)
    final = Toy(run, LOOP, evaluate=None, phase="final", trained_on=("v1", "v2"), hook=hook)
    final.fit(monkeypatch)
    return (run / "final.safetensors").read_bytes(), *result(run)


@pytest.mark.parametrize("step", [0, 2, 5, 8])
def test_killed_in_the_final_phase(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is done: going through it again must leave the log of the final phase alone."""
    expected = two_phases(tmp_path / "whole", monkeypatch)
    run = tmp_path / "run"
    with pytest.raises(CrashError):
        two_phases(run, monkeypatch, crash_at(step))
    assert two_phases(run, monkeypatch) == expected
    assert b"\0" not in (run / "metrics.jsonl").read_bytes()
    assert [line["phase"] for line in log_lines(run)] == ["v1"] * 10 + ["final"] * 5


def test_a_done_run_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = two_phases(tmp_path, monkeypatch)
    log = (tmp_path / "metrics.jsonl").read_bytes()
    assert two_phases(tmp_path, monkeypatch, crash_at(0)) == expected
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
