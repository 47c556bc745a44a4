"""The two arrays of attention in a Scores folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.scores import ATTENTION_FILES, FILES, ScoresWriter, open_scores, partial_path
from whenabouts.core.segments import SegmentGrid, SegmentTable

CLASSES = ClassOrder.of([7, 3, 5])
FRAMES, SEGMENTS = ATTENTION_FILES
HEADER = 128  # bytes before the first row of an array
TABLE = SegmentTable(
    np.array([b"b", b"a", b"x"]), *SegmentGrid().starts(np.array([11, 5, 6], np.int32))
)
VALUES = np.linspace(0, 1, 18, dtype=np.float32).reshape(6, 3)
OF_FRAMES = np.linspace(0.125, 1, 30).reshape(6, 5).astype(np.float16)
OF_FRAMES[2, 1:] = OF_FRAMES[5, 1:] = np.nan
OF_SEGMENTS = np.array([0.5, 1, 0, 0.25, 0.125, 6e-8], np.float16)


def writer(path: Path, *, is_main: bool = True) -> ScoresWriter:
    return ScoresWriter(path, TABLE, CLASSES, "float32", 5, is_main=is_main)


def write_rows(to: ScoresWriter, rows: slice) -> None:
    first = rows.start or 0
    to.write(first, VALUES[rows])
    to.write_frame_attention(first, OF_FRAMES[rows].astype(np.float32))
    to.write_segment_attention(first, OF_SEGMENTS[rows].astype(np.float32))


def write(path: Path) -> None:
    to = writer(path)
    write_rows(to, slice(None))
    to.commit({})


def write_plain(path: Path) -> None:
    to = ScoresWriter(path, TABLE, CLASSES)
    to.write(0, VALUES)
    to.commit({})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def check(path: Path) -> None:
    scores = open_scores(path)
    np.testing.assert_array_equal(scores.values, VALUES, strict=True)
    assert scores.attention is not None
    np.testing.assert_array_equal(scores.attention.frames, OF_FRAMES, strict=True)
    np.testing.assert_array_equal(scores.attention.segments, OF_SEGMENTS, strict=True)
    assert names(path) == sorted([*FILES, *ATTENTION_FILES])


def test_attention_comes_back_as_written(tmp_path):
    write(tmp_path / "s")
    check(tmp_path / "s")
    attention = open_scores(tmp_path / "s").attention
    assert isinstance(attention.frames, np.memmap), "the arrays stay on the disk"
    assert isinstance(attention.segments, np.memmap)


def test_attention_is_plain_numpy_for_others(tmp_path):
    write(tmp_path / "s")
    np.testing.assert_array_equal(np.load(tmp_path / "s" / FRAMES), OF_FRAMES, strict=True)
    np.testing.assert_array_equal(np.load(tmp_path / "s" / SEGMENTS), OF_SEGMENTS, strict=True)


def test_scores_without_attention(tmp_path):
    write_plain(tmp_path / "s")
    assert open_scores(tmp_path / "s").attention is None
    assert names(tmp_path / "s") == sorted(FILES)


def test_no_segments(tmp_path):
    nothing = SegmentTable(TABLE.video_ids[:0], TABLE.video[:0], TABLE.starts_s[:0])
    ScoresWriter(tmp_path / "s", nothing, CLASSES, "float32", 5).commit({})
    attention = open_scores(tmp_path / "s").attention
    assert (attention.frames.shape, attention.segments.shape) == ((0, 5), (0,))


def test_two_writers_and_an_interruption(tmp_path):
    first, second = writer(tmp_path / "s"), writer(tmp_path / "s", is_main=False)
    write_rows(second, slice(4, 6))
    write_rows(first, slice(0, 3))
    for each in (second, first):
        each.flush()
        each.close()
    third = writer(tmp_path / "s")
    write_rows(third, slice(3, 4))
    third.commit({})
    check(tmp_path / "s")


def test_rows_of_all_arrays_are_on_the_disk_after_flush(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    to = writer(tmp_path / "s")
    write_rows(to, slice(None))
    to.flush()
    arrays = [to.partial / name for name in ("scores.npy", *ATTENTION_FILES)]
    assert sorted(synced) == sorted(path.stat().st_ino for path in arrays)
    np.testing.assert_array_equal(np.load(arrays[1]), OF_FRAMES)
    np.testing.assert_array_equal(np.load(arrays[2]), OF_SEGMENTS)
    to.discard()
    assert names(tmp_path) == []


def test_space_for_all_arrays_is_taken_at_once(tmp_path):
    to = writer(tmp_path / "s")
    sizes = {p.name: p.stat().st_size for p in to.partial.iterdir()}
    assert sizes == {
        "scores.npy": HEADER + 6 * 3 * 4,
        FRAMES: HEADER + 6 * 5 * 2,
        SEGMENTS: HEADER + 6 * 2,
    }
    to.discard()


def test_full_disk_at_the_last_array(tmp_path, monkeypatch):
    claim, sizes = os.posix_fallocate, []

    def no_room_for_the_last(descriptor: int, offset: int, size: int) -> None:
        sizes.append(size)
        if len(sizes) == 3:
            raise OSError("No space left on device")
        claim(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", no_room_for_the_last)
    with pytest.raises(OSError, match="No space left"):
        writer(tmp_path / "s")
    assert names(tmp_path) == []


def test_block_of_another_width_is_refused(tmp_path):
    to = writer(tmp_path / "s")
    with pytest.raises(AssertionError):
        to.write_frame_attention(0, OF_FRAMES[:, :4])
    with pytest.raises(AssertionError):
        to.write_segment_attention(4, OF_SEGMENTS[:3])
    to.discard()


def test_attention_of_an_earlier_attempt_does_not_stay(tmp_path):
    """Neither in the unfinished folder nor in the finished one."""
    write(tmp_path / "s")
    writer(tmp_path / "s").close()
    assert partial_path(tmp_path / "s").is_dir()
    write_plain(tmp_path / "s")
    assert names(tmp_path / "s") == sorted(FILES)


@pytest.mark.parametrize("name", ATTENTION_FILES)
def test_one_array_alone_is_refused(tmp_path, name):
    write(tmp_path / "s")
    (tmp_path / "s" / name).unlink()
    (other,) = set(ATTENTION_FILES) - {name}
    told = rf"s: {other} is alone; attention is {FRAMES} and {SEGMENTS}; make both with"
    with pytest.raises(ScoresError, match=told):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize("name", ATTENTION_FILES)
@pytest.mark.parametrize("damage", ["rubbish", "cut", "objects"])
def test_damaged_array_is_an_error_for_people(tmp_path, name, damage):
    write(tmp_path / "s")
    path = tmp_path / "s" / name
    if damage == "rubbish":
        path.write_bytes(b"\x80rubbish")
    elif damage == "cut":
        os.truncate(path, HEADER + 4)
    else:
        np.save(path, np.full(6, None), allow_pickle=True)
    with pytest.raises(ScoresError, match=rf"s: a file is damaged \({name}: "):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "shape", "rule"),
    [
        (FRAMES, (5, 5), r"\(6, T\)"),
        (FRAMES, (6,), r"\(6, T\)"),
        (FRAMES, (6, 0), r"\(6, T\)"),
        (FRAMES, (6, 5, 1), r"\(6, T\)"),
        (SEGMENTS, (5,), r"\(6,\)"),
        (SEGMENTS, (6, 1), r"\(6,\)"),
    ],
)
def test_array_of_another_shape_is_refused(tmp_path, name, shape, rule):
    write(tmp_path / "s")
    np.save(tmp_path / "s" / name, np.zeros(shape, np.float16))
    with pytest.raises(ScoresError, match=rf"s: {name} is \({shape[0]},.*; one .*: {rule}$"):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize("name", ATTENTION_FILES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_array_of_another_type_is_refused(tmp_path, name, dtype):
    write(tmp_path / "s")
    array = np.load(tmp_path / "s" / name)
    np.save(tmp_path / "s" / name, np.nan_to_num(array).astype(dtype))
    with pytest.raises(ScoresError, match=rf"s: {name} is {dtype}; attention is float16$"):
        open_scores(tmp_path / "s")
