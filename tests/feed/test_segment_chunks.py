from __future__ import annotations

import numpy as np
import pytest
import torch

from corpus_writer import NARROW, Video, make_small_corpus, slow_features
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.feed.segments import SegmentChunks

CPU = torch.device("cpu")
ALL = np.arange(9)


def read_all(
    corpus: Corpus, rows: np.ndarray, chunk_size: int, first: int = 0, end: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Features and masks of the chunks side by side, and where each chunk began."""
    chunks = SegmentChunks(corpus, rows, CPU, chunk_size)
    found = list(chunks.chunks(first, len(chunks.table) if end is None else end))
    features = torch.cat([chunk.features for chunk in found])
    return features, torch.cat([chunk.mask for chunk in found]), [chunk.first for chunk in found]


def expected_features(videos: list[Video]) -> tuple[np.ndarray, np.ndarray]:
    """Features and mask of every segment of the videos."""
    features, masks = [], []
    for video in videos:
        for start in range(0, video.frames, 5):
            frames = slow_features(video)[start : start + 5]
            features.append(np.pad(frames, ((0, 5 - len(frames)), (0, 0))))
            masks.append(np.arange(start, start + 5) < video.frames)
    return np.array(features), np.array(masks)


@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
@pytest.mark.parametrize("rows", [ALL, [7, 0, 3], [8], [2, 2]])
def test_features_of_every_segment(odd_corpus, odd_videos, rows, chunk_size):
    features, mask, _ = read_all(odd_corpus, np.array(rows), chunk_size)
    expected, expected_mask = expected_features([odd_videos[row] for row in rows])
    assert features.shape == (len(odd_corpus.segments(np.array(rows))), 5, 9)
    np.testing.assert_allclose(features.numpy(), expected, atol=3e-7)
    np.testing.assert_array_equal(mask.numpy(), expected_mask)
    assert (features[~mask] == 0).all()


def test_size_of_the_chunks_never_changes_the_features(odd_corpus):
    whole, mask, firsts = read_all(odd_corpus, ALL, 1000)
    assert firsts == [0]
    for chunk_size in (1, 2, 3, 7):
        features, chunk_mask, firsts = read_all(odd_corpus, ALL, chunk_size)
        assert torch.equal(features, whole)
        assert torch.equal(chunk_mask, mask)
        assert firsts == list(range(0, len(whole), chunk_size))


def test_part_of_the_segments(odd_corpus):
    whole, mask, _ = read_all(odd_corpus, ALL, 1000)
    for first, end in ((1, 6), (2, 3), (5, len(whole))):
        features, part_mask, firsts = read_all(odd_corpus, ALL, 2, first, end)
        assert torch.equal(features, whole[first:end])
        assert torch.equal(part_mask, mask[first:end])
        assert firsts == list(range(first, end, 2))


def test_nothing_to_read(odd_corpus):
    chunks = SegmentChunks(odd_corpus, ALL, CPU)
    assert list(chunks.chunks(3, 3)) == []
    assert len(SegmentChunks(odd_corpus, np.zeros(0, np.int64), CPU).table) == 0


def test_table_is_that_of_the_corpus(odd_corpus):
    rows = np.array([6, 0])
    chunks, table = SegmentChunks(odd_corpus, rows, CPU), odd_corpus.segments(rows)
    for name in ("video_ids", "video", "starts_s"):
        np.testing.assert_array_equal(getattr(chunks.table, name), getattr(table, name))


def test_chunk_stays_as_it_was_when_the_next_is_made(odd_corpus):
    chunks = SegmentChunks(odd_corpus, ALL, CPU, 2).chunks(0, 6)
    first = next(chunks)
    before = first.features.clone()
    next(chunks)
    assert torch.equal(first.features, before)
    assert first.features.dtype == torch.float32
    assert first.mask.dtype == torch.bool


def test_usual_chunk_has_512_segments(tmp_path):
    corpus = make_small_corpus(tmp_path, ("test", [Video(f"{k}", 300) for k in range(69)]))
    _, _, firsts = read_all(corpus, np.arange(69), SegmentChunks.__init__.__defaults__[0])
    assert firsts == list(range(0, 4097, 512))[: len(firsts)]
    assert len(firsts) > 2


def test_grid_of_another_data_set(tmp_path):
    """Segments of 3 s at 2 frames a second: 13 frames make two whole ones and one of a frame."""
    dataset = DatasetSettings("x", NARROW.features, segment_s=3, frames_per_s=2)
    corpus = make_small_corpus(tmp_path, ("test", [Video("a", 13), Video("b", 6)]), dataset=dataset)
    features, mask, _ = read_all(corpus, np.array([0, 1]), 2)
    assert features.shape == (4, 6, 9)
    assert mask.sum(1).tolist() == [6, 6, 1, 6]
    frames = np.concatenate([slow_features(Video("a", 13)), slow_features(Video("b", 6))])
    np.testing.assert_allclose(features[mask].numpy(), frames, atol=3e-7)
