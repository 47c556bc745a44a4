"""Scores: the artefact that everything after prediction reads. A folder of four files:

    segments.parquet   video (string), start (int32, seconds): one row a segment
    classes.csv        Index, Name: one row a column of the array
    scores.npy         float32 or float16 [segments, classes], after the sigmoid; memory-mapped
    made-by.json       who made it: format version, run, corpus

and, where attention was kept, two more, of the same rows:

    frame-attention.npy     float16 [segments, T frames of a segment]; NaN where there is no frame
    segment-attention.npy   float16 [segments]

Both are class-agnostic and in [0, 1], as the model gave them: the attention of a frame among those
of its segment, of a segment among those of its video. A file each, so that each has plain rows.

Rows are in the corpus's order; ties in any ranking are broken by (video id, start), never by row.
"""

from __future__ import annotations

import json
import shutil
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from whenabouts.core.array_file import ArrayFile
from whenabouts.core.atomic import replace_dir, write_json
from whenabouts.core.classes import ClassOrder, read_classes, write_classes
from whenabouts.core.errors import ScoresError
from whenabouts.core.lock import FolderLock
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.core.tables import (
    TableError,
    checked,
    read_table,
    refuse_repeated_ids,
    video_ids,
    write_table,
)

FORMAT = 1
FILES = ("segments.parquet", "classes.csv", "scores.npy", "made-by.json")
ATTENTION_FILES = ("frame-attention.npy", "segment-attention.npy")
ATTENTION_TYPE = "float16"
SEGMENTS = pa.schema({"video": pa.dictionary(pa.int32(), pa.string()), "start": pa.int32()})
# What numpy raises for headers that are none, end early, or tell of more than there can be.
NOT_AN_ARRAY = (ValueError, TypeError, SyntaxError, EOFError, OverflowError, tokenize.TokenError)


@dataclass(frozen=True)
class Attention:
    """frames: [S, T], NaN where a segment has no such frame; segments: [S]. Mapped, not loaded."""

    frames: NDArray[np.float16]
    segments: NDArray[np.float16]


@dataclass(frozen=True)
class Scores:
    """values: [S, C], mapped, not loaded; segments: its rows; classes: its columns.

    attention: None where it was not kept.
    """

    path: Path
    segments: SegmentTable
    classes: ClassOrder
    values: NDArray[np.floating]
    made_by: dict[str, Any]
    attention: Attention | None = None

    def refuse_whole_videos(self, rule: str, remedy: str = "") -> None:
        """Raise ScoresError unless each row is a segment."""
        if (self.segments.starts_s < 0).any():
            raise ScoresError("scores of whole videos", where=self.path, rule=rule, remedy=remedy)


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
    segments, made_by = _read_segments(path), _read_made_by(path)
    classes = read_classes(path / "classes.csv")
    values = _open_array(path, "scores.npy", "scores", "float32", "float16")
    if values.shape != (len(segments), len(classes)):
        raise ScoresError(
            f"scores.npy is {values.shape}", where=path,
            rule=f"one row a segment and one column a class: {(len(segments), len(classes))}",
        )  # fmt: skip
    return Scores(path, segments, classes, values, made_by, _open_attention(path, len(segments)))


def _open_attention(path: Path, num_segments: int) -> Attention | None:
    there = [name for name in ATTENTION_FILES if (path / name).is_file()]
    if not there:
        return None
    if len(there) < len(ATTENTION_FILES):
        raise ScoresError(
            f"{there[0]} is alone", where=path,
            rule=f"attention is {' and '.join(ATTENTION_FILES)}",
            remedy="make both with 'whenabouts predict --attention', or remove it",
        )  # fmt: skip
    frames, segments = (_open_array(path, name, "attention", ATTENTION_TYPE) for name in there)
    if frames.ndim != 2 or len(frames) != num_segments or not frames.shape[1]:
        raise ScoresError(
            f"{there[0]} is {frames.shape}", where=path,
            rule=f"one row a segment and one column a frame of it: ({num_segments}, T)",
        )  # fmt: skip
    if segments.shape != (num_segments,):
        fact = f"{there[1]} is {segments.shape}"
        raise ScoresError(fact, where=path, rule=f"one value a segment: ({num_segments},)")
    return Attention(frames, segments)


