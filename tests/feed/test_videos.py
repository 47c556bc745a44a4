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
from whenabouts.feed.videos import Drawing, VideoBatch, Videos

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
    videos, seen = feed(corpus, batch_size=6, drawing=Drawing(most)), set()
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


def test_pseudo_labels_are_counted_among_the_drawn_segments(corpus):
    """Whatever is drawn, over all processes; what is not drawn does not count."""
    rated = corpus.rated(np.arange(6))
    pseudo = rated.take(rated.class_id == 9)
    order, rows = ShuffledOrder(6, 6, 0), np.arange(6)
    videos = Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, CPU,
        drawing=Drawing(1), pseudo=pseudo,
    )  # fmt: skip
    counts = set()
    for step in range(20):
        whole = videos.batch(step).pseudo
        assert whole.num_segments == len(whole.segment.unique())
        shares = [videos.batch(step, rank, 3).pseudo for rank in range(3)]
        assert {share.num_segments for share in shares} == {whole.num_segments}
        counts.add(whole.num_segments)
    assert min(counts) < 6


def shifted(corpus: Corpus, shift: int, **settings) -> Videos:
    order, rows = ShuffledOrder(len(corpus), 4, 0), np.arange(len(corpus))
    drawing = Drawing(shift=shift, **settings)
    return Videos(corpus, rows, corpus.classes, corpus.video_classes, order, CPU, drawing=drawing)


def window_starts(corpus: Corpus, row: int, segments: torch.Tensor) -> list[int]:
    """The frame that each of the segments of a video begins with."""
    frames = torch.from_numpy(np.concatenate(corpus.frames(row), axis=1))[:, None]
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    singles = normalised(frames, mask, corpus.dataset)[:, 0]
    return [int((singles == each).all(dim=1).nonzero()[0]) for each in segments[:, 0]]


@pytest.mark.parametrize("shift", [1, 2, 9])
def test_windows_begin_off_the_grid_within_the_video(corpus, shift):
    videos, seen = shifted(corpus, shift), set()
    for step in range(200):
        batch, first = videos.batch(step), 0
        for row in videos_of(corpus, step=step).tolist():
            length = LENGTHS[row]
            count = -(-length // 5)
            part = slice(first, first + count)
            starts = window_starts(corpus, row, batch.features[part])
            for k, start in enumerate(starts):
                lowest = min(max(5 * k - shift, 0), length - 5)
                assert lowest <= start <= min(5 * k + shift, length - 5)
                frames = np.concatenate(corpus.frames(row), axis=1)[start : start + 5][None]
                whole = torch.from_numpy(np.ascontiguousarray(frames))
                expected = normalised(whole, batch.mask[first + k][None], corpus.dataset)
                assert torch.equal(batch.features[first + k], expected[0])
                seen.add((row, k, start))
            assert batch.mask[part].all(), "no window is cut off where a whole one fits"
            first += count
    assert {start for row, k, start in seen if (row, k) == (2, 4)} == {
        20 + off for off in range(-shift, shift + 1)
    }


def test_a_video_shorter_than_a_window_has_all_its_frames(tmp_path):
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 3, (7,), ()), Video("b", 5, (7,), ())]))
    order, rows = ShuffledOrder(2, 2, 0), np.arange(2)
    videos = Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, CPU, drawing=Drawing(shift=3)
    )
    for step in range(5):
        batch, expected = videos.batch(step), [[3, 5][row] for row in order.batch(step).tolist()]
        assert batch.mask.sum(dim=1).tolist() == expected
        on_grid = expected_segments(corpus, order.batch(step))
        torch.testing.assert_close(batch.features, on_grid)


def test_shifted_shares_make_up_the_whole(corpus):
    """What a process gets does not depend on how many there are; on the grid nothing is drawn."""
    videos = shifted(corpus, 2, max_segments=3)
    whole, shares = videos.batch(2), [videos.batch(2, rank, 3) for rank in range(3)]
    parts = torch.cat([share.features for share in shares])
    assert sorted(parts.sum(dim=(1, 2)).tolist()) == sorted(whole.features.sum(dim=(1, 2)).tolist())
    again = shifted(corpus, 2, max_segments=3)
    assert torch.equal(again.batch(2).features, whole.features)
    assert not torch.equal(shifted(corpus, 0, max_segments=3).batch(2).features, whole.features)
    grid, drawn = shifted(corpus, 0, max_segments=3), feed(corpus, drawing=Drawing(3))
    assert len(grid.batch(2).features) == len(drawn.batch(2).features)


def test_a_draw_is_a_function_of_seed_and_step(corpus):
    one, same = feed(corpus, drawing=Drawing(2)), feed(corpus, drawing=Drawing(2))
    same.batch(3)
    assert torch.equal(one.batch(1).features, same.batch(1).features)
    other = feed(corpus, seed=1, drawing=Drawing(2))
    assert not torch.equal(one.batch(1).labels, other.batch(1).labels)


@pytest.mark.parametrize("drawing", [Drawing(4), Drawing(shift=2)])
def test_another_seed_draws_other_segments_and_windows(tmp_path, drawing):
    """Of one video, whose order is the same whatever the seed."""
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 300, (7,), ())]))
    one, other = (
        Videos(
            corpus, np.arange(1), corpus.classes, corpus.video_classes,
            ShuffledOrder(1, 1, seed), CPU, drawing=drawing,
        ).batch(0)
        for seed in (0, 1)
    )  # fmt: skip
    assert one.features.shape == other.features.shape
    assert not torch.equal(one.features, other.features)


@pytest.mark.parametrize("most", [0, 2])
def test_shares_make_up_the_whole(corpus, most):
    videos = feed(corpus, drawing=Drawing(most))
    whole, shares = videos.batch(2), [videos.batch(2, rank, 3) for rank in range(3)]
    assert {share.num_videos for share in shares} == {4}
    assert {share.num_rated for share in shares} == {whole.num_rated}
    assert sum(len(share.labels) for share in shares) == 4
    torch.testing.assert_close(shares[1].labels, whole.labels[1::3])
    parts = torch.cat([share.features for share in shares])
    assert sorted(parts.sum(dim=(1, 2)).tolist()) == sorted(whole.features.sum(dim=(1, 2)).tolist())
    assert sum(len(share.pair_class) for share in shares) == len(whole.pair_class)
