"""Labels: rated (or pseudo) labels of segments, the artefact between people, teachers and training.

A table of `video, start, class, score, weight`: score 1.0 where the segment shows the class, 0.0
where it does not (soft labels lie between); weight (optional, 1.0) is how much the pair counts.
Parquet or CSV. What is not in the table is unknown, not negative.

A Parquet file may say who made it: JSON under the key `whenabouts` of its metadata (`method`,
`settings`, `splits`: those of its videos, `trained_on`: those that its makers have seen).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.classes import MAX_CLASS, are_class_ids
from whenabouts.core.errors import LabelsError
from whenabouts.core.tables import TableError, checked, read_any, video_ids, write_table

SCHEMA = pa.schema(
    {
        "video": pa.string(),
        "start": pa.int64(),
        "class": pa.int64(),
        "score": pa.float32(),
        "weight": pa.float32(),
    }
)
FORMAT = 1  # of what the metadata say
KEY = b"whenabouts"
GROUP_PAIRS = 1 << 20


@dataclass(frozen=True)
class SegmentLabels:
    """Parallel arrays over P rated (segment, class) pairs; `video` holds ids as bytes."""

    video: NDArray[np.bytes_]
    start_s: NDArray[np.int64]
    class_id: NDArray[np.int64]
    score: NDArray[np.float32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> SegmentLabels:
        return SegmentLabels(
            self.video[keep],
            self.start_s[keep],
            self.class_id[keep],
            self.score[keep],
            self.weight[keep],
        )


def segment_labels(
    video: NDArray[np.bytes_],
    start_s: NDArray[np.integer],
    class_id: NDArray[np.integer],
    score: NDArray[np.floating],
) -> SegmentLabels:
    """Labels of weight 1. Raises LabelsError if one (video, start, class) is rated twice."""
    labels = SegmentLabels(
        video,
        start_s.astype(np.int64),
        class_id.astype(np.int64),
        score.astype(np.float32),
        np.ones(len(video), np.float32),
    )
    refuse_repeats(labels, "labels")
    return labels


def refuse_repeats(labels: SegmentLabels, where: object) -> None:
    order = np.lexsort((labels.class_id, labels.start_s, labels.video))
    columns = (labels.video, labels.start_s, labels.class_id)
    same = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in columns])
    if same.any():
        at = order[1:][same][0]
        raise LabelsError(
            f"segment {labels.video[at].decode()}:{labels.start_s[at]} is rated twice for class "
            f"{labels.class_id[at]}",
            where=where,
            rule="a (video, start, class) stands once",
        )


def read_labels(path: str | Path) -> SegmentLabels:
    """Read Labels from `.parquet` or `.csv` (with a header; `weight` may be missing)."""
    path = Path(path)
    try:
        table = read_any(path)
        if "weight" not in table.column_names:
            table = table.append_column("weight", pa.array(np.ones(len(table), np.float32)))
        labels = _from_table(checked(table, SCHEMA))
    except TableError as error:
        raise LabelsError(str(error), where=path, rule=RULE) from error
    refuse_repeats(labels, path)
    return labels


RULE = "Labels have the columns video, start (s), class (an integer), score and perhaps weight"


def write_labels(path: str | Path, labels: SegmentLabels) -> None:
    with atomic_path(path) as partial:
        write_table(_to_table(labels), partial)


class LabelsWriter:
    """Writes Labels part by part; row groups have one size, whatever that of the parts."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer, self._waiting = writer, SCHEMA.empty_table()

    def write(self, labels: SegmentLabels) -> None:
        """The arrays may be used again afterwards."""
        self._waiting = pa.concat_tables([self._waiting, _to_table(labels)])
        whole = len(self._waiting) // GROUP_PAIRS * GROUP_PAIRS
        if whole:
            self._writer.write_table(self._waiting.slice(0, whole), row_group_size=GROUP_PAIRS)
            self._waiting = self._waiting.slice(whole)

    def end(self) -> None:
        """Write what still waits."""
        self._writer.write_table(self._waiting, row_group_size=GROUP_PAIRS)


@contextmanager
def new_labels(path: str | Path, made_by: dict[str, Any]) -> Iterator[LabelsWriter]:
    """A writer of Parquet Labels that say who made them; the file appears when it is whole.

    Raises LabelsError where something else than a Labels file lies at `path`.
    """
    path = Path(path)
    _refuse_other_content(path)
    schema = SCHEMA.with_metadata({KEY: json.dumps({"format": FORMAT, **made_by})})
    with (
        atomic_path(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        labels = LabelsWriter(writer)
        yield labels
        labels.end()


def read_labels_made_by(path: str | Path) -> dict[str, Any]:
    """What a Labels file says of its makers; empty where it says nothing, as CSV.

    Raises LabelsError if what it says cannot be read.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        return {}
    try:
        text = (pq.read_schema(path).metadata or {}).get(KEY)
        made_by = json.loads(text) if text else {}
    except (pa.ArrowException, ValueError, RecursionError) as error:
        raise LabelsError(str(error).splitlines()[0], where=path, rule=RULE) from error
    if made_by and (not isinstance(made_by, dict) or made_by.get("format") != FORMAT):
        raise LabelsError(
            "it says who made it in another format", where=path, rule=f"the format is {FORMAT}"
        )
    return dict(made_by)


def _refuse_other_content(path: Path) -> None:
    """Labels replace Labels, never anything else that happens to lie at `path`."""
    if path.suffix != ".parquet":
        raise LabelsError(f"the name ends in '{path.suffix}'", where=path, rule="it is .parquet")
    if not path.exists():
        return
    try:
        is_labels = set(SCHEMA.names) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        is_labels = False
    if not is_labels:
        fact = "something else than Labels is here"
        raise LabelsError(fact, where=path, remedy="choose another --out")


def _to_table(labels: SegmentLabels) -> pa.Table:
    """A copy: Arrow would look at the arrays when it writes, and they may hold others by then."""
    numbers = (labels.start_s, labels.class_id, labels.score, labels.weight)
    columns = [
        pa.array(labels.video.tolist(), pa.binary()).cast(pa.string()),
        *(pa.array(column.copy()) for column in numbers),
    ]
    return pa.table(columns, SCHEMA)


def _from_table(table: pa.Table) -> SegmentLabels:
    start, class_id, score, weight = (table[n].to_numpy() for n in SCHEMA.names[1:])
    strange = ~are_class_ids(class_id)
    if strange.any():
        row = int(strange.argmax())
        raise TableError(f"row {row} has class {class_id[row]}; classes are 0 to {MAX_CLASS}")
    outside = ~((score >= 0) & (score <= 1))
    if outside.any():
        row = int(outside.argmax())
        raise TableError(f"a score is outside [0, 1]: {score[row]:g} in row {row}")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(f"a weight is negative or not finite: {weight[row]:g} in row {row}")
    return SegmentLabels(_ids(table["video"]), start, class_id, score, weight)


def _ids(column: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """Each id is decoded once, however many pairs its video has."""
    coded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # an empty table has no chunk to combine into
        return np.zeros(0, np.bytes_)
    found: NDArray[np.bytes_] = video_ids(coded.dictionary)[coded.indices.to_numpy()]
    return found


def clusters_path(labels: Path) -> Path:
    """Where the clusters that made Labels are described (docs/artefacts.md)."""
    return labels.with_suffix(".clusters.json")
