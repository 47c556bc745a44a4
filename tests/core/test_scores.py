from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import LabelsError, ScoresError
from whenabouts.core.scores import (
    FILES,
    FORMAT,
    ScoresWriter,
    new_scores,
    open_scores,
    partial_path,
)
from whenabouts.core.segments import SegmentGrid, SegmentTable

CLASSES = ClassOrder((7, 3, 5), ("Dog", "", "Cat, big"))
HEADER = 128  # bytes before the first row of the array


def table(num_frames: tuple[int, ...] = (11, 5, 6)) -> SegmentTable:
    ids = np.array([b"b", b"a", "ö".encode(), b"x"][: len(num_frames)], "S2")
    return SegmentTable(ids, *SegmentGrid().starts(np.array(num_frames, np.int32)))


def values_of(segments: SegmentTable, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(3).random((len(segments), len(CLASSES))).astype(dtype)


def write(path: Path, segments: SegmentTable, dtype: str = "float32") -> np.ndarray:
    values = values_of(segments, dtype)
    writer = ScoresWriter(path, segments, CLASSES, dtype)
    writer.write(0, values)
    writer.commit({"run": "r"})
    return values


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scores_come_back_as_written(tmp_path, dtype):
    folder = tmp_path / "new" / "folder"
    values = write(folder / "s", table(), dtype)
    scores = open_scores(str(folder / "s"))
    np.testing.assert_array_equal(scores.values, values, strict=True)
    assert isinstance(scores.values, np.memmap), "the array stays on the disk"
    assert scores.classes == CLASSES
    assert scores.segments.video_ids.tolist() == [b"b", b"a", "ö".encode()]
    assert scores.segments.video.tolist() == [0, 0, 0, 1, 2, 2]
    assert scores.segments.starts_s.tolist() == [0, 5, 10, 0, 0, 5]
    assert scores.segments.video.dtype == scores.segments.starts_s.dtype == np.int64
    assert scores.made_by == {"format": FORMAT, "run": "r"}
    assert scores.path == folder / "s"
    assert names(folder) == ["s"]
    assert names(folder / "s") == sorted(FILES)


def test_array_is_plain_numpy_for_others(tmp_path):
    values = write(tmp_path / "s", table(), "float16")
    np.testing.assert_array_equal(np.load(tmp_path / "s" / "scores.npy"), values, strict=True)
    frame = pq.read_table(tmp_path / "s" / "segments.parquet").to_pydict()
    assert frame == {"video": ["b", "b", "b", "a", "ö", "ö"], "start": [0, 5, 10, 0, 0, 5]}


def test_scores_without_segments(tmp_path):
    write(tmp_path / "s", table(()))
    scores = open_scores(tmp_path / "s")
    assert scores.values.shape == (0, 3)
    assert len(scores.segments) == len(scores.segments.video_ids) == 0


def test_more_videos_than_one_dictionary_page_holds(tmp_path):
    ids = np.array([b"%011d" % (k * 7919 % 1_000_003) for k in range(120_000)])
    segments = SegmentTable(ids, *SegmentGrid().starts(np.full(len(ids), 6, np.int32)))
    writer = ScoresWriter(tmp_path / "s", segments, ClassOrder.of([1]), "float16")
    writer.commit({})
    opened = open_scores(tmp_path / "s").segments
    np.testing.assert_array_equal(opened.video_ids[opened.video], ids[segments.video])
    np.testing.assert_array_equal(opened.starts_s, segments.starts_s)


def test_segments_in_many_row_groups(tmp_path):
    """As another tool may write them."""
    write(tmp_path / "s", table())
    before = open_scores(tmp_path / "s").segments
    path = tmp_path / "s" / "segments.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=2)
    after = open_scores(tmp_path / "s").segments
    np.testing.assert_array_equal(after.video_ids[after.video], before.video_ids[before.video])
    np.testing.assert_array_equal(after.starts_s, before.starts_s)


def test_blocks_of_rows_in_any_order(tmp_path):
    segments = table()
    values = values_of(segments)
    writer = ScoresWriter(tmp_path / "s", segments, CLASSES)
    writer.write(4, values[4:].astype(np.float64))
    writer.write(0, np.asfortranarray(values[:1]))
    writer.write(1, values[1:4][::-1][::-1])
    writer.write(2, values[2:2])
    writer.commit({})
    np.testing.assert_array_equal(open_scores(tmp_path / "s").values, values, strict=True)


def test_block_that_does_not_fit_is_refused(tmp_path):
    writer = ScoresWriter(tmp_path / "s", table(), CLASSES)
    with pytest.raises(AssertionError):
        writer.write(0, np.zeros((1, 2), np.float32))
    with pytest.raises(AssertionError):
        writer.write(4, np.zeros((3, 3), np.float32))
    writer.write(4, np.zeros((2, 3), np.float32))
    writer.discard()
    assert names(tmp_path) == []


def test_nothing_has_the_name_until_commit(tmp_path):
    write(tmp_path / "s", table((5,)))
    writer = ScoresWriter(tmp_path / "s", table(), CLASSES)
    writer.write(0, values_of(table()))
    writer.flush()
    assert len(open_scores(tmp_path / "s").segments) == 1, "the older scores are still there"
    writer.commit({})
    assert len(open_scores(tmp_path / "s").segments) == 6
    assert names(tmp_path) == ["s"]


def test_interrupted_writing_goes_on(tmp_path):
    segments = table()
    values = values_of(segments)
    first = ScoresWriter(tmp_path / "s", segments, CLASSES)
    first.write(0, values[:4])
    first.flush()
    first.close()
    assert not (tmp_path / "s").exists()
    assert partial_path(tmp_path / "s").is_dir()
    (partial_path(tmp_path / "s") / "done-0-of-1.json").write_text("{}")
    second = ScoresWriter(tmp_path / "s", segments, CLASSES)
    second.write(4, values[4:])
    second.commit({})
    np.testing.assert_array_equal(open_scores(tmp_path / "s").values, values)
    assert names(tmp_path / "s") == sorted(FILES), "the marks of the way are gone"


def test_two_processes_write_one_folder(tmp_path):
    segments = table()
    values = values_of(segments)
    writers = [ScoresWriter(tmp_path / "s", segments, CLASSES, is_main=k == 0) for k in range(2)]
    writers[1].write(3, values[3:])
    writers[0].write(0, values[:3])
    writers[1].flush()
    writers[1].close()
    writers[0].commit({})
    np.testing.assert_array_equal(open_scores(tmp_path / "s").values, values)


def test_rows_are_on_the_disk_after_flush(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    writer = ScoresWriter(tmp_path / "s", table(), CLASSES)
    writer.write(0, values_of(table()))
    path = writer.partial / "scores.npy"
    writer.flush()
    assert synced == [path.stat().st_ino]
    np.testing.assert_array_equal(np.load(path), values_of(table()))
    writer.discard()


def test_all_files_are_on_the_disk_before_the_name_is_given(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync

    def recorded(descriptor: int) -> None:
        assert not (tmp_path / "s").exists()
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write(tmp_path / "s", table())
    assert synced == {path.stat().st_ino for path in (tmp_path / "s").iterdir()}


def test_space_is_taken_at_once(tmp_path):
    writer = ScoresWriter(tmp_path / "s", table(), CLASSES, "float16")
    stat = (writer.partial / "scores.npy").stat()
    assert stat.st_size == HEADER + 6 * 3 * 2
    assert stat.st_blocks > 0
    writer.discard()


def test_longer_array_of_an_earlier_attempt_is_cut(tmp_path):
    ScoresWriter(tmp_path / "s", table((300,)), CLASSES).close()
    writer = ScoresWriter(tmp_path / "s", table(), CLASSES)
    writer.write(0, values_of(table()))
    writer.commit({})
    assert (tmp_path / "s" / "scores.npy").stat().st_size == HEADER + 6 * 3 * 4
    np.testing.assert_array_equal(open_scores(tmp_path / "s").values, values_of(table()))


def test_full_disk_is_known_before_the_first_row(tiny_disk):
    with pytest.raises(OSError, match="No space left"):
        ScoresWriter(tiny_disk / "s", table((300, 300, 300)), ClassOrder.of(range(1000)))
    assert names(tiny_disk) == []


def test_disk_that_was_full_before(tiny_disk):
    """Not even the header has room: it still waits in a buffer when the file is given up."""
    fill = tiny_disk / "fill"
    with pytest.raises(OSError, match="No space left"):
        fill.write_bytes(bytes(100_000))
    with pytest.raises(OSError, match="No space left"):
        ScoresWriter(tiny_disk / "s", table(), CLASSES)
    assert names(tiny_disk) == ["fill"]


def test_disk_without_room_for_the_array(tmp_path, monkeypatch):
    sizes = []

    def no_room(descriptor: int, offset: int, size: int) -> None:
        sizes.append((offset, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        ScoresWriter(tmp_path / "s", table(), CLASSES)
    assert sizes == [(0, HEADER + 6 * 3 * 4)]
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ["folder", "file"])
def test_other_things_are_not_replaced(tmp_path, content):
    path = tmp_path / "s"
    if content == "folder":
        path.mkdir()
        (path / "thesis.tex").write_text("years of work")
    else:
        path.write_text("years of work")
    with pytest.raises(ScoresError, match="something else than Scores is here; choose another"):
        ScoresWriter(path, table(), CLASSES)
    assert names(tmp_path) == ["s"]


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(tmp_path, name):
    write(tmp_path / "s", table())
    (tmp_path / "s" / name).unlink()
    with pytest.raises(ScoresError, match=rf"s: {name} not found; .*whenabouts predict"):
        open_scores(tmp_path / "s")


def test_folder_without_anything(tmp_path):
    with pytest.raises(ScoresError, match=r"segments.parquet, classes.csv, scores.npy, made-by"):
        open_scores(tmp_path)


@pytest.mark.parametrize("name", ["segments.parquet", "scores.npy", "made-by.json"])
def test_damaged_file_is_an_error_for_people(tmp_path, name):
    write(tmp_path / "s", table())
    (tmp_path / "s" / name).write_bytes(b"\x80rubbish")
    with pytest.raises(ScoresError, match="s: a file is damaged"):
        open_scores(tmp_path / "s")


def test_array_that_was_cut_is_an_error_for_people(tmp_path):
    write(tmp_path / "s", table())
    os.truncate(tmp_path / "s" / "scores.npy", HEADER + 40)
    with pytest.raises(ScoresError, match="a file is damaged"):
        open_scores(tmp_path / "s")


def test_array_of_objects_is_never_unpickled(tmp_path):
    write(tmp_path / "s", table())
    np.save(tmp_path / "s" / "scores.npy", np.full((6, 3), None), allow_pickle=True)
    with pytest.raises(ScoresError, match="a file is damaged"):
        open_scores(tmp_path / "s")


def test_segments_without_starts(tmp_path):
    write(tmp_path / "s", table())
    pq.write_table(pa.table({"video": ["a"]}), tmp_path / "s" / "segments.parquet")
    with pytest.raises(ScoresError, match=r"a file is damaged .*start"):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"video": ["a", "b"], "start": [0, None]}, "row 1 has no start"),
        ({"video": ["a", "b"], "start": [0, -2]}, "row 1 starts at -2 s"),
        ({"video": ["a", "b"], "start": ["0", "x"]}, "column 'start': .*'x'"),
        ({"video": ["a", "b"], "start": [0, 1 << 40]}, "column 'start': "),
        ({"video": ["a", None], "start": [0, 5]}, "row 1 has no video"),
        ({"video": ["a", "b" * 300], "start": [0, 5]}, "an id has 300 bytes"),
        ({"video": ["a", "a\0"], "start": [0, 5]}, "an id has a NUL byte"),
        ({"video": ["a", ""], "start": [0, 5]}, "an id has 0 bytes"),
        ({"video": [b"a", b"\xff"], "start": [0, 5]}, "column 'video': Invalid UTF8"),
    ],
)
def test_rows_that_cannot_be(tmp_path, columns, message):
    write(tmp_path / "s", table((6,)))
    pq.write_table(pa.table(columns), tmp_path / "s" / "segments.parquet")
    with pytest.raises(ScoresError, match=rf"s: a file is damaged \(segments.parquet: {message}"):
        open_scores(tmp_path / "s")


