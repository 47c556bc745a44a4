"""Build the index of a corpus: one row a video, in one Parquet file.

Shards are read by several processes, one shard at a time. The rows of a finished shard are kept in
`INDEX.parts/`, so that an interrupted call goes on where it was; the folder goes when the index is
whole. Checksums are verified, and what cannot be read is left out, counted and listed by file and
offset in `INDEX.left-out.csv`; ratings that cannot be used are in `INDEX.lost-ratings.csv`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whenabouts.core.atomic import atomic_path
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, RecordError
from whenabouts.core.outputs import refuse_input_as_output, refuse_other_file
from whenabouts.core.processes import map_unordered
from whenabouts.core.progress import progress
from whenabouts.core.settings import to_dict
from whenabouts.core.tables import read_table, video_ids, write_table
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.corpus.detect import detect_dataset
from whenabouts.corpus.entries import Entry, read_entry
from whenabouts.corpus.index_table import FORMAT, KEY, Header, Shard
from whenabouts.corpus.ratings import NOT_EVALUATED, Ratings, usable_ratings
from whenabouts.corpus.splits import Role
from whenabouts.records.framing import BadSpan, Span, scan_records
from whenabouts.records.shards import open_shard

PARQUET = b"PAR1"
MOST_LOST = 1000


@dataclass(frozen=True)
class LeftOut:
    """A stretch of a shard that is not in the index, and why."""

    path: str
    offset: int
    length: int
    reason: str


@dataclass(frozen=True)
class LostRating:
    """A rating that cannot be used, the record that gives it, and why."""

    path: str
    offset: int
    video: str
    start_s: int
    end_s: int
    class_id: int
    score: float
    reason: str


@dataclass
class IndexReport:
    """What an index holds and what was left out of it.

    notices: how often, by the reason; lost_ratings: MOST_LOST of a shard and a reason, and none
    that is of a class that is not evaluated: what is evaluated was asked for.
    """

    num_videos: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    lost_ratings: list[LostRating] = field(default_factory=list)

    @property
    def num_lost_ratings(self) -> int:
        return sum(count for reason, count in self.notices.items() if reason.startswith("rat"))

    def lines(self) -> Iterator[str]:
        """For people: one line a reason, then the first few places."""
        for reason, count in sorted(self.notices.items()):
            first = next((lost for lost in self.lost_ratings if lost.reason == reason), None)
            yield f"{count:,} x {reason}{_first_in_words(first)}"
        for entry in self.left_out[:20]:
            yield f"left out: {entry.path} at byte {entry.offset}: {entry.reason}"
        if len(self.left_out) > 20:
            yield f"... and {len(self.left_out) - 20:,} more left out"


def _first_in_words(lost: LostRating | None) -> str:
    if lost is None:
        return ""
    segment = f"segment {lost.video}:{lost.start_s} to {lost.end_s} s"
    what = f"{segment}, class {lost.class_id}, score {lost.score:g}"
    return f"; the first: {what}, in {lost.path} in the record at byte {lost.offset}"


@dataclass(frozen=True)
class IndexJob:
    """All that a process needs to index one shard."""

    shard: Shard
    dataset: DatasetSettings
    classes: ClassOrder | None
    part_path: Path


def build_index(
    shards: Sequence[tuple[Role, Path]],
    index_path: Path,
    dataset: DatasetSettings | None = None,
    classes: ClassOrder | None = None,
    vocabulary: dict[int, str] | None = None,
    processes: int = 1,
    *,
    strict: bool = False,
) -> IndexReport:
    """Index the shards into `index_path` and say what was left out.

    dataset None: the preset that fits the first record. classes None: every class that is rated,
    in rising order. Raises CorpusError if no shard or no readable video is there, or, if `strict`,
    when anything at all has to be left out; UsageError if index_path is a shard or something else
    than an index lies there.
    """
    if not shards:
        raise CorpusError("no shards given", remedy="pass TFRecord files, folders or globs")
    refuse_input_as_output(index_path, [path for _, path in shards], "this shard is")
    refuse_other_file(index_path, "an index", PARQUET)
    described = [describe_shard(path, role) for role, path in shards]
    dataset = dataset or detect_dataset([s.path for s in described])
    jobs = _jobs(described, index_path, dataset, classes)
    report = IndexReport()
    with progress("index", sum(s.size for s in described), "B") as bar:
        for job, part in map_unordered(index_shard, jobs, processes):
            report.num_videos += part.num_videos
            report.notices += part.notices
            report.left_out += part.left_out
            report.lost_ratings += part.lost_ratings
            bar.advance(job.shard.size, f"{report.num_videos:,} videos")
    table = _merge(jobs, report)
    if strict and (report.left_out or report.num_lost_ratings):
        raise CorpusError(
            f"{len(report.left_out):,} records, {report.num_lost_ratings:,} ratings cannot be used",
            where=index_path,
            rule="nothing may be left out with --strict",
            remedy="; ".join(report.lines()),
        )
    order = _class_order(table, classes, vocabulary or {})
    topics = _topics(table, order, vocabulary or {})
    relative = tuple(_relative(shard, index_path) for shard in described)
    _write_index(index_path, table, Header(FORMAT, dataset, order, relative, topics))
    _write_left_out(index_path, report)
    _write_lost_ratings(index_path, report)
    shutil.rmtree(_parts_dir(index_path))
    return report


def describe_shard(path: Path, role: Role) -> Shard:
    try:
        stat = path.stat()
    except OSError as error:
        raise CorpusError(error.strerror or "cannot be read", where=path) from error
    return Shard(str(path.absolute()), role, stat.st_size, stat.st_mtime_ns)


def _jobs(
    shards: Sequence[Shard], index_path: Path, dataset: DatasetSettings, classes: ClassOrder | None
) -> list[IndexJob]:
    parts = _parts_dir(index_path)
    parts.mkdir(parents=True, exist_ok=True)
    settings = json.dumps([FORMAT, to_dict(dataset), None if classes is None else classes.ids])
    jobs = []
    for shard in shards:
        name = hashlib.blake2b(f"{asdict(shard)} {settings}".encode(), digest_size=16).hexdigest()
        jobs.append(IndexJob(shard, dataset, classes, parts / f"{name}.parquet"))
    return jobs


def _parts_dir(index_path: Path) -> Path:
    return index_path.with_name(f"{index_path.name}.parts")


# ---- one shard -----------------------------------------------------------------------------------


def index_shard(job: IndexJob) -> IndexReport:
    """Index one shard into its part file, unless an earlier call has done so."""
    if job.part_path.exists():
        kept = json.loads(pq.read_schema(job.part_path).metadata[b"report"])
        left_out = [LeftOut(**entry) for entry in kept["left_out"]]
        lost = [LostRating(**entry) for entry in kept.get("lost_ratings", ())]
        return IndexReport(kept["num_videos"], left_out, Counter(kept["notices"]), lost)
    report = IndexReport()
    entries = list(_read_entries(job, report))
    report.num_videos = len(entries)
    report.notices["video has feature lists of different length"] = sum(
        entry.is_uneven for entry, _ in entries
    )
    table = _table(entries, job, report)
    kept = {
        "num_videos": report.num_videos,
        "left_out": [asdict(entry) for entry in report.left_out],
        "notices": dict(+report.notices),
        "lost_ratings": [asdict(entry) for entry in report.lost_ratings],
    }
    metadata = {"report": json.dumps(kept)}
    with atomic_path(job.part_path) as partial:
        write_table(table.replace_schema_metadata(metadata), partial)
    return report


def _read_entries(job: IndexJob, report: IndexReport) -> Iterator[tuple[Entry, Span]]:
    path = job.shard.path
    buffer = open_shard(path)
    for span in scan_records(buffer):
        if isinstance(span, BadSpan):
            report.left_out.append(LeftOut(path, span.offset, span.length, span.reason))
            continue
        try:
            found = read_entry(buffer, span.offset, span.length, job.dataset, job.shard.role)
            yield found, span
        except RecordError as error:
            report.left_out.append(LeftOut(path, span.offset, span.length, str(error)))


def _table(entries: list[tuple[Entry, Span]], job: IndexJob, report: IndexReport) -> pa.Table:
    rows = [entry for entry, _ in entries]
    columns = {
        "id": pa.array([e.video_id for e in rows], pa.string()),
        "split": pa.array([e.split for e in rows], pa.string()),
        "frames": pa.array([e.num_frames for e in rows], pa.int32()),
        "offset": pa.array([s.offset for _, s in entries], pa.int64()),
        "length": pa.array([s.length for _, s in entries], pa.int64()),
        "labels": pa.array([e.labels for e in rows], pa.list_(pa.int32())),
        **_rated_columns(entries, job, report),
    }
    for k, feature in enumerate(job.dataset.features):
        places = [e.places[k] for e in rows]
        columns[f"{feature.name}_offset"] = pa.array([p.offset for p in places], pa.int64())
        columns[f"{feature.name}_stride"] = pa.array([p.stride for p in places], pa.int32())
        columns[f"{feature.name}_frames"] = pa.array([p.num_frames for p in places], pa.int32())
    return pa.table(columns)


def _rated_columns(
    entries: list[tuple[Entry, Span]], job: IndexJob, report: IndexReport
) -> dict[str, pa.ListArray]:
    rows = [entry for entry, _ in entries]
    num_frames = np.array([e.num_frames for e in rows], np.int64)
    ratings, left_out = usable_ratings(
        _raw_ratings(rows), num_frames, job.dataset.grid, job.classes
    )
    for reason, lost in left_out.items():
        report.notices[reason] += len(lost)
        if reason != NOT_EVALUATED:
            report.lost_ratings += islice(_lost_ratings(lost, reason, entries, job), MOST_LOST)
    counts = np.bincount(ratings.video, minlength=len(rows))
    offsets = pa.array(np.r_[0, np.cumsum(counts)].astype(np.int32))
    return {
        name: pa.ListArray.from_arrays(offsets, pa.array(values).cast(kind))
        for name, values, kind in (
            ("rated_start", ratings.start_s, pa.int32()),
            ("rated_class", ratings.class_id, pa.int32()),
            ("rated_score", ratings.score, pa.float32()),
        )
    }


def _lost_ratings(
    lost: Ratings, reason: str, entries: list[tuple[Entry, Span]], job: IndexJob
) -> Iterator[LostRating]:
    integers = (lost.video, lost.start_s, lost.end_s, lost.class_id)
    columns = zip(*(column.tolist() for column in integers), lost.score.tolist())
    for video, start_s, end_s, class_id, score in columns:
        entry, span = entries[video]
        place = job.shard.path, span.offset, entry.video_id
        yield LostRating(*place, start_s, end_s, class_id, score, reason)


def _raw_ratings(rows: list[Entry]) -> Ratings:
    """The ratings of all videos, one after another, as the records give them."""
    rated = [(k, e.rated) for k, e in enumerate(rows) if e.rated is not None]
    video = np.repeat([k for k, _ in rated], [len(r[0]) for _, r in rated]).astype(np.int64)
    fields = [np.concatenate([r[k] for _, r in rated] or [np.zeros(0)]) for k in range(4)]
    start_s, end_s, class_id = (f.astype(np.int64) for f in fields[:3])
    return Ratings(video, start_s, end_s, class_id, fields[3].astype(np.float32))


# ---- all shards ----------------------------------------------------------------------------------


def _merge(jobs: list[IndexJob], report: IndexReport) -> pa.Table:
    """One table of all parts, in the order of the shards; of equal ids the first stays."""
    tables = [_with_shard(read_table(job.part_path), k) for k, job in enumerate(jobs)]
    table = pa.concat_tables(tables).combine_chunks()
    table = _drop_repeated_ids(table, [j.shard.path for j in jobs], report)
    for found in (report.left_out, report.lost_ratings):  # processes end in any order
        found.sort(key=lambda entry: (entry.path, entry.offset))
    if not len(table):
        raise CorpusError(
            "no record could be used", where=jobs[0].shard.path, remedy=next(report.lines(), "")
        )
    report.num_videos = len(table)
    return table


def _write_index(index_path: Path, table: pa.Table, header: Header) -> None:
    metadata = {KEY: json.dumps(to_dict(header))}
    with atomic_path(index_path) as partial:
        write_table(table.replace_schema_metadata(metadata), partial)


def _class_order(
    table: pa.Table, classes: ClassOrder | None, vocabulary: dict[int, str]
) -> ClassOrder:
    """The given classes, else all that are rated; the vocabulary's names go before theirs."""
    if classes is not None:
        return ClassOrder.of(classes.ids, {**dict(zip(classes.ids, classes.names)), **vocabulary})
    rated = np.unique(table["rated_class"].combine_chunks().values)
    return ClassOrder.of(rated.tolist(), vocabulary)


