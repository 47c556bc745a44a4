"""`whenabouts make-corpus`: settings are flags, the seed decides, nothing is overwritten."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from commandline import run
from whenabouts.corpus.corpus import open_corpus

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
    result = json.loads(told)
    assert result.pop("index").startswith("whenabouts index --train ")
    assert result == {"corpus": str(out), "videos": videos}
    settings = json.loads((out / "truth" / "made-by.json").read_text())
    assert (settings["seed"], settings["num_classes"], settings["max_frames"]) == (4, 5, 70)
    assert {path.name for path in out.iterdir()} == {
        "train", "validate", "test", "truth", "segment_label_ids.csv", "vocabulary.csv",
        "dataset.json",
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
    first, following = told.splitlines()
    assert (code, first) == (0, f"{out}: train 1, validate 3, test 2")
    assert following.startswith(f"next: whenabouts index --train {out}/train --v1 ")


@pytest.mark.parametrize(
    ("features", "name"),
    [((), "yt8m"), (("--features", "rgb", 1024, "audio", 128), "yt8m"),
     (("--features", "rgb", 40, "clip", 8, "--topic-norm", 3), "made")],
)  # fmt: skip
def test_the_command_it_ends_with_indexes_it(
    features: tuple[object, ...], name: str, tmp_path: Path, capsys: Capture
) -> None:
    """Also a corpus of features that no preset has; and of a folder with a blank in its name."""
    out = tmp_path / "a corpus"
    told = json.loads(run(capsys, "make-corpus", out, *SMALL, *features, "--json").out)
    words = shlex.split(told["index"])
    assert words[0] == "whenabouts"
    assert run(capsys, *words[1:]).code == 0
    corpus = open_corpus(f"{out}.index")
    assert corpus.dataset.name == name
    assert corpus.dataset.width == (48 if name == "made" else 1152)
    counts = [len(corpus.rows([split])) for split in ("train", "v1", "v2", "test")]
    assert counts == [1, 2, 1, 2]
    assert ("--dataset" in words) == (name == "made")


@pytest.mark.parametrize(
    ("few", "roles"),
    [
        (("--num-test", 0), ["--train", "--v1", "--v2"]),
        (("--num-train", 0), ["--v1", "--v2", "--test"]),
        (("--num-validate", 1), ["--train", "--v1", "--test"]),
        (("--num-validate", 0), ["--train", "--test"]),
    ],
)
def test_what_has_no_videos_is_not_indexed(
    few: tuple[object, ...], roles: list[str], tmp_path: Path, capsys: Capture
) -> None:
    words = (tmp_path / "made", *SMALL, *few, "--json")
    told = shlex.split(json.loads(run(capsys, "make-corpus", *words).out)["index"])
    assert [w for w in told if w in ("--train", "--v1", "--v2", "--test")] == roles
    assert run(capsys, *told[1:]).code == 0


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
        ([], "FOLDER"),
    ):
        code, out, err = run(capsys, "make-corpus", *words)
        assert (code, out) == (2, "")
        assert told in err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
