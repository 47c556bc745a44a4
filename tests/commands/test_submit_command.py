"""`whenabouts submit`: the file, its size, its first lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import run
from whenabouts.core.scores import open_scores


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
    assert err == "whenabouts: --k is 0; at least one segment a class\n"
    code, told, err = run(capsys, "submit", tmp_path / "gone", "-o", out)
    assert (code, told) == (1, "")
    assert "make one with 'whenabouts predict'" in err
    assert not out.exists()
