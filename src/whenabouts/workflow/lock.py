"""One call at a time works in a folder.

The lock is of an open file (flock), and children inherit it: it is held until the call and all it
has started are gone, also where the call was killed and a training of it is still saving.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whenabouts.core.errors import StageError
from whenabouts.core.lock import try_lock
from whenabouts.core.progress import say

NAME = "running.lock"
PATIENCE_S = 120.0
LOOK_EVERY_S = 0.2


@contextmanager
def locked(root: Path, patience_s: float = PATIENCE_S) -> Iterator[int]:
    """Hold the lock of the folder; yields its descriptor, for children.

    Waits for what a call that is gone has left running. Raises StageError where another call is at
    work.
    """
    with (root / NAME).open("a+", encoding="utf-8") as file:
        _acquire(root, file.fileno(), patience_s)
        os.truncate(file.fileno(), 0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def is_locked(root: Path) -> bool:
    """Whether a call, or what one has left running, is at work in the folder."""
    try:
        with (root / NAME).open("rb") as file:
            return not try_lock(file.fileno())
    except FileNotFoundError:
        return False


def _acquire(root: Path, descriptor: int, patience_s: float) -> None:
    until_s, is_told = time.monotonic() + patience_s, False
    while not try_lock(descriptor):
        if _holder_lives(root) or time.monotonic() > until_s:
            raise StageError(
                "another call is at work here", where=root, remedy="wait for it, or stop it"
            )
        if not is_told:
            say(f"{root}: waiting for what an earlier call has left running")
            is_told = True
        time.sleep(LOOK_EVERY_S)


def _holder_lives(root: Path) -> bool:
    """Whether the call that wrote its number last is still there."""
    with suppress(ValueError, ProcessLookupError):
        os.kill(int((root / NAME).read_text(encoding="utf-8")), 0)
        return True
    return False
