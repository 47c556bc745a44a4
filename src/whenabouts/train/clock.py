"""The clock of a phase of training."""

from __future__ import annotations

import time


class Clock:
    """Seconds of training over all sittings, and when the next checkpoint is due."""

    def __init__(self, step: int, before_s: float, checkpoint_every_s: float) -> None:
        """step, before_s: how many steps earlier sittings made, and how long they took."""
        self._before_s, self._every_s = before_s, checkpoint_every_s
        self._began_s = self._saved_s = time.monotonic()
        self._rated = (step, self._began_s)

    @property
    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._began_s

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved_s >= self._every_s

    def saved(self) -> None:
        self._saved_s = time.monotonic()

    def rate(self, step: int) -> float:
        """Steps a second since the last call."""
        now_s = time.monotonic()
        (last_step, last_s), self._rated = self._rated, (step, now_s)
        return (step - last_step) / max(now_s - last_s, 1e-9)
