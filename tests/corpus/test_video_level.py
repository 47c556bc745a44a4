"""Video-level records as a corpus: every video is one frame of floats, seen in place."""

from __future__ import annotations

import csv
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import protobuf_oracle as oracle
from corpus_writer import (
    VECTORS,
    Video,
    ids_of,
    index_shards,
    make_small_corpus,
    payload,
    vector_record,
    vectors_of,
    write_shards,
)
from whenabouts.core.errors import CorpusError
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.dataset import PRESETS, FeatureList
from whenabouts.corpus.index import build_index
from whenabouts.records.shards import open_shard
from wire_bytes import bytes_feature, entry, field, float_feature, packed_floats, single_float

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "yt8m-video"


def rows_of(corpus: Corpus, feature: int) -> np.ndarray:
    return np.concatenate([corpus.frames(row)[feature] for row in range(len(corpus))])


# ---- what it holds -------------------------------------------------------------------------------


def test_index_of_whole_shards(tmp_path):
    contents = [[vector_record("b", (3, 1)), vector_record("a", ())], [vector_record("c", (9,))]]
    report, corpus = index_shards(tmp_path, *contents, role="auto", dataset=VECTORS)
    assert (report.num_videos, report.left_out, dict(report.notices)) == (3, [], {})
    assert corpus.dataset == VECTORS
    assert ids_of(corpus) == ["b", "a", "c"]
    assert corpus.num_frames.tolist() == [1, 1, 1]
    assert [corpus.labels.of(row).tolist() for row in range(3)] == [[1, 3], [], [9]]
    assert corpus.video_classes.ids == (1, 3, 9)
    assert (len(corpus.classes), len(corpus.rated(np.arange(3)))) == (0, 0)
    for row, video in enumerate("bac"):
        for found, expected in zip(corpus.frames(row), vectors_of(video).values()):
            np.testing.assert_array_equal(found, expected[None], strict=True)


def test_floats_are_seen_in_place(tmp_path):
    _, corpus = index_shards(tmp_path, [vector_record("a"), vector_record("bc")], dataset=VECTORS)
    content = (tmp_path / "shard0.tfrecord").read_bytes()
    for row, video in enumerate(("a", "bc")):
        for place, found in zip(corpus.places, corpus.frames(row)):
            assert not found.flags.owndata
            assert not found.flags.writeable
            assert found.base is corpus.buffers[0]
            assert place.stride[row] == found.nbytes
            at = int(place.offset[row])
            assert content[at : at + found.nbytes] == found.tobytes()
        assert content.count(vectors_of(video)["mean_rgb"].tobytes()) == 1


def test_index_can_be_read_with_other_tools(tmp_path):
    index_shards(tmp_path, [vector_record("a", (7,))], role="train", dataset=VECTORS)
    [row] = pq.read_table(tmp_path / "index").to_pylist()
    assert (row["id"], row["split"], row["frames"], row["labels"]) == ("a", "train", 1, [7])
    assert (row["mean_rgb_stride"], row["mean_audio_stride"]) == (24, 12)
    assert (row["mean_rgb_frames"], row["rated_start"]) == (1, [])
    content = (tmp_path / "shard0.tfrecord").read_bytes()
    floats = struct.unpack_from("<6f", content, row["mean_rgb_offset"])
    assert list(floats) == vectors_of("a")["mean_rgb"].tolist()


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(FINITE, min_size=9, max_size=9), min_size=1, max_size=5),
    st.permutations(["id", "labels", "mean_rgb", "mean_audio", "other"]),
    st.text("abc", max_size=5),
)
def test_round_trip(tmp_path_factory, vectors, keys, other):
    """What protobuf writes, in any order of the features, so at any alignment."""
    folder = tmp_path_factory.mktemp("round")
    records = []
    for k, vector in enumerate(vectors):
        features = {
            "id": f"v{k}".encode(),
            "labels": [k],
            "mean_rgb": np.array(vector[:6], "f4"),
            "mean_audio": np.array(vector[6:], "f4"),
            "other": other.encode(),
        }
        records.append(oracle.serialize_example({key: features[key] for key in keys}))
    corpus = make_small_corpus(folder, ("train", records), dataset=VECTORS)
    found = np.concatenate([rows_of(corpus, 0), rows_of(corpus, 1)], axis=1)
    assert found.dtype == np.float32
    assert found.tobytes() == np.array(vectors, "f4").tobytes(), "-0.0 and denormals too"
    assert all((place.stride > 0).all() for place in corpus.places)
    shutil.rmtree(folder)


