"""Precision-recall curves of a few classes, over the rated pairs as the metric counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.ranking import cut_key, order_keys
from whenabouts.core.scores import Scores
from whenabouts.metrics.segment_map import NOT_LISTED, POSITIVE
from whenabouts.report.rated import rated_pairs


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall [P] at each listed positive of a class, best score first.

    The area under the steps is the class's AP@K. `role` says why the class was chosen.
    """

    topic: str
    role: str
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    num_rated: int
    num_positives: int

    @property
    def ap(self) -> float:
        return float(self.precision.sum()) / self.num_positives


def precision_recall(
    truth: SegmentLabels, scores: Scores, class_id: int, k: int, role: str = ""
) -> PrecisionRecall:
    """The curve of a class of `scores.classes`, its list of all segments cut after K entries.

    Recall is the share of all rated positives, listed or not.
    """
    truth = truth.take(truth.class_id == class_id)
    column = int(scores.classes.columns(np.array([class_id]))[0])
    pairs = rated_pairs(truth, scores)
    pairs = pairs.take(pairs.key <= _last_key(scores, column, k))
    positive = pairs.positive[np.argsort(pairs.key)]
    hits = np.flatnonzero(positive)
    num_positives = int((truth.score >= POSITIVE).sum())
    return PrecisionRecall(
        topic=scores.classes.topic(column),
        role=role,
        recall=np.arange(1, len(hits) + 1) / max(num_positives, 1),
        precision=np.arange(1, len(hits) + 1) / (hits + 1),
        num_rated=len(truth),
        num_positives=num_positives,
    )


def _last_key(scores: Scores, column: int, k: int) -> np.uint64:
    """The key of the last entry of the class's list."""
    if len(scores.segments) <= k:
        return np.uint64(NOT_LISTED - np.uint64(1))
    values = np.ascontiguousarray(scores.values[:, column])
    return cut_key(order_keys(values, scores.segments.tie_ranks), k)
