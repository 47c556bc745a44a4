"""`whenabouts shortlist`, and the length of lists that other commands take."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from commandline import run
from ensemble_world import random_scores
from fusion_world import write_videos
from whenabouts.core.list_length import LONGEST, list_length
from whenabouts.core.scores import Scores, open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble.context_search import search_context
from whenabouts.ensemble.fusion import FusionSettings, fuse
from whenabouts.ensemble.own_videos import own_video_scores
from whenabouts.ensemble.search import search_fusion
from whenabouts.ensemble.shortlist import shortlist
from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.report.ranking import random_order_ap

Capture = pytest.CaptureFixture[str]
TENTH = list_length("10%")


def test_lists(tmp_path: Path, capsys: Capture) -> None:
    order, members = random_scores(tmp_path, 0, 2)
    words = ("shortlist", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "new" / "lists")
    code, out, _ = run(capsys, *words, "--k", "20%", "--json")
    told = json.loads(out)
    assert (code, told["k"], told["segments"], told["classes"]) == (0, 6, 30, 4)
    shortlist(order, members, tmp_path / "o", list_length("20%"))
    found, expected = (open_scores(tmp_path / name) for name in ("new/lists", "o"))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.made_by == expected.made_by
    code, out, _ = run(capsys, *words, "--k", 7)
    assert (code, ": 7 of 30 segments listed in each of 4 classes" in out) == (0, True)
    code, out, _ = run(capsys, *words)
    assert (code, ": all 30 segments listed" in out) == (0, True)


def test_refusals(tmp_path: Path, capsys: Capture) -> None:
    random_scores(tmp_path, 0, 2)
    a, b = tmp_path / "a", tmp_path / "b"
    for words, told in (
        ((a, b, "-o", tmp_path / "o", "--k", "0"), "--k: '0' is no length of a list"),
        ((a, b, "-o", b), "b: "),
        ((a, b, "-o", a), "a: "),
        ((a, tmp_path / "c", "-o", tmp_path / "o"), "c: "),
    ):
        code, out, err = run(capsys, "shortlist", *words)
        assert code in (1, 2)
        assert (out, told in err) == ("", True)
        assert not (tmp_path / "o").exists()


def test_without_video_scores_the_best_segment_stands_for_its_video(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    scores = open_scores(scored)
    code, out, _ = run(capsys, "fuse", scored, "-o", tmp_path / "f", "--segment-exponent", 2)
    assert (code, ": video (the best of its segments)^1 x segment^2 of " in out) == (0, True)
    code, out, _ = run(
        capsys, "fuse", scored, "-o", tmp_path / "s", "--search", corpus.path, "--k", "10%"
    )
    assert code == 0
    assert f" tried on {found_on(corpus, scores)}" in out
    videos = own_video_scores(scores)
    settings = FusionSettings()
    fuse(scores, videos, tmp_path / "o", settings)
    plain = np.asarray(open_scores(tmp_path / "o").values)
    assert not np.array_equal(open_scores(tmp_path / "f").values, plain)
    truth = corpus.rated(corpus.rows(["v2"]))
    found = search_fusion(truth, scores, videos, length=TENTH)
    kept = open_scores(tmp_path / "s").made_by["search"]
    assert kept == {"splits": ["v2"], "k": "10%", **json.loads(json.dumps(found.to_dict()))}
    assert search_fusion(truth, scores, videos).best != found.best


def found_on(corpus: Corpus, scores: Scores) -> str:
    """What a search by lists of a tenth says it was judged on."""
    truth, num_segments = corpus.rated(corpus.rows(["v2"])), len(scores.segments)
    of_rated = search_fusion(truth, scores, own_video_scores(scores), length=LONGEST)
    k = TENTH.of(num_segments)
    return f"{of_rated.num_pairs} rated pairs in lists of {k} of {num_segments} segments: best "


def test_searches_take_the_length_of_the_lists(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    scores, truth = open_scores(scored), corpus.rated(corpus.rows(["v2"]))
    search = ("--search", corpus.path, "--k", "10%", "--json")
    told = json.loads(run(capsys, "refine", scored, "-o", tmp_path / "r", *search).out)
    found = search_context(truth, scores, length=TENTH)
    assert told["search"]["best"] == found.best.to_dict()
    as_it_is = evaluate_scores(
        truth, scores.segments, scores.classes, scores.values, TENTH.of(len(scores.segments))
    )
    assert told["search"]["as_it_is"]["mean_ap"] == pytest.approx(as_it_is.mean_ap, rel=1e-12)
    run(capsys, "refine", scored, "-o", tmp_path / "other", "--smooth", 0.4)
    members = (scored, tmp_path / "other")
    told = json.loads(run(capsys, "ensemble", *members, "-o", tmp_path / "e", *search).out)
    [alone, _] = told["search"]["alone"]
    assert alone == pytest.approx(as_it_is.mean_ap, rel=1e-12)


@pytest.mark.parametrize(
    "words",
    [("fuse",), ("refine", "--smooth", 0.3), ("ensemble",), ("report", ""), ("submit",)],
)
def test_a_wrong_length_is_refused_at_once(
    words: tuple[object, ...], scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    name, *more = words
    given = [scored, corpus.path] if name == "report" else [scored, *more]
    search = ("--search", corpus.path) if name in ("fuse", "ensemble") else ()
    code, _, err = run(capsys, name, *given, "-o", tmp_path / "o", *search, "--k", "many")
    assert (code, "--k: 'many' is no length of a list" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_length_that_would_do_nothing_is_refused(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    videos = write_videos(
        tmp_path / "v", corpus.video_ids.tolist(), (0, 1), np.ones((len(corpus.video_ids), 2), "f")
    ).path
    out = ("-o", tmp_path / "o")
    of_search = "--k is 5%; it is of the lists that --search judges by; add --search, or leave"
    of_videos = "v: --k is 5%, and these Scores are of whole videos; lists are of segments; leave"
    for words, told in (
        (("fuse", scored, *out), of_search),
        (("refine", scored, *out, "--smooth", 0.3), of_search),
        (("ensemble", scored, *out), of_search),
        (("ensemble", videos, *out, "--search", corpus.path), of_videos),
        (("evaluate", videos, corpus.path), of_videos),
        (("report", videos, corpus.path, *out), of_videos),
    ):
        code, _, err = run(capsys, *words, "--k", "5%")
        assert (code, told in err) == (2, True), err
        assert not (tmp_path / "o").exists()
    code, _, err = run(capsys, "fuse", scored, *out, "--keep-unscored")
    assert (code, "--keep-unscored is given, and no VIDEO-SCORES; without them" in err) == (2, True)


def test_evaluation_and_submission_of_a_share(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    scores = open_scores(scored)
    k = TENTH.of(len(scores.segments))
    truth = corpus.rated(corpus.rows(["v2"]))
    expected = evaluate_scores(truth, scores.segments, scores.classes, scores.values, k)
    assert expected.num_found.sum() < expected.num_positives.sum()
    code, out, _ = run(capsys, "evaluate", scored, corpus.path, "--k", "10%")
    line = out.splitlines()[0]
    assert (code, line.startswith(f"mAP@{k}: {expected.mean_ap:.4f} over ")) == (0, True)
    assert line.endswith(f"positive, {expected.num_found.sum():,} of them listed)")
    assert run(capsys, "submit", scored, "-o", tmp_path / "s.csv", "--k", "10%").code == 0
    with (tmp_path / "s.csv").open() as file:
        _, *rows = csv.reader(file)
    assert {len(row[1].split()) for row in rows} == {k}
    submission = (tmp_path / "s.csv", corpus.path)
    told = json.loads(run(capsys, "evaluate", *submission, "--k", k, "--json").out)
    assert told["segments"]["mean_ap"] == pytest.approx(expected.mean_ap, rel=1e-12)
    code, _, err = run(capsys, "evaluate", *submission, "--k", "10%")
    assert code == 2
    assert "s.csv: --k is 10%; a submission does not say how many segments there were" in err
    out = tmp_path / "r.html"
    code, told, _ = run(capsys, "report", scored, corpus.path, "-o", out, "--k", "10%")
    assert (code, f"mAP {expected.mean_ap:.4f}" in told) == (0, True)
    page = out.read_text(encoding="utf-8")
    assert f"mAP@{k}" in page
    assert f", {expected.num_found.sum():,} of them listed" in page
    counts = expected.num_rated, expected.num_positives
    chance = np.nanmean(random_order_ap(*counts, len(scores.segments), k))
    assert chance < 0.1
    assert f"a random order has {chance:.3f}" in page
    assert f"random order {chance:.3f}" in page
