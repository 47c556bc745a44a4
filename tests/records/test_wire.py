from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.core.errors import RecordError
from whenabouts.records.wire import decode_varints, read_varint, walk_fields
from wire_bytes import field, varint

INT64 = st.integers(-(2**63), 2**63 - 1)


def walk(octets: bytes, before: bytes = b"", behind: bytes = b"") -> list[tuple[int, int, int]]:
    view = memoryview(before + octets + behind)
    return list(walk_fields(view, len(before), len(before) + len(octets), "message"))


def test_fields_of_every_wire_type_by_hand():
    octets = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x03abc" + b"\x25" + bytes(4)
    assert walk(octets) == [(0x08, 1, 3), (0x11, 4, 12), (0x1A, 14, 17), (0x25, 18, 22)]
    assert walk(b"") == []
    assert walk(b"\x0a\x00", before=b"zz") == [(0x0A, 4, 4)]


def test_a_tag_and_a_length_of_several_bytes():
    assert walk(field(2000, b"x" * 300)) == [(2000 << 3 | 2, 4, 304)]
    assert walk(field(1, b"abc", pad=3)) == [(0x0A, 8, 11)]


@pytest.mark.parametrize(
    ("octets", "fact"),
    [
        (b"\x08", "a varint runs past its message"),
        (b"\x08\x80\x80", "a varint runs past its message"),
        (b"\x88", "a varint runs past its message"),
        (b"\x0a", "a varint runs past its message"),
        (b"\x0a\x80", "a varint runs past its message"),
        (b"\x0a\x01", "a field of 1 bytes runs past its message"),
        (b"\x0a\x04abc", "a field of 4 bytes runs past its message"),
        (field(1, b"")[:1] + varint(2**63), f"a field of {2**63} bytes runs past its message"),
        (field(1, b"")[:1] + varint(2**64 - 1), "a field of .* bytes runs past its message"),
        (b"\x09" + bytes(7), "a field of 8 bytes runs past its message"),
        (b"\x0d" + bytes(3), "a field of 4 bytes runs past its message"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "a varint has more than 10 bytes"),
        (b"\x08" + b"\x80" * 10, "a varint has more than 10 bytes"),
        (b"\x80" * 10 + b"\x00", "a varint has more than 10 bytes"),
        (b"\x0b", "wire type 3 is not supported"),
        (b"\x0c", "wire type 4 is not supported"),
        (b"\x0e", "wire type 6 is not supported"),
        (b"\x0f", "wire type 7 is not supported"),
        (b"\x02\x00", "there is no field number 0"),
        (b"\x00\x00", "there is no field number 0"),
        (b"\x01" + bytes(8), "there is no field number 0"),
        (b"\x05" + bytes(4), "there is no field number 0"),
        (varint(2**29 << 3 | 2) + b"\x00", f"there is no field number {2**29}"),
    ],
)
def test_what_cannot_be_a_field_is_refused(octets, fact):
    # the bytes behind the message would complete every cut field: they must not be read
    for behind in (b"", bytes(32), b"\x01" * 32):
        with pytest.raises(RecordError, match=f"byte [0-9]+, message: {fact}"):
            walk(octets, before=b"\x01\x01", behind=behind)


def test_errors_name_the_byte():
    with pytest.raises(RecordError, match="byte 7, message: a field of 9 bytes"):
        walk(field(1, b"abc") + b"\x0a\x09abc", before=b"zz")


def test_the_last_field_number_is_allowed():
    assert walk(varint((2**29 - 1) << 3 | 2) + b"\x00") == [((2**29 - 1) << 3 | 2, 6, 6)]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_varints_come_back(value, pad):
    octets = varint(value, min(pad, 10 - len(varint(value))))
    assert read_varint(memoryview(octets), 0, len(octets), "x") == (value, len(octets))
    for end in range(len(octets)):
        with pytest.raises(RecordError, match="runs past"):
            read_varint(memoryview(octets), 0, end, "x")


def test_bits_past_64_are_dropped_as_protobuf_does():
    octets = b"\xff" * 9 + b"\x7f"
    assert read_varint(memoryview(octets), 0, 10, "x") == (2**64 - 1, 10)
    assert decode_varints(octets, "x").tolist() == [-1]
    assert decode_varints(octets * 9, "x").tolist() == [-1] * 9


@settings(deadline=None)
@given(st.lists(INT64, max_size=40))
def test_packed_integers_come_back(values):
    found = decode_varints(b"".join(map(varint, values)), "x")
    assert found.dtype == np.int64
    assert found.tolist() == values


@settings(deadline=None)
@given(st.lists(st.integers(0, 127), max_size=80))
def test_packed_small_integers_come_back(values):
    assert decode_varints(bytes(values), "x").tolist() == values


@pytest.mark.parametrize("num_before", [0, 60, 70, 200])  # short and long lists take two ways
def test_malformed_packed_lists_are_refused(num_before):
    with pytest.raises(RecordError, match="x: a varint has more than 10 bytes"):
        decode_varints(b"\x01" * num_before + b"\x80" * 10 + b"\x01", "x")
    with pytest.raises(RecordError, match="x: the last varint of a packed list is cut"):
        decode_varints(b"\x01" * num_before + b"\x80", "x")
    whole = b"\x01" * num_before + b"\x80" * 9 + b"\x01"
    assert decode_varints(whole, "x").tolist() == [1] * num_before + [-(2**63)]
