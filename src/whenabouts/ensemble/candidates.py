"""Candidates: the (video, class) pairs that may stand high in a ranking, by video scores alone.

Three filters, of which a candidate passes all that are set:

    top_topics        the class is among the n best topics of the video (3rd place of 2019: n = 20)
    top_videos        the video is among the n best of the class
    min_video_score   the video score is at least t

Only what is ranked takes a place: the topics are the classes of the segment scores, the videos are
those with segments there. So a filter means the same whatever else the video classifier scored.
Equal scores are ordered by column among topics, by video id among videos. t is rounded to the type
of the scores, as they were. What has no video score is always a candidate, and takes no place.

A filter does not drop a pair; it puts it below all candidates (see `fusion.below_candidates`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import SettingsError
from whenabouts.core.ranking import class_blocks, cut_key, order_keys, tie_ranks_of
from whenabouts.ensemble.video_scores import VideoScores


@dataclass(frozen=True)
class CandidateFilter:
    """None: this filter is not used."""

    top_topics: int | None = None
    top_videos: int | None = None
    min_video_score: float | None = None

    def __post_init__(self) -> None:
        for name in ("top_topics", "top_videos"):
            n = getattr(self, name)
            if n is not None and n < 1:
                raise SettingsError(f"{name} is {n}", rule="at least one must stay a candidate")
        if self.min_video_score is not None and not 0 <= self.min_video_score <= 1:
            raise SettingsError(
                f"min_video_score is {self.min_video_score}", rule="scores are in [0, 1]"
            )


@dataclass(frozen=True)
class Candidates:
    """A filter made ready for the given video scores: memory is a key a class."""

    chosen: CandidateFilter
    videos: VideoScores

    def of(self, videos: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of scores [n, C], the video scores of the given videos, are those of candidates."""
        passed = np.ones(scores.shape, np.bool_)
        if self.chosen.top_topics is not None:
            passed &= topic_ranks(scores) < self.chosen.top_topics
        if self.chosen.top_videos is not None:
            passed &= order_keys(scores, self.videos.id_ranks[videos][:, None]) <= self._cuts
        if self.chosen.min_video_score is not None:
            passed &= reaches(scores, self.chosen.min_video_score)
        passed |= np.isnan(scores)
        return passed

    @cached_property
    def _cuts(self) -> NDArray[np.uint64]:
        """The key of the last candidate video of each class [C]."""
        assert self.chosen.top_videos is not None
        cuts = np.full(len(self.videos.column), np.iinfo(np.uint64).max)
        if self.chosen.top_videos < len(self.videos.scored):
            for column, keys in class_keys(self.videos):
                cuts[column] = cut_key(keys, self.chosen.top_videos)
        return cuts


def topic_ranks(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Place of each class in its video [n, C], the best 0; NaN is last."""
    ranked = scores.copy()
    ranked[np.isnan(ranked)] = -np.inf
    columns = np.arange(scores.shape[1])
    best_first = tie_ranks_of(np.sort(order_keys(ranked, columns.astype(np.uint32)), axis=1))
    ranks = np.empty(scores.shape, np.int64)
    np.put_along_axis(ranks, best_first, columns[None], axis=1)
    return ranks


def class_keys(videos: VideoScores) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (class, order keys of the scored videos: score falling, then id rising) for each class
    that has scores, in the order of the video scores."""
    rows, id_ranks = videos.row[videos.scored], videos.id_ranks[videos.scored]
    class_of = {stored: c for c, stored in enumerate(videos.column.tolist()) if stored >= 0}
    for columns, block in class_blocks(videos.scores.values):
        for stored, scores in enumerate(block, columns.start):
            if stored in class_of:
                yield class_of[stored], order_keys(scores[rows], id_ranks)


def reaches(scores: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """scores >= threshold, the threshold rounded as the scores were."""
    return scores >= scores.dtype.type(threshold)
