"""Fingerprints: the same bytes, the same text; other bytes, another; and files are read once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from whenabouts.workflow import fingerprint
from whenabouts.workflow.fingerprint import ABSENT, Fingerprints

LONG_AGO = 1_000_000_000


@pytest.fixture
def prints(tmp_path: Path) -> Fingerprints:
    return Fingerprints(tmp_path, tmp_path / "cache" / "prints")


def put(path: Path, text: str, at_s: float = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at_s, at_s))
    return path


def test_of_a_file_by_its_bytes_alone(tmp_path, prints):
    put(tmp_path / "a", "x")
    put(tmp_path / "b", "x", LONG_AGO + 5)
    put(tmp_path / "c", "y")
    a, b, c = (prints.of(Path(name)) for name in "abc")
    assert a == b != c
    assert prints.of(tmp_path / "a") == a, "an absolute path too"


def test_of_nothing(prints):
    assert prints.of(Path("gone")) == prints.stamp(Path("gone")) == ABSENT


def test_of_a_folder_by_names_and_bytes(tmp_path, prints):
    def of(files: dict[str, str]) -> str:
        folder = tmp_path / f"f{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in files.items():
            put(folder / name, text)
        return prints.of(folder)

    same = {"a": "1", "deep/b": "2"}
    assert of(same) == of(dict(reversed(same.items())))
    others = [of({"a": "1"}), of({"a": "2", "deep/b": "1"}), of({"a": "1", "b": "2"}),
              of({"a": "1", "deep/b": "22"}), of({})]  # fmt: skip
    assert len({of(same), *others}) == 1 + len(others)


def test_a_stamp_is_of_size_and_time(tmp_path, prints):
    path = put(tmp_path / "a", "x")
    first = prints.stamp(path)
    put(path, "y")
    assert prints.stamp(path) == first
    put(path, "y", LONG_AGO + 1)
    assert prints.stamp(path) != first
    put(path, "yy")
    assert prints.stamp(path) != first


def test_a_file_is_read_once_also_by_the_next_call(tmp_path, prints, monkeypatch):
    path = put(tmp_path / "a", "x")
    first = prints.of(path)
    prints.save()
    again = Fingerprints(tmp_path, tmp_path / "cache" / "prints")
    monkeypatch.setattr(fingerprint.hashlib, "file_digest", lambda *_: pytest.fail("it was read"))
    assert prints.of(path) == again.of(path) == first


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_changed_file_is_read_again(tmp_path, prints, change):
    path = put(tmp_path / "a", "x")
    first = prints.of(path)
    if change == "inode":
        put(tmp_path / "new", "y").rename(path)
    else:
        put(path, *{"size": ("xx",), "time": ("y", LONG_AGO + 1)}[change])
    assert prints.of(path) != first


def test_a_file_of_this_moment_is_not_trusted(tmp_path, prints):
    path, now_s = tmp_path / "a", time.time()
    put(path, "x", now_s)
    first = prints.of(path)
    inode = path.stat().st_ino
    with path.open("r+") as file:
        file.write("y")
    os.utime(path, (now_s, now_s))
    assert path.stat().st_ino == inode
    assert prints.of(path) != first


@pytest.mark.parametrize("kept", ["", "no json", "[]", '{"a": 3}', "[" * 100_000, "\x00"])
def test_a_damaged_cache_only_costs_time(tmp_path, kept):
    put(tmp_path / "cache", kept)
    prints = Fingerprints(tmp_path, tmp_path / "cache")
    assert len(prints.of(put(tmp_path / "a", "x"))) == 32
    prints.save()
    assert Fingerprints(tmp_path, tmp_path / "cache").of(tmp_path / "a") == prints.of(Path("a"))