def test_an_id_that_stands_twice_among_the_codes(tmp_path):
    write(tmp_path / "s", table((6,)))
    video = pa.DictionaryArray.from_arrays([0, 1], ["a", "a"])
    pq.write_table(pa.table({"video": video, "start": [0, 5]}), tmp_path / "s" / "segments.parquet")
    scores = open_scores(tmp_path / "s")
    assert scores.segments.video_ids[scores.segments.video].tolist() == [b"a", b"a"]
    assert len(scores.segments.video_ids) == 1


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 3",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 3), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': ('6', 3), }",
        b"{'descr': 'no', 'fortran_order': False, 'shape': (6, 3), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1" + b"0" * 30 + b", 3), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 3), }",
        b"[" * 200,
        b"\0" * 100,
    ],
)
def test_a_header_of_the_array_that_is_none(tmp_path, header):
    write(tmp_path / "s", table())
    length = len(header).to_bytes(2, "little")
    content = b"\x93NUMPY\x01\0" + length + header + bytes(72)
    (tmp_path / "s" / "scores.npy").write_bytes(content)
    with pytest.raises(ScoresError, match=r"a file is damaged \(scores.npy: "):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        ("[]", "made-by.json is of another format; an object with format 1"),
        ('{"format": 2}', "made-by.json is of another format"),
        ('{"format": "1"}', "made-by.json is of another format"),
        ('{"format": 1, "trained_on": "v2"}', "made-by.json says trained_on 'v2'; it is a list"),
        ('{"format": 1, "trained_on": [["v2"]]}', "made-by.json says trained_on"),
        ('{"format": 1, "trained_on": {"v2": 1}}', "made-by.json says trained_on"),
        ("[" * 100_000, "a file is damaged .made-by.json"),
    ],
)
def test_what_says_who_made_them_is_not_just_believed(tmp_path, made_by, message):
    write(tmp_path / "s", table())
    (tmp_path / "s" / "made-by.json").write_text(made_by)
    with pytest.raises(ScoresError, match=f"s: {message}"):
        open_scores(tmp_path / "s")


