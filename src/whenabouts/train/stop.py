"""Stopping between two steps when a signal asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        self.is_asked = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        if self.is_asked:  # a second Ctrl-C does not wait for the step to end
            raise KeyboardInterrupt
        self.is_asked = True


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """SIGINT and SIGTERM set a mark that the loop reads between steps."""
    stop = Stop()
    kept = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
