"""Reads `LABELS.clusters.json`: what a clustering says of its clusters, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import LabelsError
from whenabouts.report.fields import Field, read_fields

NOT_OF_LABELS = ("format", "k")  # each of them stands in one of the two files only
JUDGED = (
    "base_rate", "coverage", "precision", "recall", "negative_precision", "concordance",
)  # fmt: skip


@dataclass(frozen=True)
class ClassVotes:
    class_id: int
    votes_for: int
    votes_against: int


@dataclass(frozen=True)
class ClusterFile:
    """Clusters [K]: frames, votes for and against any class, purity (of the votes for, the share
    that is for the class with most of them), those classes and example segments (video, start in
    s). with_list: clusters that label; judged: agreement with V2's ratings, if it was measured.
    """

    frames: NDArray[np.int64]
    votes_for: NDArray[np.int64]
    votes_against: NDArray[np.int64]
    purity: NDArray[np.float64]
    classes: tuple[tuple[ClassVotes, ...], ...]
    examples: tuple[tuple[tuple[str, int], ...], ...]
    with_list: int
    overall_purity: float
    judged: Mapping[str, float | None] | None
    num_judged: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def with_votes(self) -> NDArray[np.bool_]:
        """Which clusters have a vote, for or against a class [K]."""
        return (self.votes_for + self.votes_against) > 0

    def clearest(self, num: int) -> list[int]:
        """The clusters with the most votes for their first class, the lower number of equals."""
        most = [classes[0].votes_for if classes else 0 for classes in self.classes]
        order = sorted(range(len(self)), key=lambda k: (-most[k], k))
        return [k for k in order[:num] if most[k]]


def read_clusters(path: Path, labels_made_by: Mapping[str, Any]) -> ClusterFile:
    """Raises LabelsError, with file and field, if the file is not the description of the clusters
    that made the Labels."""
    root = read_fields(path, LabelsError, "a clustering writes it", "label again")
    made_by = root.table("made_by").value
    if _maker(made_by) != _maker(labels_made_by):
        raise LabelsError(
            "made_by is another than that of the Labels",
            where=path,
            rule="both files are of one clustering",
            remedy="label again",
        )
    totals, clusters = root.table("totals"), root.table("clusters")
    count = totals.at("clusters").whole()
    judged = root.table("judged") if root.has("judged") else None
    return ClusterFile(
        clusters.column("frames", count).wholes(),
        clusters.column("positive", count).wholes(),
        clusters.column("negative", count).wholes(),
        clusters.column("purity", count).shares(),
        tuple(_class_votes(each) for each in clusters.column("classes", count).items()),
        tuple(_examples(each) for each in clusters.column("examples", count).items()),
        totals.at("clusters_with_a_list").whole(at_most=count),
        totals.at("purity").share(),
        {name: judged.at(name).share_or_none() for name in JUDGED} if judged else None,
        judged.at("pairs").whole() if judged else 0,
    )


def _maker(made_by: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made_by.items() if key not in NOT_OF_LABELS}


def _class_votes(field: Field) -> tuple[ClassVotes, ...]:
    triples = [each.of_length(3) for each in field.items()]
    return tuple(ClassVotes(*(number.whole() for number in each.items())) for each in triples)


def _examples(field: Field) -> tuple[tuple[str, int], ...]:
    pairs = [each.of_length(2).items() for each in field.items()]
    return tuple((video.text(), start_s.whole()) for video, start_s in pairs)