def _open_array(path: Path, name: str, what: str, *types: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = npy_format.open_memmap(path / name, mode="r")
    except NOT_AN_ARRAY as error:
        raise _damaged(path, name, error) from error
    if array.dtype not in types:
        rule = f"{what} {'is' if len(types) == 1 else 'are'} {' or '.join(types)}"
        raise ScoresError(f"{name} is {array.dtype}", where=path, rule=rule)
    return array


def _damaged(path: Path, name: str, fact: object) -> ScoresError:
    return ScoresError(f"a file is damaged ({name}: {fact})", where=path)


class ScoresWriter:
    """Writes blocks of rows in any order; the folder gets its name when `commit` is called.

    Until then it is `.NAME.partial`, and stays so after an interruption for the next attempt, which
    may skip the rows it knows to be written. Several processes of one call may write to one folder:
    each makes a writer, the main one first, and flushes; then the main one commits. Calls may not:
    the main writer holds the folder alone.
    """

    def __init__(
        self,
        path: str | Path,
        segments: SegmentTable,
        classes: ClassOrder,
        dtype: str = "float32",
        attention_frames: int | None = None,
        *,
        is_main: bool = True,
        anew: bool = False,
    ) -> None:
        """attention_frames: T, where attention is kept too; anew: forget what another left behind.

        Raises ScoresError where there is something else, or where another call is at work.
        """
        self.path, self.segments, self.classes = Path(path), segments, classes
        _refuse_other_content(self.path)
        self.partial = partial_path(self.path)
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.partial, ScoresError) if is_main else None
        if anew:
            for left in self.partial.iterdir():
                left.unlink()
        shapes: dict[str, tuple[tuple[int, ...], str]]
        shapes = {"scores.npy": ((len(segments), len(classes)), dtype)}
        if attention_frames is not None:
            frames, of_segments = ATTENTION_FILES
            shapes[frames] = (len(segments), attention_frames), ATTENTION_TYPE
            shapes[of_segments] = (len(segments),), ATTENTION_TYPE
        self._arrays: dict[str, ArrayFile] = {}
        try:
            for name, (shape, kind) in shapes.items():
                self._arrays[name] = ArrayFile(self.partial / name, shape, kind)
                self._arrays[name].claim()
        except OSError:
            self.discard()
            raise

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the scores."""
        return self._arrays["scores.npy"].dtype

    def write(self, first_row: int, values: NDArray[np.floating]) -> None:
        """Put `values` [n, C] at rows first_row.. of the scores."""
        self._arrays["scores.npy"].write(first_row, values)

    def read_back(self) -> NDArray[np.floating]:
        """The scores [S, C] written so far, mapped; they need not be on the disk."""
        return self._arrays["scores.npy"].mapped()

    def write_frame_attention(self, first_row: int, attention: NDArray[np.floating]) -> None:
        """Put `attention` [n, T] at rows first_row..; NaN where there is no frame."""
        self._arrays[ATTENTION_FILES[0]].write(first_row, attention)

    def write_segment_attention(self, first_row: int, attention: NDArray[np.floating]) -> None:
        """Put `attention` [n] at rows first_row.."""
        self._arrays[ATTENTION_FILES[1]].write(first_row, attention)

    def flush(self) -> None:
        """The rows written so far are on the disk when this returns."""
        for array in self._arrays.values():
            array.flush()

    def commit(self, made_by: dict[str, Any]) -> None:
        """All rows are written: complete the folder and give it its name."""
        self.flush()
        for array in self._arrays.values():
            array.close()
        _write_segments(self.partial / "segments.parquet", self.segments)
        write_classes(self.partial / "classes.csv", self.classes)
        write_json(self.partial / "made-by.json", {"format": FORMAT, **made_by})
        for extra in self.partial.iterdir():
            if extra.name not in {*FILES, *self._arrays}:
                extra.unlink()
        replace_dir(self.partial, self.path)
        self.close()

    def close(self) -> None:
        for array in self._arrays.values():
            array.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        for array in self._arrays.values():
            with suppress(OSError):  # what waits to be written has no room on a full disk
                array.close()
        shutil.rmtree(self.partial, ignore_errors=True)
        self._release()


@contextmanager
def new_scores(
    path: Path, segments: SegmentTable, classes: ClassOrder, dtype: str = "float32"
) -> Iterator[ScoresWriter]:
    """A writer for one attempt: begins anew, and leaves nothing if the block fails."""
    # What another command left half done must not meet its own notes about it again.
    writer = ScoresWriter(path, segments, classes, dtype, anew=True)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise


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
    write_table(pa.table([video, pa.array(segments.starts_s, pa.int32())], SEGMENTS), path)


def _read_segments(path: Path) -> SegmentTable:
    name = "segments.parquet"
    try:
        table = checked(read_table(path / name, dictionaries=("video",)), SEGMENTS)
        video = table["video"].unify_dictionaries().combine_chunks()
        if isinstance(video, pa.ChunkedArray):  # an empty table has no chunk to combine into
            return SegmentTable(np.zeros(0, np.bytes_), *np.zeros((2, 0), np.int64))
        ids = video_ids(video.dictionary)
        refuse_repeated_ids(ids)
        starts = table["start"].to_numpy().astype(np.int64)
        if (starts < WHOLE_VIDEO).any():
            raise TableError(f"row {(starts < WHOLE_VIDEO).argmax()} starts at {starts.min()} s")
    except TableError as error:
        raise _damaged(path, name, error) from error
    return SegmentTable(ids, video.indices.to_numpy().astype(np.int64), starts)


def _read_made_by(path: Path) -> dict[str, Any]:
    """What says whose the Scores are. It may hold anything, but for what is relied on."""
    name = "made-by.json"
    try:
        found = json.loads((path / name).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, name, error) from error
    if not isinstance(found, dict) or found.get("format", FORMAT) != FORMAT:
        raise ScoresError(
            f"{name} is of another format", where=path, rule=f"an object with format {FORMAT}"
        )
    splits = found.get("trained_on", [])
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise ScoresError(
            f"{name} says trained_on {splits!r}", where=path, rule="it is a list of splits"
        )
    return found
