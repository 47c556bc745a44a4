"""A child for stages of tests: starts in a moment, and does what a few words say.

write FILE TEXT     cat OUT FILE ...     append FILE TEXT     fail CODE     die
sleep SECONDS       env FILE NAME        say TEXT             meet MINE THEIRS
steps FILE COUNT    count up in a file to COUNT, a step each 20 ms: goes on where it was
stubborn            ignore SIGTERM from here on
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

LAUNCHER = (sys.executable, "-S", "-E", __file__)


def write(file: str, text: str) -> None:
    Path(file).write_text(text)


def append(file: str, text: str) -> None:
    with Path(file).open("a") as out:
        out.write(text)


def cat(out: str, *files: str) -> None:
    Path(out).write_text("".join(Path(file).read_text() for file in files))


def meet(mine: str, theirs: str) -> None:
    """Ends only where both run at once."""
    Path(mine).touch()
    until_s = time.monotonic() + 20
    while not Path(theirs).exists():
        if time.monotonic() > until_s:
            sys.exit(4)
        time.sleep(0.005)


def steps(file: str, count: str) -> None:
    path = Path(file)
    at = int(path.read_text()) if path.exists() else 0
    for step in range(at, int(count)):
        time.sleep(0.02)
        path.with_suffix(".new").write_text(str(step + 1))
        path.with_suffix(".new").rename(path)


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


VERBS: dict[str, Callable[..., object]] = {
    "write": write,
    "append": append,
    "cat": cat,
    "fail": lambda code: sys.exit(int(code)),
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "env": lambda file, name: write(file, os.environ.get(name, "")),
    "say": lambda text: print(text, flush=True),
    "meet": meet,
    "steps": steps,
    "stubborn": stubborn,
}

if __name__ == "__main__":
    for verb, *words in json.loads(sys.stdin.readline()):
        VERBS[verb](*words)
