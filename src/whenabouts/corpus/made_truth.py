"""The truth beside a made corpus: what was planted where, and the labels the test records lack.

Shards leave parts; the parts are joined, in order, when all shards are there. So memory does not
grow with the corpus and the files do not depend on which shard was done first.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from whenabouts.core.atomic import atomic_path
from whenabouts.corpus.made_video import MadeVideo

SCENES = pa.schema(
    {"video": pa.string(), "class": pa.int64(), "start_s": pa.int64(), "end_s": pa.int64()}
)
LABELS = pa.schema(
    {"video": pa.string(), "start": pa.int64(), "class": pa.int64(), "score": pa.float32()}
)
ROWS_A_GROUP = 1_000_000


class TruthPart:
    """The truth of one shard's videos, collected as they are drawn."""

    def __init__(self) -> None:
        self._topics: list[tuple[str, int, int, int]] = []
        self._cues: list[tuple[str, int, int, int]] = []
        self._inserts: list[tuple[str, int, int, int]] = []
        self._labels: list[tuple[str, int, int, float]] = []

    def add(self, video_id: str, video: MadeVideo) -> None:
        self._topics += [(video_id, *topic) for topic in video.topics]
        self._cues += [(video_id, *cue) for cue in video.cues]
        self._inserts += [(video_id, *insert) for insert in video.inserts]
        self._labels += [(video_id, *rating) for rating in video.ratings]

    def write(self, truth: Path, name: str, test: bool) -> None:
        """Leave the parts called `name` in the folder `truth`; ratings only of test videos."""
        scenes = {"topics": self._topics, "cues": self._cues, "inserts": self._inserts}
        rows = {kind: (values, SCENES) for kind, values in scenes.items()}
        if test:
            rows["test-labels"] = (self._labels, LABELS)  # type: ignore[assignment]
        for kind, (values, schema) in rows.items():
            if values:
                with atomic_path(_part_path(truth, kind, name)) as partial:
                    pq.write_table(_table(values, schema), partial)


def join_parts(truth: Path, names: Sequence[str]) -> None:
    """Turn the parts into topics.parquet and test-labels.csv, and cues.parquet and inserts.parquet
    if there are any."""
    for kind in ("topics", "cues", "inserts"):
        if kind == "topics" or (truth / "parts" / kind).exists():
            _join_parquet(truth, kind, names)
    with (
        atomic_path(truth / "test-labels.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.writer(out)
        writer.writerow(LABELS.names)
        for part in _parts(truth, "test-labels", names):
            writer.writerows(zip(*part.to_pydict().values()))
    shutil.rmtree(truth / "parts", ignore_errors=True)


def _join_parquet(truth: Path, kind: str, names: Sequence[str]) -> None:
    with (
        atomic_path(truth / f"{kind}.parquet") as partial,
        pq.ParquetWriter(partial, SCENES, compression="zstd") as writer,
    ):
        for tables in _groups(_parts(truth, kind, names)):
            writer.write_table(pa.concat_tables(tables))


def _groups(parts: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    """Parts by the row group: many small groups would make the file slow to open."""
    group: list[pa.Table] = []
    for part in parts:
        group.append(part)
        if sum(len(t) for t in group) >= ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _parts(truth: Path, kind: str, names: Sequence[str]) -> Iterator[pa.Table]:
    paths = (_part_path(truth, kind, name) for name in names)
    return (pq.read_table(path) for path in paths if path.exists())


def _part_path(truth: Path, kind: str, name: str) -> Path:
    return truth / "parts" / kind / f"{name}.parquet"


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows), schema)]
    return pa.table(columns, schema)
