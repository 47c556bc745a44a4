"""Messages put together by hand, byte by byte; the protobuf library is asked in test_protobuf."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from whenabouts.core.errors import RecordError
from whenabouts.records.examples import (
    FrameList,
    SequenceExample,
    frames_of,
    offset_in,
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
    packed_floats,
    packed_ints,
    sequence_example,
    single_float,
    single_int,
    varint,
)

BEFORE = b"\xa5" * 37  # records stand somewhere in a shard, at no aligned place
FRAMES = np.arange(12, dtype=np.uint8).reshape(4, 3)


def place(payload: bytes) -> np.ndarray:
    return np.frombuffer(BEFORE + payload + BEFORE, np.uint8)


def parse(payload: bytes) -> SequenceExample:
    return parse_sequence_example(place(payload), len(BEFORE), len(payload))


def parse_lists(lists: bytes) -> dict[str, list[list[int]]]:
    payload = sequence_example(lists=lists)
    found = parse(payload).lists
    return {key: frames_of(place(payload), frames).tolist() for key, frames in found.items()}


def parse_features(features: bytes) -> dict[str, object]:
    payload = field(1, features)
    found = parse_example(place(payload), len(BEFORE), len(payload))
    return {key: v if isinstance(v, tuple) else v.tolist() for key, v in found.items()}


def list_of(rows: np.ndarray) -> bytes:
    return b"".join(frame(row.tobytes()) for row in rows)


def test_a_video_by_hand():
    context = entry("id", bytes_feature(b"vid0")) + entry("labels", int_feature(3, 300, 3861))
    context += entry("segment_scores", float_feature(0.0, 1.0))
    payload = sequence_example(context, entry("rgb", list_of(FRAMES)))
    found = parse(payload)
    assert found.context["id"] == (b"vid0",)
    assert found.context["labels"].dtype == np.int64
    assert found.context["labels"].tolist() == [3, 300, 3861]
    assert found.context["segment_scores"].dtype == np.float32
    assert found.context["segment_scores"].tolist() == [0.0, 1.0]
    # a frame of 3 bytes takes 9: tag and length of Feature, BytesList and value
    first = len(BEFORE) + payload.index(bytes([0, 1, 2]))
    assert found.lists == {"rgb": FrameList(count=4, width=3, offset=first, stride=9)}
    assert found.other_lists == ()


def test_frames_are_a_view_of_the_buffer():
    payload = sequence_example(lists=entry("rgb", list_of(FRAMES)))
    buffer = np.frombuffer(bytearray(payload), np.uint8)
    rows = frames_of(buffer, parse_sequence_example(buffer, 0, len(payload)).lists["rgb"])
    assert np.shares_memory(rows, buffer)
    assert rows.tolist() == FRAMES.tolist()
    buffer[payload.index(bytes([3, 4, 5]))] = 77
    assert rows[1].tolist() == [77, 4, 5]


def test_frames_of_a_read_only_buffer_cannot_be_written():
    payload = sequence_example(lists=entry("rgb", list_of(FRAMES)))
    assert not frames_of(place(payload), parse(payload).lists["rgb"]).flags.writeable


def test_floats_in_one_piece_are_a_view_of_the_buffer():
    payload = field(1, entry("mean_rgb", float_feature(*range(5))))
    buffer = place(payload)
    found = parse_example(buffer, len(BEFORE), len(payload))["mean_rgb"]
    assert np.shares_memory(found, buffer)
    assert found.tolist() == [0, 1, 2, 3, 4]
    start = len(BEFORE) + payload.index(np.arange(5, dtype="<f4").tobytes())
    assert offset_in(buffer, found) == start


def test_floats_in_pieces_are_not_in_the_buffer():
    first, last = packed_floats([1, 2]), single_float(3) + packed_floats([4])
    features = entry("a", field(2, first + last)) + entry("b", field(2, first) + field(2, last))
    payload = field(1, features)
    buffer = place(payload)
    for found in parse_example(buffer, len(BEFORE), len(payload)).values():
        assert found.tolist() == [1, 2, 3, 4]
        assert offset_in(buffer, found) is None


def test_offsets_reach_from_the_first_byte_to_the_last():
    buffer = np.zeros(8, np.uint8)
    assert offset_in(buffer, buffer[:4].view("<f4")) == 0
    assert offset_in(buffer, buffer[7:]) == 7
    assert offset_in(buffer[4:], buffer[:4]) is None
    assert offset_in(buffer[:4], buffer[4:]) is None


@pytest.mark.parametrize("count", [0, 1, 2, 300])
@pytest.mark.parametrize("width", [0, 1, 3, 127, 128, 1024])
def test_lists_of_any_size(count, width):
    rows = np.random.default_rng(width).integers(0, 256, (count, width), np.uint8)
    payload = sequence_example(lists=entry("rgb", list_of(rows)))
    frames = parse(payload).lists["rgb"]
    assert (frames.count, frames.width) == (count, width if count else 0)
    assert frames.offsets is None
    np.testing.assert_array_equal(
        frames_of(place(payload), frames), rows if count else np.empty((0, 0))
    )


def test_empty_messages():
    assert parse(b"") == SequenceExample({}, {}, ())
    assert parse(sequence_example()) == SequenceExample({}, {}, ())
    assert parse_features(b"") == {}
    assert parse(sequence_example(lists=entry("rgb", b""))).lists == {"rgb": FrameList(0, 0, 0, 0)}
    assert parse(field(2, field(1, field(1, b"rgb")))).lists == {"rgb": FrameList(0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        (b"", ()),
        (field(1, b""), ()),
        (field(2, b""), []),
        (field(3, b""), []),
        (int_feature(), []),
        (bytes_feature(b"", b"a"), (b"", b"a")),
        (int_feature(-1, 0, 2**63 - 1, -(2**63)), [-1, 0, 2**63 - 1, -(2**63)]),
        (field(3, single_int(5) + single_int(-7)), [5, -7]),
        (field(3, single_int(5) + packed_ints([6, 700]) + single_int(8)), [5, 6, 700, 8]),
        (field(3, packed_ints([300]) + packed_ints([4])), [300, 4]),
        (field(2, single_float(0.5) + packed_floats([1, 2]) + single_float(-3)), [0.5, 1, 2, -3]),
        (field(2, single_float(0.5)), [0.5]),
        # a value of a wire type that the field cannot have is an unknown field
        (field(3, b"\x0d" + bytes(4) + single_int(1)), [1]),
        (field(2, single_int(1) + single_float(2)), [2.0]),
        (field(1, single_int(1) + field(1, b"x")), (b"x",)),
        # one kind twice is merged; another kind replaces
        (int_feature(1) + int_feature(2), [1, 2]),
        (bytes_feature(b"a") + bytes_feature(b"b"), (b"a", b"b")),
        (int_feature(1) + bytes_feature(b"b"), (b"b",)),
        (int_feature(1) + float_feature(2.0) + int_feature(3), [3]),
        (b"".join(UNKNOWN_FIELDS) + int_feature(4) + b"".join(UNKNOWN_FIELDS), [4]),
        (field(3, b"".join(UNKNOWN_FIELDS) + packed_ints([4]) + UNKNOWN_FIELDS[1]), [4]),
    ],
)
def test_feature_values(feature, expected):
    assert parse_features(entry("f", feature)) == {"f": expected}


def test_keys_and_entries():
    one, two = int_feature(1), int_feature(2)
    assert parse_features(entry("a", one) + entry("b", two)) == {"a": [1], "b": [2]}
    assert parse_features(entry("a", one) + entry("a", two)) == {"a": [2]}
    assert parse_features(field(1, field(2, one) + field(1, b"late"))) == {"late": [1]}
    assert parse_features(field(1, field(2, one))) == {"": [1]}
    assert parse_features(field(1, field(1, b"a") + field(2, one) + field(2, two))) == {"a": [1, 2]}
    assert parse_features(field(1, field(1, b"a") + field(1, b"b"))) == {"b": ()}
    assert parse_features(entry("größe", one)) == {"größe": [1]}
    strange = UNKNOWN_FIELDS[0] + field(1, b"a") + UNKNOWN_FIELDS[2] + field(2, one)
    assert parse_features(field(1, strange)) == {"a": [1]}


def test_fields_in_any_order_and_in_parts():
    rgb, audio = entry("rgb", list_of(FRAMES)), entry("audio", list_of(FRAMES[:2]))
    context = [entry("id", bytes_feature(b"v")), entry("labels", int_feature(9))]
    payload = field(2, rgb) + field(1, context[0]) + UNKNOWN_FIELDS[3]
    payload += field(2, audio) + field(1, context[1])
    found = parse(payload)
    assert set(found.context) == {"id", "labels"}
    assert {key: f.count for key, f in found.lists.items()} == {"rgb": 4, "audio": 2}
    for frames in found.lists.values():
        rows = frames_of(place(payload), frames)
        assert rows.tolist() == FRAMES[: frames.count].tolist()


def test_a_list_given_in_two_parts_is_one_list():
    halves = field(2, list_of(FRAMES[:2])) + field(2, list_of(FRAMES[2:]))
    assert parse_lists(field(1, field(1, b"rgb") + halves)) == {"rgb": FRAMES.tolist()}
    # a second entry of the same key replaces, in the same or in another part
    assert parse_lists(entry("rgb", list_of(FRAMES[:2])) + entry("rgb", list_of(FRAMES[2:]))) == {
        "rgb": FRAMES[2:].tolist()
    }


def test_frames_that_are_unevenly_spaced():
    odd = field(1, bytes_feature(b"\x07\x08\x09"), pad=1)
    mixed = list_of(FRAMES[:2]) + odd + UNKNOWN_FIELDS[0] + frame(b"\x01\x02\x03")
    payload = sequence_example(lists=entry("rgb", mixed))
    frames = parse(payload).lists["rgb"]
    expected = [*FRAMES[:2].tolist(), [7, 8, 9], [1, 2, 3]]
    assert frames.stride == 0
    assert frames.offset == frames.offsets[0]
    assert frames.offsets.dtype == np.int64
    assert frames_of(place(payload), frames).tolist() == expected


def test_frames_that_all_hold_the_same_oddity_are_evenly_spaced():
    for odd in (
        field(1, bytes_feature(b"abc"), pad=1),
        field(1, b"\x20\x01" + bytes_feature(b"abc")),
    ):
        payload = sequence_example(lists=entry("rgb", odd * 3))
        frames = parse(payload).lists["rgb"]
        assert (frames.stride, frames.offsets) == (len(odd), None)
        assert frames_of(place(payload), frames).tobytes() == b"abc" * 3


def test_one_odd_frame():
    payload = sequence_example(lists=entry("rgb", UNKNOWN_FIELDS[2] + frame(b"abc")))
    assert frames_of(place(payload), parse(payload).lists["rgb"]).tobytes() == b"abc"


def test_evenly_spaced_frames_are_not_read_one_by_one(monkeypatch):
    def refuse(*_args: object) -> None:
        raise AssertionError("a frame was read")

    monkeypatch.setattr("whenabouts.records.frames.read_feature", refuse)
    for width in (1, 3, 200):
        rows = np.zeros((5, width), np.uint8)
        assert parse(sequence_example(lists=entry("rgb", list_of(rows)))).lists["rgb"].count == 5


def test_lists_without_bytes_are_named_only():
    numbers = entry("times", field(1, float_feature(1, 2)) + field(1, int_feature(3)))
    empty = entry("empty", field(1, b"")) + entry("none", field(1, bytes_feature()))
    found = parse(sequence_example(lists=numbers + entry("rgb", list_of(FRAMES)) + empty))
    assert found.other_lists == ("times", "empty", "none")
    assert list(found.lists) == ["rgb"]


@pytest.mark.parametrize(
    ("frames", "fact"),
    [
        (frame(b"abc") + frame(b"abcd"), "frame 1 has 4 bytes, frame 0 has 3; all frames"),
        (frame(b"abc") * 2 + frame(b"ab"), "frame 2 has 2 bytes, frame 0 has 3"),
        (frame(b"") + frame(b"a"), "frame 1 has 1 bytes, frame 0 has 0"),
        # of 8 + 10 bytes: a stride of 9 would fit
        (frame(b"ab") + frame(b"abcd"), "frame 1 has 4 bytes, frame 0 has 2"),
        # of 9 + 7 + 11 bytes: three strides of 9 fill the list
        (frame(b"abc") + frame(b"a") + frame(b"abcde"), "frame 1 has 1 bytes, frame 0 has 3"),
        (frame(b"abc") + field(1, b"") + field(1, int_feature(5)), "frame 1 holds 0 values"),
        (frame(b"abc") + field(1, b""), "frame 1 holds 0 values; each frame is one bytes value"),
        (field(1, b"") + frame(b"abc"), "frame 0 holds 0 values"),
        (frame(b"abc") + field(1, bytes_feature()), "frame 1 holds 0 bytes values"),
        (frame(b"abc") + field(1, bytes_feature(b"a", b"b")), "frame 1 holds 2 bytes values"),
        (frame(b"abc") + field(1, int_feature(5)), "frame 1 holds 1 integers"),
        (frame(b"abc") + field(1, float_feature(1)), "frame 1 holds 1 floats"),
    ],
)
def test_lists_that_are_no_matrix_are_refused(frames, fact):
    with pytest.raises(RecordError, match=f"feature list 'rgb': {fact}"):
        parse(sequence_example(lists=entry("rgb", frames)))


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (b"\x0a\x09abc", "byte 37, SequenceExample: a field of 9 bytes runs past its message"),
        (b"\x0b", "SequenceExample: wire type 3 is not supported"),
        (field(1, b"\x0a\x05abc"), "byte 39, context: a field of 5 bytes"),
        (field(2, b"\x0a\x05abc"), "byte 39, feature lists: a field of 5 bytes"),
        (field(1, field(1, b"\x12\x03ab")), "byte 41, context: a field of 3 bytes"),
        (field(1, field(1, field(1, b"\xff"))), "byte 43, context: a key is not UTF-8"),
        (field(1, entry("id", b"\x0a\x03ab")), "byte 47, context 'id': a field of 3 bytes"),
        (field(1, entry("id", field(1, b"\x0a\x03ab"))), "context 'id': a field of 3 bytes"),
        (field(1, entry("s", field(2, field(1, b"abc")))), "'s': a packed list of floats has 3"),
        (field(1, entry("s", field(2, field(1, b"abcdef")))), "'s': a packed list of floats has 6"),
        (field(1, entry("n", field(3, field(1, b"\x80")))), "'n': the last varint .* is cut"),
        (
            field(1, entry("n", field(3, field(1, b"\x80") + single_int(1)))),
            "'n': the last varint of a packed list is cut",
        ),
        (
            field(1, entry("n", field(3, field(1, b"\x80" * 10 + b"\1")))),
            "'n': a varint has more than 10 bytes",
        ),
        (field(2, entry("rgb", b"\x0a\x03ab")), "feature list 'rgb': a field of 3 bytes"),
        (
            field(2, entry("rgb", frame(b"abc") + b"\x0a\x09\x0a\x05\x0a\x03ab")),
            "feature list 'rgb': a field of 9 bytes",
        ),
        (
            field(2, entry("rgb", b"\x0a\x05\x0a\x05\x0a\x03abc")),
            "feature list 'rgb': a field of 5 bytes",
        ),
        (field(2, entry("rgb", b"\x0a" + b"\xff" * 11)), "'rgb': a varint has more than 10"),
        (field(2, entry("rgb", b"\x0a" + varint(2**63))), f"'rgb': a field of {2**63} bytes"),
    ],
)
def test_errors_name_byte_and_field(payload, where):
    with pytest.raises(RecordError, match=where):
        parse(payload)


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, -1), (3, 8), (11, 0), (2**62, 2**62)])
def test_a_record_outside_the_buffer_is_refused(offset, length):
    buffer = np.zeros(10, np.uint8)
    with pytest.raises(RecordError, match=f"the record at byte {offset} .* has 10 bytes"):
        parse_sequence_example(buffer, offset, length)
    with pytest.raises(RecordError, match="is not in the buffer"):
        parse_example(buffer, offset, length)


def test_a_record_at_the_end_of_the_buffer():
    assert parse_sequence_example(np.zeros(10, np.uint8), 10, 0) == SequenceExample({}, {})


def test_the_parser_works_without_the_checksum_library():
    code = "import sys; sys.modules['google_crc32c'] = None; import whenabouts.records.{} as m"
    modules = ["examples", "frames", "quantize", "shards", "wire"]
    lines = [code.format(name) for name in modules]
    lines.append("assert not {'torch', 'google'} & sys.modules.keys()")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
