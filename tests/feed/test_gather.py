"""The oracle is a copy of `corpus.frames`, frame by frame."""

from __future__ import annotations

from mmap import MADV_WILLNEED, PAGESIZE, mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_writer import (
    NARROW,
    VECTORS,
    Video,
    features_of,
    make_small_corpus,
    vector_record,
    vectors_of,
)
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.feed import gather as gather_module
from whenabouts.feed.gather import Gatherer
from wire_bytes import entry, field, single_float

UNTOUCHED = 201
PADDING = 127  # stands for -2 + 4 / 512 + 127 * 4 / 255 = 0.000, the nearest to 0


def slow_gather(
    corpus: Corpus, stretches: list[tuple[int, int, int, int]], out: np.ndarray
) -> None:
    for row, first, count, slot in stretches:
        for t in range(count):
            left = 0
            for feature, frames in zip(corpus.dataset.features, corpus.frames(row)):
                columns = slice(left, left + feature.width)
                is_there = first + t < len(frames)
                out[slot + t, columns] = frames[first + t] if is_there else PADDING
                left += feature.width


def gather(corpus: Corpus, stretches: list[tuple[int, int, int, int]], out: np.ndarray) -> None:
    columns = np.array(stretches, np.int64).reshape(-1, 4).T
    Gatherer(corpus).gather(*columns, out)


@st.composite
def stretches_of(draw, num_frames: list[int]):
    """Stretches of frames in any order with gaps between their places, and the room they take."""
    rows = draw(st.lists(st.integers(0, len(num_frames) - 1), max_size=6))
    found, slot = [], 0
    for row in rows:
        first = draw(st.integers(0, num_frames[row] - 1))
        count = draw(st.integers(0, min(num_frames[row] - first, 12)))
        slot += draw(st.integers(0, 2))
        found.append((row, first, count, slot))
        slot += count
    return draw(st.permutations(found)), slot + draw(st.integers(0, 2))


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_stretches_of_any_videos(odd_corpus, data):
    stretches, size = data.draw(stretches_of(odd_corpus.num_frames.tolist()))
    out, expected = (np.full((size, 9), UNTOUCHED, np.uint8) for _ in range(2))
    slow_gather(odd_corpus, stretches, expected)
    gather(odd_corpus, stretches, out)
    np.testing.assert_array_equal(out, expected)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 59)), max_size=12), st.integers(1, 7))
def test_segments_of_any_videos(odd_corpus, drawn, length):
    """One after another, whole and partial, in any order, some that follow each other."""
    num_frames = odd_corpus.num_frames.tolist()
    drawn = [(row, k % -(-num_frames[row] // length) * length) for row, k in drawn]
    rows, firsts = np.array(drawn, np.int64).reshape(-1, 2).T
    counts = [min(length, num_frames[row] - first) for row, first in drawn]
    out, expected = (np.full((len(drawn) * length, 9), UNTOUCHED, np.uint8) for _ in range(2))
    stretches = [(*s, n, k * length) for k, (s, n) in enumerate(zip(drawn, counts))]
    slow_gather(odd_corpus, stretches, expected)
    found = Gatherer(odd_corpus).gather_segments(rows, firsts, length, out)
    assert found.tolist() == counts
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("rows", [[8, 8, 8, 8], [3, 8, 8, 0]])
def test_segments_that_follow_each_other_are_one_stretch(odd_corpus, monkeypatch, rows):
    firsts, calls = np.array([0, 5, 10, 5]), []
    gatherer = Gatherer(odd_corpus)
    monkeypatch.setattr(gatherer, "gather", lambda *arguments: calls.append(arguments))
    gatherer.gather_segments(np.array(rows), firsts, 5, np.zeros((20, 9), np.uint8))
    [(*columns, _)] = calls
    found = list(zip(*(c.tolist() for c in columns)))
    if rows[0] == 8:
        assert found == [(8, 0, 15, 0), (8, 5, 5, 15)]
    else:
        assert found == [(3, 0, 1, 0), (8, 5, 10, 5), (0, 5, 5, 15)]


def test_whole_videos_by_hand(odd_corpus, odd_videos):
    """Against the bytes that were written, without the corpus in between."""
    for row, video in enumerate(odd_videos):
        out = np.full((video.frames, 9), UNTOUCHED, np.uint8)
        gather(odd_corpus, [(row, 0, video.frames, 0)], out)
        audio = features_of(video, "audio", 3)[: video.frames]
        np.testing.assert_array_equal(out[:, :6], features_of(video, "rgb", 6))
        np.testing.assert_array_equal(out[: len(audio), 6:], audio)
        assert (out[len(audio) :, 6:] == PADDING).all()


def test_list_that_ended_long_before_the_end_of_the_shard(tmp_path):
    """Where its frames would be if it went on lies behind the last byte of the file."""
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 300, audio_frames=2)]))
    out = np.full((50, 9), UNTOUCHED, np.uint8)
    gather(corpus, [(0, 250, 50, 0)], out)
    np.testing.assert_array_equal(out[:, :6], features_of(Video("a", 300), "rgb", 6)[250:])
    assert (out[:, 6:] == PADDING).all()


