"""One `tensorflow.Feature`: a list of bytes, of floats or of integers.

    Feature   = oneof { 1: BytesList, 2: FloatList, 3: Int64List }
    BytesList = { 1: bytes, repeated }; the other two hold packed or single numbers under 1

A message may come in several regions (protobuf merges the occurrences of one field), so that
everything here takes a list of regions. Source: `tensorflow/core/example/feature.proto`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whenabouts.records.wire import decode_varints, walk_fields, wire_error

Region = tuple[int, int]  # [start, end) in the buffer
ContextValue = tuple[bytes, ...] | NDArray[np.int64] | NDArray[np.float32]

# Tags of length-delimited fields 1 to 3. As kinds of a Feature: bytes, floats, integers.
FIELD_1, FIELD_2, FIELD_3 = 0x0A, 0x12, 0x1A
BYTES, FLOATS, INTEGERS, NOTHING = FIELD_1, FIELD_2, FIELD_3, 0

KIND_NAMES = {BYTES: "bytes values", FLOATS: "floats", INTEGERS: "integers", NOTHING: "values"}

_SINGLE = {BYTES: FIELD_1, FLOATS: 0x0D, INTEGERS: 0x08}  # field 1 as one unpacked value
_FLOAT32 = np.dtype("<f4")


def read_feature(view: memoryview, regions: list[Region], path: str) -> tuple[int, list[Region]]:
    """The kind of a Feature and where its values lie; the kind that is set last wins.

    A region holds one bytes value, or the packed or single numbers exactly as they are encoded.
    """
    kind, lists = NOTHING, list[Region]()
    for start, end in regions:
        for tag, a, b in walk_fields(view, start, end, path):
            if tag not in _SINGLE:
                continue
            if tag != kind:
                kind, lists = tag, []
            lists.append((a, b))
    values = list[Region]()
    for start, end in lists:
        values += _read_values(view, start, end, kind, path)
    return kind, values


def _read_values(view: memoryview, start: int, end: int, kind: int, path: str) -> list[Region]:
    values = []
    for tag, a, b in walk_fields(view, start, end, path):
        if tag == FIELD_1:
            if kind == FLOATS and (b - a) % 4:
                raise wire_error(f"a packed list of floats has {b - a} bytes", a, path)
            if kind == INTEGERS and b > a and view[b - 1] >= 0x80:
                raise wire_error("the last varint of a packed list is cut", a, path)
        elif tag != _SINGLE[kind]:
            continue
        values.append((a, b))
    return values


def load_feature(
    buffer: NDArray[np.uint8], view: memoryview, regions: list[Region], path: str
) -> ContextValue:
    """The values of a Feature; floats that lie in one piece are a view of `buffer`."""
    kind, values = read_feature(view, regions, path)
    if kind in (BYTES, NOTHING):
        return tuple(bytes(view[a:b]) for a, b in values)
    if kind == FLOATS and len(values) == 1:
        [(a, b)] = values
        return np.frombuffer(buffer, _FLOAT32, (b - a) // 4, a)
    octets = b"".join([view[a:b] for a, b in values])
    return np.frombuffer(octets, _FLOAT32) if kind == FLOATS else decode_varints(octets, path)


def offset_in(buffer: NDArray[np.uint8], floats: NDArray[np.generic]) -> int | None:
    """The byte of `buffer` at which floats that were read from it begin; None if they are a copy.

    They are a copy where they did not lie in one piece: single numbers, or a list in several parts.
    """
    offset = _address(floats) - _address(buffer)
    return offset if 0 <= offset < len(buffer) else None


def _address(array: NDArray[np.generic]) -> int:
    return int(array.__array_interface__["data"][0])
