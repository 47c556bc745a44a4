"""The rated pairs beside their scores: what curves and timelines are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.ranking import order_keys
from whenabouts.core.scores import Scores
from whenabouts.metrics.segment_map import NOT_LISTED, POSITIVE


@dataclass(frozen=True)
class RatedPairs:
    """Parallel arrays over R rated pairs whose video and class the scores know.

    video: row in the scores' `video_ids`; row: of the segment, -1 where it was not scored (it
    starts past the video's end); score: NaN there; key: the pair's place in its class, the
    smaller the better (see `core.ranking`), NOT_LISTED where it was not scored.
    """

    video: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    start_s: NDArray[np.int64]
    positive: NDArray[np.bool_]
    score: NDArray[np.float64]
    key: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, keep: NDArray[np.bool_]) -> RatedPairs:
        return RatedPairs(*(array[keep] for array in vars(self).values()))


def rated_pairs(truth: SegmentLabels, scores: Scores) -> RatedPairs:
    """Find each rated pair's score. A pair of a class or a video without scores is left out."""
    segments = scores.segments
    column = scores.classes.columns(truth.class_id)
    video = segments.videos_of(truth.video)
    row = segments.rows_of(truth.video, truth.start_s)
    scored = (row >= 0) & (column >= 0)
    found = np.asarray(scores.values[row[scored], column[scored]])
    score = np.full(len(truth), np.nan)
    key = np.full(len(truth), NOT_LISTED)
    score[scored] = found
    key[scored] = order_keys(found, segments.tie_ranks[row[scored]])
    pairs = RatedPairs(video, row, column, truth.start_s, truth.score >= POSITIVE, score, key)
    return pairs.take((video >= 0) & (column >= 0))


def grouped_ap(group: NDArray[np.int64], pairs: RatedPairs, num_groups: int) -> NDArray[np.float64]:
    """The average precision of each group of rated pairs [num_groups]; NaN without positives.

    A pair that was not scored adds nothing, yet a positive counts among the positives.
    """
    order = np.lexsort((pairs.key, group))
    group, positive, row = group[order], pairs.positive[order], pairs.row[order]
    size = np.bincount(group, minlength=num_groups)
    before = (np.cumsum(size) - size)[group]
    hits = np.concatenate([[0], np.cumsum(positive)])
    precision = (hits[1:] - hits[before]) / (np.arange(len(group)) - before + 1)
    gained = np.bincount(group, precision * (positive & (row >= 0)), num_groups)
    total = np.bincount(group, positive, num_groups)
    return ratio(gained, total)


def ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """part / whole, NaN where whole is 0."""
    quotient = np.full(len(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient
