"""Video-level metrics: GAP@20, Hit@1, PERR and mAP, as YouTube-8M (Abu-El-Haija et al. 2016) and
its challenges define them.

Scores are [V, C] and may be mapped: rows are read in chunks. Equal scores rank by video, then by
column. A label that is not among the evaluated classes is left out, and counted. Videos without
any evaluated label cannot be hit: Hit@1 and PERR are means over the others.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import (
    BUDGET_BYTES,
    best_keys,
    class_blocks,
    let_go,
    order_keys,
    refuse_nan,
    row_chunks,
    tie_ranks_of,
)
from whenabouts.core.segments import SegmentTable
from whenabouts.metrics.segment_map import average_precision

GAP_TOP_N = 20


@dataclass(frozen=True)
class VideoTruth:
    """The P distinct (video, class) labels: video [P] is a row, rising; column [P] its class.

    num_ignored: labels whose class is not evaluated.
    """

    video: NDArray[np.int64]
    column: NDArray[np.int64]
    num_videos: int
    num_classes: int
    num_ignored: int

    def labels_per_video(self) -> NDArray[np.int64]:
        return np.bincount(self.video, minlength=self.num_videos)

    def dense(self, first: int, stop: int) -> NDArray[np.bool_]:
        """[stop - first, C]: is the class a label of the video?"""
        a, b = np.searchsorted(self.video, (first, stop))
        positive = np.zeros((stop - first, self.num_classes), bool)
        positive[self.video[a:b] - first, self.column[a:b]] = True
        return positive


def video_truth(
    labels_values: NDArray[np.integer], labels_offsets: NDArray[np.integer], classes: ClassOrder
) -> VideoTruth:
    """From ragged labels: video v has the class ids labels_values[offsets[v] : offsets[v + 1]]."""
    num_videos = len(labels_offsets) - 1
    video = np.repeat(np.arange(num_videos), np.diff(labels_offsets))
    column = classes.columns(labels_values[labels_offsets[0] : labels_offsets[-1]])
    known = column >= 0
    pairs = np.unique(video[known] * len(classes) + column[known])
    video, column = np.divmod(pairs, max(1, len(classes)))
    return VideoTruth(video, column, num_videos, len(classes), int((~known).sum()))


@dataclass(frozen=True)
class VideoEvaluation:
    """All of the metrics; ap and num_positives are over `classes` [C], ap NaN without positives."""

    gap: float
    mean_ap: float
    hit_at_one: float
    perr: float
    ap: NDArray[np.float64]
    num_positives: NDArray[np.int64]
    num_videos: int
    num_ignored_labels: int
    classes: ClassOrder
    top_n: int

    def to_dict(self) -> dict[str, Any]:
        """The totals, ready for JSON (a mean over nothing is None)."""
        means = {name: getattr(self, name) for name in ("gap", "mean_ap", "hit_at_one", "perr")}
        return {
            **{name: None if np.isnan(mean) else mean for name, mean in means.items()},
            "top_n": self.top_n,
            "num_videos": self.num_videos,
            "num_classes": int((self.num_positives > 0).sum()),
            "num_positives": int(self.num_positives.sum()),
            "num_ignored_labels": self.num_ignored_labels,
        }


def evaluate_videos(
    labels_values: NDArray[np.integer],
    labels_offsets: NDArray[np.integer],
    classes: ClassOrder,
    values: NDArray[np.floating],
    top_n: int = GAP_TOP_N,
) -> VideoEvaluation:
    """Every metric of the scores values [V, C] against ragged labels (see `video_truth`).

    Raises ScoresError on NaN or a wrong shape.
    """
    truth = video_truth(labels_values, labels_offsets, classes)
    if values.shape != (truth.num_videos, truth.num_classes):
        raise ScoresError(
            f"the scores are {values.shape}",
            rule=f"one row a video and one column a class: {truth.num_videos, truth.num_classes}",
        )
    refuse_nan(values, classes)
    ap = class_ap(truth, values)
    return VideoEvaluation(
        gap=gap(truth, values, top_n),
        mean_ap=_mean(ap[~np.isnan(ap)]),
        hit_at_one=hit_at_one(truth, values),
        perr=perr(truth, values),
        ap=ap,
        num_positives=np.bincount(truth.column, minlength=len(classes)),
        num_videos=truth.num_videos,
        num_ignored_labels=truth.num_ignored,
        classes=classes,
        top_n=top_n,
    )


def gap(truth: VideoTruth, values: NDArray[np.floating], top_n: int = GAP_TOP_N) -> float:
    """Global average precision: the AP of the top_n predictions of every video in one list.

    The number of positives is that of all labels, also beyond top_n in a video, as in the
    challenge's own code.
    """
    pool, is_label = [np.empty(0, np.uint64)], [np.empty(0, bool)]
    for _, best, relevant in _best_of_videos(truth, values, top_n):
        pool.append(best.ravel() >> np.uint64(32))
        is_label.append(relevant.ravel())
    # The pool is in the order (video, rank in the video), which a stable sort keeps for equals.
    by_score = np.argsort(np.concatenate(pool), kind="stable")
    return average_precision(np.concatenate(is_label)[by_score], len(truth.video))


def hit_at_one(truth: VideoTruth, values: NDArray[np.floating]) -> float:
    """Share of the labelled videos whose best class is one of their labels."""
    hit = np.zeros(truth.num_videos, bool)
    for first, _, relevant in _best_of_videos(truth, values, 1):
        hit[first : first + len(relevant)] = relevant.any(axis=1)
    return _mean(hit[truth.labels_per_video() > 0])


def perr(truth: VideoTruth, values: NDArray[np.floating]) -> float:
    """Precision at equal recall rate: of a video with n labels, the share of its n best classes
    that are labels; the mean over the labelled videos."""
    num_labels = truth.labels_per_video()
    found = np.zeros(truth.num_videos)
    for first, _, relevant in _best_of_videos(truth, values, max(1, num_labels.max(initial=0))):
        wanted = np.arange(relevant.shape[1]) < num_labels[first : first + len(relevant), None]
        found[first : first + len(relevant)] = (relevant & wanted).sum(axis=1)
    labelled = num_labels > 0
    return _mean(found[labelled] / num_labels[labelled])


def class_ap(truth: VideoTruth, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """AP of each class [C] over all videos; NaN where no video has the class."""
    rows = np.arange(truth.num_videos, dtype=np.uint32)
    by_class = truth.video[np.argsort(truth.column, kind="stable")]
    num_positives = np.bincount(truth.column, minlength=truth.num_classes)
    positives_of = np.split(by_class, np.cumsum(num_positives)[:-1])
    ap = np.full(truth.num_classes, np.nan)
    for columns, block in class_blocks(values):
        for column, scores in enumerate(block, columns.start):
            positive = np.zeros(len(rows), bool)
            positive[positives_of[column]] = True
            in_order = tie_ranks_of(np.sort(order_keys(scores, rows)))
            ap[column] = average_precision(positive[in_order], int(num_positives[column]))
    return ap


def mean_ap(truth: VideoTruth, values: NDArray[np.floating]) -> float:
    """Mean of the AP over the classes that some video has."""
    ap = class_ap(truth, values)
    return _mean(ap[~np.isnan(ap)])


def video_scores_from_segments(
    segments: SegmentTable, values: NDArray[np.floating], chunk_bytes: int = BUDGET_BYTES // 8
) -> NDArray[np.floating]:
    """[V, C]: the highest score of the video's segments in each class; 0 for one without segments.

    values [S, C] are read in chunks; rows of one video need not stand together.
    """
    grouped = bool((np.diff(segments.video) >= 0).all())
    order = np.arange(len(segments)) if grouped else np.argsort(segments.video, kind="stable")
    highest = np.full((len(segments.video_ids), values.shape[1]), -np.inf, values.dtype)
    step = max(1, chunk_bytes // max(1, values.shape[1] * values.itemsize))
    for first in range(0, len(order), step):
        rows = order[first : first + step]
        chunk = values[first : first + step] if grouped else values[rows]
        video = segments.video[rows]
        starts = np.flatnonzero(np.diff(video, prepend=-1))
        of_chunk = np.maximum.reduceat(chunk, starts, axis=0)
        highest[video[starts]] = np.maximum(highest[video[starts]], of_chunk)
        let_go(values)
    highest[np.bincount(segments.video, minlength=len(highest)) == 0] = 0
    return highest


def write_video_class_csv(path: str | Path, evaluation: VideoEvaluation) -> None:
    """A row a class: Index, Name, AP (empty where undefined), Positives."""
    classes = evaluation.classes
    ap = ["" if np.isnan(a) else f"{a:.6f}" for a in evaluation.ap.tolist()]
    rows = zip(classes.ids, classes.names, ap, evaluation.num_positives.tolist())
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerow(("Index", "Name", "AP", "Positives"))
        csv.writer(out).writerows(rows)


def _best_of_videos(
    truth: VideoTruth, values: NDArray[np.floating], depth: int
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.bool_]]]:
    """Yield (first video, keys, relevant): order keys [n, depth] of each video's best classes, and
    whether they are labels. depth is cut to C."""
    columns = np.arange(truth.num_classes, dtype=np.uint32)
    for first, rows in row_chunks(values, BUDGET_BYTES // 32):
        best = best_keys(order_keys(rows, columns), depth)
        positive = truth.dense(first, first + len(rows))
        yield first, best, np.take_along_axis(positive, tie_ranks_of(best), axis=1)


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
