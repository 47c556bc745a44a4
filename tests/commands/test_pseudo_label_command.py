"""`whenabouts pseudo-label`: methods, and `teacher` from Scores to a trained pupil."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from commandline import QUICK, run
from pseudo_world import teacher_scores, write_random
from whenabouts.cli import main
from whenabouts.core.labels import read_labels, read_labels_made_by
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus

Capture = pytest.CaptureFixture[str]


def teacher(capsys: Capture, *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "pseudo-label", "teacher", *words, "--json")
    assert code == 0
    result: dict[str, Any] = json.loads(out)
    return result


# ---- which method --------------------------------------------------------------------------------


def test_help_names_the_methods(capsys: Capture) -> None:
    code, out, err = run(capsys, "pseudo-label", "--help")
    assert (code, err) == (0, "")
    assert "\n  teacher " in out
    assert "\n  cluster " in out
    code, out, err = run(capsys, "pseudo-label")
    assert (code, out) == (2, "")
    assert err.startswith("usage: whenabouts pseudo-label METHOD")
    assert run(capsys, "pseudo-label", "--json").code == 2


def test_help_of_a_method(capsys: Capture) -> None:
    code, out, _ = run(capsys, "pseudo-label", "teacher", "--help")
    assert code == 0
    assert "Example: whenabouts pseudo-label teacher scores corpus.index -o labels.parquet" in out
    for flag in ("--threshold", "--top-share", "--low-threshold", "--negatives", "--soft"):
        assert f"{flag}" in out


def test_a_misspelt_method(capsys: Capture) -> None:
    code, _, err = run(capsys, "pseudo-label", "techer", "a", "b")
    assert (code, err) == (
        2, "whenabouts: no method 'techer'; did you mean 'teacher'?\n",
    )  # fmt: skip


def test_a_method_gets_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = importlib.import_module("whenabouts.commands.pseudo_teacher")
    monkeypatch.setattr(module, "main", seen.append)
    assert main(["pseudo-label", "teacher", "a", "--soft"]) == 0
    assert seen == [["a", "--soft"]]


# ---- teacher -------------------------------------------------------------------------------------


def test_labels_of_scores(capsys: Capture, corpus: Corpus, scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    words = (scored, corpus.path, "-o", out, "--top-share", 0.1, "--negatives", 1, "--soft")
    result = teacher(capsys, *words, "--splits", "v1")
    labels, made_by = read_labels(out), read_labels_made_by(out)
    assert result["labels"] == str(out)
    assert result["positives"] + result["negatives"] + result["outside"] == len(labels) > 0
    assert result["splits"] == made_by["splits"] == ["v1"]
    assert result["settings"] == made_by["settings"]
    assert made_by["settings"]["negatives"] == 1
    assert made_by["scores"]["run"] == open_scores(scored).made_by["run"]
    code, told, _ = run(capsys, "pseudo-label", "teacher", *words, "--splits", "v1")
    assert code == 0
    assert f"{out}: {len(labels):,} pairs of {result['segments']:,} segments" in told


def test_a_pupil_learns_from_them(
    capsys: Capture, corpus: Corpus, scored: Path, tmp_path: Path
) -> None:
    labels, out = tmp_path / "labels.parquet", tmp_path / "run"
    teacher(capsys, scored, corpus.path, "-o", labels, "--top-share", 0.1)
    train = ("train", "s-logi", corpus.path, "-o", out, *QUICK, "--strategy.pseudo.labels", labels)
    code, told, _ = run(capsys, *train, "--strategy.pseudo.weight", 0.5, "--json")
    assert code == 0
    result = json.loads(told)
    assert result["trained_on"] == ["v1"]
    assert (result["pseudo_labels"]["method"], result["pseudo_labels"]["weight"]) == (
        "teacher",
        0.5,
    )
    assert json.loads((out / "run.json").read_text()) == result
    predict = ("predict", out, corpus.path, "-o", tmp_path / "scores", "--splits", "v2")
    assert run(capsys, *predict).code == 0
    made_by = open_scores(tmp_path / "scores").made_by
    assert made_by["pseudo_labels"] == result["pseudo_labels"]


@pytest.mark.parametrize(
    ("extra", "code", "told"),
    [
        (("--splits", "v1", "v2"), 2, "--splits: V2 is among the splits to label"),
        (("--splits", "v3"), 2, "no split 'v3'"),
        (("--splits", "test"), 1, "no unrated segment of a video with labels in test"),
        (("--top-share", "2"), 2, "top_share: the value is 2.0; it is in [0, 1]"),
    ],
)
def test_wrong_use(
    extra: tuple[str, ...], code: int, told: str, capsys: Capture, corpus: Corpus, scored: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    words = (scored, corpus.path, "-o", tmp_path / "l.parquet", *extra)
    found = run(capsys, "pseudo-label", "teacher", *words)
    assert found.code == code
    assert told in " ".join(found.err.replace("│", " ").split())
    assert not (tmp_path / "l.parquet").exists()


def test_what_has_seen_v2_is_refused_at_both_ends(
    capsys: Capture, corpus: Corpus, tmp_path: Path
) -> None:
    """The teacher's Scores, and Labels that say so; there is no run then."""
    teacher_scores(tmp_path / "s", corpus, ["train", "v1"], 0, trained_on=["v1", "v2"])
    words = (tmp_path / "s", corpus.path, "-o", tmp_path / "l.parquet")
    found = run(capsys, "pseudo-label", "teacher", *words)
    assert found.code == 1
    assert "its model was trained on V2; what is watched on V2 has not seen V2" in found.err
    path = write_random(tmp_path / "seen.parquet", corpus, ["train"], trained_on=["v2"])
    train = ("train", "s-logi", corpus.path, "-o", tmp_path / "run", *QUICK)
    found = run(capsys, *train, "--strategy.pseudo.labels", path)
    assert found.code == 1
    assert "seen.parquet: what made it has seen V2" in found.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["cluster", "student"])
def test_a_recipe_that_needs_them(
    recipe: str, capsys: Capture, corpus: Corpus, tmp_path: Path
) -> None:
    words = ("train", recipe, corpus.path, "-o", tmp_path / "run", "--scale", "tiny")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "--strategy.pseudo.labels: no pseudo-labels are given; this recipe learns from" in err
    assert not (tmp_path / "run").exists()
