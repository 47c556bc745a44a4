"""The end of a process: alone as usual, in a team at once and with all that it said."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from whenabouts.core.ending import end_process
atexit.register(print, "interpreter ended")
print("said", end="")
print("warned", end="", file=sys.stderr)
end_process(3)
"""


@pytest.mark.parametrize(("size", "out"), [("1", "saidinterpreter ended\n"), ("2", "said")])
def test_code_and_streams(size: str, out: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**others, "WORLD_SIZE": size},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, out, "warned")
