"""Open an index: the columns in memory as arrays, the shards mapped when first touched."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import ACCESS_READ, MADV_DONTNEED, mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.segments import SegmentGrid, SegmentTable
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.corpus.index_table import Shard, read_index
from whenabouts.corpus.splits import SPLITS, Split
from whenabouts.records.examples import frames_of, parse_example, parse_sequence_example

NO_TOPICS = ClassOrder((), ())
SPARE_FILES = 256  # for all else that a program has open


@dataclass(frozen=True)
class Ragged:
    """A list a video: values[offsets[v]:offsets[v + 1]] belong to video v."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def of(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The lists of the given videos, in that order."""
        parts = [self.of(row) for row in rows.tolist()]
        offsets = np.cumsum([0, *(len(part) for part in parts)])
        return Ragged(np.concatenate([self.values[:0], *parts]), offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The video row of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Places:
    """Where one feature list of each video lies in its shard; stride 0 where not regular."""

    offset: NDArray[np.int64]
    stride: NDArray[np.int32]
    num_frames: NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """An indexed corpus of V videos. Rows are videos, in the order of the shards.

    video_ids: bytes [V]; num_frames: [V]; split: index into SPLITS [V]; labels: class ids;
    rated_*: the rated (segment, class) pairs, parallel; places: one a feature list; topics: names
    of classes that are labels of videos alone.
    """

    path: Path
    dataset: DatasetSettings
    classes: ClassOrder
    shard_paths: tuple[Path, ...]
    video_ids: NDArray[np.bytes_]
    split: NDArray[np.int8]
    num_frames: NDArray[np.int32]
    labels: Ragged
    rated_start_s: Ragged
    rated_class: Ragged
    rated_score: Ragged
    shard: NDArray[np.int32]
    record_offset: NDArray[np.int64]
    record_length: NDArray[np.int64]
    places: tuple[Places, ...]
    topics: ClassOrder = NO_TOPICS

    def __len__(self) -> int:
        return len(self.video_ids)

    def rows(self, splits: Sequence[Split]) -> NDArray[np.int64]:
        """The rows of the videos in the given splits."""
        wanted = [SPLITS.index(s) for s in splits]
        return np.flatnonzero(np.isin(self.split, wanted))

    def rows_of(self, video_ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The row of each video id; -1 where the corpus does not have the video."""
        nothing = np.zeros(0, np.int64)
        return SegmentTable(self.video_ids, nothing, nothing).videos_of(video_ids)

    @property
    def grid(self) -> SegmentGrid:
        """The segment grid. Raises CorpusError where records hold whole videos only."""
        if self.dataset.is_video_level:
            raise CorpusError(
                f"data set '{self.dataset.name}' has one vector a video, and so no segments",
                where=self.path,
                rule="segment models read frames",
                remedy="index frame-level shards, or use a video classifier",
            )
        return self.dataset.grid

    def segments(self, rows: NDArray[np.int64]) -> SegmentTable:
        """Every segment of the given videos, the partial last ones too."""
        video, starts_s = self.grid.starts(self.num_frames[rows])
        return SegmentTable(self.video_ids[rows], video, starts_s)

    def rated(self, rows: NDArray[np.int64]) -> SegmentLabels:
        """The rated pairs of the given videos."""
        pair_row = self.rated_class.rows
        keep = np.isin(pair_row, rows)
        return segment_labels(
            self.video_ids[pair_row[keep]],
            self.rated_start_s.values[keep],
            self.rated_class.values[keep],
            self.rated_score.values[keep],
        )

    def has_labels(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of the given videos has a label."""
        labelled: NDArray[np.bool_] = np.diff(self.labels.offsets)[rows] > 0
        return labelled

    @cached_property
    def video_classes(self) -> ClassOrder:
        """The classes of the video labels: every label in the corpus and every evaluated class."""
        named = zip(self.topics.ids + self.classes.ids, self.topics.names + self.classes.names)
        names = dict(named)
        ids = np.union1d(self.labels.values, np.asarray(self.classes.ids, np.int64))
        return ClassOrder.of(ids.tolist(), names)

    @cached_property
    def digest(self) -> str:
        """Equal for corpora of the same videos, splits, labels and ratings, wherever they lie.

        Frames count by their number only: their bytes were checked when the shards were indexed.
        """
        lists = (self.labels, self.rated_start_s, self.rated_class, self.rated_score)
        parts = (self.video_ids, self.split, self.num_frames)
        found = hashlib.blake2b(digest_size=16)
        for array in (*parts, *(part for each in lists for part in (each.offsets, each.values))):
            found.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return found.hexdigest()

    @cached_property
    def buffers(self) -> ShardBuffers:
        return ShardBuffers(self.shard_paths)

    def frames(self, row: int) -> list[NDArray[Any]]:
        """The frames of each feature list of a video: [num_frames, width] views, not copies.

        uint8 or float32, as the data set says.
        """
        buffer = self.buffers[int(self.shard[row])]
        return [self._view(buffer, row, k) for k in range(len(self.places))]

    def _view(self, buffer: mmap, row: int, feature: int) -> NDArray[Any]:
        place, listed = self.places[feature], self.dataset.features[feature]
        count, stride = int(place.num_frames[row]), int(place.stride[row])
        if count and not stride:
            return self._irregular(buffer, row, listed.keys)
        offset, dtype = int(place.offset[row]) if count else 0, np.dtype(listed.dtype)
        return np.ndarray((count, listed.width), dtype, buffer, offset, (stride, dtype.itemsize))

    def _irregular(self, buffer: mmap, row: int, keys: Sequence[str]) -> NDArray[Any]:
        """A list that is no strided array: walked again, and copied."""
        whole = np.frombuffer(buffer, np.uint8)
        span = int(self.record_offset[row]), int(self.record_length[row])
        if self.dataset.is_video_level:
            features = parse_example(whole, *span)
            return np.asarray(next(features[k] for k in keys if k in features))[None]
        lists = parse_sequence_example(whole, *span).lists
        return frames_of(whole, next(lists[k] for k in keys if k in lists))


class ShardBuffers:
    """Read-only maps of the shards, each opened when first asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._maps: dict[int, mmap] = {}
        _allow_open_files(len(paths) + SPARE_FILES)

    def __getitem__(self, shard: int) -> mmap:
        if shard not in self._maps:
            with self._paths[shard].open("rb") as file:
                self._maps[shard] = mmap(file.fileno(), 0, access=ACCESS_READ)
        return self._maps[shard]

    def let_go(self) -> None:
        """Give the pages of all maps back to the system, which keeps them cached."""
        for each in self._maps.values():
            each.madvise(MADV_DONTNEED)


def _allow_open_files(count: int) -> None:
    """A map keeps its file open, and the usual limit is 1024: raise it as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def open_corpus(path: str | Path) -> Corpus:
    """Open an index made by `whenabouts index`.

    Raises CorpusError if it is no index, or if a shard is missing or is not what was indexed.
    """
    path = Path(path)
    index = read_index(path)
    header, table = index.header, index.columns
    split_names = table["split"].to_numpy()
    return Corpus(
        path=path,
        dataset=header.dataset,
        classes=header.classes,
        shard_paths=tuple(_check_shard(path, shard) for shard in header.shards),
        video_ids=index.ids,
        split=np.select([split_names == s for s in SPLITS], range(len(SPLITS)), -1).astype(np.int8),
        num_frames=table["frames"].to_numpy(),
        labels=_ragged(table["labels"]),
        rated_start_s=_ragged(table["rated_start"]),
        rated_class=_ragged(table["rated_class"]),
        rated_score=_ragged(table["rated_score"]),
        shard=table["shard"].to_numpy(),
        record_offset=table["offset"].to_numpy(),
        record_length=table["length"].to_numpy(),
        places=tuple(_places(table, feature.name) for feature in header.dataset.features),
        topics=header.topics,
    )


def _check_shard(index_path: Path, shard: Shard) -> Path:
    path = Path(index_path.resolve().parent, shard.path)
    try:
        stat = path.stat()
    except OSError as error:
        raise CorpusError(
            "shard is missing", where=path, remedy="put it back, or index again"
        ) from error
    if (stat.st_size, stat.st_mtime_ns) != (shard.size, shard.mtime_ns):
        how = "other bytes may stand in it: its time of change is another"
        if stat.st_size != shard.size:
            how = f"{stat.st_size:,} bytes, then {shard.size:,}"
        raise CorpusError(
            f"shard has changed since it was indexed ({how})", where=path, remedy="index again"
        )
    return path.resolve()


def _ragged(column: pa.ChunkedArray) -> Ragged:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.values.to_numpy()[offsets[0] : offsets[-1]]
    return Ragged(values, offsets - offsets[0])


def _places(table: pa.Table, name: str) -> Places:
    columns = (table[f"{name}_{part}"].to_numpy() for part in ("offset", "stride", "frames"))
    return Places(*columns)
