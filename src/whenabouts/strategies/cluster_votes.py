"""What clusters say of segments: rated frames vote, frames that nobody rated take what they voted.

Every frame of a rated segment of V1 is a vote in its cluster: for the segment's class where it is
positive, against it where it is not. Two readings of the votes:

Published (YouTube-8M 2019, 11th place): the votes for give each cluster a list of classes by
falling count. A frame takes the first class of its cluster's list that is also a label of its
video; where none is, it takes none.

Soft: of each class that is a label of its video, a frame takes

    (for + s p) / (for + against + s)        p: the share of votes for, of all votes on the class

where there are enough votes on the class in its cluster; s is how many votes p counts as.

A segment takes the class that more than half of its frames take, so that no two can tie, with the
share of these frames as weight; where a frame's answer is soft, the mean over them as score. In a
last segment that is not whole, the frames that are there count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import SettingsError
from whenabouts.feed.labels import flat_places
from whenabouts.train.settings import refuse_below


@dataclass(frozen=True)
class Voting:
    """How votes become labels."""

    min_votes: int = 3
    """Votes of frames that a class needs in a cluster to count there."""
    by_rate: bool = False
    """Lists are ordered by the share of the class's votes, so that frequent classes do not lead
    every list."""
    soft: bool = False
    """Labels between 0 and 1, from votes for and against, for every label of the video that has
    enough votes on it; not one class a segment as published."""
    smoothing: float = 5.0
    """With --soft: how many votes the class's own share of positives counts as."""
    min_share: float = 0.5
    """More than this share of a segment's frames must agree."""
    within_labels: bool = True
    """A class that is no label of the video is never taken; else the clusters alone decide."""

    def __post_init__(self) -> None:
        refuse_below("min_votes", self.min_votes, 1)
        refuse_below("smoothing", self.smoothing, 0)
        if not 0.5 <= self.min_share < 1:
            raise SettingsError(
                f"the value is {self.min_share}",
                where="min_share",
                rule="it must be at least 0.5, below 1, so that one class at most has it",
            )


@dataclass(frozen=True)
class Votes:
    """The votes of each (cluster, column) that has any [E], by cluster, then column."""

    num_clusters: int
    num_classes: int
    cluster: NDArray[np.int64]
    column: NDArray[np.int64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    def of_clusters(self, votes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum over the classes in each cluster [K]."""
        return _sums(self.cluster, votes, self.num_clusters)

    def of_classes(self, votes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum over the clusters for each class [C]."""
        return _sums(self.column, votes, self.num_classes)

    def shares(self) -> NDArray[np.float64]:
        """The share of votes for, of all votes on each class [C]; 0 where there is none."""
        positive, negative = self.of_classes(self.positive), self.of_classes(self.negative)
        shares: NDArray[np.float64] = positive / np.maximum(positive + negative, 1)
        return shares


def count_votes(
    cluster: NDArray[np.int64],
    column: NDArray[np.int64],
    is_positive: NDArray[np.bool_],
    num_clusters: int,
    num_classes: int,
) -> Votes:
    """Votes of frames [N]: each in a cluster, on the class of a column, for it or against it."""
    key, place = np.unique(cluster * num_classes + column, return_inverse=True)
    return Votes(
        num_clusters,
        num_classes,
        key // num_classes,
        key % num_classes,
        _sums(place[is_positive], np.ones(is_positive.sum(), np.int64), len(key)),
        _sums(place[~is_positive], np.ones((~is_positive).sum(), np.int64), len(key)),
    )


def _sums(places: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.bincount(places, values, size).astype(np.int64)


# ---- what a cluster says -------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterLists:
    """Columns of each cluster: those of cluster k at offsets[k] .. offsets[k + 1].

    value: what a frame of the cluster takes for that class.
    """

    offsets: NDArray[np.int64]
    column: NDArray[np.int64]
    value: NDArray[np.float64]

    def of(self, cluster: int) -> NDArray[np.int64]:
        return self.column[self.offsets[cluster] : self.offsets[cluster + 1]]


def lists_of(votes: Votes, settings: Voting, classes: ClassOrder) -> ClusterLists:
    return (
        soft_lists(votes, settings) if settings.soft else published_lists(votes, settings, classes)
    )


def published_lists(votes: Votes, settings: Voting, classes: ClassOrder) -> ClusterLists:
    """By falling count, equal ones by class id; classes with too few votes are left out."""
    count: NDArray[np.floating] | NDArray[np.int64] = votes.positive
    if settings.by_rate:
        count = votes.positive / votes.of_classes(votes.positive)[votes.column].clip(1)
    kept = np.flatnonzero(votes.positive >= settings.min_votes)
    ids = np.asarray(classes.ids, np.int64)[votes.column]
    order = kept[np.lexsort((ids[kept], -count[kept], votes.cluster[kept]))]
    return _lists(votes, order, np.ones(len(votes.cluster)))


def soft_lists(votes: Votes, settings: Voting) -> ClusterLists:
    """Classes with enough votes for or against, and the smoothed share of votes for."""
    on_class = votes.positive + votes.negative
    prior = votes.shares()[votes.column]
    value = (votes.positive + settings.smoothing * prior) / (on_class + settings.smoothing)
    return _lists(votes, np.flatnonzero(on_class >= settings.min_votes), value)


def _lists(votes: Votes, order: NDArray[np.int64], value: NDArray[np.float64]) -> ClusterLists:
    offsets = np.searchsorted(votes.cluster[order], np.arange(votes.num_clusters + 1))
    return ClusterLists(offsets, votes.column[order], value[order])


# ---- what a segment takes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Opinions:
    """What some frames of segments say, as P (segment, column) pairs, rising.

    score: mean over the frames that say anything of the class; share: these frames, of all that
    the segment has; is_label: whether enough of them do.
    """

    segment: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.float64]
    share: NDArray[np.float64]
    is_label: NDArray[np.bool_]

    def take(self, keep: NDArray[np.bool_]) -> Opinions:
        return Opinions(
            self.segment[keep],
            self.column[keep],
            self.score[keep],
            self.share[keep],
            self.is_label[keep],
        )


Reader = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]], Opinions]


