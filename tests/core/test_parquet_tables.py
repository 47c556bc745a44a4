from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whenabouts.core.tables import (
    MAX_ID_BYTES,
    TableError,
    checked,
    read_table,
    refuse_repeated_ids,
    video_ids,
    write_table,
)

SCHEMA = pa.schema({"name": pa.string(), "at": pa.int32(), "all": pa.list_(pa.int32())})
GOOD = {"name": ["a", "b"], "at": [1, 2], "all": [[1], []]}


def test_a_table_comes_back_as_written(tmp_path: Path) -> None:
    table = pa.table(GOOD, SCHEMA)
    write_table(table, tmp_path / "t")
    assert checked(read_table(tmp_path / "t"), SCHEMA) == table


def test_a_bit_that_flipped_is_found(tmp_path: Path) -> None:
    """Or it changes nothing, as in what the head of a page says besides."""
    path, table = tmp_path / "t", pa.table({"at": np.random.default_rng(0).random(1000)})
    write_table(table, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    pages = pq.read_metadata(path).row_group(0).column(0).total_compressed_size
    num_found = 0
    for at in rng.integers(4, 4 + pages, 50).tolist():
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            assert read_table(path) == table
        except TableError:
            num_found += 1
    assert num_found > 40


def test_columns_are_cast_where_that_changes_nothing() -> None:
    table = pa.table({"all": [[1.0], []], "at": [1.0, 2.0], "name": [b"a", b"b"], "more": [0, 0]})
    assert checked(table, SCHEMA) == pa.table(GOOD, SCHEMA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": [1, None]}, "row 1 has no at"),
        ({"at": [1.5, 2.0]}, "column 'at': Float value 1.5"),
        ({"at": [1, 2**31]}, "column 'at': Integer value 2147483648 not in range"),
        ({"at": ["1", "zero"]}, "column 'at': .*'zero'"),
        ({"at": [[1], [2]]}, "column 'at': Unsupported cast"),
        ({"name": [b"a", b"\xff"]}, "column 'name': Invalid UTF8"),
        ({"name": [[], []]}, "column 'name': Unsupported cast"),
        ({"all": [[1], None]}, "row 1 has no all"),
        ({"all": [[1], [None]]}, "a list in column 'all' has a place without a value"),
    ],
)
def test_what_a_column_cannot_hold(change: dict[str, list[object]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        checked(pa.table({**GOOD, **change}), SCHEMA)


def test_columns_that_are_missing_or_stand_twice() -> None:
    with pytest.raises(TableError, match=r"^no column all, at; its columns are 'name'$"):
        checked(pa.table({"name": ["a"]}), SCHEMA)
    table = pa.table(GOOD, SCHEMA)
    with pytest.raises(TableError, match=r"^more than one column at$"):
        checked(table.append_column("at", table["at"]), SCHEMA)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", None], "row 1 has no id"),
        (["a", ""], "an id has 0 bytes, not 1 to 255"),
        (["a" * 256], "an id has 256 bytes"),
        (["a\0b", "a"], "an id has a NUL byte"),
        ([b"\xff"], "an id is not UTF-8"),
    ],
)
def test_ids_that_cannot_be(ids: list[object], message: str) -> None:
    with pytest.raises(TableError, match=message):
        video_ids(pa.array(ids))


def test_ids_as_bytes() -> None:
    longest = "ö" * 127 + "x"
    assert len(longest.encode()) == MAX_ID_BYTES
    found = video_ids(pa.chunked_array([["b"], [longest, "a"]]))
    assert found.tolist() == [b"b", longest.encode(), b"a"]
    assert video_ids(pa.array([], pa.string())).tolist() == []


def test_ids_that_stand_twice() -> None:
    refuse_repeated_ids(np.array([b"b", b"a", b"c"]))
    with pytest.raises(TableError, match="video 'b' stands twice"):
        refuse_repeated_ids(np.array([b"b", b"a", b"b"]))
