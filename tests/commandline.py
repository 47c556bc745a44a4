"""Run commands: in this process, in one of their own, or in several under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from whenabouts.cli import main

ALONE = (sys.executable, "-m", "whenabouts")


class Outcome(NamedTuple):
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """`whenabouts WORDS` in this process."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


def torchrun(processes: int) -> tuple[str, ...]:
    """The command before `train ...` that runs it in so many processes."""
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    return (*launch, "--nproc-per-node", str(processes), "-m", "whenabouts")


def start(command: Sequence[object], *words: object) -> Outcome:
    """The command in processes of its own, one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in (*command, *words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


# Settings of `train` that end within a second on the small corpus.
QUICK = (
    *("--loop.batch-size", "16", "--loop.max-steps", "20", "--loop.evaluate-every", "4"),
    *("--optimiser.learning-rate", "0.1"),
)
