from __future__ import annotations

import numpy as np
import pytest

from whenabouts.core.errors import RecordError
from whenabouts.records.examples import frames_of
from whenabouts.records.framing import open_shard
from whenabouts.records.reading import read_examples, read_sequence_examples
from whenabouts.records.writing import (
    RecordWriter,
    encode_example,
    encode_sequence_example,
    write_records,
)

# One video of one frame of two bytes: id "v", labels [300], rgb [[1, 2]]
GOLDEN_VIDEO = bytes.fromhex(
    "0a1f"  # the context
    "0a0b 0a026964 1205 0a03 0a0176"  # "id": Feature, BytesList, "v"
    "0a10 0a066c6162656c73 1206 1a04 0a02 ac02"  # "labels": Feature, Int64List, packed 300
    "1211"  # the feature lists
    "0a0f 0a03726762 1208 0a06 0a04 0a02 0102"  # "rgb": FeatureList, Feature, BytesList, frame
)
VIDEO = {"id": b"v", "labels": [300]}, {"rgb": np.array([[1, 2]], np.uint8)}


def test_golden_video():
    assert encode_sequence_example(*VIDEO) == GOLDEN_VIDEO


def test_golden_file(tmp_path):
    assert write_records(tmp_path / "a.tfrecord", [b"abc", b""]) == 2
    assert (tmp_path / "a.tfrecord").read_bytes() == bytes.fromhex(
        "0300000000000000 b099490e 616263 6e57f121 0000000000000000 29039807 d8ea82a2"
    )


def test_values_of_every_kind():
    def feature(value: object) -> str:
        [octets] = [encode_example({"k": value})]
        return octets[octets.index(b"k") + 3 :].hex()

    assert feature(b"ab") == "0a040a026162"
    assert feature([b"a", b""]) == feature((b"a", b"")) == "0a050a01610a00"
    assert feature([1, 300]) == feature(np.array([1, 300], np.uint16)) == "1a050a0301ac02"
    assert feature([-1]) == "1a0c0a0a" + "ff" * 9 + "01"
    assert feature(np.array([2**63 - 1], np.uint64)) == "1a0b0a09" + "ff" * 8 + "7f"
    assert feature([1.0]) == feature(np.array([1.0], np.float64)) == "12060a040000803f"
    assert feature(range(2)) == "1a040a020001"
    assert feature([]) == ""
    assert feature(np.zeros(0, np.int64)) == "1a00"
    assert feature(np.zeros(0, np.float32)) == "1200"


def test_empty_messages_are_left_out():
    assert encode_example({}) == b""
    assert encode_sequence_example({}, {}) == b""
    assert encode_sequence_example({}, {"rgb": np.zeros((0, 4), np.uint8)}).hex() == (
        "1209" + "0a07" + "0a03726762" + "1200"
    )


def test_what_float32_cannot_hold_is_infinite():
    payload = encode_example({"k": [1e300, -1e300]})
    assert payload.endswith(np.array([np.inf, -np.inf], "<f4").tobytes())


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ("text", "a value of type <U4"),
        (["a", "b"], "a value of type <U1"),
        ([True], "a value of type bool"),
        ([[1, 2], [3, 4]], r"a value of type int64 and shape \(2, 2\)"),
        (5, r"a value of type int64 and shape \(\)"),
        (None, "a value of type object"),
        ([b"a", 1], "a value of type"),
        ([1j], "a value of type complex128"),
        ([2**70], "a value of type object"),
        (np.array([2**63], np.uint64), f"{2**63} is too large; integers are int64"),
    ],
)
def test_what_no_feature_can_hold_is_refused(value, fact):
    with pytest.raises(RecordError, match=f"feature 'k': {fact}"):
        encode_example({"k": value})


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int8), np.zeros(3, np.uint8)],
)
def test_frames_that_are_no_matrix_of_bytes_are_refused(frames):
    with pytest.raises(RecordError, match=r"list 'rgb': frames of type .*; frames are uint8"):
        encode_sequence_example({}, {"rgb": frames})


