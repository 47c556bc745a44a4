"""`whenabouts report`: a page with the numbers that evaluate gives, and nothing private."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import run
from whenabouts.corpus.corpus import Corpus

Capture = pytest.CaptureFixture[str]


def mean_ap(scored: Path, corpus: Corpus, capsys: Capture, *splits: str) -> float:
    words = "evaluate", scored, corpus.path, "--splits", *splits, "--json"
    return json.loads(run(capsys, *words).out)["segments"]["mean_ap"]


def test_the_page(
    scored: Path, trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    expected = mean_ap(scored, corpus, capsys, "v2")
    out = tmp_path / "report.html"
    words = (
        *("report", scored, corpus.path, "--run", trained, "-o", out, "--num-timelines", 2),
        *("--vocabulary", corpus.path.parent / "vocabulary.csv", "--title", "a title of ours"),
    )
    code, told, _ = run(capsys, *words, "--json")
    assert code == 0
    assert json.loads(told) == {"report": str(out), "mean_ap": expected}
    page = out.read_text()
    assert f"{expected:.3f}" in page
    assert "a title of ours" in page
    assert all(name in page for name in corpus.classes.names)
    assert "f-logi" in page
    assert page.lower().startswith("<!doctype html>")
    for private in (str(tmp_path), str(scored), str(trained)):
        assert private not in page


def test_the_result_in_words_and_other_splits(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """Without a run there is a page too; a split trained on is noted."""
    expected = mean_ap(scored, corpus, capsys, "v1")
    out = tmp_path / "report.html"
    words = "report", scored, corpus.path, "-o", out, "--splits", "v1", "--num-timelines", 1
    code, told, err = run(capsys, *words)
    assert code == 0
    assert told == f"{out}: mAP {expected:.4f}; open it in a browser\n"
    assert "note: the model was trained on v1" in err
    assert f"{expected:.3f}" in out.read_text()


def test_classes_of_the_curves(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    pages = []
    for class_id in corpus.classes.ids[:2]:
        out = tmp_path / f"{class_id}.html"
        words = "report", scored, corpus.path, "-o", out, "--pr-classes", class_id
        assert run(capsys, *words, "--num-timelines", 0).code == 0
        pages.append(out.read_text())
    assert pages[0] != pages[1]


def test_refusals(scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "report.html"
    for words, code, told in (
        ([scored, corpus.path, "--splits", "train"], 2, "no rated segments in splits train"),
        ([scored, corpus.path, "--splits", "v9"], 2, "no split 'v9'"),
        ([tmp_path / "gone", corpus.path], 1, "make one with 'whenabouts predict'"),
        ([scored, tmp_path / "gone"], 1, "gone: no index here"),
    ):
        outcome = run(capsys, "report", *words, "-o", out)
        assert outcome[:2] == (code, "")
        assert told in outcome.err
    assert not out.exists()
