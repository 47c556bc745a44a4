"""A few videos of a video classifier: best-scored topics, right or wrong, and what it missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.ranking import order_keys, tie_ranks_of
from whenabouts.metrics.video import VideoTruth
from whenabouts.report.inputs import LabelledVideos
from whenabouts.report.rated import ratio
from whenabouts.report.timelines import Choice, best_to_worst

MOST_RANKED = 10_000  # videos that examples are chosen among
ROWS_AT_ONCE = 512
MOST_MISSED = 5


@dataclass(frozen=True)
class ScoredTopic:
    """rank: 1 is the best-scored class of the video."""

    topic: str
    rank: int
    score: float
    is_label: bool


@dataclass(frozen=True)
class Example:
    """A video: `best` are its best-scored topics; `missed` its other labels, best first, of which
    num_missed_hidden more are not listed."""

    video_id: str
    choice: Choice
    num_labels: int
    best: tuple[ScoredTopic, ...]
    missed: tuple[ScoredTopic, ...]
    num_missed_hidden: int


def choose_examples(videos: LabelledVideos, num: int) -> list[Choice]:
    """The rule: of the videos with many labels those with the best AP, those around the middle and
    those with the worst. Where there are more than 10,000, so many at even distances are ordered.
    """
    labelled = np.flatnonzero(videos.truth.labels_per_video())
    at = np.linspace(0, len(labelled) - 1, min(MOST_RANKED, len(labelled))).round()
    rows = labelled[at.astype(np.int64)]
    ap = np.full(videos.truth.num_videos, np.nan)
    ap[rows] = video_ap(videos.truth, videos.values, rows)
    ranked = rows[np.lexsort((videos.ids[rows], -ap[rows]))]
    return best_to_worst(ranked, ap, videos.truth.labels_per_video(), num)


def video_ap(
    truth: VideoTruth, values: NDArray[np.floating], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AP of the videos `rows` [n] of values [V, C]: the classes of a video by falling score, the
    share of labels among those down to each label, averaged; NaN without labels."""
    ap = [
        _ap_of_rows(*ranked_classes(truth, values, rows[first : first + ROWS_AT_ONCE]))
        for first in range(0, len(rows), ROWS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0), *ap])


def ranked_classes(
    truth: VideoTruth, values: NDArray[np.floating], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(columns [n, C], best first, and whether each is a label) of the videos `rows` [n]."""
    columns = np.arange(truth.num_classes, dtype=np.uint32)
    order = tie_ranks_of(np.sort(order_keys(np.asarray(values[rows]), columns), axis=1))
    positive = np.concatenate([truth.dense(row, row + 1) for row in rows.tolist()])
    return order, np.take_along_axis(positive, order, axis=1)


def _ap_of_rows(order: NDArray[np.int64], is_label: NDArray[np.bool_]) -> NDArray[np.float64]:
    precision = np.cumsum(is_label, axis=1) / np.arange(1, order.shape[1] + 1)
    return ratio((precision * is_label).sum(axis=1), is_label.sum(axis=1))


def build_example(videos: LabelledVideos, choice: Choice, num_topics: int) -> Example:
    """The `num_topics` best-scored topics of a video, and those of its labels that follow."""
    row = np.array([choice.video])
    (order,), (is_label,) = ranked_classes(videos.truth, videos.values, row)
    missed = num_topics + np.flatnonzero(is_label[num_topics:])
    listed = [*range(min(num_topics, len(order))), *missed[:MOST_MISSED].tolist()]
    topics = tuple(
        ScoredTopic(
            topic=videos.evaluation.classes.topic(int(order[place])),
            rank=place + 1,
            score=float(videos.values[choice.video, order[place]]),
            is_label=bool(is_label[place]),
        )
        for place in listed
    )
    return Example(
        video_id=videos.ids[choice.video].decode("utf-8", "replace"),
        choice=choice,
        num_labels=int(is_label.sum()),
        best=topics[:num_topics],
        missed=topics[num_topics:],
        num_missed_hidden=max(len(missed) - MOST_MISSED, 0),
    )
