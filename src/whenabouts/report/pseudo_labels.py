"""What a file of pseudo-labels holds, counted a class, and who made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import SegmentLabels, clusters_path, read_labels, read_labels_made_by
from whenabouts.metrics.segment_map import POSITIVE
from whenabouts.report.cluster_file import ClusterFile, read_clusters

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class LabelCounts:
    """Pairs a class [C], of all classes with a pseudo-label or a rated positive, by falling number
    of positive pseudo-labels, then of rated positives, then by rising id.

    A pair is positive from the label 0.5 up, and negative below.
    """

    class_ids: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    rated_positives: NDArray[np.int64]
    num_segments: int
    num_videos: int

    def gained(self, fewer_than: int) -> NDArray[np.int64]:
        """Places of the classes with positives and with fewer rated positives than that."""
        return np.flatnonzero((self.positives > 0) & (self.rated_positives < fewer_than))


@dataclass(frozen=True)
class PseudoLabels:
    """made_by: facts by name, in words and without paths; clusters: of a clustering whose
    description lies beside its Labels; topics: by class id."""

    counts: LabelCounts
    made_by: Mapping[str, str]
    clusters: ClusterFile | None = None
    topics: Mapping[int, str] = field(default_factory=dict)

    def topic(self, class_id: int) -> str:
        return self.topics.get(class_id, "") or f"class {class_id}"


def read_pseudo_labels(
    path: str | Path, rated: SegmentLabels, topics: Mapping[int, str]
) -> PseudoLabels:
    """Read Labels and, beside those of a clustering, their clusters; rated: to compare with.

    Raises LabelsError, with file and field, if one of them is not what it should be.
    """
    path = Path(path)
    made_by = read_labels_made_by(path)
    beside = clusters_path(path)
    has_clusters = made_by.get("method") == "cluster" and beside.exists()
    clusters = read_clusters(beside, made_by) if has_clusters else None
    counts = count_labels(read_labels(path), rated)
    return PseudoLabels(counts, facts_of(made_by, path), clusters, topics)


def count_labels(labels: SegmentLabels, rated: SegmentLabels) -> LabelCounts:
    is_positive, is_rated = labels.score >= POSITIVE, rated.score >= POSITIVE
    rated_class = rated.class_id[is_rated]
    ids = np.union1d(labels.class_id, rated_class)
    positives, negatives, rated_positives = (
        np.bincount(np.searchsorted(ids, found), minlength=len(ids)).astype(np.int64)
        for found in (labels.class_id[is_positive], labels.class_id[~is_positive], rated_class)
    )
    order = np.lexsort((ids, -rated_positives, -positives))
    num_segments, num_videos = _segments_and_videos(labels)
    return LabelCounts(
        ids[order],
        positives[order],
        negatives[order],
        rated_positives[order],
        num_segments,
        num_videos,
    )


def _segments_and_videos(labels: SegmentLabels) -> tuple[int, int]:
    if not len(labels):
        return 0, 0
    videos, video = np.unique(labels.video, return_inverse=True)
    order = np.lexsort((labels.start_s, video))
    video, start_s = video[order], labels.start_s[order]
    is_new = (video[1:] != video[:-1]) | (start_s[1:] != start_s[:-1])
    return 1 + int(is_new.sum()), len(videos)


# ---- who made them -------------------------------------------------------------------------------


def facts_of(made_by: Mapping[str, Any], where: object) -> dict[str, str]:
    """Method, sources and settings; of a path only its last name, so that a page can be passed on.

    Raises LabelsError if a field has another type than `whenabouts pseudo-label` writes.
    """
    if not made_by:
        return {}
    facts = {"method": _text(made_by, "method", where)}
    for key in ("splits", "trained_on"):
        facts[key.replace("_", " ")] = ", ".join(_texts(made_by, key, where)) or "none"
    if "features" in made_by:
        facts["features"] = _text(made_by, "features", where)
    if "run" in made_by:
        facts["run"] = _last(_text(made_by, "run", where))
    if "scores" in made_by:
        facts["teacher"] = _teacher(_table(made_by, "scores", where), where)
    for key, value in _table(made_by, "settings", where).items():
        if not isinstance(value, Scalar):
            raise _wrong(f"settings.{key}", "a text, a number, true, false or null", where)
        facts[key.replace("_", " ")] = _shown(value)
    return facts


def _teacher(scores: Mapping[str, Any], where: object) -> str:
    """The Scores that the labels were read from, and how many models made them."""
    name = _last(_text(scores, "scores", where)) if "scores" in scores else "scores"
    members = scores.get("members", [])
    if not isinstance(members, list):
        raise _wrong("scores.members", "a list", where)
    return f"{name} ({len(members)} members)" if members else name


def _shown(value: Scalar) -> str:
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _text(made_by: Mapping[str, Any], key: str, where: object) -> str:
    value = made_by.get(key)
    if not isinstance(value, str):
        raise _wrong(key, "a text", where)
    return value


def _texts(made_by: Mapping[str, Any], key: str, where: object) -> list[str]:
    value = made_by.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(key, "a list of texts", where)
    return value


def _table(made_by: Mapping[str, Any], key: str, where: object) -> dict[str, Any]:
    value = made_by.get(key, {})
    if not isinstance(value, dict):
        raise _wrong(key, "a table", where)
    return value


def _wrong(key: str, rule: str, where: object) -> LabelsError:
    return LabelsError(f"{key} has another type", where=where, rule=f"{key} is {rule}")
