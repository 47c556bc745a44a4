"""What a file or a folder holds, as a short text that differs where the bytes do.

A file is read once: its digest is kept with its size, its time of change and its inode, and taken
again while these are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from whenabouts.core.atomic import write_json

FRESH_S = 2.0  # so soon a file may change again and have the same time of change
ABSENT = "absent"


class Fingerprints:
    """Digests of files under `root`, kept in the file `cache`. Threads may share it."""

    def __init__(self, root: Path, cache: Path) -> None:
        self._root, self._cache, self._lock = root, cache, threading.Lock()
        self._known: dict[str, str] = _read(cache)

    def of(self, path: Path) -> str:
        """Of the bytes of a file, or of the names and bytes of all files in a folder.

        "absent" where there is nothing.
        """
        return _over_files(self._root / path, self._digest)

    def stamp(self, path: Path) -> str:
        """Of size and time of change alone."""
        return _over_files(self._root / path, lambda file: _stamp(file.stat()))

    def save(self) -> None:
        with self._lock:
            write_json(self._cache, self._known)

    def _digest(self, file: Path) -> str:
        status, path = file.stat(), str(file.absolute())
        stamp = f"{_stamp(status)} {status.st_ino} "
        with self._lock:
            known = self._known.get(path, "")
        if known.startswith(stamp):
            return known.removeprefix(stamp)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, _blake).hexdigest()
        if time.time() - status.st_mtime > FRESH_S:
            with self._lock:
                self._known[path] = stamp + digest
        return digest


def _blake() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _over_files(path: Path, digest: Callable[[Path], str]) -> str:
    if not path.is_dir():
        return digest(path) if path.exists() else ABSENT
    whole = _blake()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole.update(os.fsencode(file.relative_to(path)) + f"\0{digest(file)}\0".encode())
    return whole.hexdigest()


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns}"


def _read(cache: Path) -> dict[str, str]:
    """What was kept; nothing where the file is damaged: it only saves time."""
    try:
        kept = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_sound = isinstance(kept, dict) and all(isinstance(v, str) for v in kept.values())
    return kept if is_sound else {}