def reader_of(votes: Votes, settings: Voting, classes: ClassOrder) -> Reader:
    """The function that reads the votes: (cluster [B, T], video [B], labels [V, C]) -> Opinions.

    cluster: -1 where there is no frame; labels: those of each video.
    """
    lists = lists_of(votes, settings, classes)

    def read(
        cluster: NDArray[np.int64], video: NDArray[np.int64], labels: NDArray[np.bool_]
    ) -> Opinions:
        frame, place = _labels_in_lists(lists, cluster, video, labels)
        if not settings.soft:
            frame, first = np.unique(frame, return_index=True)
            place = place[first]
        segment = frame // cluster.shape[1]
        num_frames = (cluster >= 0).sum(1)
        columns, values = lists.column[place], lists.value[place]
        return _opinions(segment, columns, values, num_frames, labels.shape[1], settings.min_share)

    return read


def _labels_in_lists(
    lists: ClusterLists,
    cluster: NDArray[np.int64],
    video: NDArray[np.int64],
    labels: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(frame among the B T, place in the lists) of each class that is in the list of the frame's
    cluster and a label of its video, frame by frame in the order of the list."""
    num_clusters, num_frames = len(lists.offsets) - 1, cluster.shape[1]
    real = np.flatnonzero(cluster >= 0)
    # Frames of one video in one cluster have one answer: it is looked up once.
    of_frame = video[real // num_frames] * num_clusters + cluster.ravel()[real]
    key, which = np.unique(of_frame, return_inverse=True)
    pair, place = flat_places(lists.offsets, key % num_clusters)
    is_there = labels[key[pair] // num_clusters, lists.column[place]]
    pair, place = pair[is_there], place[is_there]
    answers = np.searchsorted(pair, np.arange(len(key) + 1))
    frame, at = flat_places(answers, which)
    return real[frame], place[at]


def _opinions(
    segment: NDArray[np.int64],
    column: NDArray[np.int64],
    value: NDArray[np.float64],
    num_frames: NDArray[np.int64],
    num_classes: int,
    min_share: float,
) -> Opinions:
    """Those of frames, taken together by segment and class; num_frames: of each segment [B]."""
    key, place = np.unique(segment * num_classes + column, return_inverse=True)
    count = np.bincount(place, minlength=len(key))
    of_pair = key // num_classes
    share = count / num_frames[of_pair]
    score = np.bincount(place, value, len(key)) / np.maximum(count, 1)
    return Opinions(of_pair, key % num_classes, score, share, share > min_share)
