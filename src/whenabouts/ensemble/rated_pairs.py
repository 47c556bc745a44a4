"""The rated pairs of scores, gathered once, so that a trial of a fusion or an ensemble is quick.

The mAP is that of `metrics.segment_map.evaluate_scores`. While no list is full only rated pairs
need be ranked. Where K is below the number of segments a pair must reach its class's list, and what
stands in its way changes with each trial: so some segments, drawn once, are scored in each class as
well (rivals), and the list ends where K of all would. With all segments for rivals, which they are
where the pairs are few enough, that is exact; of 1,000 rivals and a list of 4.85 % the end is known
to about a seventh of its length, and is the same for all trials. A list of less than a thousandth
is judged as if it held that much. A rated pair that has no segment score is not listed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import LabelsError, ScoresError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.core.ranking import let_go, order_keys, tie_ranks_of
from whenabouts.core.scores import Scores
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble.candidates import CandidateFilter, class_keys, reaches, topic_ranks
from whenabouts.ensemble.fusion import FusionSettings, below_candidates, fused
from whenabouts.ensemble.video_scores import VideoScores, refuse_out_of_range
from whenabouts.metrics.segment_map import POSITIVE

VIDEOS_AT_ONCE = 1024
RIVAL_PAIRS = 1_000_000  # (segment, class), unless there are more than 1,000 classes; a trial
FEWEST_RIVALS = 1_000  # takes 8 bytes of each and member, or 144 of each in `context_search`


@dataclass(frozen=True)
class Rivals:
    """Segments that compete for places in the lists. tie_ranks [M]: how their equal scores are
    ordered; of_pairs [P]: the same of the rated pairs; entries: of M, how many a list holds; k: how
    many it holds of all num_segments."""

    tie_ranks: NDArray[np.uint32]
    of_pairs: NDArray[np.uint32]
    entries: int
    k: int
    num_segments: int

    @property
    def in_words(self) -> str:
        drawn = len(self.tie_ranks)
        judged = f", judged by {drawn:,} of them" if drawn < self.num_segments else ""
        return f" in lists of {self.k:,} of {self.num_segments:,} segments{judged}"

    def listed(
        self, rated: NDArray[np.float32], rivals: NDArray[np.float32], number: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which rated pairs [P], of the classes with these numbers [P], reach their list; rivals
        [G, M]: the scores of the rivals in each class."""
        keys = order_keys(rivals, self.tie_ranks)
        cuts = np.partition(keys, self.entries - 1, axis=1)[:, self.entries - 1]
        return order_keys(rated, self.of_pairs) <= cuts[number]


