"""Features of one's own videos -> shards in the YouTube-8M wire format, which all else reads.

A video is a file: `.npy`, an array [T frames, D values], or `.npz`, one such array a feature list.
Lists of a video may differ by a second, as those of different extractors do, and are cut to the
shortest. Its name without the ending is the video's id. Floats become bytes as in
YouTube-8M: 255 steps between the lowest and the highest value of the data set; bytes (uint8) stay.

Every file is looked at before anything is written: what lists there are, whether all agree, what
range their values have. The folder appears when it is whole.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_dir, write_json
from whenabouts.core.errors import RecordError, UsageError
from whenabouts.core.lookup import Lookup
from whenabouts.core.outputs import refuse_what_is_there
from whenabouts.core.processes import map_unordered
from whenabouts.core.progress import progress
from whenabouts.core.settings import to_dict
from whenabouts.core.submission_tokens import NOT_IN_IDS
from whenabouts.core.tables import MAX_ID_BYTES
from whenabouts.corpus.dataset import DatasetSettings, FeatureList, listing
from whenabouts.corpus.known import Labelled, refuse_ratings, refuse_strangers
from whenabouts.records.quantize import QuantizeRange, quantize
from whenabouts.records.writing import encode_sequence_example, write_records

ENDINGS = (".npy", ".npz")
ONLY_LIST = "features"  # the name of the list in a .npy file, which has none
MOST_NAMED = 3  # paths in a message
AT_ONCE = 256  # files looked at, or videos written into a shard, by a process at a time


@dataclass(frozen=True)
class Packed:
    """What was written. num_cut: videos whose lists were cut to the shortest; unknown: labelled or
    rated videos that have no file."""

    dataset: DatasetSettings
    num_videos: int
    num_frames: int
    num_labels: int
    num_ratings: int
    num_clipped: int
    num_cut: int
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    """What one file holds. lengths: of the lists, in frames."""

    lists: tuple[FeatureList, ...]
    lengths: tuple[int, ...]
    is_bytes: bool
    low: float
    high: float

    @property
    def num_frames(self) -> int:
        return min(self.lengths)


def feature_files(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and all in folders among them; sorted by id.

    Raises UsageError where there is none, where two have one id, or an id cannot be one.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise UsageError("no such file or folder", where=path)
        if path.is_dir():
            found += [p for p in path.rglob("*") if p.suffix in ENDINGS and p.name[0] != "."]
        elif path.suffix in ENDINGS:
            found.append(path)
        else:
            rule = f"they end in {' or '.join(ENDINGS)}"
            raise UsageError("no feature file", where=path, rule=rule)
    if not found:
        where = ", ".join(map(str, paths[:MOST_NAMED]))
        raise UsageError(
            "no feature file there", where=where, rule="a video is a .npy or .npz file"
        )
    found.sort(key=lambda path: (path.stem, path))
    for one, other in pairwise(found):
        if one.stem == other.stem:
            rule = "the name of a file is the id of its video"
            raise UsageError(f"{other} has the same name", where=one, rule=rule)
    for path in found:
        _refuse_id(path)
    return found


def _refuse_id(path: Path) -> None:
    name = os.fsencode(path.stem)
    is_text = name.decode(errors="ignore") == path.stem
    if not is_text or len(name) > MAX_ID_BYTES or not NOT_IN_IDS.isdisjoint(name):
        raise UsageError(
            f"'{path.stem}' cannot be the id of a video",
            where=path,
            rule=f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8, no space, comma, quote or control",
            remedy="rename the file",
        )


def pack(
    files: Sequence[Path],
    out: Path,
    known: Labelled,
    dataset: DatasetSettings | None,
    grid: tuple[int, int] = (5, 1),
    limits: tuple[float, float] | None = None,
    processes: int = 1,
) -> Packed:
    """Write the videos of the files, as `feature_files` gives them, to the new folder `out`.

    dataset None: the lists of the first file, `grid` (seconds a segment, frames a second), and
    `limits` as the range of the values; None: what they have. Raises RecordError, naming the file,
    where one cannot be used.
    """
    refuse_what_is_there(out)
    looks = _look_at_all(files, processes)
    dataset = dataset or _dataset_of(looks, grid, limits)
    _refuse_misfits(files, looks, dataset)
    refuse_ratings(known, dataset.segment_s)
    jobs, unknown = _jobs(files, dataset, known)
    with atomic_dir(out) as partial, progress("pack", len(files), "videos") as bar:
        num_clipped = 0
        places = [(partial / "shards" / f"{k:05d}.tfrecord", job) for k, job in enumerate(jobs)]
        for (_, job), clipped in map_unordered(_write_shard, places, processes):
            num_clipped += clipped
            bar.advance(len(job.files))
        write_json(partial / "dataset.json", to_dict(dataset))
    return Packed(
        dataset=dataset,
        num_videos=len(files),
        num_frames=sum(look.num_frames for look in looks),
        num_labels=sum(len(labels) for job in jobs for labels in job.labels),
        num_ratings=sum(len(rated) for job in jobs for rated in job.ratings),
        num_clipped=num_clipped,
        num_cut=sum(len(set(look.lengths)) > 1 for look in looks),
        unknown=unknown,
    )


# ---- looking -------------------------------------------------------------------------------------


def _look_at_all(files: Sequence[Path], processes: int) -> list[_Look]:
    parts = [tuple(files[at : at + AT_ONCE]) for at in range(0, len(files), AT_ONCE)]
    found: dict[tuple[Path, ...], list[_Look]] = {}
    with progress("look", len(files), "videos") as bar:
        for part, looks in map_unordered(_look_at, parts, processes):
            found[part] = looks
            bar.advance(len(part))
    return [look for part in parts for look in found[part]]


def _look_at(files: Sequence[Path]) -> list[_Look]:
    return [_look(path) for path in files]


def _look(path: Path) -> _Look:
    with _arrays(path) as arrays:
        if not arrays:
            raise RecordError("it holds no array", where=path)
        for name, array in arrays.items():
            _refuse_array(path, name, array)
        kinds = {array.dtype == np.uint8 for array in arrays.values()}
        if len(kinds) > 1:
            raise RecordError("it has bytes and floats", where=path, rule="all are of one kind")
        return _Look(
            lists=tuple(FeatureList(name, array.shape[1]) for name, array in arrays.items()),
            lengths=tuple(map(len, arrays.values())),
            is_bytes=kinds.pop(),
            low=min(float(array.min()) for array in arrays.values()),
            high=max(float(array.max()) for array in arrays.values()),
        )


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """By list, in the order of the file; that of a .npy is mapped."""
    try:
        if path.suffix == ".npy":
            yield {ONLY_LIST: npy_format.open_memmap(path, mode="r")}
            return
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            yield {name: kept[name] for name in kept.files}
    except RecordError:
        raise
    except (ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        rule = "features are arrays of numbers as numpy.save or numpy.savez write them"
        raise RecordError(f"it cannot be read ({error})", where=path, rule=rule) from error


def _refuse_array(path: Path, name: str, array: NDArray[Any]) -> None:
    where = f"{path}: array '{name}'"
    if array.ndim != 2 or not array.size:
        rule = "features are [T frames, D values], at least one of each"
        raise RecordError(f"its shape is {array.shape}", where=where, rule=rule)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise RecordError(f"its type is {array.dtype}", where=where, rule="it is uint8 or floats")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        frame = int((~np.isfinite(array)).any(axis=1).argmax())
        raise RecordError(f"frame {frame} has a NaN or an infinity", where=where)


def _dataset_of(
    looks: Sequence[_Look], grid: tuple[int, int], limits: tuple[float, float] | None
) -> DatasetSettings:
    if limits is None and looks[0].is_bytes:
        limits = QuantizeRange().low, QuantizeRange().high
    if limits is None:
        low, high = min(look.low for look in looks), max(look.high for look in looks)
        limits = (low, high) if low < high else (low - 1, high + 1)
    segment_s, frames_per_s = grid
    return DatasetSettings(
        "own", looks[0].lists, low=limits[0], high=limits[1], segment_s=segment_s,
        frames_per_s=frames_per_s,
    )  # fmt: skip


def _refuse_misfits(
    files: Sequence[Path], looks: Sequence[_Look], dataset: DatasetSettings
) -> None:
    expected = {feature.name: feature.width for feature in dataset.features}
    for path, look in zip(files, looks):
        found = {name: feature.width for name, feature in _named(look.lists, dataset).items()}
        if found != expected:
            raise RecordError(
                f"it has {listing(look.lists)}",
                where=path,
                rule=f"each video has {listing(dataset.features)}",
            )
        if max(look.lengths) - look.num_frames > dataset.frames_per_s:
            lengths = zip(look.lists, look.lengths)
            told = ", ".join(f"'{each.name}' {length}" for each, length in lengths)
            raise RecordError(
                f"arrays differ in frames: {told}",
                where=path,
                rule="lists of a video have one vector a frame, and may differ by a second",
            )
        if look.is_bytes != looks[0].is_bytes:
            raise RecordError(f"it is of another type than {files[0]}", where=path)


def _named(lists: Sequence[FeatureList], dataset: DatasetSettings) -> dict[str, FeatureList]:
    """The lists of a file by their names in the data set; a .npy file has the only one."""
    if len(lists) == len(dataset.features) == 1 and lists[0].name == ONLY_LIST:
        return {dataset.features[0].name: lists[0]}
    return {each.name: each for each in lists}


# ---- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """The videos of one shard, parallel: files, labels (class ids) and ratings [n, 3] (start in s,
    class, score)."""

    files: tuple[Path, ...]
    labels: tuple[NDArray[np.int64], ...]
    ratings: tuple[NDArray[np.float64], ...]
    dataset: DatasetSettings


def _jobs(
    files: Sequence[Path], dataset: DatasetSettings, known: Labelled
) -> tuple[list[_Job], tuple[str, ...]]:
    """The work a shard; and the ids that are known and have no file."""
    lookup = Lookup(np.array([path.stem.encode() for path in files], np.bytes_))
    of_labels, of_ratings = lookup.places(known.video), lookup.places(known.ratings.video)
    refuse_strangers(known, (of_labels, of_ratings), files[0].stem)
    rated = np.stack(
        [known.ratings.start_s, known.ratings.class_id, known.ratings.score], axis=1
    ).astype(np.float64)
    labels = _grouped(known.class_id, of_labels, len(files))
    ratings = _grouped(rated, of_ratings, len(files))
    unknown = np.union1d(known.video[of_labels < 0], known.ratings.video[of_ratings < 0])
    jobs = [
        _Job(
            tuple(files[at : at + AT_ONCE]),
            tuple(np.unique(each) for each in labels[at : at + AT_ONCE]),
            tuple(ratings[at : at + AT_ONCE]),
            dataset,
        )
        for at in range(0, len(files), AT_ONCE)
    ]
    return jobs, tuple(name.decode() for name in unknown.tolist())


def _grouped(values: NDArray[Any], place: NDArray[np.int64], num_places: int) -> list[NDArray[Any]]:
    """The values of each place, in the order given; those of place -1 are left out."""
    order = np.argsort(place, kind="stable")[(place < 0).sum() :]
    counts = np.bincount(place[order], minlength=num_places)
    return np.split(values[order], np.cumsum(counts)[:-1])


def _write_shard(work: tuple[Path, _Job]) -> int:
    """Returns how many values lay outside the range, and were clipped."""
    path, job = work
    path.parent.mkdir(exist_ok=True)
    clipped = [0]
    write_records(path, _records(job, clipped))
    return clipped[0]


def _records(job: _Job, clipped: list[int]) -> Iterator[bytes]:
    dataset = job.dataset
    limits = QuantizeRange(dataset.low, dataset.high)
    names = [feature.name for feature in dataset.features]
    for path, labels, ratings in zip(job.files, job.labels, job.ratings):
        with _arrays(path) as arrays:
            by_name = arrays if len(names) > 1 else dict(zip(names, arrays.values()))
            wanted = {name: by_name[name] for name in names}
            num_frames = min(map(len, wanted.values()))
            lists = {}
            for name, array in wanted.items():
                lists[name], outside = _bytes_of(array[:num_frames], limits)
                clipped[0] += outside
        yield encode_sequence_example(_context(path, labels, ratings, dataset.segment_s), lists)


def _bytes_of(array: NDArray[Any], limits: QuantizeRange) -> tuple[NDArray[np.uint8], int]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array), 0
    # Half a step is what any value may lose; and the last byte stands for a bit more than `high`.
    slack = limits.scale / 2
    lowest, highest = limits.bias - slack, limits.bias + 255 * limits.scale + slack
    return quantize(array, limits), int(((array < lowest) | (array > highest)).sum())


def _context(
    path: Path, labels: NDArray[np.int64], ratings: NDArray[np.float64], segment_s: int
) -> dict[str, Any]:
    context: dict[str, Any] = {"id": path.stem.encode()}
    if len(labels):
        context["labels"] = labels
    if len(ratings):
        starts = ratings[:, 0].astype(np.int64)
        context["segment_start_times"] = starts
        context["segment_end_times"] = starts + segment_s
        context["segment_labels"] = ratings[:, 1].astype(np.int64)
        context["segment_scores"] = ratings[:, 2].astype(np.float32)
    return context