def test_regular_and_irregular_lists_give_the_same(tmp_path):
    def gathered(folder: str, *, is_irregular: bool) -> np.ndarray:
        videos = [Video(i, 9, audio_frames=7, is_irregular=is_irregular) for i in "ab"]
        corpus = make_small_corpus(tmp_path / folder, ("v1", videos))
        assert (corpus.places[0].stride == 0).all() == is_irregular
        out = np.full((14, 9), UNTOUCHED, np.uint8)
        gather(corpus, [(1, 2, 7, 0), (0, 3, 5, 8)], out)
        return out

    regular = gathered("regular", is_irregular=False)
    np.testing.assert_array_equal(regular, gathered("irregular", is_irregular=True))


@pytest.mark.parametrize(
    ("low", "high", "padding"), [(-2, 2, 127), (0, 4, 0), (-4, 0, 255), (-1, 3, 63), (1, 2, 0)]
)
def test_padding_is_the_byte_nearest_to_zero(tmp_path, low, high, padding):
    dataset = DatasetSettings("x", NARROW.features, low=low, high=high)
    videos = [Video("a", 4, audio_frames=2)]
    corpus = make_small_corpus(tmp_path, ("v1", videos), dataset=dataset)
    out = np.full((4, 9), UNTOUCHED, np.uint8)
    gather(corpus, [(0, 0, 4, 0)], out)
    assert out[2:, 6:].tolist() == [[padding] * 3] * 2


def test_lists_stand_side_by_side_in_the_order_of_the_data_set(tmp_path):
    lists = (FeatureList("audio", 3), FeatureList("rgb", 6), FeatureList("x", 1))
    dataset = DatasetSettings("x", lists)
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 2)]), dataset=dataset)
    out = np.full((2, 10), UNTOUCHED, np.uint8)
    gather(corpus, [(0, 0, 2, 0)], out)
    expected = [features_of(Video("a", 2), f.name, f.width) for f in lists]
    np.testing.assert_array_equal(out, np.concatenate(expected, axis=1))


# ---- single frames -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_frames_of_any_videos(odd_corpus, data):
    """Each drawn frame is a stretch of one; in any order, and again and again."""
    num_frames = odd_corpus.num_frames.tolist()
    rows = data.draw(st.lists(st.integers(0, len(num_frames) - 1), max_size=5))
    count = data.draw(st.integers(0, 9))
    drawn = [[data.draw(st.integers(0, num_frames[row] - 1)) for _ in range(count)] for row in rows]
    drawn = np.array(drawn, np.int64).reshape(len(rows), count)
    out, expected = (np.full((len(rows), count, 9), UNTOUCHED, np.uint8) for _ in range(2))
    stretches = [
        (row, int(t), 1, k * count + j)
        for k, row in enumerate(rows)
        for j, t in enumerate(drawn[k])
    ]
    slow_gather(odd_corpus, stretches, expected.reshape(-1, 9))
    Gatherer(odd_corpus).gather_drawn(np.array(rows, np.int64), drawn, out)
    np.testing.assert_array_equal(out, expected)


