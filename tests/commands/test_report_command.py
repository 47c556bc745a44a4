"""`whenabouts report`: a page with the numbers that evaluate gives, and nothing private."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attention_run import make_attention_run
from commandline import run
from whenabouts.commands import report
from whenabouts.core.classes import ClassOrder, read_vocabulary
from whenabouts.core.labels import new_labels, segment_labels
from whenabouts.core.scores import ScoresWriter, open_scores
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import Att2
from whenabouts.report.layout import document

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
    assert "whole system" not in page
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


def test_what_the_page_is_given(
    scored: Path, trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Any] = []
    monkeypatch.setattr(report, "write_report", lambda *given: seen.extend(given))
    ten_s = replace(corpus, dataset=replace(corpus.dataset, segment_s=10))
    monkeypatch.setattr(report, "open_corpus", lambda path: ten_s)
    vocabulary = corpus.path.parent / "vocabulary.csv"
    words = (
        *("report", scored, corpus.path, "--run", trained, "--vocabulary", vocabulary),
        *("--splits", "v1", "v2", "--num-timelines", 3, "--pr-classes", 2, 4, "--title", "ours"),
    )
    assert run(capsys, *words, "-o", tmp_path / "report.html").code == 0
    path, inputs, settings = seen
    assert path == tmp_path / "report.html"
    assert (settings.num_timelines, settings.pr_classes, settings.segment_s) == (3, (2, 4), 10)
    assert (inputs.title, inputs.run) == ("ours", trained)
    scores = open_scores(scored)
    assert inputs.facts == {
        "data set": "made",
        "splits": "v1, v2",
        "videos scored": "24",
        "segments scored": f"{len(scores.values)}",
        "trained on": "v1",
    }
    rows = corpus.rows(["v1", "v2"])
    assert inputs.video_labels == {
        corpus.video_ids[row]: corpus.labels.of(row).tolist() for row in rows
    }
    assert inputs.vocabulary == read_vocabulary(vocabulary)
    assert np.array_equal(inputs.truth.video, corpus.rated(rows).video)
    assert inputs.evaluation.num_rated.sum() == len(inputs.truth)
    assert inputs.video_metrics["num_videos"] == 23
    assert np.array_equal(inputs.scores.values, scores.values)


def test_attention_is_shown_where_it_was_kept(
    corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    att2 = make_attention_run(tmp_path / "att2", corpus, Att2())
    shown = []
    for flag in ("--attention", "--no-attention"):
        scores, out = tmp_path / f"scores{flag}", tmp_path / "report.html"
        words = att2.path, corpus.path, "--splits", "v2", flag
        assert run(capsys, "predict", *words, "-o", scores).code == 0
        words = scores, corpus.path, "--num-timelines", 2
        assert run(capsys, "report", *words, "-o", out).code == 0
        shown.append(out.read_text().count("attention of frames, up to"))
    assert shown == [2, 0]


def test_without_options(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(report, "write_report", lambda *given: seen.extend(given))
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "report", scored, corpus.path).code == 0
    path, inputs, settings = seen
    assert path == Path("report.html")
    assert (inputs.run, inputs.vocabulary, inputs.facts["splits"]) == (None, {}, "v2")
    assert (settings.num_timelines, settings.segment_s) == (12, 5)


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


# ---- Scores of whole videos ----------------------------------------------------------------------


@pytest.fixture
def of_videos(corpus: Corpus, tmp_path: Path) -> Path:
    """Scores of the videos of V1 and V2 for every class of their labels, without names."""
    rows = corpus.rows(["v1", "v2"])
    classes = ClassOrder.of(corpus.video_classes.ids)
    writer = ScoresWriter(
        tmp_path / "videos", SegmentTable.of_videos(corpus.video_ids[rows]), classes
    )
    writer.write(0, np.random.default_rng(5).random((len(rows), len(classes)), np.float32))
    writer.commit({"trained_on": ["v1"]})
    return tmp_path / "videos"


@pytest.mark.parametrize(("splits", "as_json"), [(("v2",), True), (("v1", "v2"), False)])
def test_the_page_of_a_video_classifier(
    of_videos: Path,
    corpus: Corpus,
    tmp_path: Path,
    capsys: Capture,
    splits: tuple[str, ...],
    as_json: bool,
) -> None:
    words = "evaluate", of_videos, corpus.path, "--splits", *splits, "--json"
    expected = json.loads(run(capsys, *words).out)["videos"]
    out = tmp_path / "report.html"
    words = "report", of_videos, corpus.path, "-o", out, "--splits", *splits, "--num-timelines", 1
    code, told, err = run(capsys, *words, *(["--json"] if as_json else []))
    assert code == 0
    if as_json:
        assert json.loads(told) == {"report": str(out), "gap": expected["gap"]}
    else:
        assert told == f"{out}: GAP@20 {expected['gap']:.4f}; open it in a browser\n"
    assert ("the model was trained on v1" in err) == ("v1" in splits)
    page = out.read_text()
    for name in ("gap", "mean_ap", "hit_at_one", "perr"):
        assert f">{expected[name]:.3f}<" in page
    assert str(tmp_path) not in page


def test_what_the_page_of_a_video_classifier_is_given(
    of_videos: Path, trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Any] = []
    monkeypatch.setattr(report, "write_report", lambda *given: seen.extend(given))
    vocabulary = corpus.path.parent / "vocabulary.csv"
    words = (
        *("report", of_videos, corpus.path, "--run", trained, "--vocabulary", vocabulary),
        *("--num-timelines", 3, "--title", "ours", "-o", tmp_path / "report.html"),
    )
    assert run(capsys, *words).code == 0
    path, inputs, settings = seen
    assert (path, settings.num_timelines) == (tmp_path / "report.html", 3)
    assert (inputs.title, inputs.run, inputs.scores) == ("ours", trained, None)
    assert inputs.facts == {
        "data set": "made",
        "splits": "v2",
        "videos scored": "24",
        "trained on": "v1",
    }
    videos, scores = inputs.videos, open_scores(of_videos)
    rows = corpus.rows_of(videos.ids)
    labelled = [r for r in corpus.rows(["v2"]) if len(corpus.labels.of(r))]
    assert sorted(rows.tolist()) == labelled
    at = scores.segments.rows_of(videos.ids, np.full(len(rows), WHOLE_VIDEO))
    assert np.array_equal(videos.values, scores.values[at])
    columns = [scores.classes.columns(corpus.labels.of(r)).tolist() for r in rows]
    assert videos.truth.column.tolist() == [c for row in columns for c in sorted(row)]
    assert videos.evaluation.num_videos == len(rows)
    names = read_vocabulary(vocabulary)
    assert videos.evaluation.classes == ClassOrder.of(scores.classes.ids, names)
    assert any(videos.evaluation.classes.names)


def test_names_of_the_scores_stand_before_those_of_the_vocabulary(
    corpus: Corpus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(report, "write_report", lambda *given: seen.extend(given))
    rows = corpus.rows(["v2"])
    first, *others = corpus.video_classes.ids
    classes = ClassOrder.of([first, *others], {first: "our name"})
    writer = ScoresWriter(
        tmp_path / "videos", SegmentTable.of_videos(corpus.video_ids[rows]), classes
    )
    writer.write(0, np.zeros((len(rows), len(classes)), np.float32))
    writer.commit({})
    vocabulary = corpus.path.parent / "vocabulary.csv"
    words = tmp_path / "videos", corpus.path, "--vocabulary", vocabulary
    assert run(capsys, "report", *words).code == 0
    known = read_vocabulary(vocabulary)
    names = ("our name", *(known.get(i, "") for i in others))
    assert seen[1].videos.evaluation.classes.names == names
    assert seen[1].facts["trained on"] == "not stated"


def test_refusals_of_whole_videos(
    of_videos: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "report.html"
    for words, told in (
        (["--pr-classes", "2"], "--pr-classes chooses curves of rated segments, and these Scores"),
        (["--splits", "test"], "no scored video in splits test has labels; choose other --splits"),
    ):
        outcome = run(capsys, "report", of_videos, corpus.path, *words, "-o", out)
        assert outcome[:2] == (2, "")
        assert told in outcome.err
    assert not out.exists()


def test_pseudo_labels(scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    """Two of the file's three pairs are positive; rated positives beside them are V1's alone."""
    class_id, other = corpus.classes.ids[:2]
    labels, out = tmp_path / "labels.parquet", tmp_path / "report.html"
    pairs = [(0, class_id, 1.0), (5, class_id, 0.75), (5, other, 0.0)]
    starts, classes, values = (np.array(column) for column in zip(*pairs))
    made = segment_labels(np.array([b"x"] * 3), starts, classes, values)
    with new_labels(labels, {"method": "teacher", "settings": {"threshold": 0.25}}) as writer:
        writer.write(made)
    rated = corpus.rated(corpus.rows(["v1"]))
    positives = int(((rated.class_id == class_id) & (rated.score >= 0.5)).sum())
    read = report.read_pseudo_labels(labels, rated, {})
    assert read.counts.rated_positives[0] == positives
    words = "report", scored, corpus.path, "--num-timelines", 0
    assert run(capsys, *words, "--labels", labels, "-o", out).code == 0
    page = out.read_text()
    assert "Pseudo-labels</h2>" in page
    assert "2 positive (label from 0.5 up), 1 negative" in page
    assert f'<td class="number">2</td><td class="number">{positives}</td>' in page
    assert str(tmp_path) not in page
    assert run(capsys, *words, "-o", out).code == 0
    assert "Pseudo-labels" not in out.read_text()
    labels.write_bytes(b"no Labels")
    code, _, err = run(capsys, *words, "--labels", labels, "-o", out)
    assert code == 1
    assert str(labels) in err


# ---- the whole system ----------------------------------------------------------------------------

NO_VALUE = {"mean": None, "sd": None, "values": []}
MODEL = {"group": "se", "recipe": "se", "paper": 0.788, "mean": 0.5, "sd": None, "values": [0.5]}
TABLES = {
    "format": 2, "scale": "tiny", "repeats": 1, "measure": "mAP on V2",
    "models": [{"name": "our se", **MODEL}], "ensembles": [], "best": None,
    "best_single": "our se", "chosen": None,
    "classes": {"ids": [], "names": [], "positives": [], "ap": {}},
}  # fmt: skip


def test_tables(
    scored: Path, of_videos: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """A page of segments and one of videos show them."""
    tables, out = tmp_path / "tables.json", tmp_path / "report.html"
    tables.write_text(json.dumps(TABLES))
    for scores in (scored, of_videos):
        words = "report", scores, corpus.path, "--num-timelines", 0, "-o", out
        assert run(capsys, *words, "--tables", tables).code == 0
        page = out.read_text()
        assert "The whole system</h2>" in page
        assert '<th scope="row">our se</th><td>SE</td><td class="number">0.788</td>' in page
        assert str(tmp_path) not in page


@pytest.mark.parametrize("text", ["no JSON", "[]", json.dumps({**TABLES, "models": [NO_VALUE]})])
def test_broken_tables_leave_the_page_as_it_was(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture, text: str
) -> None:
    tables, out = tmp_path / "tables.json", tmp_path / "report.html"
    tables.write_text(text)
    older = document("an older page")
    out.write_text(older)
    code, told, err = run(capsys, "report", scored, corpus.path, "--tables", tables, "-o", out)
    assert (code, told) == (1, "")
    assert str(tables) in err
    assert "make it again with 'whenabouts reproduce -o FOLDER --tables'" in err
    assert out.read_text() == older
    assert not (set(tmp_path.iterdir()) - {tables, out, tmp_path / "videos"})


def test_a_page_replaces_a_page_and_nothing_else(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = "report", scored, corpus.path, "--num-timelines", 0, "-o"
    for name, content in (("thesis.html", b"<!DOCTYPE html>\n<p>mine</p>"), ("x", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        code, _, err = run(capsys, *words, tmp_path / name)
        assert code == 2
        assert f"{name}: something else than a report is here; choose another --out" in err
        assert (tmp_path / name).read_bytes() == content
    for _ in range(2):
        assert run(capsys, *words, tmp_path / "report.html").code == 0


def test_a_note_where_the_run_is_of_another_model(
    scored: Path, trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = "report", scored, corpus.path, "--num-timelines", 0, "-o", tmp_path / "report.html"
    assert "note" not in run(capsys, *words, "--run", trained).err
    shutil.copytree(trained, tmp_path / "other")
    err = run(capsys, *words, "--run", tmp_path / "other").err
    assert f"note: {scored} was predicted by {trained}, and --run is another: " in err
