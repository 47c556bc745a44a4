from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_writer import NARROW, Video, features_of, ids_of, make_small_corpus, write_shard
from whenabouts.core.errors import CorpusError
from whenabouts.corpus.corpus import Corpus, Ragged, open_corpus
from whenabouts.corpus.index import build_index

NUM_VIDEOS = 9


def list_of(video: Video, feature: int) -> np.ndarray:
    name = NARROW.features[feature].name
    return features_of(video, name, NARROW.features[feature].width)


# ---- what it holds -------------------------------------------------------------------------------


def test_frames_are_those_of_the_records(odd_corpus, odd_videos):
    assert len(odd_corpus) == len(odd_videos) == NUM_VIDEOS
    for row, video in enumerate(odd_videos):
        found = odd_corpus.frames(row)
        assert len(found) == 2
        for feature, frames in enumerate(found):
            np.testing.assert_array_equal(frames, list_of(video, feature), strict=True)


def test_the_digest_tells_data_apart_and_not_where_it_lies(odd_corpus):
    same = replace(odd_corpus, path=Path("elsewhere"), shard_paths=(), shard=odd_corpus.shard + 1)
    assert same.digest == odd_corpus.digest
    assert len(odd_corpus.digest) == 32
    found = {odd_corpus.digest}
    for name in ("labels", "rated_start_s", "rated_class", "rated_score"):
        lists = getattr(odd_corpus, name)
        assert len(lists.values)
        found.add(replace(odd_corpus, **{name: replace(lists, values=lists.values + 1)}).digest)
        moved = lists.offsets.copy()
        moved[1:-1] = moved[-1]
        found.add(replace(odd_corpus, **{name: replace(lists, offsets=moved)}).digest)
    for name in ("split", "num_frames"):
        found.add(replace(odd_corpus, **{name: getattr(odd_corpus, name) + 1}).digest)
    found.add(replace(odd_corpus, video_ids=odd_corpus.video_ids[::-1]).digest)
    assert len(found) == 1 + 2 * 4 + 2 + 1


def test_frames_are_views_of_the_shard(odd_corpus):
    rgb, audio = odd_corpus.frames(0)
    for frames in (rgb, audio):
        assert not frames.flags.owndata
        assert not frames.flags.writeable, "a shard is never written to"
    assert odd_corpus.frames(1)[0].base is rgb.base is odd_corpus.buffers[0]


def test_irregular_lists_say_so(odd_corpus, odd_videos):
    for row, video in enumerate(odd_videos):
        for place in odd_corpus.places:
            is_empty = place.num_frames[row] == 0
            assert (place.stride[row] == 0) == (video.is_irregular or is_empty)


def test_columns_are_those_of_the_videos(odd_corpus, odd_videos):
    assert ids_of(odd_corpus) == [v.id for v in odd_videos]
    assert odd_corpus.num_frames.tolist() == [v.frames for v in odd_videos]
    for row, video in enumerate(odd_videos):
        assert odd_corpus.labels.of(row).tolist() == sorted(video.labels)
        columns = (odd_corpus.rated_start_s, odd_corpus.rated_class, odd_corpus.rated_score)
        found = list(zip(*(c.of(row).tolist() for c in columns)))
        assert found == [(s, c, float(x)) for s, c, x in video.ratings]
    assert odd_corpus.classes.ids == (7, 8, 9)


def test_rows_by_split_and_by_id(odd_corpus):
    assert odd_corpus.rows(["v1"]).tolist() == [0, 1, 2]
    assert odd_corpus.rows(["train"]).tolist() == [3, 4, 5]
    assert odd_corpus.rows(["v2"]).tolist() == [6, 7]
    assert odd_corpus.rows(["test", "v1"]).tolist() == [0, 1, 2, 8]
    assert odd_corpus.rows([]).tolist() == []
    wanted = np.array([i.encode() for i in ("ö", "nn", "n", "", "a", "longer than any")])
    assert odd_corpus.rows_of(wanted).tolist() == [6, 0, -1, -1, 3, -1]


def test_segments_of_some_videos(odd_corpus):
    table = odd_corpus.segments(np.array([6, 1, 3]))
    assert [i.decode() for i in table.video_ids] == ["ö", "b", "a"]
    assert table.video.tolist() == [0, 0, 0, 1, 2]
    assert table.starts_s.tolist() == [0, 5, 10, 0, 0]


