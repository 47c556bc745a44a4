"""The files of a made corpus, and that what they say of each other is true."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from whenabouts.core.classes import read_class_ids, read_vocabulary
from whenabouts.core.errors import UsageError
from whenabouts.core.labels import read_labels
from whenabouts.core.settings import from_dict
from whenabouts.corpus import made, made_truth
from whenabouts.corpus.made import NARROW, MadeCorpus, make_corpus
from whenabouts.records.examples import frames_of
from whenabouts.records.reading import read_sequence_examples
from whenabouts.records.shards import open_shard

SETTINGS = replace(
    NARROW,
    num_train=45,
    num_validate=81,
    num_test=20,
    num_classes=20,
    num_rated_classes=8,
    max_frames=150,
    videos_per_shard=20,
)
SEGMENT_FIELDS = ("segment_start_times", "segment_end_times", "segment_labels", "segment_scores")


class Read(NamedTuple):
    """A record, read back: its context, and uint8 [T, D] by list."""

    context: dict
    frames: dict[str, np.ndarray]

    @property
    def video(self) -> str:
        return self.context["id"][0].decode()

    @property
    def num_frames(self) -> int:
        return len(self.frames["rgb"])

    @property
    def ratings(self) -> list[tuple[int, int, float]]:
        start, _, class_id, score = (self.context[f].tolist() for f in SEGMENT_FIELDS)
        return list(zip(start, class_id, score))


def read_shard(path: Path) -> list[Read]:
    buffer = open_shard(path)
    return [
        Read(e.context, {name: frames_of(buffer, at) for name, at in e.lists.items()})
        for e in read_sequence_examples(path)
    ]


def read_part(out: Path, pattern: str) -> list[Read]:
    return [record for path in sorted(out.glob(pattern)) for record in read_shard(path)]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "corpus"
    make_corpus(path, SETTINGS, processes=1)
    return path


@pytest.fixture(scope="module")
def rated(out) -> list[Read]:
    return read_part(out, "validate/*.tfrecord")


@pytest.fixture(scope="module")
def planted(out) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Scenes (start_s, end_s) by (video, class)."""
    scenes: dict[tuple[str, int], list[tuple[int, int]]] = {}
    table = pq.read_table(out / "truth" / "topics.parquet").to_pydict()
    for video, class_id, *seconds in zip(*table.values()):
        scenes.setdefault((video, class_id), []).append(tuple(seconds))
    return scenes


def covered_s(scenes: list[tuple[int, int]], start_s: int) -> int:
    """Seconds of the segment that starts at `start_s` in which the topic is shown."""
    return sum(any(a <= s < b for a, b in scenes) for s in range(start_s, start_s + 5))


# ---- layout ------------------------------------------------------------------------------------


def test_layout(out):
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert files == [
        "dataset.json",
        "segment_label_ids.csv",
        "test/test0000.tfrecord",
        "train/train0000.tfrecord",
        "train/train0001.tfrecord",
        "train/train0002.tfrecord",
        "truth/made-by.json",
        "truth/test-labels.csv",
        "truth/topics.parquet",
        "validate/v1-0000.tfrecord",
        "validate/v1-0001.tfrecord",
        "validate/v1-0002.tfrecord",
        "validate/v2-0000.tfrecord",
        "validate/v2-0001.tfrecord",
        "vocabulary.csv",
    ]
    assert [p.name for p in out.parent.iterdir()] == ["corpus"]
    assert len(read_part(out, "train/*")) == 45
    assert len(read_shard(out / "train/train0002.tfrecord")) == 5
    assert len(read_part(out, "validate/v1-*")) == 41  # the odd one is V1's
    assert len(read_part(out, "validate/v2-*")) == 40
    assert len(read_part(out, "test/*")) == 20


