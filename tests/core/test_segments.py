from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.core.lookup import Lookup
from whenabouts.core.segments import SegmentGrid, SegmentTable

grids = st.builds(SegmentGrid, st.integers(1, 6), st.integers(1, 3))
VIDEOS = [b"b", b"a", b"ab", "ö".encode(), b"A"]


def slow_segments(grid: SegmentGrid, num_frames: list[int]) -> list[tuple[int, int]]:
    """(video, start in s) of every segment: a start for each that begins before the last frame."""
    found = []
    for video, count in enumerate(num_frames):
        start_s = 0
        while start_s * grid.frames_per_s < count:
            found.append((video, start_s))
            start_s += grid.length_s
    return found


@settings(deadline=None, max_examples=60)
@given(grids, st.lists(st.integers(0, 40), max_size=6))
def test_segments_of_videos(grid, num_frames):
    video, starts_s = grid.starts(np.array(num_frames, np.int32))
    expected = slow_segments(grid, num_frames)
    assert list(zip(video.tolist(), starts_s.tolist())) == expected
    counts = [sum(v == k for v, _ in expected) for k in range(len(num_frames))]
    assert grid.count(np.array(num_frames, np.int32)).tolist() == counts


def test_grid_by_hand():
    grid = SegmentGrid()
    assert grid == SegmentGrid(length_s=5, frames_per_s=1)
    assert grid.num_frames == 5
    video, starts_s = grid.starts(np.array([11, 5, 0, 1], np.int32))
    assert video.tolist() == [0, 0, 0, 1, 3]
    assert starts_s.tolist() == [0, 5, 10, 0, 0]
    fine = SegmentGrid(3, 2)
    assert fine.num_frames == 6
    assert fine.first_frame(np.array([0, 3, 9])).tolist() == [0, 6, 18]
    assert fine.starts(np.array([13], np.int32))[1].tolist() == [0, 3, 6]


def test_count_of_the_longest_video_does_not_wrap():
    longest = np.array([2**31 - 1], np.int32)
    count = SegmentGrid().count(longest)
    assert (count.tolist(), count.dtype) == ([429496730], np.int64)


@st.composite
def tables(draw):
    ids = draw(st.permutations(VIDEOS))
    keys = st.tuples(st.integers(0, len(ids) - 1), st.sampled_from([-1, 0, 5, 10, 2**31 - 1]))
    rows = draw(st.lists(keys, unique=True, max_size=12))
    video, starts_s = np.array(rows, np.int64).reshape(-1, 2).T
    return SegmentTable(np.array(ids), video, starts_s)


STARTS = [-1, 0, 5, 7, -5, 10, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, -(2**32), 2**62]


@settings(deadline=None, max_examples=60)
@given(
    tables(), st.lists(st.tuples(st.sampled_from([*VIDEOS, b"abc", b""]), st.sampled_from(STARTS)))
)
def test_rows_of_segments(table, wanted):
    row_of = {
        (table.video_ids[v], s): row
        for row, (v, s) in enumerate(zip(table.video, table.starts_s.tolist()))
    }
    ids = np.array([v for v, _ in wanted], "S5")
    starts_s = np.array([s for _, s in wanted], np.int64)
    rows = table.rows_of(ids, starts_s)
    assert rows.tolist() == [row_of.get(pair, -1) for pair in wanted]
    videos = {video: k for k, video in enumerate(table.video_ids)}
    assert table.videos_of(ids).tolist() == [videos.get(v, -1) for v, _ in wanted]


@settings(deadline=None, max_examples=60)
@given(tables())
def test_ties_are_broken_by_video_id_then_start(table):
    names = [(table.video_ids[v], s) for v, s in zip(table.video, table.starts_s.tolist())]
    assert table.tie_ranks.dtype == np.uint32
    assert table.tie_ranks.tolist() == [sorted(names).index(name) for name in names]


def test_table_of_whole_videos():
    table = SegmentTable.of_videos(np.array([b"b", b"a", b"c"]))
    assert (table.video.tolist(), table.starts_s.tolist()) == ([0, 1, 2], [-1, -1, -1])
    rows = table.rows_of(np.array([b"a", b"c", b"a", b"d"]), np.array([-1, -1, 0, -1]))
    assert rows.tolist() == [1, 2, -1, -1]
    assert table.tie_ranks.tolist() == [1, 0, 2]
    assert table.has_whole_videos
    assert SegmentTable(np.array([b"a"]), np.array([0, 0]), np.array([0, -1])).has_whole_videos
    assert not SegmentTable(np.array([b"a"]), np.array([0, 0]), np.array([0, 5])).has_whole_videos
    assert not SegmentTable.of_videos(np.zeros(0, "S1")).has_whole_videos


def test_table_without_segments():
    table = SegmentTable(np.zeros(0, "S1"), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(table) == len(table.tie_ranks) == 0
    assert table.videos_of(np.array([b"a"])).tolist() == [-1]
    assert table.rows_of(np.array([b"a", b"b"]), np.array([0, 5])).tolist() == [-1, -1]


def test_length_is_that_of_the_segments():
    assert len(SegmentTable(np.array([b"a"]), np.array([0, 0]), np.array([0, 5]))) == 2


@pytest.mark.parametrize("values", [[], [5], [7, 5, 6], [2**62, -1, 0]])
def test_lookup_finds_places(values):
    wanted = [*values, 4, 8, -(2**62)]
    expected = [values.index(w) if w in values else -1 for w in wanted]
    assert Lookup(np.array(values, np.int64)).places(np.array(wanted)).tolist() == expected
