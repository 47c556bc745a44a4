"""A parsed record -> the row of it in the index, or the reason why it is left out.

What real files hold and what becomes of it:

    no id, no frames, a missing or too wide feature list     the record is left out
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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import MAX_CLASS
from whenabouts.core.errors import RecordError
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.corpus.splits import Role, Split, split_of
from whenabouts.records.examples import ContextValue, FrameList, SequenceExample

MAX_ID_BYTES = 255
SEGMENT_FIELDS = ("segment_start_times", "segment_end_times", "segment_labels", "segment_scores")


@dataclass(slots=True)
class Entry:
    """One video: a row of the index. `rated`: the SEGMENT_FIELDS, unchecked; None if absent."""

    video_id: str
    split: Split
    labels: list[int]
    lists: list[FrameList]
    rated: list[NDArray[np.generic]] | None

    @property
    def num_frames(self) -> int:
        return self.lists[0].count

    @property
    def is_uneven(self) -> bool:
        return any(frames.count != self.num_frames for frames in self.lists)


def build_entry(record: SequenceExample, dataset: DatasetSettings, role: Role) -> Entry:
    """The index row of a record. Raises RecordError, naming the field, if it cannot be used."""
    video_id = _video_id(record, dataset)
    lists = [_frame_list(record, feature) for feature in dataset.features]
    if lists[0].count == 0:
        raise RecordError("it has no frames", where=f"video '{video_id}'")
    rated = _rated(record, video_id)
    split = split_of(role, video_id.encode(), is_rated=rated is not None)
    return Entry(video_id, split, _labels(record), lists, rated)


def _video_id(record: SequenceExample, dataset: DatasetSettings) -> str:
    for key in dataset.id_keys:
        value = record.context.get(key)
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


def _frame_list(record: SequenceExample, feature: FeatureList) -> FrameList:
    found = next((record.lists[k] for k in feature.keys if k in record.lists), None)
    if found is None:
        raise RecordError("it is missing", where=f"feature list '{feature.name}'")
    if found.count and found.width != feature.width:
        raise RecordError(
            f"frames have {found.width} bytes, not {feature.width}",
            where=f"feature list '{feature.name}'",
        )
    return found


def _labels(record: SequenceExample) -> list[int]:
    """Class ids of the video, rising, each once; what is no class id at all is dropped."""
    value = record.context.get("labels")
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
