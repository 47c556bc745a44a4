"""One process at a time works in a folder.

The lock is of the folder itself (flock): nothing lies in it that a crash could leave behind, and it
is gone with the process that holds it. Where the file system has no such locks, there are none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whenabouts.core.errors import WhenaboutsError


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder, without waiting; False where somebody else holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class FolderLock:
    """Held from the start until `release`."""

    def __init__(self, folder: Path, error: type[WhenaboutsError]) -> None:
        """Raises `error` where another process works in the folder, which must be there."""
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # some network file systems know no locks of folders
            if try_lock(self._descriptor):
                return
            self.release()
            raise error(
                "another process is at work here",
                where=folder,
                remedy="wait for it, stop it, or choose another --out",
            )

    def release(self) -> None:
        """May be called more than once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def alone_in(folder: Path, error: type[WhenaboutsError]) -> Iterator[None]:
    lock = FolderLock(folder, error)
    try:
        yield
    finally:
        lock.release()
