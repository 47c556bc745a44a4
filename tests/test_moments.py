"""Moments against the definition, spelt out; files; what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from whenabouts import moments as module
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.scores import Scores
from whenabouts.core.segments import SegmentTable
from whenabouts.moments import HEADER, find_moments, segment_length, write_moments

CLASSES = ClassOrder((7, 3, 5), ("Dog", "", "Cat, big"))
Row = tuple[str, int, int, int, str, float]


def scores_of(
    rows: list[tuple[str, int]], values: np.ndarray, classes: ClassOrder = CLASSES
) -> Scores:
    names = sorted({name for name, _ in rows}, reverse=True)
    ids = np.array([name.encode() for name in names], np.bytes_)
    video = np.array([names.index(name) for name, _ in rows], np.int64)
    starts = np.array([start for _, start in rows], np.int64)
    table = SegmentTable(ids, video, starts)
    return Scores(Path("s"), table, classes, np.asarray(values, np.float32), {})


def spelt_out(scores: Scores, least: float, most: int, length_s: int) -> list[Row]:
    """By the definition: one segment after another."""
    table, found = scores.segments, []
    for v, name in enumerate(table.video_ids.tolist()):
        rows = {int(table.starts_s[r]): r for r in np.flatnonzero(table.video == v)}
        runs = []
        for column in range(len(scores.classes)):
            good = {s: float(scores.values[r, column]) for s, r in rows.items()}
            good = {s: score for s, score in good.items() if score >= np.float32(least)}
            for start in sorted(good):
                if start - length_s in good:
                    continue
                end, best = start, 0.0
                while end in good:
                    end, best = end + length_s, max(best, good[end])
                runs.append((-best, column, start, end))
        found += [
            (name.decode(), s, e, scores.classes.ids[c], scores.classes.names[c], -b)
            for b, c, s, e in sorted(runs)[:most]
        ]
    return found


def listed(scores: Scores, least: float, most: int, length_s: int | None = None) -> list[Row]:
    ids, classes = scores.segments.video_ids, scores.classes
    return [
        (ids[v].decode(), s, e, classes.ids[c], classes.names[c], score)
        for part in find_moments(scores, least, most, length_s)
        for v, s, e, c, score in zip(
            part.video.tolist(), part.start_s.tolist(), part.end_s.tolist(),
            part.column.tolist(), part.score.tolist(),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_against_the_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in any order, gaps, ties, videos over many stretches."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(module, "CHUNK_BYTES", int(rng.integers(1, 400)))
    length_s = int(rng.integers(1, 7))
    rows = [(f"v{v}", length_s * k) for v in range(rng.integers(1, 9)) for k in range(12)]
    rows = [rows[k] for k in rng.permutation(len(rows))[: rng.integers(1, len(rows) + 1)]]
    scores = scores_of(rows, rng.integers(0, 11, (len(rows), 3)) / 10)
    for least, most in ((0.5, 1000), (0.3, 3), (0.0, 2), (1.0, 1)):
        assert listed(scores, least, most, length_s) == spelt_out(scores, least, most, length_s)


def test_one_video_by_hand() -> None:
    rows = [("a", start) for start in (0, 5, 10, 20, 25)]
    dog, cat = [0.9, 0.5, 0.4, 0.6, 0.95], [0.1, 0.2, 0.3, 0.5, 0.0]
    scores = scores_of(rows, np.array([dog, [0.0] * 5, cat]).T)
    assert segment_length(scores.segments) == 5
    found = [(*row[:5], round(row[5], 4)) for row in listed(scores, 0.5, 20)]
    assert found == [
        ("a", 20, 30, 7, "Dog", 0.95),
        ("a", 0, 10, 7, "Dog", 0.9),
        ("a", 20, 25, 5, "Cat, big", 0.5),
    ]


def test_the_length_of_a_segment() -> None:
    def length(*rows: tuple[str, int]) -> int:
        return segment_length(scores_of(list(rows), np.zeros((len(rows), 3))).segments)

    assert length(("a", 0), ("b", 2), ("c", 3)) == 5
    assert length(("a", 9), ("b", 2), ("a", 0), ("b", 8), ("a", 3)) == 3


def test_videos_without_a_segment_are_passed_over() -> None:
    ids = np.array([b"x", b"a", b"y", b"b"])
    table = SegmentTable(ids, np.array([1, 3, 3]), np.array([0, 0, 5]))
    scores = Scores(Path("s"), table, CLASSES, np.full((3, 3), 0.7, np.float32), {})
    assert listed(scores, 0.5, 2) == spelt_out(scores, 0.5, 2, 5)
    assert len(listed(scores, 0.5, 2)) == 4


def test_stretches_are_of_whole_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit, and one where none does."""
    video = np.array([1, 1, 1, 2, 2, 4])
    for chunk, expected in (
        (8, [slice(0, 3), slice(3, 6)]),
        (2, [slice(0, 3), slice(3, 5), slice(5, 6)]),
        (10, [slice(0, 5), slice(5, 6)]),
        (12, [slice(0, 6)]),
    ):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
        assert list(module._stretches(video, 2)) == expected


def test_what_is_written_where_nothing_is_said(tmp_path: Path) -> None:
    """20 moments a video, of half or more."""
    classes = ClassOrder.of(range(30))
    values = np.array([[0.5] * 25 + [0.499] * 5])
    assert write_moments(tmp_path / "m.csv", scores_of([("a", 0)], values, classes)) == 20
    values = np.array([[0.5] * 5 + [0.499] * 25])
    assert write_moments(tmp_path / "m.csv", scores_of([("a", 0)], values, classes)) == 5


def test_the_file(tmp_path: Path) -> None:
    scores = scores_of([("b,1", 5), ("b,1", 0), ("a", 0)], [[0.9, 0, 1], [0.8, 0, 0], [0, 0.7, 0]])
    seen = []
    assert write_moments(tmp_path / "m.csv", scores, 0.5, 20, None, seen.append) == 3
    assert sum(map(len, seen)) == 3
    with (tmp_path / "m.csv").open(newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [
            HEADER,
            ("b,1", "5", "10", "5", "Cat, big", "1.0000"),
            ("b,1", "0", "10", "7", "Dog", "0.9000"),
            ("a", "0", "5", "3", "", "0.7000"),
        ]


@pytest.mark.parametrize("num_classes", [0, 3])
def test_no_segment_no_moment(num_classes: int, tmp_path: Path) -> None:
    classes = ClassOrder(CLASSES.ids[:num_classes], CLASSES.names[:num_classes])
    for rows in ([], [("a", 0), ("a", 5)]):
        scores = scores_of(rows, np.zeros((len(rows), num_classes)), classes)
        assert write_moments(tmp_path / "m.csv", scores) == 0
    assert (tmp_path / "m.csv").read_text().splitlines() == [",".join(HEADER)]


@pytest.mark.parametrize(
    ("rows", "value", "told"),
    [
        ([("a", 0), ("a", -1)], 0.5, "scores of whole videos; moments are found among segments"),
        ([("a", 0), ("a", 0)], 0.5, "segment a:0 stands in row 0 and in row 1"),
        ([("a", 0), ("a", 5)], np.nan, "s: a score is NaN"),
    ],
)
def test_scores_that_have_no_moments(
    rows: list[tuple[str, int]], value: float, told: str, tmp_path: Path
) -> None:
    scores = scores_of(rows, np.full((2, 3), value))
    with pytest.raises(ScoresError, match=told):
        write_moments(tmp_path / "m.csv", scores)
    assert list(tmp_path.iterdir()) == []
