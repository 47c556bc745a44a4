"""`python -m whenabouts.steps`: commands, one after another, in one process that starts once.

They come as one line of JSON on standard input: a list of lists of words. It ends with the first
that fails, and with its exit code. When standard input closes before, whoever started it has gone:
it is asked to stop as by SIGTERM, upon which a training saves a checkpoint.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from collections.abc import Sequence

from whenabouts.cli import main
from whenabouts.core.ending import end_process

STANDARD_INPUT = 0


def run_steps(steps: Sequence[Sequence[str]]) -> int:
    """The exit code of the first step that fails, else 0."""
    for words in steps:
        print(f"$ whenabouts {shlex.join(words)}", flush=True)
        code = _run(words)
        if code:
            return code
    return 0


def _run(words: Sequence[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:  # of wrong use, which the parser has told
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def read_steps() -> list[list[str]]:
    """The line of JSON. Read without a buffer, so that `end_with_starter` misses nothing."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(STANDARD_INPUT, 1)
        if not byte:
            break
        line += byte
    steps: list[list[str]] = json.loads(line)
    return steps


def end_with_starter() -> None:
    """Wait until standard input closes, then ask this process to stop."""
    while os.read(STANDARD_INPUT, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    given = read_steps()
    threading.Thread(target=end_with_starter, daemon=True).start()
    end_process(run_steps(given))
