"""What a trial of weights needs of the members of an ensemble: gathered once, so that one is quick.

Segments: the rated pairs, and their mAP, as `rated_pairs` has it. A trial of 20 members and 120,000
pairs takes some milliseconds.

Videos: GAP@20, as `metrics.video` has it. Of a video only the CANDIDATES classes are kept that
stand highest in any of the members, and of more than MAX_VIDEOS videos a sample: 8 bytes x members
x videos x candidates, 205 MB for 20 members. A class that no member ranks so high is left out, even
if it were among the 20 best of a mean; with no more than CANDIDATES classes there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.core.ranking import LOW_HALF, best_keys, let_go, order_keys, tie_ranks_of
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.ensemble.candidates import topic_ranks
from whenabouts.ensemble.mean import Kind, entered_at, left
from whenabouts.ensemble.members import Member
from whenabouts.ensemble.rated_pairs import JudgedPairs, first_half, judged_pairs
from whenabouts.metrics.segment_map import average_precision
from whenabouts.metrics.video import GAP_TOP_N, VideoTruth, video_truth

CANDIDATES = 64
MAX_VIDEOS = 20_000
VIDEOS_AT_ONCE = 256
PAIRS_COMPARED = 40_000


class Trials(Protocol):
    """metric: its name; judged_on: what it is of, in words."""

    @property
    def metric(self) -> str: ...

    @property
    def judged_on(self) -> str: ...

    @property
    def num_members(self) -> int: ...

    def metrics(self, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        """The metric with weights [K], which sum to 1: of all videos, of the first half of them, of
        the second; NaN without positives."""

    def pair_loss(self, part: int) -> PairLoss:
        """What a convex search makes small, of all videos (0), the first half (1), the second."""


@dataclass(frozen=True)
class PairLoss:
    """How far an ensemble is from ranking positives before others: convex in weights u [K] >= 0.

        L(u) = mean_n log(1 + exp(-sum_k u_k d_kn))

    d [K, N]: for N pairs of a positive and another, what members add at the one less what they add
    at the other (RankNet: Burges et al. 2005). The u need not sum to 1: their ratios are the
    weights, their size the scale. So neither it nor its smallest value depends on how well the
    scores are calibrated, which a ranking does not either.
    """

    differences: NDArray[np.float64]

    def at(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """L and its gradient [K]."""
        num_pairs = max(1, self.differences.shape[1])
        ahead = weights @ self.differences
        small = np.exp(-np.abs(ahead))  # so that nothing overflows, and faster than logaddexp
        loss = np.log(1 + small) + np.maximum(-ahead, 0)
        slope = -np.where(ahead > 0, small, 1) / (1 + small)
        return float(loss.sum()) / num_pairs, self.differences @ slope / num_pairs


@dataclass(frozen=True)
class Gathered:
    """values [K, P]: what each of K members adds at P pairs (see `mean.entered`), or at more."""

    kind: Kind
    values: NDArray[np.float64]

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """The scores [P] of the ensemble with these weights [K]."""
        return left(self.kind, weights @ self.values).astype(np.float32)

    def pair_loss(
        self, group: NDArray[np.int64], positive: NDArray[np.bool_], taken: NDArray[np.bool_]
    ) -> PairLoss:
        """Of PAIRS_COMPARED pairs drawn within the groups [P], of each as many, where it has both
        kinds; and each at the same scale: that of the equally weighted ensemble."""
        found = [np.empty((len(self.values), 0))]
        groups = _both_kinds(group, positive, taken)
        rng, num = np.random.default_rng(0), max(1, PAIRS_COMPARED // max(1, len(groups)))
        for positives, others in groups:
            first, second = rng.choice(positives, num), rng.choice(others, num)
            apart = self.values[:, first] - self.values[:, second]
            scale = np.sqrt(np.square(apart.mean(axis=0)).mean())
            found.append(apart / max(scale, np.finfo(np.float32).tiny))
        return PairLoss(np.concatenate(found, axis=1))


def _both_kinds(
    group: NDArray[np.int64], positive: NDArray[np.bool_], taken: NDArray[np.bool_]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(positives, others) among what is taken, of each group that has both."""
    places = np.flatnonzero(taken)
    places = places[np.argsort(group[places], kind="stable")]
    starts = np.flatnonzero(np.diff(group[places], prepend=-1))
    parts = [(p[positive[p]], p[~positive[p]]) for p in np.split(places, starts[1:])]
    return [(positives, others) for positives, others in parts if len(positives) and len(others)]


