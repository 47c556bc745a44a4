"""Made corpora: planted topics in the exact format of YouTube-8M, with the truth beside them.

    OUT/train/train0000.tfrecord ...       id, labels
    OUT/validate/v1-0000.tfrecord ...      id, labels and rated segments; the half that trains
    OUT/validate/v2-0000.tfrecord ...      the same; the half that validates
    OUT/test/test0000.tfrecord ...         id alone, as the data set hides the labels of test
    OUT/segment_label_ids.csv              the evaluated classes, not sorted
    OUT/vocabulary.csv                     Index, Name of all classes
    OUT/dataset.json                       the features, for `whenabouts index --dataset`
    OUT/truth/topics.parquet               video, class, start_s, end_s of every planted scene
    OUT/truth/cues.parquet                 the same of the cue scenes, if there are any
    OUT/truth/inserts.parquet              the same of the inserts, if there are any
    OUT/truth/test-labels.csv              the rated segments of the test videos
    OUT/truth/made-by.json                 the settings

A frame is the sum of the prototypes of what its scene shows, a look of the video, a look of the
scene and autocorrelated noise. Siblings are topics with similar prototypes: a video shows scenes
of its main topic's siblings, so that its negatives are hard. An insert, where they are asked for,
is a frame of any topic under a mark in place of what the scene shows. It counts for nothing: scenes
and labels are those of the same corpus without inserts, and ratings go by scenes too, but a segment
in which inserts hide a topic altogether is not rated for it. Numbers measured on a made corpus say
nothing about YouTube-8M.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_dir, write_json, write_text
from whenabouts.core.classes import ClassOrder, write_classes
from whenabouts.core.outputs import refuse_what_is_there
from whenabouts.core.processes import map_unordered
from whenabouts.core.progress import progress
from whenabouts.core.settings import to_dict
from whenabouts.corpus.dataset import PRESETS, DatasetSettings, FeatureList
from whenabouts.corpus.made_settings import NARROW, MadeCorpus
from whenabouts.corpus.made_truth import TruthPart, join_parts
from whenabouts.corpus.made_video import GRID, PARTS, MadeVideo, draw_video
from whenabouts.corpus.made_world import World, build_world, video_id
from whenabouts.records.writing import encode_sequence_example, write_records

__all__ = ["NARROW", "MadeCorpus", "make_corpus"]

YT8M = PRESETS["yt8m"]
SHARD_PATHS = {
    "train": "train/train{:04d}.tfrecord",
    "v1": "validate/v1-{:04d}.tfrecord",
    "v2": "validate/v2-{:04d}.tfrecord",
    "test": "test/test{:04d}.tfrecord",
}


@dataclass(frozen=True)
class Shard:
    """Videos first..last (excluded) of a part of the corpus; `offset` + index numbers the ids."""

    settings: MadeCorpus
    folder: Path
    part: str
    number: int
    first: int
    last: int
    offset: int

    @property
    def name(self) -> str:
        return f"{self.part}-{self.number:06d}"


def make_corpus(out: Path, settings: MadeCorpus, processes: int) -> None:
    """Make the corpus in the new folder `out`; the bytes depend on the settings alone.

    The folder appears when it is whole. Raises UsageError if there is something at `out`.
    """
    refuse_what_is_there(out)
    with atomic_dir(out) as partial:
        shards = list(_shards(partial, settings))
        with progress("making videos", settings.num_videos, "videos") as bar:
            for shard, _ in map_unordered(_make_shard, shards, processes):
                bar.advance(shard.last - shard.first)
        join_parts(partial / "truth", [shard.name for shard in shards])
        _write_classes(partial, build_world(settings))
        write_json(partial / "dataset.json", to_dict(dataset_of(settings)))
        write_json(partial / "truth" / "made-by.json", to_dict(settings))


def dataset_of(settings: MadeCorpus) -> DatasetSettings:
    """The data set: yt8m where it has its features, else one of its own name."""
    features = tuple(FeatureList(name, width) for name, width in settings.features)
    made = DatasetSettings("made", features, segment_s=GRID.length_s)
    return YT8M if features == YT8M.features else made


def _shards(folder: Path, settings: MadeCorpus) -> Iterator[Shard]:
    v2 = settings.num_validate // 2
    counts = (settings.num_train, settings.num_validate - v2, v2, settings.num_test)
    offset = 0
    for part, count in zip(PARTS, counts):
        for number, first in enumerate(range(0, count, settings.videos_per_shard)):
            last = min(first + settings.videos_per_shard, count)
            yield Shard(settings, folder, part, number, first, last, offset)
        offset += count


def _make_shard(shard: Shard) -> None:
    truth = TruthPart()
    path = shard.folder / SHARD_PATHS[shard.part].format(shard.number)
    write_records(path, _records(shard, truth))
    truth.write(shard.folder / "truth", shard.name, test=shard.part == "test")


def _records(shard: Shard, truth: TruthPart) -> Iterator[bytes]:
    world = build_world(shard.settings)
    for index in range(shard.first, shard.last):
        name = video_id(shard.settings, shard.offset + index)
        video = draw_video(world, shard.part, index)
        truth.add(name.decode(), video)
        lists = _feature_lists(shard.settings, video.frames)
        yield encode_sequence_example(_context(name, shard.part, video), lists)


def _context(name: bytes, part: str, video: MadeVideo) -> dict[str, Any]:
    context: dict[str, Any] = {"id": name}
    if part != "test":
        context["labels"] = video.labels
    if part in ("v1", "v2"):
        ratings = video.ratings
        context["segment_start_times"] = np.array([r.start_s for r in ratings], np.int64)
        context["segment_end_times"] = context["segment_start_times"] + GRID.length_s
        context["segment_labels"] = np.array([r.class_id for r in ratings], np.int64)
        context["segment_scores"] = np.array([r.score for r in ratings], np.float32)
    return context


def _feature_lists(settings: MadeCorpus, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    ends = np.cumsum([width for _, width in settings.features])[:-1]
    return dict(zip((name for name, _ in settings.features), np.split(frames, ends, axis=1)))


def _write_classes(folder: Path, world: World) -> None:
    names = dict(enumerate(world.names))
    write_classes(folder / "vocabulary.csv", ClassOrder.of(range(len(names)), names))
    lines = ["Index", *(str(c) for c in world.rated)]
    write_text(folder / "segment_label_ids.csv", "\n".join(lines) + "\n")
