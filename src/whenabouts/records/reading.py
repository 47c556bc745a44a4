"""All records of a file, one after another: the simple way to read a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RecordError
from whenabouts.records.examples import (
    ContextValue,
    SequenceExample,
    parse_example,
    parse_sequence_example,
)
from whenabouts.records.framing import BadSpan, scan_records
from whenabouts.records.shards import open_shard

_Parsed = TypeVar("_Parsed")


def read_sequence_examples(path: str | Path) -> Iterator[SequenceExample]:
    """Every SequenceExample of a file; `frames_of(open_shard(path), frame_list)` are its frames.

    Raises RecordError (file, byte offset, field) at the first record that cannot be read.
    """
    return _read(path, parse_sequence_example)


def read_examples(path: str | Path) -> Iterator[dict[str, ContextValue]]:
    """The features of every Example of a file, by name.

    Raises RecordError (file, byte offset, field) at the first record that cannot be read.
    """
    return _read(path, parse_example)


def _read(
    path: str | Path, parse: Callable[[NDArray[np.uint8], int, int], _Parsed]
) -> Iterator[_Parsed]:
    buffer = open_shard(path)
    for span in scan_records(buffer):
        if isinstance(span, BadSpan):
            raise RecordError(
                span.reason,
                where=f"{path}, byte {span.offset}",
                remedy="fetch the file again, or index it: the index leaves out what is damaged",
            )
        try:
            yield parse(buffer, span.offset, span.length)
        except RecordError as error:
            where = f"{path}, record at byte {span.offset}, {error.where}"
            raise RecordError(error.fact, where=where, rule=error.rule) from error
