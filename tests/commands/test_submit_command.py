"""`whenabouts submit`: the file, its size, its first lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commandline import run
from fusion_world import write_scores, write_videos
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus


def ranking(scored: Path, column: int) -> list[str]:
    """Tokens of a class by the definition: score falling, then video, then start."""
    scores = open_scores(scored)
    ids = scores.segments.video_ids[scores.segments.video].tolist()
    rows = zip((-scores.values[:, column]).tolist(), ids, scores.segments.starts_s.tolist())
    return [f"{video.decode()}:{start}" for _, video, start in sorted(rows)]


def test_the_file(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "submission.csv"
    code, told, _ = run(capsys, "submit", scored, "-o", out, "--json")
    assert code == 0
    result = json.loads(told)
    assert result.pop("time_s") >= 0
    assert result == {"submission": str(out), "bytes": out.stat().st_size}
    header, *lines = out.read_text().splitlines()
    assert header == "Class,Segments"
    classes = open_scores(scored).classes
    assert lines == [
        f"{class_id}," + " ".join(ranking(scored, column))
        for column, class_id in enumerate(classes.ids)
    ]


def test_k_and_the_result_in_words(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.csv"
    code, told, _ = run(capsys, "submit", scored, "-o", out, "--k", 3)
    assert code == 0
    lines = out.read_text().splitlines()[1:]
    assert [line.split(",")[1].split() for line in lines] == [
        ranking(scored, column)[:3] for column in range(4)
    ]
    assert told.startswith(f"{out}: 4 classes, up to 3 segments each, {out.stat().st_size} B in ")


def test_the_default_name(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "submit", scored).code == 0
    assert (tmp_path / "submission.csv").read_text().startswith("Class,Segments\n")


def test_refusals(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "submission.csv"
    code, told, err = run(capsys, "submit", scored, "-o", out, "--k", 0)
    assert (code, told) == (2, "")
    assert "whenabouts: --k: '0' is no length of a list; a number of segments from 1 up" in err
    code, told, err = run(capsys, "submit", tmp_path / "gone", "-o", out)
    assert (code, told) == (1, "")
    assert "make one with 'whenabouts predict'" in err
    assert not out.exists()


# ---- of several Scores ---------------------------------------------------------------------------


def test_of_members_and_videos_as_three_commands(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, rng = open_scores(scored), np.random.default_rng(0)
    other, videos, out = tmp_path / "other", tmp_path / "videos", tmp_path / "one.csv"
    noise = rng.random(scores.values.shape, np.float32)
    write_scores(other, scores.segments, scores.classes.ids, noise)
    ids = scores.segments.video_ids.tolist()
    write_videos(videos, ids, scores.classes.ids, rng.random((len(ids), 4), np.float32))
    members, weights = (scored, other), ("--weights", 3, 1)
    fusion = ("--segment-exponent", 2, "--top-topics", 2)
    for words in (
        ("ensemble", *members, "-o", tmp_path / "mean", *weights),
        ("submit", tmp_path / "mean", "-o", tmp_path / "of-mean.csv", "--k", 9),
        ("fuse", tmp_path / "mean", videos, "-o", tmp_path / "fused", *fusion),
        ("submit", tmp_path / "fused", "-o", tmp_path / "of-fused.csv", "--k", 9),
    ):
        assert run(capsys, *words).code == 0
    code, told, _ = run(capsys, "submit", *members, "-o", out, *weights, "--k", 9)
    assert (code, out.read_bytes()) == (0, (tmp_path / "of-mean.csv").read_bytes())
    assert told.startswith(f"{out}: 4 classes, up to 9 segments each, ")
    words = (*members, "-o", out, *weights, "--k", 9, "--videos", videos, *fusion)
    assert run(capsys, "submit", *words).code == 0
    assert out.read_bytes() == (tmp_path / "of-fused.csv").read_bytes()


@pytest.mark.parametrize("kind", ["geometric", "rank"])
def test_of_another_mean_as_two_commands(
    kind: str, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, other = open_scores(scored), tmp_path / "other"
    noise = np.random.default_rng(0).random(scores.values.shape, np.float32)
    write_scores(other, scores.segments, scores.classes.ids, noise)
    words = (scored, other, "--kind", kind)
    for each in (
        ("ensemble", *words, "-o", tmp_path / "mean"),
        ("submit", tmp_path / "mean", "-o", tmp_path / "two.csv"),
        ("submit", *words, "-o", tmp_path / "one.csv"),
        ("submit", scored, other, "-o", tmp_path / "plain.csv"),
    ):
        assert run(capsys, *each).code == 0
    one, two, plain = ((tmp_path / f"{n}.csv").read_bytes() for n in ("one", "two", "plain"))
    assert one == two != plain


@pytest.mark.parametrize(
    "fusion",
    [
        ("--video-exponent", 3),
        ("--top-videos", 3),
        ("--min-video-score", 0.5),
        ("--keep-unscored", "--top-topics", 2),
    ],
)
def test_each_setting_of_the_fusion_as_two_commands(
    fusion: tuple[object, ...], scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One video has no score where that is allowed."""
    scores, videos = open_scores(scored), tmp_path / "videos"
    ids = scores.segments.video_ids.tolist()["--keep-unscored" in fusion :]
    values = np.random.default_rng(1).random((len(ids), 4), np.float32)
    write_videos(videos, ids, scores.classes.ids, values)
    for each in (
        ("fuse", scored, videos, "-o", tmp_path / "fused", *fusion),
        ("submit", tmp_path / "fused", "-o", tmp_path / "two.csv"),
        ("submit", scored, "--videos", videos, "-o", tmp_path / "one.csv", *fusion),
    ):
        assert run(capsys, *each).code == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no Scores given"),
        (("a", "--top-topics", 3), "they are of video scores; add --videos"),
        (("a", "--video-exponent", 2), "they are of video scores; add --videos"),
        (("a", "--keep-unscored"), "they are of video scores; add --videos"),
        (("a", "--weights", 1), "weights or a kind of mean for one Scores; name more Scores"),
        (("a", "--kind", "rank"), "weights or a kind of mean for one Scores; name more Scores"),
        (("a", "b", "--weights", 1), "1 weights for 2 members"),
        (("a", "b", "./a"), "a: these Scores stand twice among the members; name them once"),
        (("a", "b", "--videos", "v", "--video-exponent", -1), "exponents are at least 0"),
    ],
)
def test_wrong_use(
    words: tuple[object, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "submit", *words)
    assert (code, out) == (2, "")
    assert told in err


def test_a_submission_replaces_a_submission_and_nothing_else(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.csv").write_text("Class,Notes\n")
    code, _, err = run(capsys, "submit", scored, "-o", tmp_path / "notes.csv")
    assert code == 2
    assert "notes.csv: something else than a submission is here; choose another --out" in err
    assert (tmp_path / "notes.csv").read_text() == "Class,Notes\n"
    assert run(capsys, "submit", scored, "-o", tmp_path).code == 2
    for _ in range(2):
        assert run(capsys, "submit", scored, "-o", tmp_path / "submission.csv").code == 0
