"""Progress of long work: a live bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from rich import console as rich_console
    from rich import progress as rich_progress
except ImportError:  # the GPU images of some clusters lack it; plain lines serve as well
    rich_progress = None  # type: ignore[assignment]

LOG_EVERY_S = 10.0


class Progress:
    """Counts `total` units of work; `unit` "B" is shown as KB, MB, GB."""

    def __init__(self, what: str, total: float, unit: str, every_s: float = LOG_EVERY_S) -> None:
        self.what, self.total, self.unit, self._every_s = what, max(total, 1e-9), unit, every_s
        self.done, self.note = 0.0, ""
        self.began_s = self._logged_s = time.monotonic()

    def advance(self, amount: float, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        self._show()

    def line(self) -> str:
        elapsed_s = max(time.monotonic() - self.began_s, 1e-9)
        rate = self.done / elapsed_s
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate else "time left unknown"
        amount = f"{human(self.done, self.unit)} of {human(self.total, self.unit)}"
        head = f"{self.what}: {amount} ({self.done / self.total:.0%})"
        return ", ".join(p for p in (head, f"{human(rate, self.unit)}/s", left, self.note) if p)

    def _show(self) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_s >= self._every_s:
            self._logged_s = now_s
            say(self.line())


class _LiveProgress(Progress):
    def __init__(self, what: str, total: float, unit: str, bar: Any) -> None:
        super().__init__(what, total, unit)
        self._bar, self._task = bar, bar.add_task(what, total=self.total, line="")

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.done, line=self.line())


@contextmanager
def progress(what: str, total: float, unit: str = "") -> Iterator[Progress]:
    """Show the progress of the block on standard error."""
    if rich_progress is None or not sys.stderr.isatty():
        yield Progress(what, total, unit)
        return
    columns = (rich_progress.BarColumn(), rich_progress.TextColumn("{task.fields[line]}"))
    console = rich_console.Console(stderr=True)
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        yield _LiveProgress(what, total, unit, bar)


def say(line: str) -> None:
    """One plain line for people, on standard error (standard output is for results)."""
    print(line, file=sys.stderr, flush=True)


def human(amount: float, unit: str) -> str:
    """1234567 B -> '1.2 MB'; 1234567 videos -> '1,234,567 videos'."""
    if unit != "B":
        return f"{amount:,.0f} {unit}".strip()
    for prefix in ("", "k", "M", "G", "T"):
        if amount < 1000 or prefix == "T":
            return f"{amount:.1f} {prefix}B" if prefix else f"{amount:.0f} B"
        amount /= 1000
    raise AssertionError("unreachable")