def test_rated_pairs_of_some_videos(odd_corpus, odd_videos):
    labels = odd_corpus.rated(np.array([7, 1, 2]))
    expected = [(v.id, *rating) for v in (odd_videos[r] for r in (1, 2, 7)) for rating in v.ratings]
    columns = (labels.video, labels.start_s, labels.class_id, labels.score)
    found = [(v.decode(), s, c, x) for v, s, c, x in zip(*(c.tolist() for c in columns))]
    assert found == expected
    assert labels.weight.tolist() == [1] * len(expected)
    assert len(odd_corpus.rated(np.array([3, 8]))) == 0


def test_ragged_lists():
    ragged = Ragged(np.array([5, 6, 7, 8]), np.array([0, 2, 2, 3, 4]))
    assert [ragged.of(row).tolist() for row in range(4)] == [[5, 6], [], [7], [8]]
    assert ragged.rows.tolist() == [0, 0, 2, 3]
    taken = ragged.take(np.array([3, 0, 0, 1]))
    assert [taken.of(row).tolist() for row in range(4)] == [[8], [5, 6], [5, 6], []]
    assert taken.values.dtype == ragged.values.dtype
    nothing = ragged.take(np.zeros(0, np.int64))
    assert (nothing.values.tolist(), nothing.offsets.tolist()) == ([], [0])
    assert nothing.values.dtype == ragged.values.dtype


# ---- moved, changed, missing ---------------------------------------------------------------------


@pytest.fixture
def indexed(tmp_path) -> Path:
    """A folder `all` with an index in it and its two shards in `all/shards`."""
    shards = [("v1", write_shard(tmp_path / f"all/shards/{i}", [Video(i)])) for i in "ab"]
    build_index(shards, tmp_path / "all" / "index", NARROW)
    return tmp_path / "all"


def assert_whole(corpus: Corpus) -> None:
    assert ids_of(corpus) == ["a", "b"]
    for row, video in enumerate("ab"):
        np.testing.assert_array_equal(corpus.frames(row)[1], list_of(Video(video), 1))


def test_index_and_shards_that_move_together_still_open(indexed, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    shutil.move(indexed, tmp_path / "far" / "away" / "moved")
    assert_whole(open_corpus(tmp_path / "far" / "away" / "moved" / "index"))


def test_shard_that_is_a_link_moves_as_a_link(indexed, tmp_path):
    (indexed / "shards" / "b").rename(tmp_path / "elsewhere")
    (indexed / "shards" / "b").symlink_to(tmp_path / "elsewhere")
    build_index([("v1", indexed / "shards" / i) for i in "ab"], indexed / "index", NARROW)
    (tmp_path / "far" / "away").mkdir(parents=True)
    shutil.move(indexed, tmp_path / "far" / "away" / "moved")
    assert_whole(open_corpus(tmp_path / "far" / "away" / "moved" / "index"))


def test_index_that_moves_alone_misses_its_shards(indexed, tmp_path):
    (indexed / "index").rename(tmp_path / "index")
    with pytest.raises(CorpusError, match=r"shards/a: shard is missing; put it back, or index"):
        open_corpus(tmp_path / "index")


def test_index_and_shards_behind_links(tmp_path):
    """`..` of a linked folder is the parent of the folder that the link names."""
    shard = write_shard(tmp_path / "disk1" / "deep" / "shards" / "a", [Video("a")])
    other = write_shard(tmp_path / "disk1" / "deep" / "real-b", [Video("b")])
    (tmp_path / "disk2" / "much" / "deeper").mkdir(parents=True)
    (tmp_path / "shards").symlink_to(shard.parent)
    (tmp_path / "shards" / "b").symlink_to(other)
    (tmp_path / "indices").symlink_to(tmp_path / "disk2" / "much" / "deeper")
    paths = [("v1", tmp_path / "shards" / "a"), ("v1", tmp_path / "shards" / "b")]
    build_index(paths, tmp_path / "indices" / "index", NARROW)
    assert_whole(open_corpus(tmp_path / "indices" / "index"))
    assert_whole(open_corpus(tmp_path / "disk2" / "much" / "deeper" / "index"))
    (tmp_path / "linked-index").symlink_to(tmp_path / "indices" / "index")
    assert_whole(open_corpus(tmp_path / "linked-index"))


def test_shards_named_by_the_parent_of_a_link(tmp_path):
    shards = [write_shard(tmp_path / "disk" / name, [Video(name)]) for name in "ab"]
    (tmp_path / "disk" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    paths = [("v1", tmp_path / "link" / ".." / shard.name) for shard in shards]
    build_index(paths, tmp_path / "index", NARROW)
    assert_whole(open_corpus(tmp_path / "index"))


def test_missing_shard_is_noticed(indexed):
    (indexed / "shards" / "b").unlink()
    with pytest.raises(CorpusError, match=r"shards/b: shard is missing; put it back, or index"):
        open_corpus(indexed / "index")


def test_shard_of_another_size_is_noticed(indexed):
    shard = indexed / "shards" / "b"
    stat = shard.stat()
    os.truncate(shard, stat.st_size - 1)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    sizes = rf"\({stat.st_size - 1} bytes, then {stat.st_size}\)"
    with pytest.raises(CorpusError, match=rf"b: shard has changed since .* {sizes}; index again"):
        open_corpus(indexed / "index")


@pytest.mark.parametrize("change_ns", [1, -1])
def test_shard_of_another_time_is_noticed(indexed, change_ns):
    shard = indexed / "shards" / "a"
    stat = shard.stat()
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + change_ns))
    with pytest.raises(CorpusError, match="a: shard has changed since it was indexed"):
        open_corpus(indexed / "index")