def test_frames_may_be_a_view():
    wide = np.arange(40, dtype=np.uint8).reshape(4, 10)
    for view in (wide[:, :3], wide[::2], wide.T):
        expected = encode_sequence_example({}, {"rgb": np.ascontiguousarray(view)})
        assert encode_sequence_example({}, {"rgb": view}) == expected


def test_round_trip_through_a_file(tmp_path):
    rng = np.random.default_rng(3)
    videos = [
        (
            {"id": b"%03d" % k, "labels": rng.integers(0, 4000, k), "times": rng.random(k)},
            {
                "rgb": rng.integers(0, 256, (k, 1024), np.uint8),
                "audio": rng.integers(0, 256, (k + 1, 128), np.uint8),
            },
        )
        for k in range(5)
    ]
    path = tmp_path / "train.tfrecord"
    assert write_records(path, (encode_sequence_example(*v) for v in videos)) == 5
    shard, found = open_shard(path), list(read_sequence_examples(path))
    assert len(found) == 5
    for (context, lists), video in zip(videos, found):
        assert video.context["id"] == (context["id"],)
        np.testing.assert_array_equal(video.context["labels"], context["labels"])
        np.testing.assert_array_equal(video.context["times"], context["times"].astype(np.float32))
        for key, frames in lists.items():
            np.testing.assert_array_equal(
                frames_of(shard, video.lists[key]), frames if len(frames) else np.empty((0, 0))
            )


def test_examples_round_trip_through_a_file(tmp_path):
    path = tmp_path / "video.tfrecord"
    mean = np.linspace(-2, 2, 1024, dtype=np.float32)
    write_records(path, [encode_example({"id": b"v", "mean_rgb": mean}), encode_example({})])
    first, second = read_examples(path)
    assert first["id"] == (b"v",)
    np.testing.assert_array_equal(first["mean_rgb"], mean)
    assert second == {}


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    path = tmp_path / "train.tfrecord"
    seen = []

    def fail_after_one_record():
        with RecordWriter(path) as writer:
            writer.write(b"abc")
            seen.append((writer.num_records, path.exists()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_one_record()
    assert seen == [(1, False)]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "train.tfrecord"
    write_records(path, [b"old"])

    def payloads():
        yield b"new"
        raise RecordError("no more")

    with pytest.raises(RecordError, match="no more"):
        write_records(path, payloads())
    assert [p.name for p in tmp_path.iterdir()] == ["train.tfrecord"]
    assert path.read_bytes()[12:15] == b"old"


def test_a_file_of_no_records(tmp_path):
    assert write_records(tmp_path / "empty.tfrecord", []) == 0
    assert (tmp_path / "empty.tfrecord").read_bytes() == b""
    assert list(read_sequence_examples(tmp_path / "empty.tfrecord")) == []


def test_reading_names_file_byte_and_field(tmp_path):
    path = tmp_path / "bad.tfrecord"
    broken = encode_example({"id": b"v"})[:-3] + b"\x0a\x09v"
    write_records(path, [encode_example({"id": b"v"}), broken])
    found = read_examples(path)
    assert next(found) == {"id": (b"v",)}
    with pytest.raises(
        RecordError,
        match=r"bad\.tfrecord, record at byte 43, byte 55, feature 'id': a field of 9 bytes",
    ):
        next(found)


@pytest.mark.parametrize("read", [read_examples, read_sequence_examples])
def test_reading_stops_at_a_damaged_record(tmp_path, read):
    path = tmp_path / "bad.tfrecord"
    write_records(path, [b"", b"", b""])
    octets = bytearray(path.read_bytes())
    octets[16 + 13] ^= 4
    path.write_bytes(octets)
    found = read(path)
    next(found)
    with pytest.raises(RecordError, match=r"bad\.tfrecord, byte 16: the checksum of the payload"):
        next(found)
