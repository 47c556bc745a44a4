"""Parquet tables: written with a checksum a page, and checked when they are read.

A file from a stranger may hold anything: columns of another type, rows without a value, an id that
is a megabyte long (an array of ids is as wide as its longest). Whoever reads one says which columns
it needs, and gets these or a TableError, which names the column and the row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from whenabouts.core.atomic import sync

MAX_ID_BYTES = 255
MOST_NAMED = 10  # columns in a message


class TableError(ValueError):
    """What is wrong with a table; whoever reads it adds which file it is and what to do."""


def write_table(table: pa.Table, path: Path) -> None:
    """The bytes are on the disk when this returns."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    sync(path)


def read_table(path: Path, dictionaries: tuple[str, ...] = ()) -> pa.Table:
    """All of a Parquet file; `dictionaries`: columns to read as codes and what they stand for.

    Raises FileNotFoundError, and TableError where the file is damaged or no Parquet.
    """
    try:
        pq.read_metadata(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise TableError("not a Parquet file") from error
    try:
        return pq.read_table(
            path, read_dictionary=list(dictionaries), page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"it is damaged ({str(error).splitlines()[0]})") from error


def read_any(path: Path) -> pa.Table:
    """All of a table by its ending: .parquet, else CSV with a header, whose column `video` is text,
    whatever its ids look like. Raises TableError where it is none, or not there."""
    try:
        return read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except FileNotFoundError as error:
        raise TableError("no such file") from error


def _read_csv(path: Path) -> pa.Table:
    convert = pa_csv.ConvertOptions(column_types={"video": pa.string()})
    try:
        return pa_csv.read_csv(path, convert_options=convert)
    except pa.ArrowException as error:
        raise TableError(str(error).splitlines()[0]) from error


def checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, in its order and cast to its types.

    Raises TableError unless each is there once, has a value in every row (and in every place of a
    list), and these keep their meaning in the cast.
    """
    missing = sorted(set(schema.names) - set(table.column_names))
    if missing:
        there = ", ".join(map(repr, table.column_names[:MOST_NAMED]))
        raise TableError(f"no column {', '.join(missing)}; its columns are {there}")
    twice = [name for name in schema.names if table.column_names.count(name) > 1]
    if twice:
        raise TableError(f"more than one column {twice[0]}")
    return pa.table([_checked(table[field.name], field) for field in schema], schema)


def _checked(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.null_count:
        row = pc.is_null(column).to_numpy().argmax()
        raise TableError(f"row {row} has no {field.name}")
    try:
        if column.type != field.type:
            column = _cast(column, field.type)
    except pa.ArrowException as error:
        raise TableError(f"column '{field.name}': {str(error).splitlines()[0]}") from error
    if pa.types.is_list(field.type) and pc.list_flatten(column).null_count:
        raise TableError(f"a list in column '{field.name}' has a place without a value")
    return column


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type).dictionary_encode()
    return column.cast(kind)


def video_ids(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bytes_]:
    """The ids in a column of text as bytes [N].

    Raises TableError where one is missing, no UTF-8, empty, longer than MAX_ID_BYTES or has a NUL
    byte, behind which an array of bytes would not tell ids apart.
    """
    ids = column.cast(pa.binary())
    if ids.null_count:
        raise TableError(f"row {pc.is_null(ids).to_numpy(zero_copy_only=False).argmax()} has no id")
    try:
        ids.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise TableError("an id is not UTF-8") from error
    lengths = pc.binary_length(ids).to_numpy()
    wrong = (lengths < 1) | (lengths > MAX_ID_BYTES)
    if wrong.any():
        raise TableError(f"an id has {lengths[wrong][0]} bytes, not 1 to {MAX_ID_BYTES}")
    if pc.any(pc.match_substring(ids, "\0")).as_py():
        raise TableError("an id has a NUL byte")
    return np.array(ids.to_pylist(), np.bytes_)


def refuse_repeated_ids(ids: NDArray[np.bytes_]) -> None:
    """Raises TableError where an id stands twice."""
    in_order = np.sort(ids)
    same = in_order[1:] == in_order[:-1]
    if same.any():
        raise TableError(f"video '{in_order[1:][same][0].decode()}' stands twice")
