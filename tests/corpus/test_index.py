from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus_writer import (
    NARROW,
    Video,
    flip_bit,
    ids_of,
    index_shards,
    lists_of,
    names_in,
    payload,
    rated_of,
    record_of,
    write_shard,
    write_shards,
)
from whenabouts.commands.arguments import shard_files
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, RecordError, SettingsError, UsageError
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.dataset import PRESETS
from whenabouts.corpus.index import build_index

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RATED = ((0, 7, 1), (5, 7, 0))
YT8M = PRESETS["yt8m"]


# ---- whole shards --------------------------------------------------------------------------------


def test_index_of_whole_shards(tmp_path):
    shards = [[Video("b", 12, (3, 1), RATED), Video("a", 5, ())], [Video("c", 300, (9,))]]
    report, corpus = index_shards(tmp_path, *shards)
    assert (report.num_videos, report.left_out, report.notices) == (3, [], Counter())
    assert list(report.lines()) == []
    assert ids_of(corpus) == ["b", "a", "c"], "in the order of the shards"
    assert corpus.num_frames.tolist() == [12, 5, 300]
    assert [corpus.labels.of(row).tolist() for row in range(3)] == [[1, 3], [], [9]]
    assert rated_of(corpus) == [("b", 0, 7, 1.0), ("b", 5, 7, 0.0)]
    assert corpus.classes == ClassOrder((7,), ("",))
    assert corpus.dataset == NARROW
    assert names_in(tmp_path) == ["index", "shard0.tfrecord", "shard1.tfrecord"]


def test_classes_of_a_file_keep_their_order_and_names(tmp_path):
    order = ClassOrder.of([9, 7, 3], {7: "Dog"})
    ratings = ((0, 7, 1), (0, 8, 1), (5, 9, 0), (5, 2, 1))
    report, corpus = index_shards(tmp_path, [Video("a", 12, (1,), ratings)], classes=order)
    assert corpus.classes == ClassOrder((9, 7, 3), ("", "Dog", ""))
    assert rated_of(corpus) == [("a", 0, 7, 1.0), ("a", 5, 9, 0.0)]
    assert report.notices == {"rating of a class that is not evaluated": 2}
    assert list(report.lines()) == ["2 x rating of a class that is not evaluated"]


def test_without_a_class_file_the_rated_classes_rise(tmp_path):
    shards = [[Video("a", 5, (), ((0, 9, 1), (0, 2, 0)))], [Video("b", 5, (4,), ((0, 9, 1),))]]
    _, corpus = index_shards(tmp_path, *shards, vocabulary={2: "Cat", 5: "Dog"})
    assert corpus.classes == ClassOrder((2, 9), ("Cat", ""))


def test_classes_keep_the_names_of_the_vocabulary_too(tmp_path):
    _, corpus = index_shards(
        tmp_path, [Video("a")], classes=ClassOrder.of([3]), vocabulary={3: "Dog"}
    )
    assert corpus.classes == ClassOrder((3,), ("Dog",))


def test_labels_that_are_not_evaluated_keep_their_names(tmp_path):
    """Of what is a label of a video here; the rest of the vocabulary is nobody's business."""
    vocabulary = {3: "Dog", 5: "Cat", 6: "", 7: "Hat", 8: "Owl"}
    videos = [Video("a", labels=(6, 5)), Video("b", labels=(8, 3))]
    _, corpus = index_shards(tmp_path, videos, classes=ClassOrder.of([3]), vocabulary=vocabulary)
    assert corpus.classes == ClassOrder((3,), ("Dog",))
    assert corpus.topics == ClassOrder((5, 8), ("Cat", "Owl"))
    assert corpus.video_classes == ClassOrder((3, 5, 6, 8), ("Dog", "Cat", "", "Owl"))


def test_class_file_without_a_class(tmp_path):
    videos = [Video("a", 5, (), ((0, 7, 1),))]
    report, corpus = index_shards(tmp_path, videos, classes=ClassOrder.of([]))
    assert len(corpus.classes) == len(rated_of(corpus)) == 0
    assert report.notices == {"rating of a class that is not evaluated": 1}


def test_no_rated_segment_at_all(tmp_path):
    _, corpus = index_shards(tmp_path, [Video("a")], role="auto")
    assert len(corpus.classes) == 0
    assert len(corpus.rows(["train"])) == 1


