"""An .npy file that is written by blocks of rows, in any order and by several processes.

It has its full size from the start, and a later attempt opens it with the rows it holds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray


class ArrayFile:
    """shape: of the whole array, rows first. `claim` comes before the first row."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        # Not "w+b": another process may have begun to write.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(self._file, header)
        self._first = self._file.tell()

    def claim(self) -> None:
        """Take the disk space now: a full disk is an error here, not hours later."""
        size = self._first + self.shape[0] * self._row_bytes
        self._file.flush()
        os.posix_fallocate(self._file.fileno(), 0, size)
        self._file.truncate(size)

    def write(self, first_row: int, values: NDArray[np.floating]) -> None:
        """Put `values` at rows first_row.. of the array."""
        assert values.shape[1:] == self.shape[1:]
        assert first_row + len(values) <= self.shape[0]
        self._file.seek(self._first + first_row * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def mapped(self) -> NDArray[Any]:
        """The array as it is now, for reading."""
        self._file.flush()
        array: NDArray[Any] = npy_format.open_memmap(self.path, mode="r")
        return array

    def flush(self) -> None:
        """The rows written so far are on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
