"""Protobuf wire bytes put together by hand: valid, odd or broken, as a test wants them."""

from __future__ import annotations

import struct
from collections.abc import Iterable


def varint(value: int, pad: int = 0) -> bytes:
    """A varint of a number (negative ones as 64 bits), with `pad` bytes more than needed."""
    value &= 2**64 - 1
    sevens = [value & 0x7F]
    while value := value >> 7:
        sevens.append(value & 0x7F)
    sevens += [0] * pad
    return bytes([s | 0x80 for s in sevens[:-1]] + [sevens[-1]])


def field(number: int, value: bytes, pad: int = 0) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2, pad) + varint(len(value), pad) + value


def single_int(value: int) -> bytes:
    return b"\x08" + varint(value)


def single_float(value: float) -> bytes:
    return b"\x0d" + struct.pack("<f", value)


def packed_ints(values: Iterable[int]) -> bytes:
    return field(1, b"".join(varint(v) for v in values))


def packed_floats(values: Iterable[float]) -> bytes:
    return field(1, b"".join(struct.pack("<f", v) for v in values))


def bytes_feature(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, v) for v in values))


def int_feature(*values: int) -> bytes:
    return field(3, packed_ints(values))


def float_feature(*values: float) -> bytes:
    return field(2, packed_floats(values))


def entry(key: str, value: bytes) -> bytes:
    """A map entry, as the field of the map that holds it."""
    return field(1, field(1, key.encode()) + field(2, value))


def frame(value: bytes) -> bytes:
    """One frame, as the field of its FeatureList."""
    return field(1, bytes_feature(value))


def sequence_example(context: bytes = b"", lists: bytes = b"") -> bytes:
    return field(1, context) + field(2, lists)


UNKNOWN_FIELDS = (
    varint(9 << 3) + varint(300),
    varint(10 << 3 | 1) + bytes(8),
    field(15, b"unknown"),
    field(2000, b""),
    varint(12 << 3 | 5) + b"\xff" * 4,
)
