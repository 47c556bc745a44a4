"""A parsed record -> the row of it in the index, or the reason why it is left out.

What real files hold and what becomes of it:

    no id, no frames, a feature list that is missing or of
    another width or type                                    the record is left out
    a float that is NaN or infinite                          the record is left out
    an id over 255 bytes, or not UTF-8                       the record is left out
    a rating past the video's end, off the segment grid,
    of a class not evaluated, or given twice                 the rating is left out
    segment fields of different length, or times or
    classes that are no integers                             the record is left out
    feature lists of different length                        kept: the first list counts, a shorter
                                                             one is filled with the byte nearest 0
    no labels                                                kept: the video has none
Each is counted by reason and reported; nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import MAX_CLASS
from whenabouts.core.errors import RecordError
from whenabouts.core.tables import MAX_ID_BYTES
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.corpus.splits import Role, Split, split_of
from whenabouts.records.examples import (
    ContextValue,
    FrameList,
    SequenceExample,
    offset_in,
    parse_example,
    parse_sequence_example,
)

Features = Mapping[str, ContextValue]
Value = TypeVar("Value")

SEGMENT_FIELDS = ("segment_start_times", "segment_end_times", "segment_labels", "segment_scores")


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Where one feature list lies: the first frame, bytes from frame to frame, number of frames.

    stride 0: the list is not regular, and has to be read from its record again.
    """

    offset: int
    stride: int
    num_frames: int


@dataclass(slots=True)
class Entry:
    """One video: a row of the index. `rated`: the SEGMENT_FIELDS, unchecked; None if absent."""

    video_id: str
    split: Split
    labels: list[int]
    places: list[ListPlace]
    rated: list[NDArray[np.generic]] | None

    @property
    def num_frames(self) -> int:
        return self.places[0].num_frames

    @property
    def is_uneven(self) -> bool:
        return any(place.num_frames != self.num_frames for place in self.places)


def read_entry(
    buffer: NDArray[np.uint8], offset: int, length: int, dataset: DatasetSettings, role: Role
) -> Entry:
    """The index row of the record in buffer[offset : offset + length].

    Raises RecordError, naming the field, if it cannot be read or used.
    """
    if dataset.is_video_level:
        return build_vector_entry(buffer, parse_example(buffer, offset, length), dataset, role)
    return build_entry(parse_sequence_example(buffer, offset, length), dataset, role)


def build_entry(record: SequenceExample, dataset: DatasetSettings, role: Role) -> Entry:
    """The index row of a frame-level record."""
    video_id = _video_id(record.context, dataset)
    places = [_place_of_frames(record, feature) for feature in dataset.features]
    if places[0].num_frames == 0:
        raise RecordError("it has no frames", where=f"video '{video_id}'")
    rated = _rated(record, video_id)
    split = split_of(role, video_id.encode(), is_rated=rated is not None)
    return Entry(video_id, split, _labels(record.context), places, rated)


def build_vector_entry(
    buffer: NDArray[np.uint8], record: Features, dataset: DatasetSettings, role: Role
) -> Entry:
    """The index row of a video-level record: a video of one frame, and without segments."""
    video_id = _video_id(record, dataset)
    places = [_place_of_floats(buffer, record, feature) for feature in dataset.features]
    split = split_of(role, video_id.encode(), is_rated=False)
    return Entry(video_id, split, _labels(record), places, None)


def _video_id(context: Features, dataset: DatasetSettings) -> str:
    for key in dataset.id_keys:
        value = context.get(key)
        if isinstance(value, tuple) and len(value) == 1 and 0 < len(value[0]) <= MAX_ID_BYTES:
            return _text(value[0], key)
    raise RecordError(
        f"no id of 1 to {MAX_ID_BYTES} bytes", where=f"fields {', '.join(dataset.id_keys)}"
    )


def _text(value: bytes, key: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise RecordError("the id is not UTF-8", where=f"field '{key}'") from error
    if "\0" in text:
        raise RecordError("the id has a NUL byte", where=f"field '{key}'")
    return text


def _place_of_frames(record: SequenceExample, feature: FeatureList) -> ListPlace:
    found: FrameList = _found(record.lists, feature)
    if found.count and found.width != feature.width:
        raise RecordError(
            f"frames have {found.width} bytes, not {feature.width}",
            where=f"feature list '{feature.name}'",
        )
    stride = 0 if found.offsets is not None else found.stride
    return ListPlace(found.offset, stride, found.count)


def _place_of_floats(
    buffer: NDArray[np.uint8], record: Features, feature: FeatureList
) -> ListPlace:
    """Floats in one piece are a list of one frame, seen in place; others are read again."""
    found, where = _found(record, feature), f"feature '{feature.name}'"
    if not isinstance(found, np.ndarray) or found.dtype != np.float32:
        raise RecordError("it holds no floats", where=where)
    if len(found) != feature.width:
        raise RecordError(f"it has {len(found)} floats, not {feature.width}", where=where)
    is_bad = ~np.isfinite(found)
    if is_bad.any():
        at = int(is_bad.argmax())
        raise RecordError(f"float {at} is {found[at]}", where=where, rule="floats are finite")
    offset = offset_in(buffer, found)
    return ListPlace(0, 0, 1) if offset is None else ListPlace(offset, found.nbytes, 1)


def _found(values: Mapping[str, Value], feature: FeatureList) -> Value:
    """What stands under the first of the feature's keys that is there."""
    for key in feature.keys:
        if key in values:
            return values[key]
    raise RecordError("it is missing", where=f"feature list '{feature.name}'")


def _labels(context: Features) -> list[int]:
    """Class ids of the video, rising, each once; what is no class id at all is dropped."""
    value = context.get("labels")
    if not _is_ints(value):
        return []
    return sorted({label for label in value.tolist() if 0 <= label <= MAX_CLASS})  # type: ignore[union-attr]


def _is_ints(value: ContextValue | None) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.int64


def _rated(record: SequenceExample, video_id: str) -> list[NDArray[np.generic]] | None:
    """The four parallel segment fields; None where the record has none."""
    found = [record.context.get(name) for name in SEGMENT_FIELDS]
    arrays = [v if isinstance(v, np.ndarray) else np.zeros(0, np.int64) for v in found]
    if len({len(a) for a in arrays}) > 1:
        lengths = ", ".join(f"{n} {len(a)}" for n, a in zip(SEGMENT_FIELDS, arrays))
        raise RecordError(
            f"parallel lists differ in length: {lengths}", where=f"video '{video_id}'"
        )
    if len(arrays[0]) and not all(_is_ints(a) for a in arrays[:3]):
        raise RecordError("segment times and classes are no integers", where=f"video '{video_id}'")
    return arrays if len(arrays[0]) else None  # type: ignore[return-value]
