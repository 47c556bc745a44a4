"""The process of a stage: several commands in one start, and an end with whoever started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from whenabouts import steps

STEPS = (sys.executable, "-m", "whenabouts.steps")


def start(*commands: list[str]) -> subprocess.Popen[str]:
    """The process, its standard input still open."""
    child = subprocess.Popen(
        STEPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(commands) + "\n")
    child.stdin.flush()
    return child


def told(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for its end with the input open."""
    assert child.stdout is not None
    assert child.stdin is not None
    out = child.stdout.read()
    code = child.wait(60)
    child.stdin.close()
    child.stdout.close()
    return code, out


def test_commands_run_in_order_and_are_shown(capfd):
    assert steps.run_steps([["--version"], ["evaluate", "a b", "--k", "0"], ["--version"]]) == 2
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "$ whenabouts --version"
    assert out[2:] == ["$ whenabouts evaluate 'a b' --k 0"], "the first that fails is the last"
    assert steps.run_steps([]) == 0


@pytest.mark.parametrize(
    ("words", "code"), [(["evaluate", "--kk"], 2), (["evaluate", "--help"], 0), (["x"], 2)]
)
def test_codes_of_parsers_too(words, code, capfd):
    assert steps.run_steps([words]) == code


def test_a_process_runs_them_and_ends_by_itself():
    code, out = told(start(["--version"], ["submit", "/no/such/scores"]))
    assert code == 1
    assert out.count("$ whenabouts ") == 2
    assert "whenabouts: /no/such/scores" in out


def test_it_ends_when_its_starter_has_gone(tmp_path):
    """A command that would wait for ever: it reads a fifo that nobody writes."""
    os.mkfifo(tmp_path / "fifo.csv")
    child = start(["evaluate", str(tmp_path / "fifo.csv"), "--truth", str(tmp_path / "fifo.csv")])
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline().startswith("$ whenabouts evaluate")
    time.sleep(0.1)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(60) == -signal.SIGTERM
    child.stdout.close()