def test_largest_class_takes_no_room(tmp_path):
    _, corpus = index_shards(tmp_path, [Video("a", 5, (), ((0, 2**31 - 1, 1), (0, 3, 0)))])
    assert corpus.classes.columns(np.array([3, 2**31 - 1, 4])).tolist() == [0, 1, -1]


def test_roles_decide_the_splits(tmp_path):
    roles = ("train", "v1", "v2", "test", "validate", "validate", "auto", "auto")
    videos = [Video(i) for i in ("p", "q", "r", "s", "a", "xxxx", "t")]
    videos.append(Video("ö", 5, (), ((0, 1, 1),)))
    shards = write_shards(tmp_path, [(role, [video]) for role, video in zip(roles, videos)])
    build_index(shards, tmp_path / "index", NARROW)
    corpus = open_corpus(tmp_path / "index")
    splits = {split: [ids_of(corpus)[r] for r in corpus.rows([split])] for split in
              ("train", "v1", "v2", "test")}  # fmt: skip
    assert splits == {
        "train": ["p", "t"],
        "v1": ["q", "xxxx", "ö"],
        "v2": ["r", "a"],
        "test": ["s"],
    }


# ---- which data set it is ------------------------------------------------------------------------


def test_preset_is_found_behind_damaged_and_empty_records(tmp_path):
    good = payload(Video("a", 2), YT8M)
    empty = record_of(Video("b"), {"rgb": np.zeros((0, 9), "u1")})
    damaged = write_shard(tmp_path / "z.tfrecord", [payload(Video("d", 1))])
    flip_bit(damaged, 30)
    good_path = write_shard(tmp_path / "s.tfrecord", [b"\xff", empty, good])
    build_index([("train", damaged), ("train", good_path)], tmp_path / "index")
    corpus = open_corpus(tmp_path / "index")
    assert (corpus.dataset, ids_of(corpus)) == (YT8M, ["a"])


def test_lists_that_no_preset_has_are_named(tmp_path):
    shards = write_shards(tmp_path, [("train", [Video("a")])])
    message = r"shard0.*: the first record has the feature lists rgb \(6 bytes\), audio \(3 bytes\)"
    with pytest.raises(SettingsError, match=message):
        build_index(shards, tmp_path / "index")
    assert names_in(tmp_path) == ["shard0.tfrecord"]


# ---- wrong use -----------------------------------------------------------------------------------


def test_folder_without_shards(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CorpusError, match="no TFRecord file here"):
        shard_files([str(tmp_path)])
    with pytest.raises(CorpusError, match="no shards given; pass TFRecord files"):
        build_index([], tmp_path / "index")


def test_folder_in_place_of_a_shard(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordError, match="folder: is not a file"):
        build_index([("train", tmp_path / "folder")], tmp_path / "index", NARROW)


def test_shard_that_is_not_there(tmp_path):
    with pytest.raises(CorpusError, match=r"a\.tfrecord: No such file"):
        build_index([("train", tmp_path / "a.tfrecord")], tmp_path / "index", NARROW)


def test_nothing_that_can_be_used(tmp_path):
    write_shard(tmp_path / "a.tfrecord", [payload(Video("a", 0))])
    with pytest.raises(CorpusError, match=r"no record could be used; left out: .*no frames"):
        build_index([("train", tmp_path / "a.tfrecord")], tmp_path / "index", NARROW)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("spoilt", "fact"),
    [
        (b"\xff", "1 records, 0 ratings"),
        (Video("b", 5, (), ((5, 1, 1),)), "0 records, 1 ratings"),
        (Video("a"), "1 records, 0 ratings"),
        (record_of(Video("b", 5, (), ((0, 1, 1),)), segment_end_times=[4]), "0 records, 1 ratings"),
    ],
)
def test_strict_refuses_any_loss(tmp_path, spoilt, fact):
    index_shards(tmp_path, [Video("old")])
    before = (tmp_path / "index").read_bytes()
    message = f"index: {fact} cannot be used; nothing may be left out with --strict"
    with pytest.raises(CorpusError, match=message):
        index_shards(tmp_path, [Video("a"), spoilt], strict=True)
    assert (tmp_path / "index").read_bytes() == before
    assert not (tmp_path / "index.left-out.csv").exists()


