"""Whole videos as frames: drawn for training, all of them for prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corpus_writer import (
    NARROW,
    VECTORS,
    Video,
    make_small_corpus,
    slow_features,
    vector_record,
    vectors_of,
)
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.whole_videos import DrawnBatch, DrawnVideos, VideoChunks

CPU = torch.device("cpu")
ALL = np.arange(9)


def drawn_videos(
    corpus: Corpus, batch_size: int = 4, seed: int = 0, num_frames: int = 7
) -> DrawnVideos:
    order = ShuffledOrder(len(corpus), batch_size, seed)
    rows = np.arange(len(corpus))
    return DrawnVideos(corpus, rows, corpus.video_classes, order, CPU, num_frames)


def rows_at(corpus: Corpus, batch_size: int = 4, seed: int = 0, step: int = 0) -> list[int]:
    return ShuffledOrder(len(corpus), batch_size, seed).batch(step).tolist()


def frames_found(features: torch.Tensor, video: Video) -> list[int]:
    """Which frame of the video each row of features is."""
    distance = np.abs(features.numpy()[:, None] - slow_features(video)[None]).max(axis=2)
    assert (distance.min(axis=1) < 1e-6).all(), "a real frame of this video"
    return distance.argmin(axis=1).tolist()


def drawn_frames(batch: DrawnBatch, videos: list[Video]) -> list[list[int]]:
    return [frames_found(each, video) for each, video in zip(batch.features, videos)]


# ---- drawn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_frames_are_real_ones_in_order(odd_corpus, odd_videos, step):
    """Of videos whose second list is shorter or unevenly spaced too."""
    batch = drawn_videos(odd_corpus).batch(step)
    videos = [odd_videos[row] for row in rows_at(odd_corpus, step=step)]
    assert batch.features.shape == (4, 7, NARROW.width)
    assert batch.features.dtype == torch.float32
    for found in drawn_frames(batch, videos):
        assert found == sorted(found)
    assert batch.mask.shape == (4, 7)
    assert batch.mask.all()
    assert batch.num_videos == 4


def test_labels_of_a_batch(odd_corpus, odd_videos):
    batch = drawn_videos(odd_corpus).batch(0)
    classes = odd_corpus.video_classes
    for labels, row in zip(batch.labels, rows_at(odd_corpus)):
        found = [classes.ids[column] for column in labels.nonzero()[:, 0].tolist()]
        assert found == sorted(odd_videos[row].labels)
    assert batch.labels.shape == (4, len(classes))


def test_a_draw_is_a_function_of_seed_and_step(odd_corpus):
    one, same = drawn_videos(odd_corpus), drawn_videos(odd_corpus)
    same.batch(3)
    assert torch.equal(one.batch(1).features, same.batch(1).features)
    other = drawn_videos(odd_corpus, seed=1)
    assert not torch.equal(one.batch(1).features, other.batch(1).features)


def test_draws_change_from_step_to_step(tmp_path):
    video = Video("a", 300)
    videos = drawn_videos(make_small_corpus(tmp_path, ("train", [video])), batch_size=1)
    found = {tuple(*drawn_frames(videos.batch(step), [video])) for step in range(5)}
    assert len(found) == 5


def test_another_seed_draws_other_frames(tmp_path):
    """Of one video, whose order is the same whatever the seed."""
    corpus = make_small_corpus(tmp_path, ("train", [Video("a", 300)]))
    one, other = (drawn_videos(corpus, batch_size=1, seed=seed).batch(0) for seed in (0, 1))
    assert not torch.equal(one.features, other.features)


def test_draws_of_a_batch_are_independent(tmp_path):
    """Two videos of one length are drawn differently, and so is one that stands in it twice."""
    corpus = make_small_corpus(tmp_path, ("train", [Video("a", 300), Video("b", 300)]))
    videos = [Video("ab"[row], 300) for row in rows_at(corpus)]
    found = drawn_frames(drawn_videos(corpus).batch(0), videos)
    assert len({tuple(frames) for frames in found}) == 4


def test_draws_are_uniform_and_with_replacement(tmp_path):
    """Chi-square of 4200 draws over 7 frames, 6 degrees of freedom: 22.5 has p = 0.001."""
    video = Video("a", 7)
    corpus = make_small_corpus(tmp_path, ("train", [video]))
    batch = drawn_videos(corpus, batch_size=600).batch(0)
    found = np.array(drawn_frames(batch, [video] * 600))
    counts = np.bincount(found.ravel(), minlength=7)
    assert ((counts - 600) ** 2 / 600).sum() < 22.5
    distinct = [len(set(frames)) for frames in found.tolist()]
    expected = 7 * (1 - (6 / 7) ** 7)
    assert np.mean(distinct) == pytest.approx(expected, abs=0.2)


def test_more_frames_than_the_video_has(odd_corpus, odd_videos):
    batch = drawn_videos(odd_corpus, batch_size=9, num_frames=40).batch(0)
    videos = [odd_videos[row] for row in rows_at(odd_corpus, batch_size=9)]
    assert batch.mask.all()
    for video, found in zip(videos, drawn_frames(batch, videos)):
        if video.frames <= 8:
            assert set(found) == set(range(video.frames))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_make_up_the_whole(odd_corpus, size):
    videos = drawn_videos(odd_corpus)
    whole = videos.batch(2)
    for rank in range(size):
        share = videos.batch(2, rank, size)
        assert share.num_videos == 4
        for name in ("features", "mask", "labels"):
            assert torch.equal(getattr(share, name), getattr(whole, name)[rank::size])


def test_300_frames_unless_said(odd_corpus):
    assert DrawnVideos.__init__.__defaults__ == (300,)
    assert len(drawn_videos(odd_corpus)) == 9


@pytest.mark.parametrize("name", ["odd_corpus", "vectors"])
def test_batch_stays_as_it_was_when_the_next_is_made(name, request):
    videos = drawn_videos(request.getfixturevalue(name))
    first = videos.batch(0)
    before = first.features.clone()
    videos.batch(1)
    assert torch.equal(first.features, before)


# ---- all frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_frames", [1, 12, 24, 40, 10_000])
@pytest.mark.parametrize("rows", [ALL, [7, 0, 3], [8], [2, 2]])
def test_every_frame_of_every_video(odd_corpus, odd_videos, rows, max_frames):
    chunks, next_video = VideoChunks(odd_corpus, np.array(rows), CPU, max_frames), 0
    for chunk in chunks.chunks(0, len(rows)):
        assert chunk.first == next_video
        num_videos, longest = chunk.mask.shape
        lengths = chunk.mask.sum(dim=1).tolist()
        assert longest == max(lengths)
        assert num_videos == 1 or num_videos * longest <= max_frames
        for features, mask, row in zip(chunk.features, chunk.mask, rows[next_video:]):
            video = odd_videos[row]
            assert mask.tolist() == [t < video.frames for t in range(longest)]
            expected = slow_features(video)
            np.testing.assert_allclose(features[: video.frames], expected, atol=3e-7)
            assert (features[video.frames :] == 0).all()
        next_video += num_videos
    assert next_video == len(rows)


def test_chunks_are_as_large_as_they_may_be(tmp_path):
    lengths = (4, 4, 4, 6, 2, 2, 30, 1)
    videos = [Video(f"{k}", length) for k, length in enumerate(lengths)]
    corpus = make_small_corpus(tmp_path, ("test", videos))

    def sizes(max_frames: int, first: int = 0, end: int = 8) -> list[int]:
        chunks = VideoChunks(corpus, np.arange(8), CPU, max_frames)
        return [len(chunk.mask) for chunk in chunks.chunks(first, end)]

    assert sizes(12) == [3, 2, 1, 1, 1], "6 + 2 padded to 6 are 12; a third would be 18"
    assert sizes(11) == [2, 1, 1, 2, 1, 1]
    assert sizes(29) == [4, 2, 1, 1]
    assert sizes(240) == [8]
    assert sizes(239) == [7, 1]
    assert sizes(12, 1, 5) == [2, 2]
    assert sizes(12, 3, 3) == []


def test_part_of_the_videos(odd_corpus):
    """A prediction that goes on in the middle sees what it would have seen."""
    chunks = VideoChunks(odd_corpus, ALL, CPU, 40)
    whole = {}
    for chunk in chunks.chunks(0, 9):
        for k, (features, mask) in enumerate(zip(chunk.features, chunk.mask), chunk.first):
            whole[k] = features[mask]
    for first, end in ((1, 6), (2, 3), (5, 9)):
        seen = []
        for chunk in chunks.chunks(first, end):
            for k, (features, mask) in enumerate(zip(chunk.features, chunk.mask), chunk.first):
                assert torch.equal(features[mask], whole[k])
                seen.append(k)
        assert seen == list(range(first, end))


def test_table_has_a_row_a_video(odd_corpus):
    table = VideoChunks(odd_corpus, np.array([6, 0]), CPU).table
    assert table.video_ids.tolist() == ["ö".encode(), b"nn"]
    assert (table.video.tolist(), table.starts_s.tolist()) == ([0, 1], [WHOLE_VIDEO] * 2)
    assert VideoChunks.__init__.__defaults__ == (2560,)


# ---- video-level corpora -------------------------------------------------------------------------


@pytest.fixture
def vectors(tmp_path) -> Corpus:
    records = [vector_record(i, (k,)) for k, i in enumerate(("a", "bb", "ccc", "d", "ee"))]
    return make_small_corpus(tmp_path, ("train", records), dataset=VECTORS)


def slow_vectors(corpus: Corpus, rows: list[int]) -> np.ndarray:
    """The concatenated floats of each video, divided by their norm."""
    ids = [corpus.video_ids[row].decode() for row in rows]
    x = np.array([np.concatenate(list(vectors_of(i).values())) for i in ids], np.float64)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def test_one_frame_is_taken_as_it_is(vectors):
    batch = drawn_videos(vectors, num_frames=300).batch(0)
    rows = rows_at(vectors)
    assert batch.features.shape == (4, 1, 9)
    assert batch.mask.tolist() == [[True]] * 4
    np.testing.assert_allclose(batch.features[:, 0], slow_vectors(vectors, rows), atol=3e-7)
    assert batch.labels.argmax(dim=1).tolist() == rows


@pytest.mark.parametrize("max_frames", [1, 2, 100])
def test_chunks_of_vectors(vectors, max_frames):
    found = list(VideoChunks(vectors, np.arange(5), CPU, max_frames).chunks(0, 5))
    assert [len(chunk.mask) for chunk in found] == {1: [1] * 5, 2: [2, 2, 1], 100: [5]}[max_frames]
    features = torch.cat([chunk.features for chunk in found])[:, 0]
    np.testing.assert_allclose(features, slow_vectors(vectors, list(range(5))), atol=3e-7)
