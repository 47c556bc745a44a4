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
import shutil
from contextlib import suppress
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
    try:
        values = npy_format.open_memmap(path / "scores.npy", mode="r")
        segments = _read_segments(path / "segments.parquet")
        made_by = json.loads((path / "made-by.json").read_text(encoding="utf-8"))
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise ScoresError(f"a file is damaged ({error})", where=path) from error
    classes = read_classes(path / "classes.csv")
    if values.dtype not in (np.float16, np.float32):
        raise ScoresError(
            f"scores.npy is {values.dtype}", where=path, rule="scores are float32 or float16"
        )
    if values.shape != (len(segments), len(classes)):
        raise ScoresError(
            f"scores.npy is {values.shape}", where=path,
            rule=f"one row a segment and one column a class: {(len(segments), len(classes))}",
        )  # fmt: skip
    return Scores(path, segments, classes, values, made_by)


FILES = ("segments.parquet", "classes.csv", "scores.npy", "made-by.json")


class ScoresWriter:
    """Writes blocks of rows in any order; the folder gets its name when `commit` is called.

    Until then it is `.NAME.partial`, and stays so after an interruption for the next attempt, which
    may skip the rows it knows to be written. Several processes may write to one folder: each makes
    a writer and flushes; then one commits.
    """

    def __init__(
        self, path: str | Path, segments: SegmentTable, classes: ClassOrder, dtype: str = "float32"
    ) -> None:
        self.path, self.segments, self.classes = Path(path), segments, classes
        _refuse_other_content(self.path)
        self.partial = partial_path(self.path)
        self.partial.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        self._row_bytes = len(classes) * self._dtype.itemsize
        # Not "w+b": another process may have begun to write.
        self._file = os.fdopen(os.open(self.partial / "scores.npy", os.O_RDWR | os.O_CREAT), "r+b")
        shape = (len(segments), len(classes))
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(self._file, header)
        self._first = self._file.tell()
        self._claim(self._first + len(segments) * self._row_bytes)

    def _claim(self, size: int) -> None:
        """Take the disk space now: a full disk is an error here, not hours later."""
        try:
            self._file.flush()
            os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError:
            self.discard()
            raise
        self._file.truncate(size)

    def write(self, first_row: int, values: NDArray[np.floating]) -> None:
        """Put `values` [n, C] at rows first_row.. of the array."""
        assert values.shape[1] == len(self.classes)
        assert first_row + len(values) <= len(self.segments)
        self._file.seek(self._first + first_row * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def flush(self) -> None:
        """The rows written so far are on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def commit(self, made_by: dict[str, Any]) -> None:
        """All rows are written: complete the folder and give it its name."""
        self.flush()
        self.close()
        _write_segments(self.partial / "segments.parquet", self.segments)
        write_classes(self.partial / "classes.csv", self.classes)
        write_json(self.partial / "made-by.json", {"format": FORMAT, **made_by})
        for extra in self.partial.iterdir():
            if extra.name not in FILES:
                extra.unlink()
        replace_dir(self.partial, self.path)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with suppress(OSError):  # what waits to be written has no room on a full disk
            self.close()
        shutil.rmtree(self.partial, ignore_errors=True)


def _refuse_other_content(path: Path) -> None:
    """Scores replace Scores, never anything else that happens to lie at `path`."""
    if path.exists() and not (path / "made-by.json").is_file():
        raise ScoresError(
            "something else than Scores is here", where=path, remedy="choose another --out"
        )


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