def test_strict_says_what_is_lost(tmp_path):
    shards = write_shards(tmp_path, [("v1", [Video("b", 5, (), ((5, 1, 1),)), Video("c")])])
    shards.append(("v1", tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"12345")
    with pytest.raises(
        CorpusError, match=r"1 x rating past the video's end; the first: .*left out: .*byte 0"
    ):
        build_index(shards, tmp_path / "index", NARROW, strict=True)


def test_strict_allows_what_loses_nothing(tmp_path):
    report, corpus = index_shards(
        tmp_path, [Video("a", 9, (), RATED, audio_frames=3), Video("b", 5)], strict=True
    )
    assert len(corpus) == report.num_videos == 2


# ---- the file ------------------------------------------------------------------------------------


def test_index_can_be_read_with_other_tools(tmp_path):
    index_shards(tmp_path, [Video("b", 12, (3, 1), RATED, audio_frames=10)])
    [row] = pq.read_table(tmp_path / "index").to_pylist()
    record = payload(Video("b", 12, (3, 1), RATED, audio_frames=10))
    assert row["length"] == len(record)
    assert (row["id"], row["split"], row["frames"], row["offset"]) == ("b", "v2", 12, 12)
    assert (row["labels"], row["shard"]) == ([1, 3], 0)
    assert (row["rated_start"], row["rated_class"], row["rated_score"]) == ([0, 5], [7, 7], [1, 0])
    assert (row["rgb_frames"], row["audio_frames"]) == (12, 10)
    content = (tmp_path / "shard0.tfrecord").read_bytes()
    frames = lists_of(Video("b", 12, audio_frames=10))
    for name, t in (("rgb", 11), ("audio", 9)):
        at = row[f"{name}_offset"] + t * row[f"{name}_stride"]
        assert content[at : at + frames[name].shape[1]] == frames[name][t].tobytes()


def test_shards_are_named_relative_to_the_index(tmp_path):
    shard = write_shard(tmp_path / "shards" / "a.tfrecord", [Video("a")])
    build_index([("v1", shard)], tmp_path / "index" / "i", NARROW)
    header = json.loads(pq.read_schema(tmp_path / "index" / "i").metadata[b"whenabouts"])
    stat = shard.stat()
    assert header["shards"] == [
        {
            "path": "../shards/a.tfrecord",
            "role": "v1",
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
        }
    ]
    assert header["format"] == 2


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shard(Path("a.tfrecord"), [Video("a"), b"\xff"])
    report = build_index([("v1", Path("a.tfrecord"))], Path("deep/index"), NARROW)
    assert [entry.path for entry in report.left_out] == [str(tmp_path / "a.tfrecord")]
    monkeypatch.chdir("deep")
    assert ids_of(open_corpus("index")) == ["a"]


# ---- real files ----------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="the real shards are not here")
def test_original_shards(tmp_path):
    frame_level = shard_files([str(DATA / "yt8m-frame")])
    build_index([("train", path) for path in frame_level], tmp_path / "y")
    corpus = open_corpus(tmp_path / "y")
    assert corpus.dataset == YT8M
    assert sorted(corpus.num_frames.tolist()) == [141, 184]
    audio = shard_files([str(DATA / "audioset-original")])
    report = build_index([("auto", path) for path in audio], tmp_path / "a", strict=True)
    corpus = open_corpus(tmp_path / "a")
    assert corpus.dataset.name == "audioset"
    assert report.num_videos == len(corpus) > 0
    assert corpus.labels.values.max() < 527


def test_an_index_replaces_an_index_and_nothing_else(tmp_path):
    """Least of all a shard that is being indexed."""
    shard = write_shard(tmp_path / "a.tfrecord", [Video("a")])
    (tmp_path / "b.tfrecord").write_bytes(shard.read_bytes())
    before = shard.read_bytes()
    with pytest.raises(UsageError, match=r"a.tfrecord: this shard is read, and would be replaced"):
        build_index([("v1", shard)], shard, NARROW)
    with pytest.raises(UsageError, match=r"b.tfrecord: something else than an index is here"):
        build_index([("v1", shard)], tmp_path / "b.tfrecord", NARROW)
    assert shard.read_bytes() == (tmp_path / "b.tfrecord").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfrecord", "b.tfrecord"]
    for _ in range(2):
        build_index([("v1", shard)], tmp_path / "index", NARROW)
