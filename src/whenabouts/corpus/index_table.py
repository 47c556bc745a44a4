"""Read the file of an index, and check it: nothing in it is believed that a stranger may have set.

What is behind it (the shards) was checked by checksum when it was indexed; an index that says
something else of them must not become wrong numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, LabelsError, SettingsError
from whenabouts.core.settings import from_dict
from whenabouts.core.tables import TableError, checked, read_table, refuse_repeated_ids, video_ids
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.corpus.splits import SPLITS, Role

FORMAT = 2  # what is written; in 1, lists had no type and all were bytes
READABLE_FORMATS = (1, 2)
KEY = b"whenabouts"
REMEDY = "make one with 'whenabouts index SHARDS... -o INDEX'"


@dataclass(frozen=True)
class Shard:
    """A TFRecord file as it was when it was indexed; `role` decides the split of its videos.

    path: in an index, relative to its folder.
    """

    path: str
    role: Role
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Header:
    """What the metadata of an index hold; topics: names of classes that videos are labelled with
    and that are not evaluated (older indexes have none)."""

    format: int
    dataset: DatasetSettings
    classes: ClassOrder
    shards: tuple[Shard, ...]
    topics: ClassOrder = field(default_factory=lambda: ClassOrder((), ()))


@dataclass(frozen=True)
class IndexTable:
    """columns: one row a video, as `schema_of` has them; ids: bytes [V]."""

    header: Header
    columns: pa.Table
    ids: NDArray[np.bytes_]


def schema_of(dataset: DatasetSettings) -> pa.Schema:
    """The columns of an index of such data."""
    places = {
        f"{feature.name}_{part}": kind
        for feature in dataset.features
        for part, kind in (("offset", pa.int64()), ("stride", pa.int32()), ("frames", pa.int32()))
    }
    return pa.schema(
        {
            "id": pa.string(),
            "split": pa.string(),
            "frames": pa.int32(),
            "offset": pa.int64(),
            "length": pa.int64(),
            "labels": pa.list_(pa.int32()),
            "rated_start": pa.list_(pa.int32()),
            "rated_class": pa.list_(pa.int32()),
            "rated_score": pa.list_(pa.float32()),
            **places,
            "shard": pa.int32(),
        }
    )


def read_index(path: Path) -> IndexTable:
    """Raises CorpusError if there is no index, or one that cannot be what `index` has written."""
    try:
        table = read_table(path)
    except FileNotFoundError as error:
        raise CorpusError("no index here", where=path, remedy=REMEDY) from error
    except TableError as error:
        rule = "an index is a whole Parquet file"
        raise CorpusError(str(error), where=path, rule=rule, remedy=REMEDY) from error
    header = _header(path, table.schema)
    try:
        columns = checked(table, schema_of(header.dataset))
        ids = video_ids(columns["id"])
        refuse_repeated_ids(ids)
        _check_values(columns, ids, header)
    except TableError as error:
        raise CorpusError(str(error), where=path, rule=_RULE, remedy="index again") from error
    return IndexTable(header, columns, ids)


_RULE = "an index says of its shards what 'whenabouts index' found in them"


def _header(path: Path, schema: pa.Schema) -> Header:
    text = (schema.metadata or {}).get(KEY, b"{}")
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"its header is not JSON ({error})", where=path, remedy=REMEDY) from error
    found = values.get("format") if isinstance(values, dict) else None
    if found not in READABLE_FORMATS:
        known = " or ".join(map(str, READABLE_FORMATS))
        fact = f"index format is {found}"
        raise CorpusError(fact, where=path, rule=f"it must be {known}", remedy=REMEDY)
    try:
        return from_dict(Header, values, "header")
    except (SettingsError, LabelsError) as error:
        raise CorpusError(str(error), where=path, rule=_RULE, remedy="index again") from error


def _check_values(columns: pa.Table, ids: NDArray[np.bytes_], header: Header) -> None:
    """Raises TableError, naming the video, where a value cannot be."""
    numbers = {
        name: columns[name].to_numpy()
        for name in columns.column_names
        if pa.types.is_integer(columns.schema.field(name).type)
    }
    shard = numbers["shard"]
    _refuse(ids, (shard < 0) | (shard >= len(header.shards)), "shard", shard)
    splits = columns["split"].to_numpy()
    _refuse(ids, ~np.isin(splits, SPLITS), "split", splits)
    for name, values in numbers.items():
        _refuse(ids, values < (1 if name == "frames" else 0), name, values)
    sizes = np.array([each.size for each in header.shards], np.int64)[shard]
    for end in (numbers["offset"] + numbers["length"], *_ends(numbers, header.dataset)):
        _refuse(ids, (end < 0) | (end > sizes), "end in its shard", end)
    _check_lists(columns, ids, numbers["frames"], header.dataset)


def _ends(
    numbers: dict[str, NDArray[np.int64]], dataset: DatasetSettings
) -> list[NDArray[np.int64]]:
    """The byte behind the last frame of each feature list, where its frames lie regularly."""
    found = []
    for feature in dataset.features:
        offset, stride, count = (
            numbers[f"{feature.name}_{part}"].astype(np.int64)
            for part in ("offset", "stride", "frames")
        )
        frame_bytes = feature.width * np.dtype(feature.dtype).itemsize
        end = offset + stride * (count - 1) + frame_bytes
        found.append(np.where((count > 0) & (stride > 0), end, 0))
    return found


def _check_lists(
    columns: pa.Table,
    ids: NDArray[np.bytes_],
    num_frames: NDArray[np.int32],
    dataset: DatasetSettings,
) -> None:
    lists = {name: columns[name].combine_chunks() for name in LISTS}
    counts = {name: each.value_lengths().to_numpy() for name, each in lists.items()}
    rated = counts["rated_class"]
    for name in ("rated_start", "rated_score"):
        _refuse(ids, counts[name] != rated, f"number of {name}", counts[name])
    values = {name: each.flatten().to_numpy() for name, each in lists.items()}
    starts_s, last_frame = values["rated_start"], np.repeat(num_frames, rated) - 1
    for name, bad in (
        ("labels", values["labels"] < 0),
        ("rated_class", values["rated_class"] < 0),
        ("rated_score", ~((values["rated_score"] >= 0) & (values["rated_score"] <= 1))),
        ("rated_start", (starts_s < 0) | (starts_s % dataset.segment_s > 0)),
        ("rated_start", dataset.grid.first_frame(starts_s.astype(np.int64)) > last_frame),
    ):
        _refuse(ids, bad, name, values[name], counts[name])


LISTS = ("labels", "rated_start", "rated_class", "rated_score")


def _refuse(
    ids: NDArray[np.bytes_],
    bad: NDArray[np.bool_],
    name: str,
    values: NDArray[Any],
    counts: NDArray[np.integer] | None = None,
) -> None:
    """Raise TableError, naming the video, where a value is bad. counts: values of each video; None:
    one."""
    if bad.any():
        at = int(bad.argmax())
        video = at if counts is None else int(np.searchsorted(np.cumsum(counts), at, side="right"))
        raise TableError(f"video '{ids[video].decode()}': {name} is {values[at]}")