def test_fields_of_the_records(out):
    assert all(list(r.context) == ["id", "labels"] for r in read_part(out, "train/*"))
    assert all(list(r.context) == ["id"] for r in read_part(out, "test/*"))
    for record in read_part(out, "validate/*"):
        assert list(record.context) == ["id", "labels", *SEGMENT_FIELDS]
        start, end, class_id, score = (np.asarray(record.context[f]) for f in SEGMENT_FIELDS)
        assert (end - start == 5).all()
        assert len(start) == len(class_id) == len(score)
        assert record.ratings == sorted(set(record.ratings))


def test_feature_lists_have_their_widths_and_lengths(out):
    for record in read_part(out, "*/*.tfrecord"):
        assert {name: f.shape[1] for name, f in record.frames.items()} == {"rgb": 32, "audio": 8}
        assert len(record.frames["rgb"]) == len(record.frames["audio"])
        assert 60 <= record.num_frames <= 150


def test_the_truth_is_written_group_by_group(out, tmp_path, monkeypatch):
    monkeypatch.setattr(made_truth, "ROWS_A_GROUP", 300)
    make_corpus(tmp_path / "out", SETTINGS, processes=1)
    path = Path("truth") / "topics.parquet"
    assert pq.read_table(tmp_path / "out" / path).equals(pq.read_table(out / path))
    assert pq.read_metadata(out / path).num_row_groups == 1
    assert pq.read_metadata(tmp_path / "out" / path).num_row_groups > 1


def test_other_feature_lists(tmp_path):
    settings = replace(
        SETTINGS, num_train=1, num_validate=0, num_test=0, features=(("a", 3), ("b", 5), ("c", 1))
    )
    make_corpus(tmp_path / "out", settings, processes=1)
    [record] = read_part(tmp_path / "out", "train/*")
    assert {name: f.shape[1] for name, f in record.frames.items()} == {"a": 3, "b": 5, "c": 1}


def test_ids_are_unique_and_of_four_characters(out):
    ids = [record.video for record in read_part(out, "*/*.tfrecord")]
    assert len(set(ids)) == len(ids) == 45 + 81 + 20
    assert all(re.fullmatch("[0-9A-Za-z]{4}", video) for video in ids)


def test_class_files(out):
    vocabulary = read_vocabulary(out / "vocabulary.csv")
    assert list(vocabulary) == list(range(20))
    assert len(set(vocabulary.values())) == 20
    ids = read_class_ids(out / "segment_label_ids.csv")
    assert len(ids) == 8
    assert set(ids) <= set(vocabulary)
    assert list(ids) != sorted(ids)
    assert max(ids) - min(ids) > 7
    assert (out / "segment_label_ids.csv").read_text().startswith("Index\n")


def test_the_settings_stand_beside_the_truth(out):
    stored = json.loads((out / "truth" / "made-by.json").read_text())
    assert from_dict(MadeCorpus, stored) == SETTINGS


# ---- ratings against the truth -----------------------------------------------------------------


def test_positives_are_shown_half_the_time_and_negatives_never(rated, planted):
    seconds = Counter()
    for record in rated:
        for start_s, class_id, score in record.ratings:
            shown_s = covered_s(planted.get((record.video, class_id), []), start_s)
            seconds[score, shown_s] += 1
    assert set(seconds) == {(1.0, 3), (1.0, 4), (1.0, 5), (0.0, 0)}  # 1 and 2 s are ambiguous
    positives = sum(n for (score, _), n in seconds.items() if score == 1)
    assert 0.4 < positives / seconds.total() < 0.6