def test_scores_that_another_program_has_made(tmp_path):
    """It need not know of the format, nor say anything."""
    write(tmp_path / "s", table())
    (tmp_path / "s" / "made-by.json").write_text("{}")
    pq.write_table(
        pa.table({"video": pa.array(["b"] * 3 + ["a"] * 3), "start": [0, 5, 10] * 2}),
        tmp_path / "s" / "segments.parquet",
    )
    scores = open_scores(tmp_path / "s")
    assert scores.made_by == {}
    assert scores.segments.video_ids[scores.segments.video].tolist() == [b"b"] * 3 + [b"a"] * 3


@pytest.mark.parametrize("shape", [(5, 3), (6, 2), (3, 6)])
def test_array_of_another_shape_is_refused(tmp_path, shape):
    write(tmp_path / "s", table())
    np.save(tmp_path / "s" / "scores.npy", np.zeros(shape, np.float32))
    with pytest.raises(ScoresError, match=r"scores.npy is \(\d, \d\); one row .*: \(6, 3\)"):
        open_scores(tmp_path / "s")


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8"])
def test_array_of_another_type_is_refused(tmp_path, dtype):
    write(tmp_path / "s", table())
    np.save(tmp_path / "s" / "scores.npy", np.zeros((6, 3), dtype))
    with pytest.raises(ScoresError, match=f"scores.npy is {dtype}; scores are float32 or float16"):
        open_scores(tmp_path / "s")


