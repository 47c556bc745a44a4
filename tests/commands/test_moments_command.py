from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from commandline import run
from whenabouts.core.scores import open_scores

Capture = pytest.CaptureFixture[str]


def test_moments_of_the_segments(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "m.csv"
    words = ("moments", scored, "-o", out, "--min-score", 0.3, "--per-video", 4)
    code, told, _ = run(capsys, *words, "--json")
    assert code == 0
    result = json.loads(told)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = open_scores(scored)
    assert result["count"] == len(rows) > 20
    assert result["videos"] == len({row["video"] for row in rows})
    assert result["segment_s"] == 5
    of_video = [sum(row["video"] == video for row in rows) for video in {r["video"] for r in rows}]
    assert max(of_video) == 4
    for row in rows:
        starts = np.arange(int(row["start"]), int(row["end"]), 5)
        ids = np.full(len(starts), row["video"].encode())
        column = scores.classes.ids.index(int(row["class"]))
        within = scores.values[scores.segments.rows_of(ids, starts), column]
        assert within.min() >= np.float32(0.3)
        assert f"{within.max():.4f}" == row["score"]
        assert row["topic"] == scores.classes.names[column]
    code, told, _ = run(capsys, *words)
    assert told.startswith(f"{out}: {len(rows)} moments in {result['videos']} of ")


def test_wrong_use(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "notes.csv").write_text("mine")
    for words, told in (
        (("--min-score", 1.5), "--min-score is 1.5; scores are 0 to 1"),
        (("--min-score", "nan"), "--min-score is nan"),
        (("--per-video", 0), "--per-video is 0; it is at least 1"),
        (("--segment-s", 0), "--segment-s is 0"),
        (("-o", tmp_path / "notes.csv"), "something else than a table of moments is here"),
    ):
        found = run(capsys, "moments", scored, "-o", tmp_path / "m.csv", *words)
        assert (found.code, found.out) == (2, "")
        assert told in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.csv"]
