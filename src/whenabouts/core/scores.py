"""Scores: the artefact that everything after prediction reads. A folder of four files:

    segments.parquet   video (string), start (int32, seconds): one row a segment
    classes.csv        Index, Name: one row a column of the array
    scores.npy         float32 or float16 [segments, classes], after the sigmoid; memory-mapped
    made-by.json       who made it: format version, run, corpus

Rows are in the corpus's order; ties in any ranking are broken by (video id, start), never by row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from whenabouts.core.atomic import replace_dir, sync, write_json
from whenabouts.core.classes import ClassOrder, read_classes, write_classes
from whenabouts.core.errors import ScoresError
from whenabouts.core.segments import SegmentTable

FORMAT = 1


@dataclass(frozen=True)
class Scores:
    """values: [S, C], mapped, not loaded; segments: its rows; classes: its columns."""

    path: Path
    segments: SegmentTable
    classes: ClassOrder
    values: NDArray[np.floating]
    made_by: dict[str, Any]


def open_scores(path: str | Path) -> Scores:
    """Open a Scores folder; the array stays on disk. Raises ScoresError if it is not whole."""
    path = Path(path)
    missing = [n for n in FILES if not (path / n).is_file()]
    if missing:
        raise ScoresError(
            f"{', '.join(missing)} not found",
            where=path,
            rule=f"Scores is a folder with {', '.join(FILES)}",
            remedy="make one with 'whenabouts predict'",
        )
    values = np.load(path / "scores.npy", mmap_mode="r", allow_pickle=False)
    segments, classes = (
        _read_segments(path / "segments.parquet"),
        read_classes(path / "classes.csv"),
    )
    if values.shape != (len(segments), len(classes)):
        raise ScoresError(
            f"scores.npy is {values.shape}", where=path,
            rule=f"one row a segment and one column a class: {(len(segments), len(classes))}",
        )  # fmt: skip
    return Scores(path, segments, classes, values, json.loads((path / "made-by.json").read_text()))


FILES = ("segments.parquet", "classes.csv", "scores.npy", "made-by.json")


class ScoresWriter:
    """Writes blocks of rows into a Scores folder that is not yet named; see `scores_writer`."""

    def __init__(self, partial: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.partial, self.shape, self.dtype = partial, shape, dtype
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        self._file = (partial / "scores.npy").open("r+b" if self._exists() else "w+b")
        self._file.seek(0)
        npy_format.write_array_header_1_0(self._file, header)
        self._first = self._file.tell()
        size = self._first + int(np.prod(shape)) * dtype.itemsize
        # Claims the disk space now: a full disk is an error here, not hours later.
        os.posix_fallocate(self._file.fileno(), 0, size)
        self._file.truncate(size)

    def _exists(self) -> bool:
        return (self.partial / "scores.npy").exists()

    def write(self, first_row: int, values: NDArray[np.floating]) -> None:
        """Put `values` [n, C] at rows first_row.. of the array."""
        assert values.shape[1] == self.shape[1]
        assert first_row + len(values) <= self.shape[0]
        block = np.ascontiguousarray(values, self.dtype)
        self._file.seek(self._first + first_row * self.shape[1] * self.dtype.itemsize)
        self._file.write(block.data)

    def flush(self) -> None:
        """The rows written so far are on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@contextmanager
def scores_writer(
    path: str | Path,
    segments: SegmentTable,
    classes: ClassOrder,
    made_by: dict[str, Any],
    dtype: str = "float32",
) -> Iterator[ScoresWriter]:
    """Yield a writer; the folder gets the name `path` only if the block ends well.

    After an interruption the unfinished folder stays as `.NAME.partial` for the next attempt, which
    may skip the rows it knows to be written (`predict` keeps that count beside them).
    """
    path = Path(path)
    partial = partial_path(path)
    partial.mkdir(parents=True, exist_ok=True)
    writer = ScoresWriter(partial, (len(segments), len(classes)), np.dtype(dtype))
    try:
        yield writer
        writer.flush()
    finally:
        writer.close()
    _write_segments(partial / "segments.parquet", segments)
    write_classes(partial / "classes.csv", classes)
    write_json(partial / "made-by.json", {"format": FORMAT, **made_by})
    replace_dir(partial, path)


def partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _write_segments(path: Path, segments: SegmentTable) -> None:
    ids = pa.array(segments.video_ids.tolist(), pa.binary()).cast(pa.string())
    video = pa.DictionaryArray.from_arrays(pa.array(segments.video, pa.int32()), ids)
    table = pa.table({"video": video, "start": pa.array(segments.starts_s, pa.int32())})
    pq.write_table(table, path, compression="zstd")
    sync(path)


def _read_segments(path: Path) -> SegmentTable:
    table = pq.read_table(path, read_dictionary=["video"])
    video = table["video"].unify_dictionaries().combine_chunks()
    if isinstance(video, pa.ChunkedArray):  # an empty table has no chunk to combine into
        video = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
    ids = np.array(video.dictionary.cast(pa.binary()).to_pylist(), np.bytes_)
    starts = table["start"].to_numpy().astype(np.int64)
    return SegmentTable(ids, video.indices.to_numpy().astype(np.int64), starts)
