"""The processes that run stages: a child a stage, its output in a log of its own.

The commands go to a child as one line of JSON on its standard input, which then stays open: when it
closes, whoever started the child has gone, and the child is to end (see `whenabouts.steps`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from whenabouts.workflow.stage import Commands


class Children:
    """Starts children and stops them all. `run` may be called in several threads at once."""

    def __init__(self, launcher: Sequence[str], root: Path, kept_open: Sequence[int] = ()) -> None:
        """kept_open: descriptors that a child holds as long as it lives."""
        self._launcher, self._root, self._kept_open = tuple(launcher), root, tuple(kept_open)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self.is_stopping = threading.Lock(), False

    def run(self, commands: Commands, log: Path, environment: Mapping[str, str]) -> int:
        """Run the commands in a child; returns its exit code, below 0 for a signal.

        After `stop` none is started, and the code is that of SIGTERM.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            with self._lock:
                if self.is_stopping:
                    return -signal.SIGTERM
                child = self._start(output.fileno(), environment)
                self._running.add(child)
            try:
                return self._feed_and_wait(child, commands)
            finally:
                with self._lock:
                    self._running.discard(child)

    def _start(self, output: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._launcher,
            cwd=self._root,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=self._kept_open,
            start_new_session=True,  # Ctrl-C is for the one that stops them in order
        )

    def _feed_and_wait(self, child: subprocess.Popen[bytes], commands: Commands) -> int:
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it ended before it read: its code says why
            child.stdin.write(json.dumps(commands).encode() + b"\n")
            child.stdin.flush()
        code = child.wait()
        with suppress(BrokenPipeError):
            child.stdin.close()
        return code

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all children and to what they have started; start no more."""
        with self._lock:
            self.is_stopping = True
            for child in self._running:
                if child.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, number)


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log; no line where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - (64 << 10)))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[-count:]
