"""The protobuf wire format: the fields of one message, bounds-checked, nothing interpreted.

A message is a row of fields; a field is a *tag* (number << 3 | wire type, a varint) and a value:

    wire type 0  varint: up to 10 bytes of 7 bits, the lowest first
              1  8 bytes
              2  a length (varint) and that many bytes: strings, messages, packed numbers
              5  4 bytes

Wire types 3 and 4 (groups) are refused: neither Example nor SequenceExample has them. Source:
"Encoding" in the Protocol Buffers documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RecordError

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

MAX_VARINT_BYTES = 10
_UINT64 = 0xFFFF_FFFF_FFFF_FFFF
_MAX_TAG = 0xFFFF_FFFF
_SHORT_LIST = 64


def walk_fields(
    view: memoryview, start: int, end: int, path: str
) -> Iterator[tuple[int, int, int]]:
    """(tag, start of the value, end of the value) of every field of the message in [start, end).

    The value of a length-delimited field is what follows its length; of a varint, its own bytes.
    `path` names the message in errors. Raises RecordError where a field does not lie within the
    message or cannot be a field.
    """
    position = start
    while position < end:
        tag_at = position
        tag = view[position]
        position += 1
        if tag >= 0x80:
            tag, position = read_varint(view, tag_at, end, path)
        if tag & 7 == LENGTH_DELIMITED:
            # read_varint, but for the usual case of one byte without the price of a call
            if position < end and (length := view[position]) < 0x80:
                position += 1
            else:
                length, position = read_varint(view, position, end, path)
        else:
            length = _fixed_length(view, position, end, tag, path)
        stop = position + length
        if stop > end:
            raise wire_error(f"a field of {length} bytes runs past its message", tag_at, path)
        if not 8 <= tag <= _MAX_TAG:
            raise wire_error(f"there is no field number {tag >> 3}", tag_at, path)
        yield tag, position, stop
        position = stop


def read_varint(view: memoryview, position: int, end: int, path: str) -> tuple[int, int]:
    """The unsigned 64-bit varint at `position`, and the position behind it."""
    if position < end and view[position] < 0x80:
        return view[position], position + 1
    value = 0
    for k, byte in enumerate(view[position : min(end, position + MAX_VARINT_BYTES)]):
        value |= (byte & 0x7F) << 7 * k
        if byte < 0x80:
            return value & _UINT64, position + k + 1
    if end - position < MAX_VARINT_BYTES:
        raise wire_error("a varint runs past its message", position, path)
    raise _overlong(f"byte {position}, {path}")


def decode_varints(octets: bytes, path: str) -> NDArray[np.int64]:
    """The signed 64-bit values of varints laid end to end (a packed list)."""
    if octets.isascii():  # every varint is one byte
        return np.frombuffer(octets, np.uint8).astype(np.int64)
    if octets[-1] >= 0x80:
        raise RecordError("the last varint of a packed list is cut", where=path)
    if len(octets) > _SHORT_LIST:
        return _decode_many(np.frombuffer(octets, np.uint8), path)
    values, value, shift = [], 0, 0
    for byte in octets:
        if byte < 0x80:
            values.append((value | byte << shift) & _UINT64)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift == 7 * MAX_VARINT_BYTES:
                raise _overlong(path)
    return np.array(values, np.uint64).view(np.int64)


def wire_error(fact: str, position: int, path: str) -> RecordError:
    return RecordError(fact, where=f"byte {position}, {path}")


def _overlong(where: str) -> RecordError:
    return RecordError(f"a varint has more than {MAX_VARINT_BYTES} bytes", where=where)


def _decode_many(octets: NDArray[np.uint8], path: str) -> NDArray[np.int64]:
    last = np.flatnonzero(octets < 0x80)
    first = np.concatenate(([0], last[:-1] + 1))
    num_bytes = last - first + 1
    if num_bytes.max() > MAX_VARINT_BYTES:
        raise _overlong(path)
    place = np.arange(len(octets)) - np.repeat(first, num_bytes)
    sevens = (octets & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(sevens, first).view(np.int64)


def _fixed_length(view: memoryview, position: int, end: int, tag: int, path: str) -> int:
    wire_type = tag & 7
    if wire_type == VARINT:
        return read_varint(view, position, end, path)[1] - position
    if wire_type == FIXED32:
        return 4
    if wire_type == FIXED64:
        return 8
    raise wire_error(f"wire type {wire_type} is not supported", position - 1, path)