def test_class_file_that_does_not_fit(tmp_path):
    write(tmp_path / "s", table())
    (tmp_path / "s" / "classes.csv").write_text("Index,Name\n7,a\n7,b\n1,c\n")
    with pytest.raises(LabelsError, match="stands twice"):
        open_scores(tmp_path / "s")


def test_partial_folder_stands_beside_its_place():
    assert partial_path(Path("a/b")) == Path("a/.b.partial")


def test_golden_made_by(tmp_path):
    write(tmp_path / "s", table())
    assert json.loads((tmp_path / "s" / "made-by.json").read_text()) == {"format": 1, "run": "r"}


# ---- two at once ---------------------------------------------------------------------------------


def test_two_calls_do_not_write_one_folder(tmp_path):
    """Else rows of the one would be published as the other's."""
    segments = table()
    first = ScoresWriter(tmp_path / "s", segments, CLASSES)
    first.write(0, values_of(segments))
    with pytest.raises(ScoresError, match=r"s.partial: another process is at work here"):
        ScoresWriter(tmp_path / "s", segments, CLASSES, "float16")
    with (
        pytest.raises(ScoresError, match="another process"),
        new_scores(tmp_path / "s", segments, CLASSES),
    ):
        pass
    ScoresWriter(tmp_path / "s", segments, CLASSES, is_main=False).close()  # of the same call
    first.commit({})
    np.testing.assert_array_equal(open_scores(tmp_path / "s").values, values_of(segments))
    write(tmp_path / "s", segments)


def test_a_new_attempt_forgets_what_was_left_behind(tmp_path):
    segments = table()
    left = ScoresWriter(tmp_path / "s", segments, CLASSES)
    (left.partial / "done-0-of-1.json").write_text("{}")
    left.close()
    with new_scores(tmp_path / "s", segments, CLASSES) as writer:
        assert names(writer.partial) == ["scores.npy"]
        writer.commit({})
