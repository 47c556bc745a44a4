"""Small made pseudo-labels and clusters, counted by hand, for the report's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report_world import make_labels

from whenabouts.core.labels import new_labels

CLUSTERED: dict[str, Any] = {
    "method": "cluster",
    "settings": {"k": 4, "min_share": 0.5, "soft": False},
    "splits": ["train", "v1"],
    "trained_on": ["train", "v1"],
    "corpus": "/secret/place.index",
    "run": "/secret/runs/s-logi",
    "features": "embedding",
}

# Classes by positives: 7 (3), 9 (2), 5 (1; and one negative), 3 (none; one negative).
LABELS = [
    (b"a", 0, 7, 1.0), (b"a", 5, 7, 0.5), (b"b", 0, 7, 0.75),
    (b"a", 0, 9, 1.0), (b"c", 10, 9, 1.0),
    (b"a", 5, 5, 1.0), (b"b", 5, 5, 0.25),
    (b"c", 0, 3, 0.0),
]  # fmt: skip
# Rated positives: 9 (1), 5 (2), 2 (1), which has no pseudo-label at all; 7 is only rated negative.
RATED = [(b"r", 0, 9, 1.0), (b"r", 0, 5, 1.0), (b"r", 5, 5, 1.0), (b"r", 0, 2, 1.0),
         (b"r", 5, 7, 0.0)]  # fmt: skip

CLUSTERS: dict[str, Any] = {
    "made_by": {**CLUSTERED, "k": 4},
    "totals": {"clusters": 4, "clusters_with_a_list": 2, "purity": 0.625},
    "clusters": {
        "frames": [40, 0, 1234, 6],
        "positive": [8, 0, 12, 0],
        "negative": [2, 0, 5, 0],
        "purity": [0.75, 0.0, 0.5, 0.0],
        "classes": [[[7, 6, 1], [9, 2, 1]], [], [[9, 6, 5], [5, 4, 0], [3, 1, 0], [2, 1, 0]], []],
        "examples": [[["a", 5], ["b", 0]], [], [], [["c", 10]]],
    },
}
JUDGED = {
    "pairs": 1640, "base_rate": 0.4, "coverage": 0.25, "precision": 0.5625, "recall": 0.3,
    "negative_precision": None, "concordance": None,
}  # fmt: skip


def write_clustering(
    folder: Path, clusters: Any = CLUSTERS, made_by: dict[str, Any] = CLUSTERED
) -> Path:
    """Labels in the folder, and these clusters beside them (None: without)."""
    path = folder / "labels.parquet"
    with new_labels(path, made_by) as writer:
        writer.write(make_labels(LABELS))
    if clusters is not None:
        (folder / "labels.clusters.json").write_text(json.dumps(clusters))
    return path
