from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from whenabouts.core.atomic import (
    atomic_dir,
    atomic_path,
    remove_leftovers,
    replace_dir,
    sync,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(path) as partial:
        partial.write_text("whole")
        assert partial.parent == path.parent, "a rename across file systems is no rename"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        file_number = partial.stat().st_ino
    assert path.read_text() == "new"
    assert path.stat().st_ino == file_number, "renamed, not copied: a copy can be half there"


def stop_halfway(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as partial:
        partial.write_text("half")
        raise error("stop")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}])
def test_interrupted_block_changes_nothing(tmp_path, before, error):
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match="stop"):
        stop_halfway(tmp_path / "a.txt", error)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before


def fail_before_writing(path: Path) -> None:
    with atomic_path(path):
        raise ValueError("stop")


def test_block_that_wrote_nothing_fails_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        fail_before_writing(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_bytes_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    path, events = tmp_path / "a.txt", []

    def fsync(descriptor: int) -> None:
        events.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "12345")
    assert events == [(5, False)]
    assert path.exists()


def test_full_disk_leaves_the_old_file(tiny_disk):
    path = tiny_disk / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert names(tiny_disk) == ["a.txt"]


def test_disk_that_is_full_only_when_synced_leaves_the_old_file(tmp_path, monkeypatch):
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_sync_closes_what_it_opens(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    before = num_open_files()
    sync(tmp_path / "a")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="input/output"):
        sync(tmp_path / "a")
    assert num_open_files() == before


def test_golden_text(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == (
        b'{\n  "b": [\n    1,\n    null\n  ],\n  "a": "\\u00e9"\n}\n'
    )


def make_folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / text).write_text(text)
    return path


def test_folder_takes_its_name(tmp_path):
    replace_dir(make_folder(tmp_path / ".partial", "new"), tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_folder_replaces_an_older_one_wholly(tmp_path):
    make_folder(tmp_path / "a", "old")
    replace_dir(make_folder(tmp_path / ".partial", "new"), tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_old_folder_comes_back_if_the_new_one_cannot_have_the_name(tmp_path):
    make_folder(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError, match="missing"):
        replace_dir(tmp_path / "missing", tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_new_folder_without_an_older_one_fails_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        replace_dir(tmp_path / "missing", tmp_path / "a")
    assert names(tmp_path) == []


def fill(path: Path, error: type[BaseException] | None = None) -> None:
    with atomic_dir(path) as partial:
        assert partial.parent == path.parent, "a rename across file systems is no rename"
        assert list(partial.iterdir()) == []
        (partial / "new").write_text("new")
        if error:
            raise error("stop")


def test_folder_appears_when_the_block_ends(tmp_path):
    fill(tmp_path / "not" / "there" / "a")
    assert names(tmp_path / "not" / "there") == ["a"]
    make_folder(tmp_path / "a", "old")
    fill(tmp_path / "a")
    assert names(tmp_path) == ["a", "not"]
    assert names(tmp_path / "a") == ["new"]


def test_folder_one_stands_in_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path / "a", "old"))
    with atomic_dir(".") as partial:
        (partial / "new").write_text("new")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interrupted_block_leaves_the_old_folder(tmp_path, error):
    make_folder(tmp_path / "a", "old")
    for path in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(error, match="stop"):
            fill(path, error)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_what_a_killed_process_left_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match="stop"):
        fill(tmp_path / "a", ValueError)
    assert len(names(tmp_path)) == 1
    monkeypatch.undo()
    fill(tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_leftovers_of_killed_attempts_are_removed_and_nothing_else(tmp_path):
    out = tmp_path / "run"
    kept = [
        "run/.hidden",
        "run/x.partial-1",
        "run/.partial-3",
        ".other.partial-1",
        ".runs.partial",
        ".run.r2.partial-1",
    ]
    gone = [".run.partial/deep/x", ".run.partial-12", ".run.old-3/x", "run/.a.csv.partial-7",
            "run/deep/.b.partial/y"]  # fmt: skip
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(out)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)
    remove_leftovers(tmp_path / "nothing")


def test_names_of_unfinished_work_are_known_as_leftovers(tmp_path):
    path, copies = tmp_path / "a[1].csv", tmp_path / "copies"
    copies.mkdir()
    with atomic_path(path) as partial:
        partial.touch()
        (copies / partial.name).touch()
    with atomic_dir(tmp_path / "d") as partial:
        (copies / partial.name).mkdir()
    assert len(names(copies)) == 2
    for name in (path.name, "d"):
        remove_leftovers(copies / name)
    assert names(copies) == []
