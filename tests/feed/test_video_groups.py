"""Groups of whole videos: what is computed at once where attention over segments is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from corpus_writer import Video, make_small_corpus
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.segments import MAX_PADDING, SegmentChunks, VideoGroup

CPU = torch.device("cpu")
FRAMES = (12, 5, 61, 1, 7, 6, 30, 30, 14, 11, 80)  # 3 1 13 1 2 2 6 6 3 3 16 segments


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    made = [Video(f"{k}", frames) for k, frames in enumerate(FRAMES)]
    return make_small_corpus(tmp_path_factory.mktemp("videos"), ("test", made))


def groups_of(corpus: Corpus, chunk_size: int) -> tuple[SegmentChunks, list[VideoGroup]]:
    chunks = SegmentChunks(corpus, np.arange(len(corpus)), CPU, chunk_size)
    return chunks, list(chunks.groups(0, len(chunks.table)))


def counts(group: VideoGroup) -> list[int]:
    return group.segment_mask.sum(1).tolist()


def test_groups_by_hand(videos):
    """Of at most 8 segments; the videos of 13 and 16 are alone."""
    _, groups = groups_of(videos, 8)
    expected = [[3, 1], [13], [1, 2, 2], [6], [6], [3, 3], [16]]
    assert [counts(group) for group in groups] == expected
    assert [(g.first, g.end) for g in groups][:3] == [(0, 4), (4, 17), (17, 22)]
    assert groups[0].segment_mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize(
    ("chunk_size", "expected"),
    [(10, [[9, 1], [1] * 8]), (12, [[9, 1, 1, 1], [1] * 6]), (18, [[9, *[1] * 7], [1, 1]])],
)
def test_padding_is_bounded(tmp_path, chunk_size, expected):
    """A video of 9 segments, then nine of one. At 18 eight of them are 72 padded, 4 times 18."""
    made = [Video(f"{k}", frames) for k, frames in enumerate([45, *[5] * 9])]
    corpus = make_small_corpus(tmp_path, ("test", made))
    assert [counts(group) for group in groups_of(corpus, chunk_size)[1]] == expected


@pytest.mark.parametrize("chunk_size", [1, 4, 13, 20, 1000])
def test_groups_are_whole_videos_in_order(videos, chunk_size):
    chunks, groups = groups_of(videos, chunk_size)
    video = chunks.table.video
    at = 0
    for group in groups:
        assert group.first == at
        at = group.end
        of_group = video[group.first : group.end]
        assert counts(group) == np.unique(of_group, return_counts=True)[1].tolist()
        assert group.first == 0 or video[group.first - 1] != video[group.first]
        assert group.end - group.first <= chunk_size or len(group.segment_mask) == 1
        assert group.segment_mask.numel() <= MAX_PADDING * chunk_size or len(counts(group)) == 1
        places = group.segment_mask.nonzero()[:, 1]
        assert places.tolist() == (chunks.table.starts_s[group.first : group.end] // 5).tolist()
    assert at == len(video)


def test_groups_from_a_later_video_are_the_same(videos):
    """So that an interrupted prediction computes what it would have computed."""
    chunks, groups = groups_of(videos, 8)
    for k, group in enumerate(groups):
        again = list(chunks.groups(group.first, len(chunks.table)))
        assert [(g.first, g.end) for g in again] == [(g.first, g.end) for g in groups[k:]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_groups_of_blocks_cut_the_table_without_gaps(videos, size):
    chunks, _ = groups_of(videos, 8)
    total = len(chunks.table)
    starts = {*np.flatnonzero(chunks.table.starts_s == 0).tolist(), total}
    ends = [total * rank // size for rank in range(size + 1)]
    blocks = [list(chunks.groups(first, end)) for first, end in pairwise(ends)]
    groups = [group for block in blocks for group in block]
    assert [row for g in groups for row in range(g.first, g.end)] == list(range(total))
    assert {g.first for g in groups} <= starts
    for (first, end), block in zip(pairwise(ends), blocks):
        assert all(first <= group.first < end for group in block)


def test_the_same_video_twice_is_two_videos(videos):
    chunks = SegmentChunks(videos, np.array([4, 4]), CPU, 8)
    (group,) = chunks.groups(0, 4)
    assert counts(group) == [2, 2]


def test_no_videos(videos):
    chunks = SegmentChunks(videos, np.zeros(0, np.int64), CPU, 8)
    assert list(chunks.groups(0, 0)) == []
