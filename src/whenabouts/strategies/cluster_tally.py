"""What a clustering looks like, counted while it labels: for people, and for a page about it.

`LABELS.clusters.json` beside `LABELS.parquet`:

    made_by     what the Labels say of their maker
    totals      frames, segments and videos seen; clusters, those that are empty, those with a list;
                segments, pairs and classes labelled; purity: of all votes for, the share that is
                for the class with most of them in its cluster
    inertia     mean squared distance to the nearest centroid, by iteration of k-means
    variance    of each principal component, falling
    clusters    a table, column by column: `frames`; `positive` and `negative` votes; `purity`;
                `classes`: [[class id, votes for, votes against], ...], the most votes for first;
                `examples`: [[video, start in s], ...] of segments with most frames in the cluster
    classes     a table: `class`, `topic`; `positive` and `negative` votes; `clusters` whose lists
                have it, and `first_in`, where it comes first; `segments` labelled, `score`: their
                mean label
    judged      agreement with the ratings of V2, if asked for
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.segments import SegmentTable
from whenabouts.strategies.cluster_votes import ClusterLists, Opinions, Votes

MOST_EXAMPLES = 4  # of a cluster, each of another video
MOST_CLASSES = 10  # of a cluster

Example = tuple[str, int]


@dataclass
class Tally:
    """Counts over labelled videos: frames [K], segments labelled [C] and the sum of their labels.

    num_segments: seen; num_labelled: with a label.
    """

    frames: NDArray[np.int64]
    segments: NDArray[np.int64]
    scores: NDArray[np.float64]
    num_segments: int = 0
    num_labelled: int = 0
    examples: dict[int, list[Example]] = field(default_factory=dict)

    @classmethod
    def empty(cls, num_clusters: int, num_classes: int) -> Tally:
        return cls(
            np.zeros(num_clusters, np.int64),
            np.zeros(num_classes, np.int64),
            np.zeros(num_classes),
        )

    def add(
        self, cluster: NDArray[np.int64], opinions: Opinions, table: SegmentTable, first: int
    ) -> None:
        """A chunk: clusters [B, T] of segments first .. of the table, and the labels they got."""
        self.frames += np.bincount(cluster[cluster >= 0], minlength=len(self.frames))
        self.num_segments += len(cluster)
        self.num_labelled += len(np.unique(opinions.segment))
        num_classes = len(self.segments)
        self.segments += np.bincount(opinions.column, minlength=num_classes)
        self.scores += np.bincount(opinions.column, opinions.score, num_classes)
        for segment, where in zip(*(values.tolist() for values in most_frames_in(cluster))):
            if len(self.examples.get(where, ())) < MOST_EXAMPLES:
                video = table.video_ids[table.video[first + segment]].decode()
                self._add_example(where, (video, int(table.starts_s[first + segment])))

    def _add_example(self, cluster: int, example: Example) -> None:
        kept = self.examples.setdefault(cluster, [])
        if len(kept) < MOST_EXAMPLES and example[0] not in (video for video, _ in kept):
            kept.append(example)

    def add_tally(self, other: dict[str, Any]) -> None:
        """What another process has counted, as `to_dict` gives it, of the videos behind ours."""
        for name in ("frames", "segments", "scores"):
            getattr(self, name)[:] += other[name]
        self.num_segments += other["num_segments"]
        self.num_labelled += other["num_labelled"]
        for cluster, examples in other["examples"].items():
            for video, start_s in examples:
                self._add_example(int(cluster), (video, start_s))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        arrays = {n: getattr(self, n).tolist() for n in ("frames", "segments", "scores")}
        counts = {"num_segments": self.num_segments, "num_labelled": self.num_labelled}
        return {**arrays, **counts, "examples": self.examples}


def most_frames_in(cluster: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(segment, cluster) of the segments [B, T] of whose frames more than half are in one."""
    same = (cluster[:, :, None] == cluster[:, None, :]).sum(2) * (cluster >= 0)
    at = same.argmax(1)
    is_most = 2 * same.max(1) > (cluster >= 0).sum(1)
    segment = np.flatnonzero(is_most)
    return segment, cluster[segment, at[segment]]


# ---- the tables ----------------------------------------------------------------------------------


def totals(tally: Tally, votes: Votes, lists: ClusterLists) -> dict[str, Any]:
    most, positive = _most_votes(votes), votes.of_clusters(votes.positive)
    return {
        "frames": int(tally.frames.sum()),
        "segments": tally.num_segments,
        "clusters": votes.num_clusters,
        "empty_clusters": int((tally.frames == 0).sum()),
        "clusters_with_a_list": int((np.diff(lists.offsets) > 0).sum()),
        "votes_for": int(positive.sum()),
        "votes_against": int(votes.negative.sum()),
        "purity": float(most.sum() / positive.sum()),
        "labelled_segments": tally.num_labelled,
        "labelled_pairs": int(tally.segments.sum()),
        "labelled_classes": int((tally.segments > 0).sum()),
        "mean_label": float(tally.scores.sum() / max(tally.segments.sum(), 1)),
    }


def cluster_table(tally: Tally, votes: Votes, classes: ClassOrder) -> dict[str, list[Any]]:
    positive = votes.of_clusters(votes.positive)
    purity = _most_votes(votes) / np.maximum(positive, 1)
    return {
        "frames": tally.frames.tolist(),
        "positive": positive.tolist(),
        "negative": votes.of_clusters(votes.negative).tolist(),
        "purity": [round(p, 4) for p in purity.tolist()],
        "classes": _classes_of_clusters(votes, classes),
        "examples": [tally.examples.get(k, []) for k in range(votes.num_clusters)],
    }


def class_table(
    tally: Tally, votes: Votes, lists: ClusterLists, classes: ClassOrder
) -> dict[str, list[Any]]:
    heads = lists.column[lists.offsets[:-1][np.diff(lists.offsets) > 0]]
    return {
        "class": list(classes.ids),
        "topic": list(classes.names),
        "positive": votes.of_classes(votes.positive).tolist(),
        "negative": votes.of_classes(votes.negative).tolist(),
        "clusters": np.bincount(lists.column, minlength=len(classes)).tolist(),
        "first_in": np.bincount(heads, minlength=len(classes)).tolist(),
        "segments": tally.segments.tolist(),
        "score": (tally.scores / np.maximum(tally.segments, 1)).round(4).tolist(),
    }


def _most_votes(votes: Votes) -> NDArray[np.int64]:
    """The votes for the class that has most of them in each cluster [K]."""
    most = np.zeros(votes.num_clusters, np.int64)
    np.maximum.at(most, votes.cluster, votes.positive)
    return most


def _classes_of_clusters(votes: Votes, classes: ClassOrder) -> list[list[list[int]]]:
    ids = np.asarray(classes.ids, np.int64)[votes.column]
    order = np.lexsort((ids, -votes.positive, votes.cluster))
    bounds = np.searchsorted(votes.cluster[order], np.arange(votes.num_clusters + 1)).tolist()
    rows = np.stack([ids, votes.positive, votes.negative], axis=1)[order]
    return [rows[a : min(b, a + MOST_CLASSES)].tolist() for a, b in pairwise(bounds)]
