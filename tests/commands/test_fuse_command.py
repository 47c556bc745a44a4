"""`whenabouts fuse`: settings reach the fusion, the search is told and kept, refusals."""

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
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import Exponents, FusionSettings, fuse
from whenabouts.ensemble.search import GRID, search_fusion
from whenabouts.metrics.segment_map import evaluate_scores

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def video_scores(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of every video of V1 and V2: noise, a little higher where the class is a label."""
    rows, rng = corpus.rows(["v1", "v2"]), np.random.default_rng(0)
    classes = corpus.video_classes.ids
    values = rng.random((len(rows), len(classes)))
    for row, of_video in zip(rows.tolist(), values):
        of_video[np.isin(classes, corpus.labels.of(row))] += 0.2
    out = tmp_path_factory.mktemp("videos") / "video-scores"
    ids = corpus.video_ids[rows].tolist()
    write_videos(out, ids, classes, (values / 1.2).astype(np.float32), trained_on=["train"])
    return out


def fused(capsys: Capture, *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "fuse", *words, "--json")
    assert code == 0
    return json.loads(out)


def mean_ap(corpus: Corpus, scores: Scores) -> float:
    truth = corpus.rated(corpus.rows(["v2"]))
    return evaluate_scores(truth, scores.segments, scores.classes, scores.values).mean_ap


# ---- with settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), FusionSettings()),
        (
            ("--video-exponent", 2, "--segment-exponent", 0.5, "--top-topics", 3),
            FusionSettings(Exponents(2, 0.5), CandidateFilter(top_topics=3)),
        ),
        (
            ("--top-videos", 7, "--min-video-score", 0.25),
            FusionSettings(Exponents(1, 1), CandidateFilter(None, 7, 0.25)),
        ),
    ],
)
def test_settings(
    words: tuple[object, ...], settings: FusionSettings, scored: Path, video_scores: Path,
    tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    result = fused(capsys, scored, video_scores, "-o", tmp_path / "new" / "fused", *words)
    count = fuse(open_scores(scored), open_scores(video_scores), tmp_path / "o", settings)
    found, expected = (open_scores(tmp_path / name) for name in ("new/fused", "o"))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.made_by == expected.made_by
    assert found.made_by["trained_on"] == ["train", "v1"]
    assert result.pop("time_s") > 0
    assert result == {
        "scores": str(tmp_path / "new" / "fused"),
        "segments": len(found.segments),
        "classes": 4,
        "candidates": count,
        "settings": found.made_by["fused"],
    }


def test_the_result_in_words(
    scored: Path, video_scores: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "f", "--segment-exponent", 2, "--top-topics", 1)
    code, out, err = run(capsys, "fuse", scored, video_scores, *words)
    assert (code, err) == (0, "")
    num_segments = len(open_scores(scored).segments)
    start = f"{tmp_path / 'f'}: video^1 x segment^2 of {num_segments:,} segments x 4 classes, "
    assert out.startswith(start + "25.0% candidates, in ")
    assert out.count("\n") == 1


def test_what_is_fused_can_be_evaluated_and_submitted(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    fused(capsys, scored, video_scores, "-o", tmp_path / "f", "--top-topics", 2)
    code, out, _ = run(capsys, "evaluate", tmp_path / "f", corpus.path, "--json")
    assert code == 0
    expected = mean_ap(corpus, open_scores(tmp_path / "f"))
    assert json.loads(out)["segments"]["mean_ap"] == pytest.approx(expected)
    submission = tmp_path / "s.csv"
    assert run(capsys, "submit", tmp_path / "f", "-o", submission).code == 0
    code, again, _ = run(capsys, "evaluate", submission, corpus.path, "--json")
    assert json.loads(again)["segments"] == json.loads(out)["segments"]


# ---- search --------------------------------------------------------------------------------------


def test_the_search_writes_what_is_best(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = (scored, video_scores, "-o", tmp_path / "f", "--search", corpus.path)
    result = fused(capsys, *words)
    segments, videos = open_scores(scored), open_scores(video_scores)
    truth = corpus.rated(corpus.rows(["v2"]))
    expected = search_fusion(truth, segments, videos)
    assert result["search"] == {
        "splits": ["v2"],
        "k": "100000",
        **json.loads(json.dumps(expected.to_dict())),
    }
    assert result["search"]["num_trials"] == len(GRID)
    found = open_scores(tmp_path / "f")
    assert found.made_by["search"] == result["search"]
    best = result["search"]["best"]
    assert found.made_by["fused"] == result["settings"]
    used = result["search"]["used"]
    assert {**result["settings"], "mean_ap": used["mean_ap"]} == used
    assert used == (best if expected.pays else result["search"]["segments_alone"])
    assert mean_ap(corpus, found) == pytest.approx(used["mean_ap"])
    assert best["mean_ap"] > result["search"]["default"]["mean_ap"]


def test_the_search_in_words(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = (scored, video_scores, "-o", tmp_path / "f", "--search", corpus.path)
    told = fused(capsys, *words)["search"]
    code, out, err = run(capsys, "fuse", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        "mAP",
        "a",
        "b",
        *["top", "topics", "top", "videos", "min", "score"],
    ]
    assert len({len(line) for line in lines[:11]}) == 1
    for line, trial in zip(lines[1:11], told["trials"]):
        chosen = trial["candidates"].values()
        cells = [*trial["exponents"].values(), *("-" if c is None else c for c in chosen)]
        assert line.split() == [f"{trial['mean_ap']:.4f}", *(f"{c}" for c in cells)]
    cross = told["cross_validated"]
    pays = cross["mean_ap"] > cross["segments_alone_mean_ap"]
    kept = "no gain: the segment scores stay as they are"
    verdict = "it pays: the best is used" if pays else kept
    assert lines[11] == (
        f"{len(GRID)} tried on {told['num_pairs']:,} rated pairs: best "
        f"{told['best']['mean_ap']:.4f}, published default (1, 1) "
        f"{told['default']['mean_ap']:.4f}, segments alone {told['segments_alone']['mean_ap']:.4f}"
    )
    assert lines[12] == (
        "chosen on one half of the videos and scored on the other, both ways: mean "
        f"{cross['mean_ap']:.4f}, default {cross['default_mean_ap']:.4f}, segments alone "
        f"{cross['segments_alone_mean_ap']:.4f}; {verdict}"
    )
    assert lines[13].startswith(f"{tmp_path / 'f'}: video^")
    assert len(lines) == 14


def test_a_note_where_a_model_has_seen_the_split(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "f", "--search", corpus.path, "--splits", "v1")
    _, _, err = run(capsys, "fuse", scored, video_scores, *words)
    assert err == (
        f"note: the model of {scored} was trained on v1: the search trusts it too much\n"
    )
    assert open_scores(tmp_path / "f").made_by["search"]["splits"] == ["v1"]


def test_a_note_where_the_video_classifier_has_seen_the_split(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    ids = open_scores(scored).segments.video_ids.tolist()
    values = np.random.default_rng(0).random((len(ids), 4), np.float32)
    seen = write_videos(tmp_path / "seen", ids, corpus.classes.ids, values, trained_on=["v2"]).path
    words = ("-o", tmp_path / "f", "--search", corpus.path)
    assert run(capsys, "fuse", scored, seen, *words).err == (
        f"note: the model of {seen} was trained on v2: the search trusts it too much\n"
    )


def test_too_few_videos_for_an_estimate(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rated_pairs, "first_half", lambda ids: np.ones(len(ids), bool))
    words = (scored, video_scores, "-o", tmp_path / "f", "--search", corpus.path)
    assert fused(capsys, *words)["search"]["cross_validated"] is None
    lines = run(capsys, "fuse", *words).out.splitlines()
    assert lines[12] == (
        "too few rated videos to choose on one half of them and score on the other: the segment "
        "scores stay as they are"
    )
    assert lines[13].startswith(f"{tmp_path / 'f'}: video^0 x segment^1")


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--video-exponent", 0, "--segment-exponent", 0), "the exponents are 0.0 and 0.0"),
        (("--video-exponent", -1), "exponents are at least 0"),
        (("--top-topics", 0), "top_topics is 0"),
        (("--top-videos", 0), "top_videos is 0"),
        (("--min-video-score", 2), "min_video_score is 2.0"),
        (("--top-topics", "many"), "invalid"),
        (("--search", "INDEX", "--top-topics", 3), "--search chooses them; leave them out"),
        (("--search", "INDEX", "--splits", "v3"), "no split 'v3'"),
        (("--search", "INDEX", "--splits", "test"), "no rated segments in splits test"),
    ],
)
def test_wrong_use(
    words: tuple[object, ...], told: str, scored: Path, video_scores: Path, corpus: Corpus,
    tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    words = tuple(corpus.path if word == "INDEX" else word for word in words)
    code, out, err = run(capsys, "fuse", scored, video_scores, "-o", tmp_path / "f", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_the_result_has_a_place_of_its_own(
    scored: Path, video_scores: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "link").symlink_to(scored)
    for out in (scored, video_scores, tmp_path / "link", scored.parent / "x" / ".." / scored.name):
        code, _, err = run(capsys, "fuse", scored, video_scores, "-o", out)
        assert code == 2
        assert "these Scores are read, and would be replaced; choose another --out" in err
    assert "fused" not in open_scores(scored).made_by
    assert run(capsys, "fuse", scored, video_scores).code == 2


def test_scores_that_do_not_fit(
    scored: Path, video_scores: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    ids = open_scores(scored).segments.video_ids.tolist()
    ones = np.ones((len(ids), 4), np.float32)
    few = write_videos(tmp_path / "few", ids[1:], corpus.classes.ids, ones[1:]).path
    other = write_videos(tmp_path / "other", ids, corpus.classes.ids, ones * 2).path
    for words, told in (
        ((video_scores, scored), "video-scores: scores of whole videos"),
        ((scored, scored), "scores: row 0 is segment "),
        ((scored, few), f"few: no score of video {ids[0].decode()}; each video"),
        ((scored, other), "other: the score of class"),
        ((scored, tmp_path / "gone"), "gone: "),
    ):
        for search in ((), ("--search", corpus.path)):
            code, out, err = run(capsys, "fuse", *words, "-o", tmp_path / "f", *search)
            assert (code, out) == (1, "")
            assert told in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few", "other"]
    for search in ((), ("--search", corpus.path)):
        assert fused(capsys, scored, few, "-o", tmp_path / "f", "--keep-unscored", *search)


def test_an_index_of_other_videos(corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    one = np.ones((1, 4), np.float32)
    table = SegmentTable(np.array([b"stranger"]), np.array([0]), np.array([0]))
    segments = write_scores(tmp_path / "s", table, corpus.classes.ids, one).path
    videos = write_videos(tmp_path / "v", [b"stranger"], corpus.classes.ids, one).path
    words = (segments, videos, "-o", tmp_path / "f", "--search", corpus.path)
    code, _, err = run(capsys, "fuse", *words)
    assert code == 1
    assert f"{corpus.path}: it has none of the videos that were scored" in err


def test_a_failure_leaves_the_older_scores(
    scored: Path, video_scores: Path, tmp_path: Path, capsys: Capture
) -> None:
    fused(capsys, scored, video_scores, "-o", tmp_path / "f")
    before = np.array(open_scores(tmp_path / "f").values)
    scores = open_scores(scored)
    values = np.array(scores.values)
    values[-1, 0] = np.nan
    broken = write_scores(tmp_path / "broken", scores.segments, scores.classes.ids, values).path
    code, _, err = run(capsys, "fuse", broken, video_scores, "-o", tmp_path / "f")
    assert code == 1
    assert f"in row {len(values) - 1} is nan" in err
    np.testing.assert_array_equal(open_scores(tmp_path / "f").values, before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "f"]