@dataclass(frozen=True)
class SegmentTrials:
    """gathered: at the rated pairs, then at their rivals (see `JudgedPairs.mean_aps`)."""

    gathered: Gathered
    pairs: JudgedPairs
    metric: str = "mAP"

    @property
    def judged_on(self) -> str:
        return self.pairs.in_words

    @property
    def num_members(self) -> int:
        return len(self.gathered.values)

    def metrics(self, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        return self.pairs.mean_aps(self.gathered.scores(weights))

    def pair_loss(self, part: int) -> PairLoss:
        """Pairs of one class, as mAP compares them."""
        half, number = self.pairs.first_half, self.pairs.class_number
        taken = (np.ones_like(half), half, ~half)[part]
        return self.gathered.pair_loss(number, self.pairs.positive, taken)


@dataclass(frozen=True)
class VideoTrials:
    """The P pairs are V videos x W candidates, in the order of their columns.

    positive: [V, W]; first_half: [V]; num_labels: [V], also of what is no candidate; num_scored:
    videos there were, of which V are a sample.
    """

    gathered: Gathered
    positive: NDArray[np.bool_]
    first_half: NDArray[np.bool_]
    num_labels: NDArray[np.int64]
    num_scored: int
    metric: str = f"GAP@{GAP_TOP_N}"

    @property
    def judged_on(self) -> str:
        num_videos = len(self.positive)
        of_all = f" of {self.num_scored:,}" if num_videos < self.num_scored else ""
        return f"{num_videos:,}{of_all} videos"

    @property
    def num_members(self) -> int:
        return len(self.gathered.values)

    def metrics(self, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        video, relevant = self._pool(self.gathered.scores(weights).reshape(self.positive.shape))
        in_first, of_first = self.first_half[video], self.num_labels[self.first_half].sum()
        num_labels = int(self.num_labels.sum())
        return (
            average_precision(relevant, num_labels),
            average_precision(relevant[in_first], int(of_first)),
            average_precision(relevant[~in_first], num_labels - int(of_first)),
        )

    def pair_loss(self, part: int) -> PairLoss:
        """Pairs of any videos and classes, as GAP pools them."""
        half = self.first_half
        taken = np.repeat((np.ones_like(half), half, ~half)[part], self.positive.shape[1])
        all_in_one = np.zeros(self.positive.size, np.int64)
        return self.gathered.pair_loss(all_in_one, self.positive.ravel(), taken)

    def _pool(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(video, is it a label?) of the best candidates of all videos, best first; equals in the
        order of the videos, then by rank in the video."""
        columns = np.arange(scores.shape[1], dtype=np.uint32)
        best = best_keys(order_keys(scores, columns), GAP_TOP_N)
        relevant = np.take_along_axis(self.positive, tie_ranks_of(best), axis=1)
        pool = (best.ravel() & ~LOW_HALF) | np.arange(best.size, dtype=np.uint64)
        pool.sort()
        in_order = tie_ranks_of(pool)
        return in_order // max(1, best.shape[1]), relevant.ravel()[in_order]


def segment_trials(
    truth: SegmentLabels,
    members: Sequence[Member],
    kind: Kind,
    length: ListLength = OF_CHALLENGE,
) -> SegmentTrials:
    """length: of the lists, where it is below the number of segments (see `rated_pairs`).

    Raises ScoresError if no rated segment is scored or a score is no number or probability,
    LabelsError if no rated pair is positive.
    """
    row, column, pairs = judged_pairs(truth, members[0].scores, length)
    return SegmentTrials(_gathered(kind, members, row, column), pairs)


def video_trials(
    video_ids: NDArray[np.bytes_],
    labels_values: NDArray[np.integer],
    labels_offsets: NDArray[np.integer],
    members: Sequence[Member],
    kind: Kind,
    max_videos: int = MAX_VIDEOS,
    candidates: int = CANDIDATES,
) -> VideoTrials:
    """Trials on scored videos and their labels (ragged, see `metrics.video.video_truth`).

    Raises LabelsError if none of the labels is of a scored class.
    """
    first = members[0].scores
    truth = video_truth(labels_values, labels_offsets, first.classes)
    sample = np.arange(len(video_ids))
    if len(sample) > max_videos:
        sample = np.sort(np.random.default_rng(0).permutation(sample)[:max_videos])
    num_labels = truth.labels_per_video()[sample]
    if not num_labels.any():
        raise LabelsError("no label is of a scored class", rule="a search needs positives to rank")
    row = first.segments.rows_of(video_ids[sample], np.full(len(sample), WHOLE_VIDEO))
    column = candidate_columns(members, row, candidates)
    pairs = np.repeat(row, column.shape[1]), column.ravel()
    return VideoTrials(
        gathered=_gathered(kind, members, *pairs),
        positive=_are_labels(truth, sample, column),
        first_half=first_half(video_ids[sample]),
        num_labels=num_labels,
        num_scored=len(video_ids),
    )


def candidate_columns(
    members: Sequence[Member], row: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    """[V, min(width, C)], rising: the classes of each video that stand highest in any member."""
    num_columns = len(members[0].scores.classes)
    columns, width = np.arange(num_columns), min(width, num_columns)
    chosen = np.empty((len(row), width), np.int64)
    for first in range(0, len(row), VIDEOS_AT_ONCE):
        videos = slice(first, first + VIDEOS_AT_ONCE)
        place = np.minimum.reduce([topic_ranks(member.rows(row[videos])) for member in members])
        in_order = np.argsort(place * num_columns + columns, axis=1)
        chosen[videos] = np.sort(in_order[:, :width], axis=1)
        for member in members:
            let_go(member.scores.values)
    return chosen


def _gathered(
    kind: Kind, members: Sequence[Member], row: NDArray[np.int64], column: NDArray[np.int64]
) -> Gathered:
    return Gathered(kind, np.stack([entered_at(kind, m, row, column) for m in members]))


def _are_labels(
    truth: VideoTruth, videos: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Is class column[v, w] a label of videos[v]?"""
    labels = truth.video * truth.num_classes + truth.column
    are_labels: NDArray[np.bool_] = np.isin(videos[:, None] * truth.num_classes + column, labels)
    return are_labels