def test_shards_are_not_opened_before_they_are_needed(indexed):
    corpus = open_corpus(indexed / "index")
    (indexed / "shards" / "b").unlink()
    np.testing.assert_array_equal(corpus.frames(0)[0], list_of(Video("a"), 0))
    with pytest.raises(FileNotFoundError, match="b"):
        corpus.frames(1)


def test_more_shards_than_files_may_be_open(tmp_path):
    shards = [("train", [Video(f"v{k}", 2)]) for k in range(60)]
    corpus = make_small_corpus(tmp_path, *shards)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(list(Path("/proc/self/fd").iterdir()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 30, hard))
        frames = [corpus.frames(row)[0] for row in range(60)]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (60 + 256, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for k, found in enumerate(frames):
        np.testing.assert_array_equal(found, list_of(Video(f"v{k}", 2), 0))


@pytest.mark.parametrize(
    ("limits", "new"),
    [
        ((1024, 4096), (3000 + 256, 4096)),
        ((1024, 2000), (2000, 2000)),
        ((3000 + 255, 4096), (3000 + 256, 4096)),
        ((3000 + 256, 4096), None),
        ((20000, 20000), None),
    ],
)
def test_limit_of_open_files_is_raised_as_far_as_allowed(indexed, monkeypatch, limits, new):
    corpus = open_corpus(indexed / "index")
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
    object.__setattr__(corpus, "shard_paths", corpus.shard_paths * 1500)
    assert corpus.buffers is corpus.buffers
    assert asked == ([] if new is None else [new])


# ---- what is no index ----------------------------------------------------------------------------


def test_no_index_there(tmp_path):
    with pytest.raises(CorpusError, match="x: no index here; make one with 'whenabouts index"):
        open_corpus(tmp_path / "x")


BROKEN_FOOTER = b"PAR1" + b"\xff" * 20 + b"\x14\0\0\0" + b"PAR1"


@pytest.mark.parametrize("content", [b"", b"PAR1 but not all PAR1", b"text" * 100, BROKEN_FOOTER])
def test_file_that_is_no_parquet(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CorpusError, match=r"x: not a Parquet file; an index .*; make one"):
        open_corpus(tmp_path / "x")


def test_folder_in_place_of_an_index(tmp_path):
    with pytest.raises(CorpusError, match=r"not a Parquet file; an index .*; make one"):
        open_corpus(tmp_path)


def test_parquet_file_of_something_else(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x")
    with pytest.raises(CorpusError, match="x: index format is None; it must be 1 or 2; make one"):
        open_corpus(tmp_path / "x")


def test_index_of_another_version(indexed):
    table = pq.read_table(indexed / "index")
    header = table.schema.metadata[b"whenabouts"].replace(b'"format": 2', b'"format": 3')
    pq.write_table(table.replace_schema_metadata({"whenabouts": header}), indexed / "index")
    with pytest.raises(CorpusError, match="index format is 3; it must be 1 or 2"):
        open_corpus(indexed / "index")


def test_index_of_the_first_format(indexed):
    """Its feature lists have no type: they are bytes."""
    table = pq.read_table(indexed / "index")
    header = json.loads(table.schema.metadata[b"whenabouts"])
    for feature in header["dataset"]["features"]:
        assert feature.pop("dtype") == "uint8"
    metadata = {"whenabouts": json.dumps({**header, "format": 1})}
    pq.write_table(table.replace_schema_metadata(metadata), indexed / "index")
    corpus = open_corpus(indexed / "index")
    assert corpus.dataset == NARROW
    assert_whole(corpus)


def test_index_in_many_row_groups(indexed):
    """As another tool may write it."""
    table = pq.read_table(indexed / "index")
    pq.write_table(table, indexed / "index", row_group_size=1, use_dictionary=False)
    assert_whole(open_corpus(indexed / "index"))
