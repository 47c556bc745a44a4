"""`whenabouts refine`: settings reach the scores, the search is told and kept, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commandline import run
from fusion_world import write_scores, write_videos
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble import rated_pairs
from whenabouts.ensemble.context import Context, refine
from whenabouts.ensemble.context_search import search_context
from whenabouts.metrics.segment_map import evaluate_scores

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def offset(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of V2 that are right but for an offset of each video and class."""
    rows, rng = corpus.rows(["v2"]), np.random.default_rng(0)
    truth = corpus.rated(rows)
    ids = corpus.video_ids[rows]
    video, place = np.divmod(np.arange(len(ids) * 20), 20)
    table = SegmentTable(ids, video, place * 5)
    logits = 4 * rng.normal(size=(len(ids), 4))[video] + 0.1 * rng.normal(size=(len(video), 4))
    at = table.rows_of(truth.video, truth.start_s), corpus.classes.columns(truth.class_id)
    logits[at] += 4 * truth.score - 2
    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
    out = tmp_path_factory.mktemp("offset") / "scores"
    return write_scores(out, table, corpus.classes.ids, values, trained_on=["v1"]).path


def refined(capsys: Capture, *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "refine", *words, "--json")
    assert code == 0
    return json.loads(out)


def mean_ap(corpus: Corpus, scores: Scores) -> float:
    truth = corpus.rated(corpus.rows(["v2"]))
    return evaluate_scores(truth, scores.segments, scores.classes, scores.values).mean_ap


# ---- with settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), Context()),
        (("--smooth", 0.25), Context(0.25, 0)),
        (("--centre", 2), Context(0, 2)),
        (("--smooth", 0.3, "--centre", 0.5), Context(0.3, 0.5)),
        (("--alike", 1.5, "--centre", 0.5), Context(0, 0.5, 1.5)),
    ],
)
def test_settings(
    words: tuple[object, ...], settings: Context, scored: Path, tmp_path: Path, capsys: Capture
) -> None:
    result = refined(capsys, scored, "-o", tmp_path / "new" / "refined", *words)
    refine(open_scores(scored), tmp_path / "o", settings)
    found, expected = (open_scores(tmp_path / name) for name in ("new/refined", "o"))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.made_by == expected.made_by
    assert found.made_by["trained_on"] == open_scores(scored).made_by["trained_on"] == ["v1"]
    assert result.pop("time_s") > 0
    assert result == {
        "scores": str(tmp_path / "new" / "refined"),
        "segments": len(found.segments),
        "classes": 4,
        "settings": found.made_by["refined"],
    }


