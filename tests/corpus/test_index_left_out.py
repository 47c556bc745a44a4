"""What real files hold and what becomes of it."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from corpus_writer import (
    FRAMING,
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
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import RecordError
from whenabouts.corpus import index as index_module
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.dataset import dataset_settings
from whenabouts.corpus.index import LeftOut, build_index
from whenabouts.records.writing import encode_sequence_example

RATED = ((0, 7, 1), (5, 7, 0))


def left_out_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.left-out.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_id_under_video_id(tmp_path):
    records = [record_of(Video("a"), id=None, video_id=b"x"), record_of(Video("b"), video_id=b"y")]
    _, corpus = index_shards(tmp_path, records)
    assert ids_of(corpus) == ["x", "b"]


def test_empty_and_missing_labels(tmp_path):
    _, corpus = index_shards(tmp_path, [Video("a", labels=()), record_of(Video("b"), labels=None)])
    assert [corpus.labels.of(row).tolist() for row in (0, 1)] == [[], []]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (record_of(Video("x"), id=None), "fields id, video_id: no id of 1 to 255 bytes"),
        (
            record_of(Video("x"), {"rgb": np.zeros((3, 5), "u1"), "audio": np.zeros((3, 3), "u1")}),
            "feature list 'rgb': frames have 5 bytes, not 6",
        ),
        (record_of(Video("x"), {"rgb": np.zeros((3, 6), "u1")}), "list 'audio': it is missing"),
        (payload(Video("x", 0)), "video 'x': it has no frames"),
        (
            record_of(Video("x", ratings=RATED), segment_scores=[1.0]),
            "video 'x': parallel lists differ in length: .*segment_scores 1",
        ),
        (b"\xff\xff", "SequenceExample"),
        (b"", "fields id, video_id"),
    ],
)
def test_record_that_cannot_be_used_is_left_out_alone(tmp_path, record, reason):
    report, corpus = index_shards(tmp_path, [Video("a"), record, Video("b")], [Video("c")])
    assert ids_of(corpus) == ["a", "b", "c"]
    assert report.num_videos == 3
    [entry] = report.left_out
    assert (entry.offset, entry.length) == (FRAMING + 12 + len(payload(Video("a"))), len(record))
    [row] = left_out_rows(tmp_path)
    path = str(tmp_path / "shard0.tfrecord")
    assert row["shard"] == entry.path == path
    assert (row["offset"], row["length"]) == (str(entry.offset), str(entry.length))
    assert row["reason"] == entry.reason
    with pytest.raises(RecordError, match=reason):
        raise RecordError(entry.reason)
    [line] = report.lines()
    assert line == f"left out: {path} at byte {entry.offset}: {entry.reason}"


def test_truncated_shard_in_the_middle_of_a_run(tmp_path):
    contents = [[Video("a")], [Video("b"), Video("c"), Video("d")], [Video("e")]]
    shards = write_shards(tmp_path, [("train", content) for content in contents])
    start = 2 * (FRAMING + len(payload(Video("b"))))
    os.truncate(shards[1][1], start + 50)
    report = build_index(shards, tmp_path / "index", NARROW)
    assert ids_of(open_corpus(tmp_path / "index")) == ["a", "b", "c", "e"]
    length = len(payload(Video("d")))
    reason = f"the file ends within a record: {50 - FRAMING} bytes of a payload of {length}"
    assert report.left_out == [LeftOut(str(shards[1][1]), start, 50, reason)]
    assert [r["reason"] for r in left_out_rows(tmp_path)] == [reason]


def test_bit_flipped_record(tmp_path):
    shards = write_shards(tmp_path, [("train", [Video("a"), Video("b"), Video("c")])])
    start = FRAMING + len(payload(Video("a")))
    flip_bit(shards[0][1], start + 12 + 40)
    report = build_index(shards, tmp_path / "index", NARROW)
    assert ids_of(open_corpus(tmp_path / "index")) == ["a", "c"]
    [entry] = report.left_out
    assert (entry.offset, entry.length) == (start, FRAMING + len(payload(Video("b"))))
    assert entry.reason == "the checksum of the payload is wrong"


def test_zero_byte_shard_and_a_file_that_is_no_tfrecord(tmp_path):
    empty = tmp_path / "a.tfrecord"
    empty.touch()
    text = tmp_path / "b.tfrecord"
    text.write_text("this file is no TFRecord file, but long enough to be looked at")
    good = write_shard(tmp_path / "c.tfrecord", [Video("a")])
    shards = [("train", path) for path in (empty, text, good)]
    report = build_index(shards, tmp_path / "index", NARROW)
    corpus = open_corpus(tmp_path / "index")
    assert ids_of(corpus) == ["a"]
    np.testing.assert_array_equal(corpus.frames(0)[0], lists_of(Video("a"))["rgb"])
    size = text.stat().st_size
    assert report.left_out == [LeftOut(str(text), 0, size, "the checksum of the length is wrong")]


def test_ratings_past_the_end_are_left_out_and_a_partial_segment_stays(tmp_path):
    ratings = ((10, 7, 1), (15, 7, 1), (300, 7, 1), (5, 7, 0))
    report, corpus = index_shards(tmp_path, [Video("a", 11, (), ratings)])
    assert rated_of(corpus) == [("a", 10, 7, 1.0), ("a", 5, 7, 0.0)]
    assert report.notices == {"rating past the video's end": 2}
    assert report.num_lost_ratings == 2
    assert report.left_out == []
    assert not (tmp_path / "index.left-out.csv").exists()


def test_rating_given_twice(tmp_path):
    report, corpus = index_shards(tmp_path, [Video("a", 11, (), ((5, 7, 1), (5, 8, 1), (5, 7, 0)))])
    assert rated_of(corpus) == [("a", 5, 7, 1.0), ("a", 5, 8, 1.0)]
    assert report.notices == {"rating given twice": 1}


def test_every_kind_of_lost_rating_is_counted(tmp_path):
    ratings = ((0, 7, 1), (3, 7, 1), (50, 7, 1), (5, 7, 2))
    record = record_of(Video("a", 11, (), ratings), segment_end_times=[4, 8, 55, 10])
    report, _ = index_shards(tmp_path, [record, Video("b", 9, audio_frames=3)])
    assert report.num_lost_ratings == 4
    assert sum(report.notices.values()) == 5
    [shard] = open_corpus(tmp_path / "index").shard_paths
    place = (str(shard), 12, "a")
    assert [astuple(lost) for lost in report.lost_ratings] == [
        (*place, 50, 55, 7, 1.0, "rating past the video's end"),
        (*place, 3, 8, 7, 1.0, "rating off the segment grid"),
        (*place, 0, 4, 7, 1.0, "rated segment not 5 s long"),
        (*place, 5, 10, 7, 2.0, "rating that is no score in [0, 1]"),
    ]
    with (tmp_path / "index.lost-ratings.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["shard", "offset", "video", "start", "end", "class", "score", "reason"]
    assert rows == [[str(value) for value in astuple(lost)] for lost in report.lost_ratings]
    lines = dict(line.split("; the first: ") for line in report.lines() if "first" in line)
    assert lines["1 x rating past the video's end"] == (
        f"segment a:50 to 55 s, class 7, score 1, in {shard} in the record at byte 12"
    )
    assert len(lines) == 4


def test_the_first_lost_ratings_of_a_kind_are_listed_and_an_index_without_any_has_no_list(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(index_module, "MOST_LOST", 2)
    ratings = (*((5 * k, 7, 1) for k in range(2, 7)), (4, 7, 1), (0, 8, 1))
    videos = [Video("a", 9, (), ratings), Video("b", 9, (), ((15, 7, 0),))]
    report, _ = index_shards(tmp_path, videos, classes=ClassOrder.of([7]))
    assert report.notices == {
        "rating past the video's end": 6,
        "rating off the segment grid": 1,
        "rating of a class that is not evaluated": 1,
    }
    assert [(lost.video, lost.start_s) for lost in report.lost_ratings] == [
        ("a", 10), ("a", 15), ("a", 4),
    ]  # fmt: skip
    assert (tmp_path / "index.lost-ratings.csv").exists()
    index_shards(tmp_path, [Video("a", 9, (), ((5, 7, 1),))], classes=ClassOrder.of([7]))
    assert not (tmp_path / "index.lost-ratings.csv").exists()


def test_lists_of_different_length_are_counted(tmp_path):
    videos = [Video("a", 9, audio_frames=4), Video("b", 4, audio_frames=9), Video("c", 4)]
    report, corpus = index_shards(tmp_path, videos)
    assert corpus.num_frames.tolist() == [9, 4, 4]
    assert report.notices == {"video has feature lists of different length": 2}
    assert report.num_lost_ratings == 0


def test_of_equal_ids_the_first_stays(tmp_path):
    again = Video("a", 7, (), ((0, 5, 1),))
    contents = [[Video("b"), Video("a", 9)], [Video("c"), again], [Video("a", 8)]]
    report, corpus = index_shards(tmp_path, *contents)
    assert ids_of(corpus) == ["b", "a", "c"]
    assert corpus.num_frames.tolist() == [12, 9, 12]
    assert report.num_videos == 3
    assert len(corpus.classes) == 0, "the class that only the repeated record rates is gone"
    reason = "video id 'a' stands in an earlier record"
    start = FRAMING + 12 + len(payload(Video("c")))
    assert report.left_out == [
        LeftOut(str(tmp_path / "shard1.tfrecord"), start, len(payload(again)), reason),
        LeftOut(str(tmp_path / "shard2.tfrecord"), 12, len(payload(Video("a", 8))), reason),
    ]


def test_many_things_left_out_are_listed_briefly(tmp_path):
    report, _ = index_shards(tmp_path, [Video("a"), *[b"\xff"] * 23])
    lines = list(report.lines())
    assert len(lines) == 21
    assert lines[-1] == "... and 3 more left out"
    assert len(left_out_rows(tmp_path)) == 23
    report.left_out = report.left_out[:20]
    assert len(list(report.lines())) == 20


def test_list_of_what_was_left_out_goes_when_nothing_is(tmp_path):
    index_shards(tmp_path, [Video("a"), b"\xff"])
    assert (tmp_path / "index.left-out.csv").exists()
    index_shards(tmp_path, [Video("a")])
    assert names_in(tmp_path) == ["index", "shard0.tfrecord"]


def test_names_of_audioset(tmp_path):
    audio = np.arange(256, dtype=np.uint8).reshape(2, 128)
    context = {"video_id": b"-0a", "labels": [3], "start_time_seconds": [30.0]}
    record = encode_sequence_example(context, {"audio_embedding": audio})
    _, corpus = index_shards(tmp_path, [record], dataset=None)
    assert corpus.dataset.name == "audioset"
    assert ids_of(corpus) == ["-0a"]
    np.testing.assert_array_equal(corpus.frames(0)[0], audio)


def test_data_set_described_in_a_file(tmp_path):
    described = {
        "name": "fine",
        "features": [{"name": "flow", "width": 4}],
        "id_keys": ["key"],
        "segment_s": 3,
        "frames_per_s": 2,
    }
    (tmp_path / "fine.json").write_text(json.dumps(described))
    dataset = dataset_settings(str(tmp_path / "fine.json"))
    starts = [0, 3, 6, 9]
    context = {
        "key": b"k",
        "segment_start_times": starts,
        "segment_end_times": [s + 3 for s in starts],
        "segment_labels": [1] * 4,
        "segment_scores": [1.0] * 4,
    }
    flow = np.arange(13 * 4, dtype=np.uint8).reshape(13, 4)
    record = encode_sequence_example(context, {"flow": flow})
    report, corpus = index_shards(tmp_path, [record], dataset=dataset)
    assert corpus.dataset == dataset
    assert rated_of(corpus) == [("k", s, 1, 1.0) for s in (0, 3, 6)]
    assert report.notices == {"rating past the video's end": 1}
    assert corpus.segments(np.array([0])).starts_s.tolist() == [0, 3, 6]
    np.testing.assert_array_equal(corpus.frames(0)[0], flow)