# ---- floats that are written oddly ---------------------------------------------------------------


def float_parts(values: np.ndarray, form: str) -> bytes:
    """A Feature of the floats in other encodings than one packed list."""
    middle = len(values) // 2
    if form == "single numbers":
        return field(2, b"".join(map(single_float, values)))
    if form == "packed in two parts":
        return field(2, packed_floats(values[:middle]) + packed_floats(values[middle:]))
    if form == "two lists that are merged":
        return float_feature(*values[:middle]) + float_feature(*values[middle:])
    assert form == "both"
    return field(2, packed_floats(values[:middle]) + b"".join(map(single_float, values[middle:])))


@pytest.mark.parametrize(
    "form", ["single numbers", "packed in two parts", "two lists that are merged", "both"]
)
def test_floats_in_pieces_are_copied(tmp_path, form):
    vectors = vectors_of("a")
    entries = entry("id", bytes_feature(b"a")) + entry(
        "mean_rgb", float_parts(vectors["mean_rgb"], form)
    )
    entries += entry("mean_audio", float_feature(*vectors["mean_audio"]))
    records = [field(1, entries), vector_record("b")]
    report, corpus = index_shards(tmp_path, records, dataset=VECTORS)
    assert report.left_out == []
    assert corpus.places[0].stride.tolist() == [0, 24]
    assert corpus.places[1].stride.tolist() == [12, 12]
    for feature, name in enumerate(vectors):
        expected = np.stack([vectors[name], vectors_of("b")[name]])
        np.testing.assert_array_equal(rows_of(corpus, feature), expected, strict=True)


def test_floats_under_another_name(tmp_path):
    lists = (replace(VECTORS.features[0], aliases=("rgb", "x")), VECTORS.features[1])
    dataset = replace(VECTORS, features=lists)
    values = vectors_of("a")["mean_rgb"]
    pieces = field(1, entry("rgb", float_parts(values, "both")))
    records = [
        vector_record("a", mean_rgb=None, x=values),
        vector_record("b", mean_rgb=None) + pieces,
    ]
    _, corpus = index_shards(tmp_path, records, dataset=dataset)
    np.testing.assert_array_equal(rows_of(corpus, 0), np.stack([values, values]))


# ---- records that cannot be used -----------------------------------------------------------------


def spoilt(values: np.ndarray, at: int, value: float) -> np.ndarray:
    values = values.copy()
    values[at] = value
    return values