def test_frames_drawn_from_the_end_of_a_list_that_is_shorter(tmp_path):
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 9, audio_frames=4)]))
    out = np.full((1, 4, 9), UNTOUCHED, np.uint8)
    Gatherer(corpus).gather_drawn(np.array([0]), np.array([[3, 4, 8, 3]]), out)
    rgb, audio = (features_of(Video("a", 9), "rgb", 6), features_of(Video("a", 4), "audio", 3))
    np.testing.assert_array_equal(out[0, :, :6], rgb[[3, 4, 8, 3]])
    assert out[0, 1:3, 6:].tolist() == [[PADDING] * 3] * 2
    np.testing.assert_array_equal(out[0, [0, 3], 6:], audio[[3, 3]])


# ---- floats --------------------------------------------------------------------------------------


@pytest.fixture
def vectors(tmp_path) -> Corpus:
    """Three videos; the floats of the second are written one by one."""
    values = vectors_of("b")["mean_rgb"]
    singles = entry("mean_rgb", field(2, b"".join(map(single_float, values))))
    records = [vector_record("a"), vector_record("b", mean_rgb=None) + field(1, singles)]
    corpus = make_small_corpus(tmp_path, ("v1", [*records, vector_record("cc")]), dataset=VECTORS)
    assert corpus.places[0].stride.tolist() == [24, 0, 24]
    return corpus


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1], [1, 1, 0], []])
def test_floats_side_by_side(vectors, rows):
    videos = [vectors_of(("a", "b", "cc")[row]) for row in rows]
    expected = np.array([np.concatenate([*v.values()]) for v in videos], np.float32)
    rows, ones = np.array(rows, np.int64), np.ones(len(rows), np.int64)
    out = np.full((len(rows) + 1, 9), UNTOUCHED, np.float32)
    Gatherer(vectors).gather(rows, 0 * ones, ones, np.arange(len(rows)), out)
    np.testing.assert_array_equal(out[:-1], expected.reshape(-1, 9))
    assert (out[-1] == UNTOUCHED).all()
    drawn = np.full((len(rows), 1, 9), UNTOUCHED, np.float32)
    Gatherer(vectors).gather_drawn(rows, np.zeros((len(rows), 1), np.int64), drawn)
    np.testing.assert_array_equal(drawn[:, 0], out[:-1])


@pytest.mark.parametrize("name", ["odd_corpus", "vectors"])
def test_array_of_another_type_is_refused(request, name):
    corpus = request.getfixturevalue(name)
    wrong = np.float32 if corpus.dataset.dtype == "uint8" else np.uint8
    row, zero = np.array([0]), np.array([0])
    with pytest.raises(AssertionError):
        Gatherer(corpus).gather(row, zero, row + 1, zero, np.zeros((1, 9), wrong))
    with pytest.raises(AssertionError):
        Gatherer(corpus).gather_drawn(row, zero[None], np.zeros((1, 1, 9), wrong))


# ---- edges ---------------------------------------------------------------------------------------


def test_no_stretch_changes_nothing(odd_corpus):
    out = np.full((3, 9), UNTOUCHED, np.uint8)
    gather(odd_corpus, [], out)
    gather(odd_corpus, [(0, 4, 0, 1), (2, 4, 0, 1)], out)
    assert (out == UNTOUCHED).all()


def test_array_that_is_not_in_c_order_is_refused(odd_corpus):
    with pytest.raises(AssertionError):
        gather(odd_corpus, [(0, 0, 5, 0)], np.zeros((5, 20), np.uint8)[:, 4:13])
    out = np.zeros((1, 5, 20), np.uint8)[:, :, 4:13]
    with pytest.raises(AssertionError):
        Gatherer(odd_corpus).gather_drawn(np.array([0]), np.zeros((1, 5), np.int64), out)


# ---- while the disk is read ----------------------------------------------------------------------


class Shard:
    """A mapped shard that keeps what was announced of it."""

    def __init__(self, mapped: mmap) -> None:
        self._mapped, self.announced = mapped, np.zeros(len(mapped), bool)

    def madvise(self, advice: int, start: int, length: int) -> None:
        assert advice == MADV_WILLNEED
        self._mapped.madvise(advice, start, length)  # refuses a start within a page
        self.announced[start : start + length] = True


