"""The protobuf library as the oracle, in both directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import protobuf_oracle as oracle
from whenabouts.core.errors import RecordError
from whenabouts.records.examples import (
    ContextValue,
    frames_of,
    parse_example,
    parse_sequence_example,
)
from whenabouts.records.writing import encode_example, encode_sequence_example
from wire_bytes import (
    UNKNOWN_FIELDS,
    field,
    packed_floats,
    packed_ints,
    single_float,
    single_int,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)
KEYS = st.sampled_from(["id", "labels", "rgb", "audio", "", "ü"])

# ---- messages that a plain writer makes

VALUES = st.one_of(
    st.binary(max_size=20),
    st.lists(st.binary(max_size=5), max_size=4),
    st.lists(INT64, max_size=30),
    st.lists(FLOAT32, max_size=30),
    st_numpy.arrays(np.int64, st.integers(0, 30)),
    st_numpy.arrays(np.float32, st.integers(0, 30), elements=FLOAT32),
)
MATRICES = st_numpy.arrays(np.uint8, st.tuples(st.integers(0, 6), st.integers(0, 200)))


@unhurried
@given(st.dictionaries(KEYS, VALUES))
def test_examples_are_written_as_protobuf_writes_them(features):
    payload = encode_example(features)
    assert payload == oracle.serialize_example(features)
    assert_same_features(parse_example(octets(payload), 0, len(payload)), payload)


@unhurried
@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, MATRICES))
def test_sequence_examples_are_written_as_protobuf_writes_them(context, lists):
    payload = encode_sequence_example(context, lists)
    rows = {key: [row.tobytes() for row in frames] for key, frames in lists.items()}
    assert payload == oracle.serialize_sequence_example(context, rows)
    assert_parsed_as_protobuf(payload)


@pytest.mark.parametrize("width", [0, 1, 120, 121, 122, 123, 124, 127, 128, 16370, 16384])
def test_frames_of_a_width_where_a_length_gains_a_byte(width):
    frames = np.random.default_rng(0).integers(0, 256, (3, width), np.uint8)
    rows = [row.tobytes() for row in frames]
    payload = encode_sequence_example({}, {"rgb": frames})
    assert payload == oracle.serialize_sequence_example({}, {"rgb": rows})
    assert_parsed_as_protobuf(payload)


# ---- messages as no plain writer makes them: every encoding that protobuf allows


def mixed(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Any of the parts, in any order and number, between unknown fields."""
    unknown = st.sampled_from(UNKNOWN_FIELDS)
    return st.lists(st.one_of(*parts, *parts, unknown), max_size=4).map(b"".join)


def wrapped(number: int, inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(field, st.just(number), inner, st.sampled_from([0, 0, 0, 1]))


INT_LIST = mixed(INT64.map(single_int), st.lists(INT64, max_size=12).map(packed_ints))
FLOAT_LIST = mixed(FLOAT32.map(single_float), st.lists(FLOAT32, max_size=4).map(packed_floats))
BYTES_LIST = mixed(wrapped(1, st.binary(max_size=9)))
FEATURE = mixed(wrapped(1, BYTES_LIST), wrapped(2, FLOAT_LIST), wrapped(3, INT_LIST))
KEY_FIELD = wrapped(1, KEYS.map(str.encode))


def frame_rows(width: int) -> st.SearchStrategy[bytes]:
    value = st.binary(min_size=width, max_size=width)
    return st.lists(wrapped(1, wrapped(1, wrapped(1, value))), max_size=4).map(b"".join)


FEATURE_LIST = st.one_of(
    st.integers(0, 4).flatmap(frame_rows),
    mixed(wrapped(1, FEATURE)),
    mixed(wrapped(1, wrapped(3, INT_LIST))),
)
# No unknown fields within a map entry: protobuf's implementations disagree about those.
ENTRY = st.lists(st.one_of(KEY_FIELD, wrapped(2, FEATURE)), max_size=4).map(b"".join)
FEATURES = mixed(wrapped(1, ENTRY))
FEATURE_LISTS = mixed(wrapped(1, st.builds(bytes.__add__, KEY_FIELD, wrapped(2, FEATURE_LIST))))
SEQUENCE_EXAMPLES = mixed(wrapped(1, FEATURES), wrapped(2, FEATURE_LISTS))


@unhurried
@given(mixed(wrapped(1, FEATURES)))
def test_examples_of_any_encoding_are_read_as_protobuf_reads_them(payload):
    assert_same_features(parse_example(octets(payload), 0, len(payload)), payload)


@unhurried
@given(SEQUENCE_EXAMPLES)
def test_sequence_examples_of_any_encoding_are_read_as_protobuf_reads_them(payload):
    assert_parsed_as_protobuf(payload)


@unhurried
@given(st.integers(0, 4).flatmap(frame_rows), st.integers(0, 4).flatmap(frame_rows))
def test_lists_of_any_encoding_are_read_as_protobuf_reads_them(rows, more):
    halves = field(1, b"rgb") + field(2, rows) + field(2, more)
    assert_parsed_as_protobuf(field(2, field(1, halves)))


# ---- comparison


def octets(payload: bytes) -> np.ndarray:
    return np.frombuffer(payload, np.uint8)


def assert_same_features(found: dict[str, ContextValue], payload: bytes) -> None:
    assert oracle.as_feature_values(found) == oracle.read_example(payload)


def assert_parsed_as_protobuf(payload: bytes, ordered: bool = False) -> None:
    """Ours is what protobuf reads; `ordered` as in the oracle."""
    context, features = oracle.read_sequence_example(payload, ordered)
    lists = {key: expected_frames(values) for key, values in features.items()}
    if "refused" in lists.values():
        with pytest.raises(RecordError, match=r"frame \d+ (holds|has)"):
            parse_sequence_example(octets(payload), 0, len(payload))
        return
    found = parse_sequence_example(octets(payload), 0, len(payload))
    assert oracle.as_feature_values(found.context) == context
    assert set(found.other_lists) == {key for key, rows in lists.items() if rows == "other"}
    rows = {
        key: [row.tobytes() for row in frames_of(octets(payload), frames)]
        for key, frames in found.lists.items()
    }
    assert rows == {key: rows for key, rows in lists.items() if rows != "other"}


def expected_frames(values: list[oracle.FeatureValue]) -> list[bytes] | str:
    """The frames of a list; "other" where none holds bytes, "refused" where they are no matrix."""
    if values and not any(kind == "bytes_list" and v for kind, v in values):
        return "other"
    if any(kind != "bytes_list" or len(v) != 1 for kind, v in values):
        return "refused"
    frames = [v[0] for _, v in values]
    return frames if len({len(frame) for frame in frames}) <= 1 else "refused"
