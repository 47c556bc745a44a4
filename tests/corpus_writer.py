"""Small shards and corpora from plain Python values.

A video is all that a test says of it; its bytes follow from its id, so that what an index gives
back can be compared with `features_of` instead of with another reading of the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.corpus.index import IndexReport, build_index
from whenabouts.corpus.splits import Role
from whenabouts.records.writing import encode_example, encode_sequence_example, write_records
from wire_bytes import bytes_feature, entry, field, sequence_example

NARROW = DatasetSettings("narrow", (FeatureList("rgb", 6), FeatureList("audio", 3)))
VECTORS = DatasetSettings(
    "vectors",
    (FeatureList("mean_rgb", 6, dtype="float32"), FeatureList("mean_audio", 3, dtype="float32")),
)
FRAMING = 16  # bytes that a TFRecord file adds to a payload


@dataclass(frozen=True)
class Video:
    """One record. ratings: (start in s, class, score); audio_frames None: as many as `frames`.

    is_irregular: the frames are not evenly spaced in the record.
    """

    id: str
    frames: int = 12
    labels: tuple[int, ...] = (1,)
    ratings: tuple[tuple[int, int, float], ...] = ()
    audio_frames: int | None = None
    is_irregular: bool = False


def features_of(video: Video, name: str, width: int) -> NDArray[np.uint8]:
    """The bytes [T, width] of one feature list of a video."""
    is_shorter = name == "audio" and video.audio_frames is not None
    count = video.audio_frames if is_shorter else video.frames
    rng = np.random.default_rng(zlib.crc32(f"{video.id}/{name}".encode()))
    return rng.integers(0, 256, (count, width), np.uint8)


def slow_features(video: Video) -> NDArray[np.float64]:
    """What a network should see of each frame [T, 9], from the bytes that were written.

    The range is [-2, 2]; frames that only the first list has are byte 127 in the other.
    """
    frames = np.full((video.frames, NARROW.width), 127.0)
    audio = features_of(video, "audio", 3)[: video.frames]
    frames[:, :6], frames[: len(audio), 6:] = features_of(video, "rgb", 6), audio
    x = frames * 4 / 255 + 4 / 512 - 2
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def context_of(video: Video, segment_s: int = 5) -> dict[str, Any]:
    context: dict[str, Any] = {"id": video.id.encode(), "labels": list(video.labels)}
    if video.ratings:
        start, class_id, score = zip(*video.ratings)
        context["segment_start_times"] = list(start)
        context["segment_end_times"] = [s + segment_s for s in start]
        context["segment_labels"] = list(class_id)
        context["segment_scores"] = [float(s) for s in score]
    return context


def lists_of(video: Video, dataset: DatasetSettings = NARROW) -> dict[str, NDArray[np.uint8]]:
    return {f.name: features_of(video, f.name, f.width) for f in dataset.features}


def payload(video: Video, dataset: DatasetSettings = NARROW) -> bytes:
    """The record of a video."""
    context, lists = context_of(video, dataset.segment_s), lists_of(video, dataset)
    if not video.is_irregular:
        return encode_sequence_example(context, lists)
    # Messages of the same field are merged, so that the two halves are one SequenceExample.
    return encode_sequence_example(context, {}) + irregular_lists(lists)


def irregular_lists(lists: dict[str, NDArray[np.uint8]]) -> bytes:
    """Feature lists of a SequenceExample with an unknown field behind every third frame."""
    entries = b""
    for name, frames in lists.items():
        extra = [field(9, b"odd") if t % 3 == 0 else b"" for t in range(len(frames))]
        features = [bytes_feature(f.tobytes()) + e for f, e in zip(frames, extra)]
        entries += entry(name, b"".join(field(1, feature) for feature in features))
    return sequence_example(lists=entries)


def record_of(
    video: Video, lists: dict[str, NDArray[np.uint8]] | None = None, **context: Any
) -> bytes:
    """The record of a video with other lists, and context fields replaced, or dropped if None."""
    merged = {**context_of(video), **context}
    kept = {key: value for key, value in merged.items() if value is not None}
    return encode_sequence_example(kept, lists_of(video) if lists is None else lists)


def vectors_of(video_id: str) -> dict[str, NDArray[np.float32]]:
    """The floats of a video of VECTORS, by name."""
    rng = np.random.default_rng(zlib.crc32(video_id.encode()))
    return {f.name: rng.standard_normal(f.width, np.float32) for f in VECTORS.features}


def vector_record(video_id: str, labels: Sequence[int] = (1,), **changed: Any) -> bytes:
    """The video-level record of a video with features replaced, or dropped if None."""
    features = {"id": video_id.encode(), "labels": list(labels), **vectors_of(video_id), **changed}
    return encode_example({key: value for key, value in features.items() if value is not None})


def write_shard(
    path: Path, videos: Iterable[Video | bytes], dataset: DatasetSettings = NARROW
) -> Path:
    """Write a shard; what is bytes already is written as it is."""
    write_records(path, [v if isinstance(v, bytes) else payload(v, dataset) for v in videos])
    return path


def write_shards(
    folder: Path,
    shards: Sequence[tuple[Role, Sequence[Video | bytes]]],
    dataset: DatasetSettings = NARROW,
) -> list[tuple[Role, Path]]:
    """Write shard0.tfrecord, shard1.tfrecord, ... and give what `build_index` takes."""
    return [
        (role, write_shard(folder / f"shard{k}.tfrecord", videos, dataset))
        for k, (role, videos) in enumerate(shards)
    ]


def make_small_corpus(
    folder: Path,
    *shards: tuple[Role, Sequence[Video | bytes]],
    dataset: DatasetSettings = NARROW,
    classes: ClassOrder | None = None,
) -> Corpus:
    """Write the shards, index them, and open the index."""
    build_index(write_shards(folder, shards, dataset), folder / "index", dataset, classes)
    return open_corpus(folder / "index")


def index_shards(
    folder: Path, *contents: Sequence[Video | bytes], role: Role = "validate", **settings: Any
) -> tuple[IndexReport, Corpus]:
    """Write shards of the given contents, index them into `folder / "index"` and open it."""
    shards = write_shards(folder, [(role, content) for content in contents])
    report = build_index(shards, folder / "index", **{"dataset": NARROW, **settings})
    return report, open_corpus(folder / "index")


def ids_of(corpus: Corpus) -> list[str]:
    return [video.decode() for video in corpus.video_ids.tolist()]


def rated_of(corpus: Corpus) -> list[tuple[str, int, int, float]]:
    """(video, start in s, class, score) of every rated pair, in the order of the index."""
    pairs = corpus.rated(np.arange(len(corpus)))
    columns = (pairs.video, pairs.start_s, pairs.class_id, pairs.score)
    return [(v.decode(), s, c, x) for v, s, c, x in zip(*(c.tolist() for c in columns))]


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def flip_bit(path: Path, offset: int) -> None:
    """Damage one bit of a file; its size stays."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
