"""`whenabouts make-corpus`: settings are flags, the seed decides, nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import run

SMALL = (
    *("--num-train", 1, "--num-validate", 3, "--num-test", 2, "--processes", 1),
    *("--num-classes", 5, "--num-rated-classes", 3, "--max-frames", 70),
)
Capture = pytest.CaptureFixture[str]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_corpus(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "made"
    code, told, _ = run(capsys, "make-corpus", out, *SMALL, "--seed", 4, "--json")
    assert code == 0
    videos = {"train": 1, "validate": 3, "test": 2}
    assert json.loads(told) == {"corpus": str(out), "videos": videos}
    settings = json.loads((out / "truth" / "made-by.json").read_text())
    assert (settings["seed"], settings["num_classes"], settings["max_frames"]) == (4, 5, 70)
    assert {path.name for path in out.iterdir()} == {
        "train", "validate", "test", "truth", "segment_label_ids.csv", "vocabulary.csv",
    }  # fmt: skip


def test_inserts_are_asked_for_by_flags(tmp_path: Path, capsys: Capture) -> None:
    out, asked = tmp_path / "made", ("--insert-share", 0.5, "--insert-norm", 3)
    assert run(capsys, "make-corpus", out, *SMALL, *asked).code == 0
    settings = json.loads((out / "truth" / "made-by.json").read_text())
    assert (settings["insert_share"], settings["insert_norm"]) == (0.5, 3)
    assert (out / "truth" / "inserts.parquet").is_file()


def test_the_result_in_words(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "made"
    code, told, _ = run(capsys, "make-corpus", out, *SMALL)
    assert (code, told) == (0, f"{out}: train 1, validate 3, test 2\n")


def test_the_seed_decides(tmp_path: Path, capsys: Capture) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(capsys, "make-corpus", tmp_path / name, *SMALL, "--seed", seed).code == 0
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["train/train0000.tfrecord"] != c["train/train0000.tfrecord"]


def test_refusals(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for words, told in (
        ([tmp_path / "full", *SMALL], "full: there is something already"),
        ([tmp_path / "new", "--min-frames", 10], "min_frames is 10"),
        ([tmp_path / "new", "--num-clases", 10], "--num-classes"),
        ([], "PATH"),
    ):
        code, out, err = run(capsys, "make-corpus", *words)
        assert (code, out) == (2, "")
        assert told in err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