def announcing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, read: list[int]) -> list[int]:
    """Calls of `_announce`, by batch; read: blocks that came from the disk during each batch."""
    calls, total = [], np.repeat(np.cumsum([0, *read]), 2)[1:-1].tolist()
    monkeypatch.setattr(gather_module, "blocks_read", lambda: total.pop(0))
    gatherer = Gatherer(corpus)
    monkeypatch.setattr(gatherer, "_announce", lambda *stretches: calls.append(batch))
    rows, out = np.array([0, 2]), np.empty((10, 9), np.uint8)
    for batch in range(len(read)):
        if batch % 2:
            gatherer.gather_drawn(rows, np.zeros((2, 5), np.int64), out.reshape(2, 5, 9))
        else:
            gatherer.gather_segments(rows, np.zeros(2, np.int64), 5, out)
    return calls


def test_batches_are_announced_while_the_disk_is_read(odd_corpus, monkeypatch):
    """The first one, and each after one that was read from the disk."""
    assert announcing(odd_corpus, monkeypatch, [0, 0, 0]) == [0]
    assert announcing(odd_corpus, monkeypatch, [7, 3, 0, 0, 1, 0, 0]) == [0, 1, 2, 5]


def test_what_is_announced_is_what_is_copied(tmp_path, monkeypatch):
    """Pages of the stretches, no others; a list that is not regular is left to its own copy."""
    long = [Video(f"v{k}", 6000, is_irregular=k == 2) for k in range(3)]
    corpus = make_small_corpus(tmp_path, ("v1", long))
    gatherer, mapped = Gatherer(corpus), corpus.buffers[0]
    shard = Shard(mapped)
    monkeypatch.setattr(gatherer, "_buffers", [shard])
    gatherer._announce(np.array([1, 2]), np.array([1000, 0]), np.array([4000, 6000]))
    needed = np.zeros(len(mapped), bool)
    for place in corpus.places:
        first = int(place.offset[1] + 1000 * place.stride[1])
        needed[first : first + 4000 * int(place.stride[1])] = True
    assert shard.announced[needed].all()
    pages = (needed.nonzero()[0] // PAGESIZE).tolist()
    assert set((shard.announced.nonzero()[0] // PAGESIZE).tolist()) == set(pages)
    assert shard.announced.mean() < 0.7


# ---- streams -------------------------------------------------------------------------------------


def mapped_bytes(path: Path) -> int:
    """Of the file, how much this process holds in its maps (Linux)."""
    total, is_ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            is_ours = line.endswith(str(path))
        elif is_ours and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is mapped")
@pytest.mark.parametrize("held", [1, 30_000, 1 << 26])
def test_a_stream_does_not_come_to_hold_the_corpus(held, tmp_path, monkeypatch):
    """And copies the same bytes. What is let go is read again from the page cache."""
    corpus = make_small_corpus(tmp_path, ("v1", [Video(f"v{k}", 6000) for k in range(8)]))
    monkeypatch.setattr(gather_module, "HELD_BYTES", held)
    [path], width = corpus.shard_paths, corpus.dataset.width
    plain, stream = Gatherer(corpus), Gatherer(corpus, streams=True)
    most = {}
    for name, gatherer in (("stream", stream), ("plain", plain)):
        corpus.buffers.let_go()
        assert mapped_bytes(path) == 0
        for row in range(len(corpus)):
            out = np.full((6000, width), UNTOUCHED, np.uint8)
            for first in range(0, 6000, 1000):
                stretch = (np.array([n]) for n in (row, first, 1000, first))
                gatherer.gather(*stretch, out)
            expected = np.concatenate(corpus.frames(row), axis=1)
            np.testing.assert_array_equal(out, expected)
            del expected
        most[name] = mapped_bytes(path)
    size = path.stat().st_size
    assert most["plain"] > 0.9 * size
    if held < size / 10:
        assert most["stream"] < size / 2