def _topics(table: pa.Table, classes: ClassOrder, vocabulary: dict[int, str]) -> ClassOrder:
    """The labels of the videos that are not evaluated and have a name."""
    labels = np.unique(table["labels"].combine_chunks().values).tolist()
    named = sorted({i for i in labels if vocabulary.get(i)} - set(classes.ids))
    return ClassOrder.of(named, vocabulary)


def _with_shard(table: pa.Table, shard: int) -> pa.Table:
    column = pa.array(np.full(len(table), shard, np.int32))
    return table.replace_schema_metadata(None).append_column("shard", column)


def _drop_repeated_ids(table: pa.Table, paths: list[str], report: IndexReport) -> pa.Table:
    ids = video_ids(table["id"])
    _, first = np.unique(ids, return_index=True)
    repeated = np.ones(len(ids), bool)
    repeated[first] = False
    for row in np.flatnonzero(repeated):
        place = table.slice(row, 1).select(["shard", "offset", "length"]).to_pylist()[0]
        reason = f"video id '{ids[row].decode()}' stands in an earlier record"
        path = paths[place["shard"]]
        report.left_out.append(LeftOut(path, place["offset"], place["length"], reason))
    return table.filter(pa.array(~repeated)) if repeated.any() else table


def _relative(shard: Shard, index_path: Path) -> Shard:
    """Shards are named relative to the index, so that both can move together.

    Links to folders are followed first: "..", to the system, is the parent of what a link names.
    """
    path = Path(shard.path)
    name = os.path.relpath(path.parent.resolve() / path.name, index_path.parent.resolve())
    return replace(shard, path=name)


def _write_left_out(index_path: Path, report: IndexReport) -> None:
    names = ("shard", "offset", "length", "reason")
    _write_rows(index_path, "left-out", names, map(astuple, report.left_out))


def _write_lost_ratings(index_path: Path, report: IndexReport) -> None:
    names = ("shard", "offset", "video", "start", "end", "class", "score", "reason")
    _write_rows(index_path, "lost-ratings", names, map(astuple, report.lost_ratings))


def _write_rows(
    index_path: Path, name: str, names: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> None:
    """A CSV beside the index; where there is no row, none."""
    path, rows = index_path.with_name(f"{index_path.name}.{name}.csv"), list(rows)
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([names, *rows])
