"""A shard (one TFRecord file) as an array of bytes that is mapped, not read."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RecordError


def open_shard(path: str | Path) -> NDArray[np.uint8]:
    """The file's bytes as a read-only memory map [size]; an empty file is an empty array.

    The map lives as long as the array or any view of it. Raises RecordError where `path` is not a
    readable file.
    """
    path = Path(path)
    if not path.is_file():
        fact = "is not a file" if path.exists() else "there is no such file"
        raise RecordError(fact, where=path, rule="a shard is one TFRecord file")
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return np.frombuffer(b"", np.uint8)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RecordError(f"cannot be read ({error.strerror})", where=path) from error
    return np.frombuffer(mapped, np.uint8)