def test_the_result_in_words(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ("-o", tmp_path / "f", "--smooth", 0.3, "--centre", 1, "--alike", 2 / 3)
    code, out, err = run(capsys, "refine", scored, *words)
    assert (code, err) == (0, "")
    num_segments = len(open_scores(scored).segments)
    expected = (
        f"{tmp_path / 'f'}: alike 0.6667, smooth 0.3, centre 1, of {num_segments:,} segments "
    )
    assert out.startswith(expected + "x 4 classes, in ")
    assert out.count("\n") == 1


# ---- search --------------------------------------------------------------------------------------


def test_a_note_where_nothing_is_asked_for(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    code, _, err = run(capsys, "refine", scored, "-o", tmp_path / "r")
    assert code == 0
    assert err == "note: --alike, --smooth and --centre are 0: the scores stay as they are\n"
    before, after = open_scores(scored), open_scores(tmp_path / "r")
    np.testing.assert_array_equal(after.values, before.values)
    assert run(capsys, "refine", scored, "-o", tmp_path / "r", "--smooth", "0.1").err == ""


def test_the_search_writes_what_pays(
    offset: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    result = refined(capsys, offset, "-o", tmp_path / "f", "--search", corpus.path)
    truth = corpus.rated(corpus.rows(["v2"]))
    expected = search_context(truth, open_scores(offset))
    assert result["search"] == {
        "splits": ["v2"],
        "k": "100000",
        **json.loads(json.dumps(expected.to_dict())),
    }
    assert result["search"]["num_trials"] == 252
    found = open_scores(tmp_path / "f")
    assert found.made_by["search"] == result["search"]
    assert found.made_by["refined"] == result["settings"]
    best = result["search"]["best"]
    assert {**result["settings"], "mean_ap": best["mean_ap"]} == best == result["search"]["used"]
    assert mean_ap(corpus, found) == pytest.approx(best["mean_ap"])
    assert best["mean_ap"] > result["search"]["as_it_is"]["mean_ap"] + 0.05
    assert best["centre"] > 0


def test_the_search_in_words(offset: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    words = (offset, "-o", tmp_path / "f", "--search", corpus.path)
    told = refined(capsys, *words)["search"]
    code, out, err = run(capsys, "refine", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["mAP", "alike", "smooth", "centre"]
    assert len({len(line) for line in lines[:11]}) == 1
    for line, trial in zip(lines[1:11], told["trials"], strict=False):
        cells = [f"{trial['alike']:.4g}", f"{trial['smooth']:g}", f"{trial['centre']:g}"]
        assert line.split() == [f"{trial['mean_ap']:.4f}", *cells]
    cross = told["cross_validated"]
    assert lines[11] == (
        f"252 tried on {told['num_pairs']:,} rated pairs: best "
        f"{told['best']['mean_ap']:.4f}, as it is {told['as_it_is']['mean_ap']:.4f}"
    )
    assert lines[12] == (
        "chosen on one half of the videos and scored on the other, both ways: mean "
        f"{cross['mean_ap']:.4f}, as it is {cross['as_it_is_mean_ap']:.4f}; it pays: the best is "
        "used"
    )
    settings = told["best"]
    assert lines[13].startswith(
        f"{tmp_path / 'f'}: alike {settings['alike']:.4g}, smooth {settings['smooth']:g}, "
        f"centre {settings['centre']:g}, of "
    )
    assert len(lines) == 14


@pytest.mark.parametrize(
    ("is_first_half", "told"),
    [
        (None, "no gain: the scores stay as they are"),
        (1, "too few rated videos to choose on one half of them and score on the other: the "),
    ],
)
def test_what_does_not_pay_leaves_the_scores(
    is_first_half: int | None, told: str, offset: Path, corpus: Corpus, tmp_path: Path,
    capsys: Capture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing is ahead of scores that are right; and nothing is known with one half alone."""
    scores, truth = open_scores(offset), corpus.rated(corpus.rows(["v2"]))
    values = np.array(scores.values)
    if is_first_half is None:
        at = scores.segments.rows_of(truth.video, truth.start_s)
        values[at, scores.classes.columns(truth.class_id)] = 0.25 + truth.score / 2
    else:
        monkeypatch.setattr(rated_pairs, "first_half", lambda ids: np.ones(len(ids), bool))
    right = write_scores(tmp_path / "s", scores.segments, scores.classes.ids, values)
    words = (right.path, "-o", tmp_path / "f", "--search", corpus.path)
    result = refined(capsys, *words)
    assert result["settings"] == {"smooth": 0, "centre": 0, "alike": 0}
    assert result["search"]["used"] == result["search"]["as_it_is"]
    np.testing.assert_array_equal(open_scores(tmp_path / "f").values, values)
    lines = run(capsys, "refine", *words).out.splitlines()
    assert told in lines[12]
    assert "alike 0, smooth 0, centre 0, of" in lines[13]


def test_a_note_where_the_model_has_seen_the_split(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "f", "--search", corpus.path, "--splits", "v1")
    _, _, err = run(capsys, "refine", scored, *words)
    assert err == (
        f"note: the model of {scored} was trained on v1: the search trusts it too much\n"
    )
    assert open_scores(tmp_path / "f").made_by["search"]["splits"] == ["v1"]


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--smooth", -0.1), "smooth is -0.1"),
        (("--smooth", 1.5), "it is a share of the neighbours"),
        (("--centre", -1), "centre is -1.0"),
        (("--centre", "nan"), "centre is nan"),
        (("--smooth", "much"), "--smooth"),
        (("--search", "INDEX", "--smooth", 0.1), "--search chooses them; leave them out"),
        (("--alike", -1), "alike is -1.0"),
        (("--search", "INDEX", "--alike", 0.1), "--search chooses them; leave them out"),
        (("--search", "INDEX", "--centre", 0.1), "--search chooses them; leave them out"),
        (("--search", "INDEX", "--splits", "v3"), "no split 'v3'"),
        (("--search", "INDEX", "--splits", "test"), "no rated segments in splits test"),
    ],
)
def test_wrong_use(
    words: tuple[object, ...], told: str, scored: Path, corpus: Corpus, tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    words = tuple(corpus.path if word == "INDEX" else word for word in words)
    code, out, err = run(capsys, "refine", scored, "-o", tmp_path / "f", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_the_result_has_a_place_of_its_own(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "link").symlink_to(scored)
    for out in (scored, tmp_path / "link"):
        code, _, err = run(capsys, "refine", scored, "-o", out)
        assert code == 2
        assert "these Scores are read, and would be replaced; choose another --out" in err
    assert "refined" not in open_scores(scored).made_by
    assert run(capsys, "refine", scored).code == 2


def test_scores_that_do_not_fit(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    scores = open_scores(scored)
    ids, classes = scores.segments.video_ids.tolist(), corpus.classes.ids
    half = np.full((len(ids), 4), 0.5, np.float32)
    videos = write_videos(tmp_path / "videos", ids, classes, half).path
    values = np.array(scores.values)
    values[:] = -values
    below = write_scores(tmp_path / "below", scores.segments, classes, values).path
    for search in ((), ("--search", corpus.path)):
        for wrong, told in (
            (videos, "videos: scores of whole videos"),
            (below, "below: the score of class"),
            (tmp_path / "gone", "gone: "),
        ):
            code, out, err = run(capsys, "refine", wrong, "-o", tmp_path / "f", *search)
            assert (code, out) == (1, "")
            assert told in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["below", "videos"]


def test_an_index_of_other_videos(corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    table = SegmentTable(np.array([b"stranger"]), np.array([0]), np.array([0]))
    half = np.full((1, 4), 0.5, np.float32)
    scores = write_scores(tmp_path / "s", table, corpus.classes.ids, half).path
    words = (scores, "-o", tmp_path / "f", "--search", corpus.path)
    code, _, err = run(capsys, "refine", *words)
    assert code == 1
    assert f"{corpus.path}: it has none of the videos that were scored" in err
