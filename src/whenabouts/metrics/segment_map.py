"""mAP@K of segment rankings: the metric of the 3rd YouTube-8M challenge (2019), K = 100,000.

For each class a list of at most K segments, best first. Entries that are not rated for the class
are dropped, after the list was cut at K. Over what is left,

    AP(c) = sum over ranks k of P(k) rel(k) / N_c

with P(k) the share of positives among the first k and N_c *all* positives rated for the class,
listed or not. mAP is the mean over the classes with rated positives; a class without a list has
AP 0. A rated pair is positive from a score of 0.5 up.

Scores and submission files take the same road here: each gives every rated pair its place in its
class's list, and `Placed.evaluation` does the rest, of all pairs or of some.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError, SubmissionError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import K
from whenabouts.core.ranking import (
    BUDGET_BYTES,
    class_blocks,
    cut_key,
    order_keys,
    refuse_misfit,
)
from whenabouts.core.segments import SegmentTable
from whenabouts.core.submission_rows import submission_rows
from whenabouts.core.submission_tokens import find_tokens

POSITIVE = 0.5
NOT_LISTED = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class SegmentEvaluation:
    """mAP@k and what it is made of; all arrays are over `classes` [C].

    ap: NaN where a class has no rated positive; num_positives: N_c; num_rated: rated pairs;
    num_listed: rated pairs that reached the class's list; num_found: the positives among them.
    """

    mean_ap: float
    ap: NDArray[np.float64]
    num_positives: NDArray[np.int64]
    num_rated: NDArray[np.int64]
    num_listed: NDArray[np.int64]
    num_found: NDArray[np.int64]
    classes: ClassOrder
    k: int

    def to_dict(self) -> dict[str, Any]:
        """The totals, ready for JSON (a mean over no class is None)."""
        return {
            "mean_ap": None if np.isnan(self.mean_ap) else self.mean_ap,
            "k": self.k,
            "num_classes": int((self.num_positives > 0).sum()),
            "num_positives": int(self.num_positives.sum()),
            "num_rated": int(self.num_rated.sum()),
            "num_listed": int(self.num_listed.sum()),
            "num_found": int(self.num_found.sum()),
        }


@dataclass(frozen=True)
class Placed:
    """Rated pairs [P], each with its place: a number that orders it in its class, or NOT_LISTED.

    classes: those that have a list, then those that only the truth has.
    """

    truth: SegmentLabels
    classes: ClassOrder
    places: NDArray[np.uint64]
    k: int

    def take(self, keep: NDArray[np.bool_]) -> Placed:
        """Of some of the pairs, in the same lists."""
        return replace(self, truth=self.truth.take(keep), places=self.places[keep])

    def evaluation(self) -> SegmentEvaluation:
        classes, columns = self.classes, self.classes.columns(self.truth.class_id)
        positive, listed = self.truth.score >= POSITIVE, self.places != NOT_LISTED
        num_positives, num_rated, num_listed, num_found = (
            np.bincount(columns[which], minlength=len(classes)).astype(np.int64)
            for which in (positive, np.ones(len(columns), bool), listed, listed & positive)
        )
        order = np.lexsort((self.places, columns))
        ranked = np.split(positive[order[listed[order]]], np.cumsum(num_listed)[:-1])
        ap = np.array([average_precision(r, n) for r, n in zip(ranked, num_positives.tolist())])
        has_positives = num_positives > 0
        mean_ap = float(ap[has_positives].mean()) if has_positives.any() else float("nan")
        return SegmentEvaluation(
            mean_ap, ap, num_positives, num_rated, num_listed, num_found, classes, self.k
        )


def average_precision(relevant: NDArray[np.bool_], num_positives: int) -> float:
    """AP of a ranking; relevant [n]: is the item at each rank, best first, a positive one?

    num_positives: all that could have been found, also those not ranked. NaN where that is 0.
    """
    hits = np.flatnonzero(relevant)
    assert len(hits) <= num_positives, "more positives were ranked than there are"
    if not num_positives:
        return float("nan")
    return float(np.sum(np.arange(1, len(hits) + 1) / (hits + 1)) / num_positives)


def evaluate_scores(
    truth: SegmentLabels,
    segments: SegmentTable,
    classes: ClassOrder,
    values: NDArray[np.floating],
    k: int = K,
    budget_bytes: int = BUDGET_BYTES,
) -> SegmentEvaluation:
    """mAP@k of the ranking that the scores values [S, C] make of all S segments in each class.

    Rated pairs whose segment or class the scores lack count as not listed. Classes that only the
    truth has stand last in the result. Raises ScoresError on NaN, a wrong shape or repeated
    segments.
    """
    return place_in_scores(truth, segments, classes, values, k, budget_bytes).evaluation()


def place_in_scores(
    truth: SegmentLabels,
    segments: SegmentTable,
    classes: ClassOrder,
    values: NDArray[np.floating],
    k: int = K,
    budget_bytes: int = BUDGET_BYTES,
) -> Placed:
    """What `evaluate_scores` evaluates, with one reading of the scores."""
    assert k >= 1
    refuse_misfit(segments, classes, values)
    everything = _with_classes_of(truth, classes)
    rows = segments.rows_of(truth.video, truth.start_s)
    columns = everything.columns(truth.class_id)
    scored = np.flatnonzero((rows >= 0) & (columns < len(classes)))
    places = np.full(len(truth), NOT_LISTED)
    of_scored = rows[scored], columns[scored], segments.tie_ranks
    if len(segments) <= k:
        places[scored] = _places_in_all(values, *of_scored)
    else:
        places[scored] = _places_in_best(values, *of_scored, k, budget_bytes)
    return Placed(truth, everything, places, k)


def evaluate_pairs(
    truth: SegmentLabels, scores: NDArray[np.floating], classes: ClassOrder
) -> SegmentEvaluation:
    """mAP of the rated pairs alone, scores [P]: what `evaluate_scores` gives while no list is full.

    For watching a training, where only the rated pairs are computed. Raises ScoresError on NaN.
    """
    if np.isnan(scores).any():
        at = int(np.isnan(scores).argmax())
        segment = f"{truth.video[at].decode(errors='replace')}:{truth.start_s[at]}"
        raise ScoresError(f"the score of segment {segment} for class {truth.class_id[at]} is NaN")
    ties = np.empty(len(truth), np.uint32)
    ties[np.lexsort((truth.start_s, truth.video))] = np.arange(len(truth))
    places = order_keys(scores, ties)
    return Placed(truth, _with_classes_of(truth, classes), places, K).evaluation()


def _places_in_all(
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    tie_ranks: NDArray[np.uint32],
) -> NDArray[np.uint64]:
    """Order keys of the pairs (rows, columns) where every segment is in the list: no ranking."""
    return order_keys(np.asarray(values[rows, columns]), tie_ranks[rows])


def _places_in_best(
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    tie_ranks: NDArray[np.uint32],
    k: int,
    budget_bytes: int,
) -> NDArray[np.uint64]:
    """Order keys of the pairs (rows, columns); NOT_LISTED for those below the k best of S > k."""
    places = np.full(len(rows), NOT_LISTED)
    pairs_of = _groups(columns, values.shape[1])
    for block_columns, block in class_blocks(values, budget_bytes):
        for column, scores in enumerate(block, block_columns.start):
            pairs = pairs_of[column]
            if len(pairs):
                keys = order_keys(scores, tie_ranks)
                of_pairs = keys[rows[pairs]]
                places[pairs] = np.where(of_pairs <= cut_key(keys, k), of_pairs, NOT_LISTED)
    return places


def evaluate_submission(
    truth: SegmentLabels, path: str | Path, k: int = K, classes: ClassOrder | None = None
) -> SegmentEvaluation:
    """mAP@k of a submission file, read row by row; of each list the first k tokens count.

    classes: those the file may have (default: any), which stand first in the result, in their
    order; the file's own, in its order, if not given. Raises SubmissionError where the file breaks
    the format, lists a segment twice or has a class it may not have.
    """
    return place_in_submission(truth, path, k, classes).evaluation()


def place_in_submission(
    truth: SegmentLabels, path: str | Path, k: int = K, classes: ClassOrder | None = None
) -> Placed:
    """What `evaluate_submission` evaluates, with one reading of the file."""
    assert k >= 1
    pairs_of = dict(zip(*_pairs_by_class(truth)))
    places = np.full(len(truth), NOT_LISTED)
    in_file = []
    for row in submission_rows(path):
        if classes is not None and row.class_id not in classes.ids:
            raise SubmissionError(
                f"class {row.class_id} is not evaluated", where=f"{path}, line {row.line}"
            )
        in_file.append(row.class_id)
        pairs = pairs_of.get(row.class_id, np.empty(0, np.int64))
        for place, pair in find_tokens(row.tokens, _tokens_of(truth, pairs)):
            if place < k:
                places[pair] = place
    listed = ClassOrder.of(in_file) if classes is None else classes
    return Placed(truth, _with_classes_of(truth, listed), places, k)


def _pairs_by_class(truth: SegmentLabels) -> tuple[list[int], list[NDArray[np.int64]]]:
    class_ids, columns = np.unique(truth.class_id, return_inverse=True)
    return class_ids.tolist(), _groups(columns, len(class_ids))


def _tokens_of(truth: SegmentLabels, pairs: NDArray[np.int64]) -> dict[bytes, int]:
    """Submission token of each of the pairs -> its row in the truth."""
    videos, starts = truth.video[pairs].tolist(), truth.start_s[pairs].tolist()
    return {b"%b:%d" % (v, s): pair for v, s, pair in zip(videos, starts, pairs.tolist())}


def _with_classes_of(truth: SegmentLabels, classes: ClassOrder) -> ClassOrder:
    """`classes`, then those that only the truth has, by id."""
    more = sorted(set(np.unique(truth.class_id).tolist()) - set(classes.ids))
    return ClassOrder((*classes.ids, *more), (*classes.names, *("" for _ in more)))


def _groups(columns: NDArray[np.int64], num_columns: int) -> list[NDArray[np.int64]]:
    """For each column, the places in `columns` at which it stands."""
    order = np.argsort(columns, kind="stable")
    return np.split(order, np.searchsorted(columns[order], np.arange(1, num_columns)))


def write_class_csv(path: str | Path, evaluation: SegmentEvaluation) -> None:
    """A row a class: Index, Name, AP (empty where undefined), Positives, Rated, Listed."""
    columns = (evaluation.num_positives, evaluation.num_rated, evaluation.num_listed)
    counts = zip(*(c.tolist() for c in columns))
    ap = ["" if np.isnan(a) else f"{a:.6f}" for a in evaluation.ap.tolist()]
    heads = zip(evaluation.classes.ids, evaluation.classes.names, ap)
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerow(("Index", "Name", "AP", "Positives", "Rated", "Listed"))
        csv.writer(out).writerows((*h, *c) for h, c in zip(heads, counts))
