"""The submission file: its format, and a reader that holds one row at a time.

    Class,Segments
    3,0aXy:35 0aXy:40 b:0
    7,

CSV with the header `Class,Segments`; a row a class; `Segments` lists `videoid:start` tokens between
spaces, best first, start in whole seconds. A video id is any bytes but space, comma, quote and line
end; it may hold colons, as the start follows the last one. A list may be empty. The reader also
takes a byte order mark, quoted fields, repeated spaces, empty lines, lines that end in CR LF, and a
last line without an end. All else is a SubmissionError that names file, row and token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from whenabouts.core.classes import MAX_CLASS
from whenabouts.core.errors import SubmissionError
from whenabouts.core.submission_tokens import (
    TokenList,
    fault,
    first_malformed,
    first_repeat,
    split_tokens,
)

HEADER = (b"Class", b"Segments")
MAX_ROW_BYTES = 1 << 28  # a file without line ends must not fill the memory
MAX_SHOWN = 60
READ_BYTES = 4 << 20
TOKEN_RULE = "a token is videoid:start, start in whole seconds"
ROW_RULE = f"a row is a class id up to {MAX_CLASS}, a comma and tokens between spaces"


@dataclass(frozen=True)
class SubmissionRow:
    """One class's list, best first, checked: well-formed tokens, none twice."""

    line: int
    class_id: int
    tokens: TokenList


def submission_rows(path: str | Path) -> Iterator[SubmissionRow]:
    """Read a submission row by row. Raises SubmissionError at the first thing that is wrong."""
    path = Path(path)
    if not path.is_file():
        raise SubmissionError("no such file", where=path)
    line_of_class: dict[int, int] = {}
    with path.open("rb", buffering=READ_BYTES) as file:
        for line, fields in _lines(file, path):
            row = _row(line, fields, path)
            first = line_of_class.setdefault(row.class_id, line)
            if first != line:
                raise SubmissionError(
                    f"class {row.class_id} stands in line {first} and in line {line}",
                    where=path,
                    rule="a class has one row",
                )
            yield row


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """(line number, the two fields) of each line that is not empty, after the header."""
    header = file.readline(MAX_SHOWN).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if tuple(_unquoted(f) for f in header.split(b",")) != HEADER:
        raise SubmissionError(
            f"the header is {_shown(header)}", where=f"{path}, line 1", rule="it is Class,Segments"
        )
    number = 1
    while line := file.readline(MAX_ROW_BYTES):
        number += 1
        if len(line) == MAX_ROW_BYTES:
            raise SubmissionError(f"over {MAX_ROW_BYTES:,} bytes", where=f"{path}, line {number}")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if line:
            yield number, _fields(line, f"{path}, line {number}")


def _fields(line: bytes, where: str) -> tuple[bytes, bytes]:
    class_field, comma, segments = (_unquoted(part) for part in line.partition(b","))
    if not comma or b"," in segments or b'"' in segments:
        fact = "a stray quote" if b'"' in segments else f"{line.count(b',')} commas"
        raise SubmissionError(f"the row has {fact}", where=where, rule=ROW_RULE)
    return class_field, segments


def _row(line: int, fields: tuple[bytes, bytes], path: Path) -> SubmissionRow:
    class_field, segments = fields
    if not re.fullmatch(rb"[0-9]{1,10}", class_field) or int(class_field) > MAX_CLASS:
        raise SubmissionError(
            f"{_shown(class_field)} is no class id", where=f"{path}, line {line}", rule=ROW_RULE
        )
    row = SubmissionRow(line, int(class_field), split_tokens(segments))
    _check(row.tokens, f"{path}, line {line}, class {row.class_id}")
    return row


def _check(tokens: TokenList, where: str) -> None:
    at = first_malformed(tokens)
    if at is not None:
        raise SubmissionError(
            f"token {at + 1} {_shown(tokens.token(at))}: {fault(tokens.token(at))}",
            where=where,
            rule=TOKEN_RULE,
        )
    twice = first_repeat(tokens)
    if twice is not None:
        first, again = twice
        raise SubmissionError(
            f"token {again + 1} {_shown(tokens.token(again))} repeats token {first + 1}",
            where=where,
            rule="a segment stands in a list once",
        )


def _unquoted(field: bytes) -> bytes:
    quoted = len(field) >= 2 and field[:1] == field[-1:] == b'"'
    return field[1:-1] if quoted else field


def _shown(raw: bytes) -> str:
    text = raw[:MAX_SHOWN].decode(errors="replace")
    return repr(text + ("..." if len(raw) > MAX_SHOWN else ""))
