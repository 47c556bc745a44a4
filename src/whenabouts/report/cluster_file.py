"""Reads `LABELS.clusters.json`: what a clustering says of its clusters, checked field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import LabelsError

MOST = 1 << 53  # whole numbers up to here are exact in every reader of JSON
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
    root = _Field(_read(path), path, "")
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


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LabelsError("not JSON", where=path, rule="it is a JSON object") from error


def _maker(made_by: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made_by.items() if key not in NOT_OF_LABELS}


def _class_votes(field: _Field) -> tuple[ClassVotes, ...]:
    triples = [each.of_length(3) for each in field.items()]
    return tuple(ClassVotes(*(number.whole() for number in each.items())) for each in triples)


def _examples(field: _Field) -> tuple[tuple[str, int], ...]:
    pairs = [each.of_length(2).items() for each in field.items()]
    return tuple((video.text(), start_s.whole()) for video, start_s in pairs)


@dataclass(frozen=True)
class _Field:
    """A value of the file and its name there; every reading of it checks its type."""

    value: Any
    path: Path
    name: str

    def has(self, key: str) -> bool:
        return key in self._table()

    def at(self, key: str) -> _Field:
        table, name = self._table(), f"{self.name}.{key}" if self.name else key
        if key not in table:
            raise LabelsError(f"no {name}", where=self.path, rule="a clustering writes it")
        return _Field(table[key], self.path, name)

    def table(self, key: str) -> _Field:
        field = self.at(key)
        field._table()
        return field

    def column(self, key: str, count: int) -> _Field:
        return self.at(key).of_length(count)

    def items(self) -> list[_Field]:
        if not isinstance(self.value, list):
            raise self._wrong("a list")
        return [_Field(v, self.path, f"{self.name}[{i}]") for i, v in enumerate(self.value)]

    def of_length(self, count: int) -> _Field:
        if not isinstance(self.value, list) or len(self.value) != count:
            raise self._wrong(f"a list of {count:,}")
        return self

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self._wrong("a text")
        return self.value

    def whole(self, at_most: int = MOST) -> int:
        if type(self.value) is not int or not 0 <= self.value <= at_most:
            raise self._wrong(f"a whole number from 0 to {at_most:,}")
        return self.value

    def share(self) -> float:
        if type(self.value) not in (int, float) or not 0 <= self.value <= 1:  # NaN is neither
            raise self._wrong("a number from 0 to 1")
        return float(self.value)

    def share_or_none(self) -> float | None:
        return None if self.value is None else self.share()

    def wholes(self) -> NDArray[np.int64]:
        return np.array([each.whole() for each in self.items()], np.int64)

    def shares(self) -> NDArray[np.float64]:
        return np.array([each.share() for each in self.items()], np.float64)

    def _table(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self._wrong("a table")
        return self.value

    def _wrong(self, rule: str) -> LabelsError:
        name = self.name or "the file"
        return LabelsError(f"{name} has another value", where=self.path, rule=f"{name} is {rule}")
