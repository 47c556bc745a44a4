"""Signals and crashes: what runs is stopped in order, and the next call ends where one would."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from workflow_call import COUNTERS, kill, made, start_call, wait_for

STEPS = 10
WHOLE = {**dict.fromkeys(COUNTERS, str(STEPS)), "all": 3 * str(STEPS)}


def finish(root: Path, steps: int = STEPS) -> str:
    """The call, left alone; what it told."""
    out, err = start_call(root, steps=steps).communicate(timeout=60)
    assert "failed" not in out + err
    return err


def state_of(root: Path, name: str) -> str:
    state: str = json.loads((root / "stages" / f"{name}.json").read_text())["state"]
    return state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_children_and_the_same_call_goes_on(tmp_path, number):
    call = start_call(tmp_path, steps=500)
    for name in ("a", "b"):
        wait_for(tmp_path / name)
    assert set(kill_softly(call, number).values()) == {"interrupted"}
    at = int((tmp_path / "a").read_text())
    assert 0 < at < 500
    assert state_of(tmp_path, "a") == state_of(tmp_path, "b") == "running"
    time.sleep(0.1)
    assert int((tmp_path / "a").read_text()) == at, "no child has been left behind"


def kill_softly(call: subprocess.Popen[str], number: int) -> dict[str, str]:
    """How each stage ended."""
    call.send_signal(number)
    out, err = call.communicate(timeout=60)
    assert "stopping: what runs saves what it can" in err
    ended: dict[str, str] = json.loads(out.replace("'", '"'))
    return ended


def test_after_a_signal_nothing_begins(tmp_path):
    call = start_call(tmp_path, jobs=1, steps=500)
    wait_for(tmp_path / "a")
    ended = kill_softly(call, signal.SIGTERM)
    assert ended["a"] == "interrupted"
    assert set(ended.values()) == {"interrupted"}
    assert not (tmp_path / "b").exists()


def test_what_was_interrupted_goes_on_where_it_was(tmp_path):
    call = start_call(tmp_path, steps=STEPS)
    wait_for(tmp_path / "a", "3")
    kill_softly(call, signal.SIGTERM)
    told = finish(tmp_path)
    assert "a begins (it was interrupted)" in told
    assert made(tmp_path) == WHOLE


def test_a_second_signal_ends_at_once(tmp_path):
    call = start_call(tmp_path, steps=100_000)
    for name in ("a", "b"):
        wait_for(tmp_path / name)
    call.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert call.poll() is None, "the children do not heed it"
    call.send_signal(signal.SIGINT)
    out, _ = call.communicate(timeout=60)
    assert "'a': 'interrupted'" in out


def test_a_killed_call_is_waited_for(tmp_path):
    """Its children go on until they are done; two of a kind never run at once."""
    call = start_call(tmp_path, steps=60)
    for name in ("a", "b"):
        wait_for(tmp_path / name)
    kill(call)
    told = finish(tmp_path, steps=60)
    assert "waiting for what an earlier call has left running" in told
    assert made(tmp_path)["all"] == "60" * 3


def test_killed_at_random_points_it_ends_with_the_same_files(tmp_path):
    draw = random.Random(0)
    for _ in range(6):
        call = start_call(tmp_path)
        time.sleep(draw.uniform(0.05, 0.6))
        kill(call, draw.choice([signal.SIGKILL, signal.SIGTERM]))
    finish(tmp_path)
    assert made(tmp_path) == WHOLE
    assert {state_of(tmp_path, name) for name in WHOLE} == {"done"}
    assert "begins" not in finish(tmp_path)
