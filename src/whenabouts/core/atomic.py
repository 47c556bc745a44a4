"""Files and folders that are either whole or not there.

Everything is written under a temporary name beside its place and renamed when complete, so that a
crash, a full disk or Ctrl-C leaves the old version or nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEFTOVER = re.compile(r"\.(.+)\.(?:partial(?:-[0-9]+)?|old-[0-9]+)")  # not yet, or no more


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it takes the name `path` if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it takes the name `path` if the block ends well.

    Any folder of that name is replaced.
    """
    path = Path(path).absolute()  # "." has no name
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        replace_dir(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_dir(partial: Path, path: Path) -> None:
    """Give the complete folder `partial` the name `path`, in place of any folder there."""
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed attempts have left beside and inside `path`, which nobody writes now."""
    inside = [p for p in path.rglob(".*") if LEFTOVER.fullmatch(p.name)] if path.is_dir() else []
    for leftover in (*inside, *path.parent.glob(".*")):
        found = LEFTOVER.fullmatch(leftover.name)
        if leftover.parent == path.parent and (not found or found[1] != path.name):
            continue  # of another file, which may be about to appear
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def sync(path: Path) -> None:
    """Force the file's bytes to the disk: a rename must never outrun them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