def test_test_labels_are_rated_in_the_same_way(out, planted):
    labels = read_labels(out / "truth" / "test-labels.csv")
    assert len(labels) >= 20 * 5
    videos = {record.video: record for record in read_part(out, "test/*")}
    for video, start_s, class_id, score in zip(
        labels.video.astype(str), labels.start_s, labels.class_id, labels.score
    ):
        shown_s = covered_s(planted.get((video, class_id), []), start_s)
        assert shown_s >= 3 if score else shown_s == 0
        assert start_s + 5 <= videos[video].num_frames
    with (out / "truth" / "test-labels.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["video", "start", "class", "score"]


def test_five_segments_of_each_rated_topic(rated, out):
    evaluated = set(read_class_ids(out / "segment_label_ids.csv"))
    topics, segments = Counter(), Counter()
    for record in rated:
        counts = Counter(class_id for _, class_id, _ in record.ratings)
        assert set(counts) <= evaluated
        segments.update(counts.values())
        topics[len(counts)] += 1
    assert max(segments) == 5  # fewer only where too many segments are ambiguous
    assert segments[5] > 0.95 * segments.total()
    assert set(topics) == {1, 2}
    assert 0 < topics[2] / topics.total() < 0.35  # second_topic_share, where there is one


def test_only_whole_inner_segments_are_rated(rated):
    short, long = [], []
    for record in rated:
        whole = record.num_frames // 5
        places = [start_s // 5 for start_s, _, _ in record.ratings]
        assert all(start_s % 5 == 0 for start_s, _, _ in record.ratings)
        assert max(places) < whole
        if whole - 8 >= 5:
            long += [(place, whole - place) for place in places]
        else:
            short += places
    assert min(place for place, _ in long) == 6
    assert min(from_end for _, from_end in long) == 3
    assert min(short) < 6  # too short to lose eight segments


def test_every_evaluated_class_has_its_turn(out):
    for part, videos in (("v1", 41), ("v2", 40)):
        pairs = Counter()
        for record in read_part(out, f"validate/{part}-*"):
            pairs.update({class_id for _, class_id, _ in record.ratings})
        assert min(pairs.values()) >= videos // 8


def test_planted_scenes_lie_within_their_videos(out, planted):
    num_frames = {r.video: r.num_frames for r in read_part(out, "*/*.tfrecord")}
    assert {video for video, _ in planted} == set(num_frames)
    starts = []
    for (video, _), scenes in planted.items():
        assert len(set(scenes)) == len(scenes)
        for start_s, end_s in scenes:
            assert 0 <= start_s < end_s <= num_frames[video]
            assert end_s - start_s >= SETTINGS.min_scene_s
            starts.append(start_s)
    assert len({start_s % 5 for start_s in starts}) == 5  # the grid is not followed


# ---- same settings, same bytes -----------------------------------------------------------------


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_bytes_depend_on_the_settings_alone(out, tmp_path):
    make_corpus(tmp_path / "again", SETTINGS, processes=2)
    assert contents(tmp_path / "again") == contents(out)


def test_another_seed_is_another_corpus(out, tmp_path):
    make_corpus(tmp_path / "other", replace(SETTINGS, seed=1), processes=1)
    ours, theirs = contents(out), contents(tmp_path / "other")
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] == theirs[name]] == ["dataset.json"]


def test_more_train_videos_leave_the_first_ones_as_they_are(out, tmp_path):
    more = replace(SETTINGS, num_train=50, num_validate=0, num_test=0)
    make_corpus(tmp_path / "more", more, processes=1)
    path = "train/train0001.tfrecord"
    assert (tmp_path / "more" / path).read_bytes() == (out / path).read_bytes()


# ---- whole or not there ------------------------------------------------------------------------


def test_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"something already.*name another folder"):
        make_corpus(tmp_path, SETTINGS, processes=1)
    with pytest.raises(UsageError, match=r"mine\.txt: there is something already"):
        make_corpus(tmp_path / "mine.txt", SETTINGS, processes=1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_takes_an_empty_folder_and_the_rest_of_a_killed_run(tmp_path):
    (tmp_path / "out").mkdir()
    left = tmp_path / ".out.partial" / "train" / "train0099.tfrecord"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    make_corpus(tmp_path / "out", replace(SETTINGS, num_train=1, num_validate=0), processes=1)
    assert [p.name for p in (tmp_path / "out" / "train").iterdir()] == ["train0000.tfrecord"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(world, part, index, draw=made.draw_video):
        if part == "v1":
            raise KeyboardInterrupt
        return draw(world, part, index)

    monkeypatch.setattr(made, "draw_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path / "out", SETTINGS, processes=1)
    assert list(tmp_path.iterdir()) == []