@dataclass(frozen=True)
class JudgedPairs:
    """What is known of P scored rated pairs; they are ordered by (class, video id, start).

    class_number: 0..G-1; first_half: is the video in the first half? num_positives: [3, G] of all
    rated pairs, scored or not: of all videos, of the first half, of the second. rivals: None where
    every segment is listed.
    """

    class_number: NDArray[np.int64]
    positive: NDArray[np.bool_]
    first_half: NDArray[np.bool_]
    num_positives: NDArray[np.int64]
    rivals: Rivals | None = None

    def __len__(self) -> int:
        return len(self.class_number)

    @property
    def in_words(self) -> str:
        """What a search is judged on."""
        of_lists = "" if self.rivals is None else self.rivals.in_words
        return f"{len(self):,} rated pairs{of_lists}"

    def mean_aps(self, scores: NDArray[np.float32]) -> tuple[float, float, float]:
        """mAP of scores over all videos, over the first half, over the second; NaN without
        positives. scores: of the rated pairs [P], then of the rivals, class by class [G M]."""
        rated = scores[: len(self)]
        ranking = self._ranking(rated)
        if self.rivals is not None:
            of_rivals = scores[len(self) :].reshape(-1, len(self.rivals.tie_ranks))
            listed = self.rivals.listed(rated, of_rivals, self.class_number)
            ranking = ranking[listed[ranking]]
        in_first = self.first_half[ranking]
        parts = (ranking, ranking[in_first], ranking[~in_first])
        whole, first, second = (self._mean_ap(*part) for part in zip(parts, self.num_positives))
        return whole, first, second

    def _ranking(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """The pairs, class by class, best first; equals stay in the order (video id, start)."""
        keys = order_keys(scores, np.arange(len(scores), dtype=np.uint32))
        keys.sort()  # no two are equal: much faster than a stable sort
        best_first = tie_ranks_of(keys)
        # Of 16 bits, a stable sort is a radix sort.
        number = self.class_number[best_first].astype(
            np.min_scalar_type(self.num_positives.shape[1])
        )
        return best_first[np.argsort(number, kind="stable")]

    def _mean_ap(self, ranking: NDArray[np.int64], num_positives: NDArray[np.int64]) -> float:
        number, positive = self.class_number[ranking], self.positive[ranking]
        num_ranked = np.bincount(number, minlength=len(num_positives))
        hits_in = np.bincount(number[positive], minlength=len(num_positives))
        before, hits_before = np.cumsum(num_ranked) - num_ranked, np.cumsum(hits_in) - hits_in
        rank = np.arange(1, len(ranking) + 1) - before[number]
        precision = (np.cumsum(positive) - hits_before[number]) / rank
        total = np.bincount(number, precision * positive, len(num_positives))
        judged = num_positives > 0
        return float((total[judged] / num_positives[judged]).mean()) if judged.any() else np.nan


@dataclass(frozen=True)
class RatedPairs:
    """P scored rated pairs, and their rivals where there are any (see `JudgedPairs.mean_aps`).

    video, segment: their scores, video NaN where there is none; topic_rank, video_rank: places of
    the class in the video and of the video in the class, from 0.
    """

    video: NDArray[np.floating]
    segment: NDArray[np.floating]
    topic_rank: NDArray[np.int64]
    video_rank: NDArray[np.int64]
    judged: JudgedPairs

    def mean_aps(self, settings: FusionSettings) -> tuple[float, float, float]:
        """mAP over all videos, over the first half, over the second; NaN without positives."""
        scores = fused(settings.exponents, self.video, self.segment)
        passed = self.candidates(settings.candidates)
        return self.judged.mean_aps(np.where(passed, scores, below_candidates(scores)))

    def candidates(self, chosen: CandidateFilter) -> NDArray[np.bool_]:
        passed = np.ones(len(self.video), np.bool_)
        if chosen.top_topics is not None:
            passed &= self.topic_rank < chosen.top_topics
        if chosen.top_videos is not None:
            passed &= self.video_rank < chosen.top_videos
        if chosen.min_video_score is not None:
            passed &= reaches(self.video, chosen.min_video_score)
        passed |= np.isnan(self.video)
        return passed


def judged_pairs(
    truth: SegmentLabels, segments: Scores, length: ListLength = OF_CHALLENGE
) -> tuple[NDArray[np.int64], NDArray[np.int64], JudgedPairs]:
    """(row, column, judged) of the rated pairs that are scored, then of their rivals, class by
    class.

    Raises ScoresError if none is, LabelsError if no rated pair is positive.
    """
    table = segments.segments
    rows = table.rows_of(truth.video, truth.start_s)
    columns = segments.classes.columns(truth.class_id)
    scored = np.flatnonzero((rows >= 0) & (columns >= 0))
    if not len(scored):
        raise ScoresError(
            "none of the rated segments is scored",
            where=segments.path,
            remedy="predict the splits that are rated",
        )
    # Classes without a scored pair stand last, so that those with rivals are the first.
    class_ids = np.unique(truth.class_id)
    is_scored = segments.classes.columns(class_ids) >= 0
    class_ids = np.concatenate([class_ids[is_scored], class_ids[~is_scored]])
    by_id = np.argsort(class_ids)
    class_number = by_id[np.searchsorted(class_ids[by_id], truth.class_id)]
    scored = scored[np.lexsort((table.tie_ranks[rows[scored]], class_number[scored]))]
    in_first, positive = first_half(truth.video), truth.score >= POSITIVE
    if not positive.any():
        raise LabelsError("no rated pair is positive", rule="a search needs positives to rank")
    halves = (np.ones(len(truth), np.bool_), in_first, ~in_first)
    rows, columns = rows[scored], columns[scored]
    ranked = segments.classes.columns(class_ids[: int(is_scored.sum())])
    drawn, rivals = _rivals(table, rows, len(ranked), length)
    judged = JudgedPairs(
        class_number=class_number[scored],
        positive=positive[scored],
        first_half=in_first[scored],
        num_positives=np.stack(
            [
                np.bincount(class_number[positive & half], minlength=len(class_ids))
                for half in halves
            ]
        ),
        rivals=rivals,
    )
    rows = np.concatenate([rows, np.tile(drawn, len(ranked))])
    return rows, np.concatenate([columns, np.repeat(ranked, len(drawn))]), judged


def _rivals(
    table: SegmentTable, rated: NDArray[np.int64], num_classes: int, length: ListLength
) -> tuple[NDArray[np.int64], Rivals | None]:
    """Of the rows of rated pairs [P]: the rows of their rivals [M]; none where a list holds all."""
    k, num_segments = length.of(len(table)), len(table)
    if k >= num_segments:
        return np.empty(0, np.int64), None
    num = min(num_segments, max(FEWEST_RIVALS, RIVAL_PAIRS // num_classes))
    # By their places in the order of ids, so that the same are drawn whatever the order of rows.
    drawn = np.random.default_rng(0).permutation(num_segments)[:num]
    rows = np.sort(np.argsort(table.tie_ranks)[drawn])
    entries = max(1, round(k * num / num_segments))
    return rows, Rivals(table.tie_ranks[rows], table.tie_ranks[rated], entries, k, num_segments)


def rated_pairs(
    truth: SegmentLabels,
    segments: Scores,
    videos: VideoScores,
    length: ListLength = OF_CHALLENGE,
) -> RatedPairs:
    """Gather the rated pairs. Raises errors as `judged_pairs`, and ScoresError if a score is not
    in [0, 1]."""
    row, column, judged = judged_pairs(truth, segments, length)
    video = segments.segments.video[row]
    video_score, topic_rank = _of_videos(videos, video, column)
    return RatedPairs(
        video=video_score,
        segment=_of_segments(segments, row, column),
        topic_rank=topic_rank,
        video_rank=_video_ranks(videos, video, column, video_score),
        judged=judged,
    )


def first_half(video_ids: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Is a video in the first half? By a hash of the id: the same on every machine.

    Another hash than the one that cuts `validate` in V1 and V2, or all of V2 were in one half.
    """
    ids, place = np.unique(video_ids, return_inverse=True)
    digests = [hashlib.blake2b(i, digest_size=1, person=b"halves of V2") for i in ids.tolist()]
    is_first = np.array([not digest.digest()[0] & 1 for digest in digests], np.bool_)
    return is_first[place]


def _of_segments(
    segments: Scores, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.floating]:
    found = np.asarray(segments.values[row, column])
    let_go(segments.values)
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        of_wrong = int(row[wrong.argmax()])
        refuse_out_of_range(segments, of_wrong, segments.values[of_wrong : of_wrong + 1])
    return found


def _of_videos(
    videos: VideoScores, video: NDArray[np.int64], column: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Video score and topic rank of the pairs (video, column)."""
    found = np.empty(len(video), videos.scores.values.dtype)
    topic_rank = np.empty(len(video), np.int64)
    by_video = np.argsort(video, kind="stable")
    different, firsts = np.unique(video[by_video], return_index=True)
    bounds = np.append(firsts, len(video))
    for first in range(0, len(different), VIDEOS_AT_ONCE):
        chunk = different[first : first + VIDEOS_AT_ONCE]
        pairs = by_video[bounds[first] : bounds[first + len(chunk)]]
        scores = videos.of(chunk)
        at = np.searchsorted(chunk, video[pairs]), column[pairs]
        found[pairs], topic_rank[pairs] = scores[at], topic_ranks(scores)[at]
    return found, topic_rank


def _video_ranks(
    videos: VideoScores,
    video: NDArray[np.int64],
    column: NDArray[np.int64],
    video_score: NDArray[np.floating],
) -> NDArray[np.int64]:
    """How many scored videos stand before the pair's video in the pair's class."""
    ranks = np.zeros(len(video), np.int64)
    own = order_keys(video_score, videos.id_ranks[video])
    by_class = np.argsort(column, kind="stable")
    bounds = np.searchsorted(column[by_class], np.arange(len(videos.column) + 1))
    for of_class, keys in class_keys(videos):
        pairs = by_class[bounds[of_class] : bounds[of_class + 1]]
        if len(pairs):
            ranks[pairs] = np.searchsorted(np.sort(keys), own[pairs])
    return ranks
