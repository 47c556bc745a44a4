"""100,000 damaged records: each is read or refused by name, and nothing outside it is touched."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from test_protobuf import assert_parsed_as_protobuf

import protobuf_oracle as oracle
from whenabouts.core.errors import RecordError
from whenabouts.records.examples import (
    SequenceExample,
    frames_of,
    parse_example,
    parse_sequence_example,
)
from wire_bytes import (
    UNKNOWN_FIELDS,
    bytes_feature,
    entry,
    field,
    float_feature,
    frame,
    int_feature,
    packed_ints,
    sequence_example,
    single_float,
    single_int,
)

NUM_MUTATIONS = 20_000  # of each of the five originals
MARGIN = 64


def rows(count: int, width: int) -> bytes:
    octets = np.arange(count * width, dtype=np.uint8).reshape(count, width)
    return b"".join(frame(row.tobytes()) for row in octets)


SEGMENTS = (
    entry("id", bytes_feature(b"vid0"))
    + entry("labels", int_feature(3, 300, 3861))
    + entry("segment_start_times", int_feature(30, 135))
    + entry("segment_scores", float_feature(0.0, 1.0))
)
UNPACKED = entry("labels", field(3, single_int(7) + packed_ints([5, -1]) + single_int(300)))
UNPACKED += entry("scores", field(2, single_float(0.5) + single_float(1.0)))
UNEVEN = rows(2, 9) + field(1, bytes_feature(bytes(9)), pad=1) + UNKNOWN_FIELDS[1] + rows(1, 9)

ORIGINALS = {
    "video": sequence_example(SEGMENTS, entry("rgb", rows(4, 16)) + entry("audio", rows(4, 3))),
    "no context": sequence_example(b"", entry("audio_embedding", rows(12, 2))),
    "uneven frames": sequence_example(UNPACKED, entry("rgb", UNEVEN)),
    "long headers": sequence_example(SEGMENTS, entry("rgb", rows(2, 200))),
    "unknown fields": b"".join(UNKNOWN_FIELDS)
    + sequence_example(UNPACKED + UNKNOWN_FIELDS[0], entry("rgb", rows(3, 1)) + UNKNOWN_FIELDS[2]),
}


def mutate(rng: np.random.Generator, original: bytes) -> bytes:
    """One to three faults: a bit, a byte, bytes lost, bytes doubled, a telling byte, an end cut."""
    octets = bytearray(original)
    for _ in range(rng.integers(1, 4)):
        kind, at, length = rng.integers(6), rng.integers(len(octets)), rng.integers(1, 12)
        if kind == 0:
            octets[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            octets[at] = rng.integers(256)
        elif kind == 2:
            del octets[at : at + length]
        elif kind == 3:
            source = rng.integers(len(octets))
            octets[at:at] = octets[source : source + length]
        elif kind == 4:
            octets[at] = TELLING[rng.integers(len(TELLING))]
        else:
            del octets[len(octets) - length :]
        if not octets:
            return b"\n"
    return bytes(octets)


# Tags, wire types that are refused, and the ends of the range of a length.
TELLING = b"\x00\x01\x7f\x80\xff\x08\x09\x0a\x0b\x0c\x0d\x12\x1a"


def assert_within(buffer: np.ndarray, found: SequenceExample, start: int, end: int) -> None:
    for frames in found.lists.values():
        if frames.offsets is None:
            first, last = frames.offset, frames.offset + (frames.count - 1) * frames.stride
        else:
            assert len(frames.offsets) == frames.count
            first, last = frames.offsets.min(), frames.offsets.max()
        if frames.count:
            assert start <= first <= last <= last + frames.width <= end
        assert frames_of(buffer, frames).shape == (frames.count, frames.width)


def outcome(payload: bytes, filling: int) -> str:
    """What comes out of the record amid bytes `filling`: its whole content, or the refusal."""
    margin = bytes([filling]) * MARGIN
    buffer = np.frombuffer(margin + payload + margin, np.uint8)
    try:
        found = parse_sequence_example(buffer, MARGIN, len(payload))
    except RecordError as error:
        return str(error)
    lists = {key: frames_of(buffer, frames).tolist() for key, frames in found.lists.items()}
    return repr((oracle.as_feature_values(found.context), lists, found.other_lists))


@pytest.mark.parametrize("name", ORIGINALS)
def test_damaged_records_are_read_or_refused(name):
    rng, refused = np.random.default_rng(list(ORIGINALS).index(name)), 0
    for _ in range(NUM_MUTATIONS):
        payload = mutate(rng, ORIGINALS[name])
        buffer = np.frombuffer(bytes(MARGIN) + payload + bytes(MARGIN), np.uint8)
        try:
            found = parse_sequence_example(buffer, MARGIN, len(payload))
        except RecordError:
            refused += 1
        else:
            assert_within(buffer, found, MARGIN, MARGIN + len(payload))
    assert NUM_MUTATIONS * 0.3 < refused < NUM_MUTATIONS * 0.95


@pytest.mark.parametrize("name", ORIGINALS)
def test_what_lies_around_a_damaged_record_has_no_say(name):
    rng = np.random.default_rng(10)
    for _ in range(NUM_MUTATIONS // 20):
        payload = mutate(rng, ORIGINALS[name])
        assert outcome(payload, 0x0A) == outcome(payload, 0xFF) == outcome(payload, 0)


@pytest.mark.parametrize("name", ORIGINALS)
def test_what_is_read_of_a_damaged_record_is_what_protobuf_reads(name):
    rng, agreed = np.random.default_rng(11), 0
    for _ in range(NUM_MUTATIONS // 20):
        payload = mutate(rng, ORIGINALS[name])
        try:
            oracle.read_sequence_example(payload, ordered=True)
        except DecodeError:
            with pytest.raises(RecordError):
                parse_sequence_example(np.frombuffer(payload, np.uint8), 0, len(payload))
            continue
        if outcome(payload, 0).endswith("wire type 3 is not supported"):
            continue  # a group: protobuf steps over those
        assert_parsed_as_protobuf(payload, ordered=True)
        agreed += 1
    assert agreed > 20


def test_damaged_examples_are_read_or_refused():
    rng, refused = np.random.default_rng(12), 0
    original = field(1, SEGMENTS + UNPACKED + UNKNOWN_FIELDS[3])
    for _ in range(NUM_MUTATIONS // 4):
        payload = mutate(rng, original)
        buffer = np.frombuffer(bytes(MARGIN) + payload, np.uint8)
        try:
            parse_example(buffer, MARGIN, len(payload))
        except RecordError:
            refused += 1
    assert 0 < refused < NUM_MUTATIONS // 4
