"""Small members of an ensemble, and their means by definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np

from fusion_world import IDS, Pair, scores_by_name, write_scores
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble.mean import EnsembleSettings, average
from whenabouts.ensemble.members import match_members

CLASSES = (7, 3, 11, 0)


def random_table(rng: np.random.Generator, num: int = 30) -> SegmentTable:
    """Segments of 8 videos, in no order."""
    video, start = np.divmod(rng.choice(len(IDS) * 8, num, replace=False), 8)
    return SegmentTable(np.array(IDS, np.bytes_), video, start * 5)


def random_scores(
    folder: Path, seed: int, count: int = 3, dtype: type = np.float32, levels: int = 1000
) -> list[Scores]:
    """Members a, b, c, ... of 30 segments and 4 classes, all in one order. Scores are k / levels
    with 0 < k < levels: few levels are many ties."""
    rng = np.random.default_rng(seed)
    table = random_table(rng)
    return [
        write_scores(
            folder / name,
            table,
            CLASSES,
            (rng.integers(1, levels, (len(table), len(CLASSES))) / levels).astype(dtype),
            trained_on=["train"],
        )
        for name in "abcdefgh"[:count]
    ]


def shuffled(scores: Scores, path: Path, rng: np.random.Generator) -> Scores:
    """The same scores with videos, rows and columns in another order, written to `path`."""
    table, rows = scores.segments, rng.permutation(len(scores.segments))
    videos, columns = rng.permutation(len(table.video_ids)), rng.permutation(len(scores.classes))
    if len(columns) > 1 and (columns == np.arange(len(columns))).all():
        columns = columns[::-1]
    segments = SegmentTable(
        table.video_ids[videos], np.argsort(videos)[table.video[rows]], table.starts_s[rows]
    )
    classes = np.array(scores.classes.ids)[columns].tolist()
    values = np.asarray(scores.values)[rows][:, columns]
    return write_scores(path, segments, classes, values)


def with_values(scores: Scores, values: np.ndarray) -> Scores:
    return replace(scores, values=values)


def averaged(
    members: Sequence[Scores], out: Path, kind: str = "mean", weights: Sequence[float] = (),
    dtype: str = "float32", **more: object,
) -> Scores:  # fmt: skip
    settings = EnsembleSettings(kind, tuple(weights), dtype)
    average(match_members(members), out, settings, **more)
    return open_scores(out)


def mean_by_definition(
    kind: str, members: Sequence[Scores], weights: Sequence[float]
) -> dict[Pair, float]:
    """Pair by pair, by name."""
    worth = ranks_by_definition if kind == "rank" else scores_by_name
    named = [worth(scores) for scores in members]
    total = sum(weights)

    def of(pair: Pair) -> float:
        terms = [(w / total, each[pair]) for w, each in zip(weights, named)]
        if kind != "geometric":
            return sum(w * p for w, p in terms)
        return 1 / (1 + exp(-sum(w * log(p / (1 - p)) for w, p in terms)))

    return {pair: of(pair) for pair in scores_by_name(members[0])}


def ranks_by_definition(scores: Scores) -> dict[Pair, float]:
    """1 - place / S, the best first; equals by (video, start)."""
    named, ranks = scores_by_name(scores), {}
    for class_id in scores.classes.ids:
        pairs = [pair for pair in named if pair[2] == class_id]
        pairs.sort(key=lambda pair: (-named[pair], pair[0], pair[1]))
        ranks |= {pair: 1 - place / len(pairs) for place, pair in enumerate(pairs)}
    return ranks
