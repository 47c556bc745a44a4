"""TFRecord framing: where the records of a shard lie, with both checksums verified.

    uint64 length | uint32 masked crc of the length | payload | uint32 masked crc of the payload

all little-endian, records one after another, nothing before, between or behind them (TensorFlow,
`tensorflow/core/lib/io/record_writer.h`). What is damaged is reported and stepped over, so that
one bad record costs one record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.records.crc import masked_crc, masked_crc_of_lengths
from whenabouts.records.shards import open_shard

__all__ = ["BadSpan", "Span", "open_shard", "scan_records"]

HEADER = 12
FRAMING = 16  # header and payload checksum

_HEADER, _U32 = struct.Struct("<QI"), struct.Struct("<I")
_EMPTY_RECORD = masked_crc(bytes(8))
_FIRST_WINDOW, _LAST_WINDOW = 1 << 10, 1 << 18


@dataclass(frozen=True, slots=True)
class Span:
    """A whole record: its payload is `buffer[offset : offset + length]`."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BadSpan:
    """Bytes that hold no readable record: `length` bytes from the first framing byte `offset`."""

    offset: int
    length: int
    reason: str


def scan_records(buffer: NDArray[np.uint8]) -> Iterator[Span | BadSpan]:
    """Every record of a shard, in order; the spans cover `buffer` without gap or overlap.

    A payload whose checksum is wrong is left out and the walk goes on behind it. Where the length
    itself cannot be trusted (its checksum is wrong, or it points past the end), the bytes up to the
    next header with a right checksum are left out as one BadSpan. Time is linear in the size.
    """
    view, position, size = buffer.data, 0, len(buffer)
    while position < size:
        length, reason = _read_length(view, position)
        if reason:
            found = _find_header(buffer, position + 1)
            yield BadSpan(position, found - position, reason)
            position = found
            continue
        start = position + HEADER
        stop = start + length
        if masked_crc(buffer[start:stop]) == _U32.unpack_from(view, stop)[0]:
            yield Span(start, length)
        else:
            yield BadSpan(position, FRAMING + length, "the checksum of the payload is wrong")
        position = stop + 4


def _read_length(view: memoryview, position: int) -> tuple[int, str]:
    """The payload length of the record at `position`, and why it is not to be trusted, if so."""
    left = len(view) - position
    if left < FRAMING:
        return 0, f"the file ends within a record's framing: {left} bytes of {FRAMING}"
    header = bytes(view[position : position + HEADER])
    length, checksum = _HEADER.unpack(header)
    if masked_crc(header[:8]) != checksum:
        return 0, "the checksum of the length is wrong"
    if length > left - FRAMING:
        return 0, f"the file ends within a record: {left - FRAMING} bytes of a payload of {length}"
    return length, ""


def _find_header(buffer: NDArray[np.uint8], start: int) -> int:
    """The first offset >= `start` of a plausible header; the size of the buffer if there is none.

    The windows grow, so that a header near by is found at little cost and a far one at full speed.
    """
    last = len(buffer) - FRAMING
    window = _FIRST_WINDOW
    while start <= last:
        stop = min(start + window, last + 1)
        found = _headers_within(buffer, start, stop)
        if len(found):
            return int(found[0])
        start, window = stop, min(window * 4, _LAST_WINDOW)
    return len(buffer)


def _headers_within(buffer: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.int64]:
    """Offsets in [start, stop) of headers with a right checksum whose record fits the buffer."""
    # The numbers that stand at every offset, aligned or not.
    lengths = np.ndarray((stop - start,), "<u8", buffer, start, (1,)).copy()
    stored = np.ndarray((stop - start,), "<u4", buffer, start + 8, (1,)).copy()
    room = len(buffer) - FRAMING - np.arange(start, stop)
    # In a run of zero bytes every offset says "length 0": settle those without the tables.
    plausible = (lengths != 0) | (stored == _EMPTY_RECORD)
    rows = np.flatnonzero(plausible & (lengths <= room.astype(np.uint64)))
    right = masked_crc_of_lengths(lengths[rows]) == stored[rows]
    return start + np.compress(right, rows)
