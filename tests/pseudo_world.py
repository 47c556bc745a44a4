"""Pseudo-labels of a small corpus, drawn at random, and a teacher's Scores of chosen values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels, new_labels
from whenabouts.core.scores import Scores, new_scores, open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import Split

Pair = tuple[str, int, int]


def labels_of(pairs: dict[Pair, tuple[float, float]]) -> SegmentLabels:
    """Labels of (video, start, class): (score, weight)."""
    video, start, class_id = zip(*pairs)
    score, weight = zip(*pairs.values())
    return SegmentLabels(
        np.array([v.encode() for v in video]),
        np.array(start),
        np.array(class_id),
        np.array(score, np.float32),
        np.array(weight, np.float32),
    )


def pairs_of(labels: SegmentLabels) -> dict[Pair, tuple[float, float]]:
    names = [v.decode() for v in labels.video.tolist()]
    keys = zip(names, labels.start_s.tolist(), labels.class_id.tolist())
    return dict(zip(keys, zip(labels.score.tolist(), labels.weight.tolist())))


def random_labels(corpus: Corpus, splits: Sequence[Split], seed: int = 0) -> SegmentLabels:
    """Soft labels of half of the pairs of all segments of these splits, with weights."""
    rng, table = np.random.default_rng(seed), corpus.segments(corpus.rows(splits))
    row, column = np.nonzero(rng.random((len(table), len(corpus.classes))) < 0.5)
    return SegmentLabels(
        table.video_ids[table.video[row]],
        table.starts_s[row],
        np.array(corpus.classes.ids)[column],
        rng.random(len(row)).astype(np.float32),
        rng.uniform(0.5, 2, len(row)).astype(np.float32),
    )


def write_random(
    path: Path,
    corpus: Corpus,
    splits: Sequence[Split] = ("train", "v1", "test"),
    **made_by: Any,
) -> Path:
    with new_labels(path, {"method": "teacher", **made_by}) as writer:
        writer.write(random_labels(corpus, splits))
    return path


def teacher_scores(
    path: Path, corpus: Corpus, splits: Sequence[Split], values: NDArray[np.floating] | int,
    **made_by: Any,
) -> Scores:  # fmt: skip
    """Scores of all segments of the splits; values [S, C], or the seed of random ones."""
    table = corpus.segments(corpus.rows(splits))
    if isinstance(values, int):
        rng = np.random.default_rng(values)
        values = rng.random((len(table), len(corpus.classes))).astype(np.float32)
    with new_scores(path, table, corpus.classes, str(values.dtype)) as writer:
        writer.write(0, values)
        writer.commit(made_by)
    return open_scores(path)
