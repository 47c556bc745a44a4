"""`tensorflow.Example` and `tensorflow.SequenceExample`, parsed in place.

    Example         = { 1: Features }
    SequenceExample = { 1: Features (the context), 2: FeatureLists }
    Features        = { 1: map entry { 1: key, 2: Feature }, repeated }
    FeatureLists    = { 1: map entry { 1: key, 2: FeatureList }, repeated }
    FeatureList     = { 1: Feature, repeated }

Read as protobuf reads them: fields in any order, the last of equal keys wins, the occurrences of
one message are merged, unknown fields are skipped. Source: `tensorflow/core/example/*.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RecordError
from whenabouts.records.features import (
    FIELD_1,
    FIELD_2,
    ContextValue,
    Region,
    load_feature,
    offset_in,
)
from whenabouts.records.frames import FrameList, find_frames, frames_of
from whenabouts.records.wire import walk_fields, wire_error

__all__ = [
    "ContextValue",
    "FrameList",
    "SequenceExample",
    "frames_of",
    "offset_in",
    "parse_example",
    "parse_sequence_example",
]


@dataclass(frozen=True, slots=True)
class SequenceExample:
    """A video: what is known of it as a whole, and where its frames lie.

    `other_lists` names the feature lists that hold no bytes values (their contents are not read).
    """

    context: dict[str, ContextValue]
    lists: dict[str, FrameList]
    other_lists: tuple[str, ...] = ()


def parse_sequence_example(
    buffer: NDArray[np.uint8], span_offset: int, span_length: int
) -> SequenceExample:
    """The SequenceExample in `buffer[span_offset : span_offset + span_length]`.

    All offsets in the result count from the start of `buffer`. Raises RecordError, naming byte and
    field, where the bytes are no such message.
    """
    view = _view(buffer, span_offset, span_length)
    contexts, list_groups = list[Region](), list[Region]()
    for tag, a, b in walk_fields(view, span_offset, span_offset + span_length, "SequenceExample"):
        if tag == FIELD_1:
            contexts.append((a, b))
        elif tag == FIELD_2:
            list_groups.append((a, b))
    found = {
        key: find_frames(buffer, view, regions, f"feature list '{key}'")
        for key, regions in _read_map(view, list_groups, "feature lists").items()
    }
    return SequenceExample(
        context=_load_features(buffer, view, contexts, "context"),
        lists={key: frames for key, frames in found.items() if frames is not None},
        other_lists=tuple(key for key, frames in found.items() if frames is None),
    )


def parse_example(buffer: NDArray[np.uint8], offset: int, length: int) -> dict[str, ContextValue]:
    """The features of the Example in `buffer[offset : offset + length]`, by name.

    Floats are views of `buffer` where they lie in one piece (`offset_in` says where). Raises
    RecordError, naming byte and field, where the bytes are no such message.
    """
    view = _view(buffer, offset, length)
    regions = [
        (a, b)
        for tag, a, b in walk_fields(view, offset, offset + length, "Example")
        if tag == FIELD_1
    ]
    return _load_features(buffer, view, regions, "feature")


def _view(buffer: NDArray[np.uint8], offset: int, length: int) -> memoryview:
    assert buffer.dtype == np.uint8, "a shard is an array of bytes"
    assert buffer.flags.c_contiguous, "the bytes of a shard are contiguous"
    if not 0 <= offset <= offset + length <= len(buffer):
        raise RecordError(
            f"the record at byte {offset} of {length} bytes is not in the buffer",
            rule=f"the buffer has {len(buffer)} bytes",
        )
    return buffer.data  # indexed several times as fast as the array


def _load_features(
    buffer: NDArray[np.uint8], view: memoryview, regions: list[Region], path: str
) -> dict[str, ContextValue]:
    return {
        key: load_feature(buffer, view, values, f"{path} '{key}'")
        for key, values in _read_map(view, regions, path).items()
    }


def _read_map(view: memoryview, regions: list[Region], path: str) -> dict[str, list[Region]]:
    """Where the value of each key lies; the last entry of a key replaces earlier ones."""
    entries = {}
    for start, end in regions:
        for tag, a, b in walk_fields(view, start, end, path):
            if tag == FIELD_1:
                key, values = _read_entry(view, a, b, path)
                entries[key] = values
    return entries


def _read_entry(view: memoryview, start: int, end: int, path: str) -> tuple[str, list[Region]]:
    key, values = "", list[Region]()
    for tag, a, b in walk_fields(view, start, end, path):
        if tag == FIELD_1:
            try:
                key = str(view[a:b], "utf-8")
            except UnicodeDecodeError:
                raise wire_error("a key is not UTF-8", a, path) from None
        elif tag == FIELD_2:
            values.append((a, b))
    return key, values