RGB, AUDIO = vectors_of("x").values()
TRUNCATED = field(
    1, entry("id", bytes_feature(b"x")) + entry("mean_rgb", field(2, field(1, b"123")))
)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (vector_record("x", id=None), "fields id, video_id: no id of 1 to 255 bytes"),
        (vector_record("x", mean_audio=None), "feature list 'mean_audio': it is missing"),
        (vector_record("x", mean_rgb=RGB[:5]), "feature 'mean_rgb': it has 5 floats, not 6"),
        (vector_record("x", mean_rgb=np.r_[RGB, RGB]), "'mean_rgb': it has 12 floats, not 6"),
        (vector_record("x", mean_rgb=AUDIO, mean_audio=RGB), "'mean_rgb': it has 3 floats, not 6"),
        (
            vector_record("x", mean_audio=np.zeros(0)),
            "feature 'mean_audio': it has 0 floats, not 3",
        ),
        (vector_record("x", mean_audio=[]), "feature 'mean_audio': it holds no floats"),
        (vector_record("x", mean_rgb=[1] * 6), "feature 'mean_rgb': it holds no floats"),
        (vector_record("x", mean_rgb=[b"x"] * 6), "feature 'mean_rgb': it holds no floats"),
        (
            vector_record("x", mean_rgb=spoilt(RGB, 4, np.nan)),
            "feature 'mean_rgb': float 4 is nan; floats are finite",
        ),
        (
            vector_record("x", mean_audio=spoilt(AUDIO, 0, np.inf)),
            "feature 'mean_audio': float 0 is inf; floats are finite",
        ),
        (vector_record("x", mean_audio=spoilt(AUDIO, 2, -np.inf)), "float 2 is -inf"),
        (TRUNCATED, "feature 'mean_rgb': a packed list of floats has 3 bytes"),
        (vector_record("x")[:-1], "a field of .* bytes runs past its message"),
        (payload(Video("x")), "feature list 'mean_rgb': it is missing"),
        (b"", "fields id, video_id"),
    ],
)
def test_record_that_cannot_be_used_is_left_out_alone(tmp_path, record, reason):
    records = [vector_record("a"), record, vector_record("b")]
    report, corpus = index_shards(tmp_path, records, dataset=VECTORS)
    assert ids_of(corpus) == ["a", "b"]
    [left_out] = report.left_out
    start = 12 + len(vector_record("a")) + 16
    assert (left_out.offset, left_out.length) == (start, len(record))
    with pytest.raises(ValueError, match=reason):
        raise ValueError(left_out.reason)
    with (tmp_path / "index.left-out.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["reason"] == left_out.reason
    with pytest.raises(CorpusError, match="1 records, 0 ratings cannot be used"):
        index_shards(tmp_path, records, dataset=VECTORS, strict=True)


def test_largest_floats_are_kept(tmp_path):
    largest = np.finfo(np.float32).max
    record = vector_record("a", mean_rgb=[largest, -largest, 0.0, -0.0, 1e-45, 1.0])
    _, corpus = index_shards(tmp_path, [record], dataset=VECTORS)
    assert corpus.frames(0)[0].tolist() == [[largest, -largest, 0.0, -0.0, np.float32(1e-45), 1.0]]


def test_frame_level_settings_refuse_video_level_records(tmp_path):
    dataset = replace(
        VECTORS, features=tuple(FeatureList(f.name, f.width) for f in VECTORS.features)
    )
    with pytest.raises(CorpusError, match=r"no record could be used; .*'mean_rgb': it is miss"):
        index_shards(tmp_path, [vector_record("a")], dataset=dataset)


# ---- splits, segments ----------------------------------------------------------------------------


def test_roles_decide_the_splits(tmp_path):
    roles = ("auto", "train", "v2", "validate", "validate")
    contents = [(role, [vector_record(i)]) for role, i in zip(roles, ("p", "q", "r", "a", "xxxx"))]
    build_index(write_shards(tmp_path, contents), tmp_path / "index", VECTORS)
    corpus = open_corpus(tmp_path / "index")
    found = {s: [ids_of(corpus)[r] for r in corpus.rows([s])] for s in ("train", "v1", "v2")}
    assert found == {"train": ["p", "q"], "v1": ["xxxx"], "v2": ["r", "a"]}


def test_rated_segments_of_a_video_level_record_are_not_read(tmp_path):
    rated = {
        "segment_start_times": [0],
        "segment_end_times": [5],
        "segment_labels": [7],
        "segment_scores": [1.0],
    }
    _, corpus = index_shards(tmp_path, [vector_record("a", **rated)], role="auto", dataset=VECTORS)
    assert len(corpus.rated_class.values) == 0
    assert corpus.rows(["train"]).tolist() == [0]


def test_there_are_no_segments(tmp_path):
    _, corpus = index_shards(tmp_path, [vector_record("a")], dataset=VECTORS)
    message = (
        "index: data set 'vectors' has one vector a video, and so no segments; segment models "
        "read frames; index frame-level shards, or use a video classifier"
    )
    with pytest.raises(CorpusError, match=message):
        corpus.segments(np.array([0]))
    with pytest.raises(CorpusError, match=message):
        _ = corpus.grid


# ---- real files ----------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="the real shards do not lie beside the project")
def test_shards_of_youtube_8m(tmp_path):
    """20 shards, the last four held out; every tenth video against protobuf."""
    paths = sorted(REAL.glob("*.tfrecord"))
    roles = ["train"] * 16 + ["v2"] * 4
    report = build_index(list(zip(roles, paths)), tmp_path / "index", strict=True)
    corpus = open_corpus(tmp_path / "index")
    assert corpus.dataset == PRESETS["yt8m-video"]
    assert report.num_videos == len(corpus) == 5889
    assert 0.15 < len(corpus.rows(["v2"])) / len(corpus) < 0.25
    assert (corpus.num_frames == 1).all()
    assert all(
        (p.stride == 4 * f.width).all() for p, f in zip(corpus.places, corpus.dataset.features)
    )
    for row in range(0, len(corpus), 10):
        shard = open_shard(corpus.shard_paths[corpus.shard[row]])
        offset, length = int(corpus.record_offset[row]), int(corpus.record_length[row])
        record = oracle.read_example(shard[offset : offset + length].tobytes())
        assert record["id"][1] == (corpus.video_ids[row],)
        assert record["labels"][1] == tuple(corpus.labels.of(row).tolist())
        for found, key in zip(corpus.frames(row), ("mean_rgb", "mean_audio")):
            assert ("float_list", (found.tobytes(),)) == record[key]
