"""Whole videos as batches, against the corpus they are cut from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corpus_writer import Video, make_small_corpus
from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import normalised
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.videos import VideoBatch, Videos

CPU = torch.device("cpu")
LENGTHS = (23, 8, 41, 12, 30, 7)


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    videos = [
        Video(f"v{k}", length, (k, 7), ((0, 7, 1), (5 * (k % 2), 9, 0)))
        for k, length in enumerate(LENGTHS)
    ]
    return make_small_corpus(tmp_path, ("v1", videos))


def feed(corpus: Corpus, batch_size: int = 4, seed: int = 0, **settings) -> Videos:
    order = ShuffledOrder(len(corpus), batch_size, seed)
    rows = np.arange(len(corpus))
    return Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, CPU,
        rated=corpus.rated(rows), **settings,
    )  # fmt: skip


def videos_of(corpus: Corpus, batch_size: int = 4, seed: int = 0, step: int = 0) -> np.ndarray:
    return ShuffledOrder(len(corpus), batch_size, seed).batch(step)


def expected_segments(corpus: Corpus, rows: np.ndarray) -> torch.Tensor:
    """Every segment of the videos, one after another, the last ones padded with zeros."""
    parts = []
    for row in rows:
        frames = np.concatenate(corpus.frames(int(row)), axis=1)
        padded = np.zeros((-(-len(frames) // 5) * 5, frames.shape[1]), np.uint8)
        padded[: len(frames)] = frames
        mask = torch.from_numpy(np.arange(len(padded)) < len(frames)).reshape(-1, 5)
        bytes_ = torch.from_numpy(padded).reshape(-1, 5, frames.shape[1])
        parts.append(normalised(bytes_, mask, corpus.dataset))
    return torch.cat(parts)


def test_a_share_of_no_videos(corpus):
    """A batch of one video among three processes."""
    videos = feed(corpus, batch_size=1)
    shares = [videos.batch(0, rank, 3) for rank in range(3)]
    assert [len(share.labels) for share in shares] == [1, 0, 0]
    assert [share.num_videos for share in shares] == [1, 1, 1]
    assert shares[2].features.shape == (0, 5, 9)
    assert (len(shares[2].segment_mask), len(shares[2].pair_class)) == (0, 0)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_segments_of_a_batch(corpus, step):
    rows = videos_of(corpus, step=step)
    batch = feed(corpus).batch(step)
    counts = [-(-LENGTHS[row] // 5) for row in rows]
    torch.testing.assert_close(batch.features, expected_segments(corpus, rows))
    assert batch.mask.sum(dim=1).tolist() == [
        min(5, LENGTHS[row] - 5 * k) for row, n in zip(rows, counts) for k in range(n)
    ]
    assert batch.segment_mask.sum(dim=1).tolist() == counts
    assert batch.segment_mask.shape == (4, max(counts))
    assert batch.place.tolist() == [
        video * max(counts) + k for video, n in enumerate(counts) for k in range(n)
    ]
    assert batch.segment_mask.flatten()[batch.place].all()
    assert batch.num_videos == 4


def test_labels_of_a_batch(corpus):
    batch, rows = feed(corpus).batch(0), videos_of(corpus)
    for labels, row in zip(batch.labels, rows):
        found = [corpus.video_classes.ids[column] for column in labels.nonzero()[:, 0].tolist()]
        assert found == sorted({int(row), 7})


def test_labels_outside_the_order_are_left_out(corpus):
    order, rows = ShuffledOrder(6, 6, 0), np.arange(6)
    videos = Videos(corpus, rows, corpus.classes, ClassOrder.of([3, 99]), order, CPU)
    assert videos.batch(0).labels.sum(dim=0).tolist() == [1, 0]


def pairs_by_video(batch: VideoBatch) -> list[tuple[int, int, int, float]]:
    """(video of the batch, segment of the video, class column, label) of the pairs."""
    width = batch.segment_mask.shape[1]
    place = batch.place[batch.pair_segment]
    columns = (place // width, place % width, batch.pair_class, batch.pair_label)
    return sorted(zip(*(column.tolist() for column in columns)))


def expected_pairs(corpus: Corpus, rows: np.ndarray) -> list[tuple[int, int, int, float]]:
    column = {c: k for k, c in enumerate(corpus.classes.ids)}
    pairs = []
    for video, row in enumerate(rows.tolist()):
        pairs += [(video, 0, column[7], 1.0), (video, row % 2, column[9], 0.0)]
    return sorted(pairs)


def test_pairs_of_a_batch(corpus):
    batch, rows = feed(corpus).batch(0), videos_of(corpus)
    assert pairs_by_video(batch) == expected_pairs(corpus, rows)
    assert batch.pair_weight.tolist() == [1.0] * 8
    assert batch.num_rated == sum(1 + row % 2 for row in rows.tolist())


def test_without_ratings_there_are_no_pairs(corpus):
    order, rows = ShuffledOrder(6, 4, 0), np.arange(6)
    videos = Videos(corpus, rows, corpus.classes, corpus.video_classes, order, CPU)
    batch = videos.batch(0)
    assert (len(batch.pair_class), batch.num_rated) == (0, 0)


@pytest.mark.parametrize("most", [2, 3])
def test_a_draw_of_segments_takes_rated_ones_first(corpus, most):
    videos, seen = feed(corpus, batch_size=6, max_segments=most), set()
    for step in range(300):
        batch, rows = videos.batch(step), videos_of(corpus, batch_size=6, step=step)
        counts = [min(most, -(-LENGTHS[row] // 5)) for row in rows]
        assert batch.segment_mask.sum(dim=1).tolist() == counts
        assert len(batch.pair_class) == 12
        whole = expected_segments(corpus, rows[:1])
        chosen = batch.features[: counts[0]]
        found = [int((whole == each).all(dim=(1, 2)).nonzero()[0]) for each in chosen]
        assert found == sorted(found)
        seen |= {(int(rows[0]), k) for k in found}
    longest = {k for row, k in seen if row == 2}
    assert longest == set(range(9))


def test_a_draw_is_a_function_of_seed_and_step(corpus):
    one, same = feed(corpus, max_segments=2), feed(corpus, max_segments=2)
    same.batch(3)
    assert torch.equal(one.batch(1).features, same.batch(1).features)
    other = feed(corpus, seed=1, max_segments=2)
    assert not torch.equal(one.batch(1).labels, other.batch(1).labels)


@pytest.mark.parametrize("most", [0, 2])
def test_shares_make_up_the_whole(corpus, most):
    videos = feed(corpus, max_segments=most)
    whole, shares = videos.batch(2), [videos.batch(2, rank, 3) for rank in range(3)]
    assert {share.num_videos for share in shares} == {4}
    assert {share.num_rated for share in shares} == {whole.num_rated}
    assert sum(len(share.labels) for share in shares) == 4
    torch.testing.assert_close(shares[1].labels, whole.labels[1::3])
    parts = torch.cat([share.features for share in shares])
    assert sorted(parts.sum(dim=(1, 2)).tolist()) == sorted(whole.features.sum(dim=(1, 2)).tolist())
    assert sum(len(share.pair_class) for share in shares) == len(whole.pair_class)
