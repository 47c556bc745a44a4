from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from whenabouts.core.errors import RecordError
from whenabouts.records.crc import masked_crc
from whenabouts.records.framing import BadSpan, Span, open_shard, scan_records

PAYLOADS = [b"first", b"", b"the third one"]

# Of b"abc" and of b"", as TensorFlow writes them.
GOLDEN = {
    b"abc": bytes.fromhex("0300000000000000 b099490e 616263 6e57f121"),
    b"": bytes.fromhex("0000000000000000 29039807 d8ea82a2"),
}


def frame(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + _crc(length) + payload + _crc(payload)


def _crc(octets: bytes) -> bytes:
    return struct.pack("<I", masked_crc(octets))


def scan(octets: bytes) -> list[Span | BadSpan]:
    return list(scan_records(np.frombuffer(octets, np.uint8)))


FRAMED = [frame(p) for p in PAYLOADS]
WHOLE = b"".join(FRAMED)
STARTS = [0, *np.cumsum([len(f) for f in FRAMED]).tolist()]
SPANS = [Span(s + 12, len(p)) for s, p in zip(STARTS, PAYLOADS)]


def outline(found: list[Span | BadSpan]) -> list[Span | tuple[int, int]]:
    return [(s.offset, s.length) if isinstance(s, BadSpan) else s for s in found]


def test_golden_bytes():
    for payload, octets in GOLDEN.items():
        assert scan(octets) == [Span(12, len(payload))]
    assert scan(GOLDEN[b""] + GOLDEN[b"abc"]) == [Span(12, 0), Span(28, 3)]


def test_whole_file():
    assert scan(WHOLE) == SPANS
    assert [WHOLE[s.offset : s.offset + s.length] for s in SPANS] == PAYLOADS


def test_empty_file():
    assert scan(b"") == []


@pytest.mark.parametrize("size", range(len(WHOLE) + 1))
def test_truncated_at_every_byte(size):
    whole = [k for k in range(3) if STARTS[k + 1] <= size]
    expected: list[Span | tuple[int, int]] = [SPANS[k] for k in whole]
    if (rest := size - STARTS[len(whole)]) > 0:
        expected.append((STARTS[len(whole)], rest))
    assert outline(scan(WHOLE[:size])) == expected


def test_every_single_bit_flipped():
    for at in range(len(WHOLE)):
        k = int(np.searchsorted(STARTS, at, side="right")) - 1
        expected = [*SPANS[:k], (STARTS[k], len(FRAMED[k])), *SPANS[k + 1 :]]
        for bit in range(8):
            octets = bytearray(WHOLE)
            octets[at] ^= 1 << bit
            assert outline(scan(bytes(octets))) == expected, (at, bit)


@pytest.mark.parametrize(("at", "num_cut"), [(3, 2), (14, 1), (20, 1), (0, 12)])
def test_lost_bytes_in_the_first_record_leave_the_others(at, num_cut):
    found = outline(scan(WHOLE[:at] + WHOLE[at + num_cut :]))
    moved = [Span(s.offset - num_cut, s.length) for s in SPANS]
    assert found[-1] == moved[2]
    assert all(s in moved for s in found if isinstance(s, Span))


@pytest.mark.parametrize("junk", [b"\x00", b"junk", bytes(40), b"\xff" * 5000, bytes(300_000)])
def test_junk_between_records_is_one_bad_span(junk):
    found = outline(scan(FRAMED[0] + junk + FRAMED[2]))
    second = len(FRAMED[0]) + len(junk)
    expected = [SPANS[0], (len(FRAMED[0]), len(junk)), Span(second + 12, len(PAYLOADS[2]))]
    assert found == expected


@pytest.mark.parametrize("gap", [1023, 1024, 1025, 1024 + 4096, 1024 + 4096 + 1])
def test_a_header_at_the_edge_of_a_search_window_is_found(gap):
    # the first window of a search is 1024 offsets from position 1, the next 4096
    assert outline(scan(b"\xee" * gap + FRAMED[0])) == [(0, gap), Span(gap + 12, 5)]


@pytest.mark.parametrize("length", [10, 14, 2**31, 2**32 + 5, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_length_past_the_end_with_a_right_checksum(length):
    header = struct.pack("<Q", length)
    octets = header + _crc(header) + b"abcdefghi" + _crc(b"abcdefghi")
    [only] = scan(octets)
    assert (only.offset, only.length) == (0, len(octets))
    assert f"9 bytes of a payload of {length}" in only.reason


def test_after_a_length_past_the_end_the_next_record_is_found():
    header = struct.pack("<Q", 2**63)
    octets = header + _crc(header) + b"abcdefghi"
    found = outline(scan(octets + FRAMED[2]))
    assert found == [(0, len(octets)), Span(len(octets) + 12, len(PAYLOADS[2]))]


@pytest.mark.parametrize("beyond", [0, 1, 4, 2**60])
def test_the_search_takes_only_headers_whose_record_fits(beyond):
    # A header with a right checksum claims all bytes up to the end, or more, a record among them.
    header = struct.pack("<Q", len(FRAMED[2]) - 4 + beyond)
    found = outline(scan(b"zz" + header + _crc(header) + FRAMED[2]))
    if beyond:
        assert found == [(0, 14), Span(26, len(PAYLOADS[2]))]
    else:
        assert found == [(0, 2), (2, 12 + len(FRAMED[2]))]


@pytest.mark.parametrize("junk", [1, 15, 16, 1023, 1024, 1025])
def test_the_search_finds_an_empty_record_at_the_very_end(junk):
    assert outline(scan(b"\xee" * junk + GOLDEN[b""])) == [(0, junk), Span(junk + 12, 0)]


def test_a_record_that_fits_exactly_and_one_byte_more():
    payload = b"0123456789"
    assert scan(frame(payload)) == [Span(12, 10)]
    [only] = scan(frame(payload)[:-1])
    assert only == BadSpan(0, 25, "the file ends within a record: 9 bytes of a payload of 10")


def test_reasons():
    length_flipped, payload_flipped = bytearray(WHOLE), bytearray(WHOLE)
    length_flipped[0] ^= 1
    payload_flipped[12] ^= 1
    assert scan(bytes(length_flipped))[0].reason == "the checksum of the length is wrong"
    assert scan(bytes(payload_flipped))[0].reason == "the checksum of the payload is wrong"
    assert scan(WHOLE + b"1234567")[-1] == BadSpan(
        len(WHOLE), 7, "the file ends within a record's framing: 7 bytes of 16"
    )


def test_many_damaged_headers_take_one_search_each():
    damaged = bytearray(FRAMED[0])
    damaged[8] ^= 1
    found = scan((FRAMED[0] + bytes(damaged)) * 500)
    assert [type(s) for s in found] == [Span, BadSpan] * 500
    assert {s.length for s in found if isinstance(s, BadSpan)} == {len(damaged)}


def test_spans_tile_random_damage():
    rng = np.random.default_rng(5)
    for _ in range(300):
        octets = bytearray(WHOLE * 4)
        for at in rng.integers(0, len(octets), 6):
            octets[at] = rng.integers(256)
        cut = rng.integers(0, len(octets), 2)
        del octets[min(cut) : max(cut)]
        position = 0
        for span in scan(bytes(octets)):
            whole = isinstance(span, Span)
            assert span.offset - 12 * whole == position
            position += span.length + 16 * whole
            if whole:
                assert bytes(octets[span.offset : span.offset + span.length]) in PAYLOADS
        assert position == len(octets)


def test_open_shard_maps_the_file_read_only(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(WHOLE)
    shard = open_shard(path)
    assert shard.tobytes() == WHOLE
    assert shard.dtype == np.uint8
    assert not shard.flags.writeable
    assert list(scan_records(open_shard(str(path)))) == SPANS


def test_open_shard_of_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    shard = open_shard(tmp_path / "empty")
    assert shard.shape == (0,)
    assert list(scan_records(shard)) == []


def test_open_shard_refuses_what_is_no_file(tmp_path):
    with pytest.raises(RecordError, match=r"missing\.tfrecord: there is no such file"):
        open_shard(tmp_path / "missing.tfrecord")
    with pytest.raises(RecordError, match=f"{tmp_path.name}: is not a file"):
        open_shard(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="pipe: is not a file"):
        open_shard(tmp_path / "pipe")


def test_open_shard_names_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "locked.tfrecord"
    path.write_bytes(WHOLE)

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RecordError, match=r"locked\.tfrecord: cannot be read \(Permission denied"):
        open_shard(path)
