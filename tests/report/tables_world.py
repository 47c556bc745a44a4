"""A small made `tables.json`, with everything in it that the page tells, worked out by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from report_world import HOSTILE


def spread(*values: float, sd: float | None = None) -> dict[str, Any]:
    mean = sum(values) / len(values) if values else None
    return {"mean": mean, "sd": sd, "values": list(values)}


def model(name: str, group: str, paper: float | None, *values: float, **more: Any) -> Any:
    return {
        "name": name,
        "group": group,
        "recipe": group,
        "paper": paper,
        **spread(*values, **more),
    }


def ensemble(name: str, mean: float, **more: Any) -> dict[str, Any]:
    exponents = ((1, 1, 0.5), (1, 2, 0.625), (2, 1, 0.375))
    return {
        "name": name, "paper_public": 0.7957, "paper_private": 0.7864,
        "published_weights": {"nl-1": 1.0}, "weights": {}, "missing": [], **spread(mean),
        "across_halves": spread(mean + 0.125), "refined": spread(),
        "fused": [{"video": v, "segment": s, **spread(value)} for v, s, value in exponents],
        "searched": spread(),
        **more,
    }  # fmt: skip


SEARCHED = {
    "settings": {
        "exponents": {"video": 0.25, "segment": 1},
        "candidates": {"top_topics": 20, "top_videos": None, "min_video_score": 0.001},
    },
    "cross_validated": {"chosen": [{}, {}], "mean_ap": 0.6875, "default_mean_ap": 0.5},
    **spread(0.75),
}

TABLES: dict[str, Any] = {
    "format": 2, "scale": "tiny", "repeats": 2, "measure": "mAP on V2",
    "models": [
        model("nl-1", "nl", 0.789, 0.25, 0.75, sd=0.125), model("loss2", "loss2", 0.778),
        model("student-1", "student", None, 0.4375), model(HOSTILE[0], HOSTILE[3], 0.5, 0.125),
    ],
    "ensembles": [
        ensemble("E1", 0.5625, searched=SEARCHED, refined=spread(0.59375)),
        ensemble("E2", 0.3125, missing=["loss2", "nl-2"]),
    ],
    "single": {**spread(0.75, 0.5), "across_halves": spread(0.65625, sd=0.03125)},
    "best": {
        "models": [
            {"name": "deep-1", "recipe": "deep", **spread(0.5)},
            {"name": "deep-2", "recipe": "deep", **spread(0.5625)},
        ],
        "steps": [
            {
                "name": "best-mean", "says": "geometric mean",
                "settings": {"kind": "geometric", "weights": {"deep-1": 0.25, "deep-2": 1 / 3}},
                "cross_validated": {"mean_ap": 0.59375, "single_mean_ap": 0.53125},
                **spread(0.625),
            },
            {"name": "half", "says": "", "settings": None, "cross_validated": None, **spread()},
            {
                "name": "best-refined", "says": "smoothed",
                "settings": {"smooth": 0, "centre": True},
                "cross_validated": {"mean_ap": 0.6, "as_it_is_mean_ap": 0.61, "chosen": []},
                **spread(0.59375),
            },
        ],
        "missing": ["deep-3"],
    },
    "best_single": "nl-1", "chosen": "E1-fused",
    "classes": {
        "ids": [3, 7, 9, 5, 2, 4], "names": ["Car", "Train", HOSTILE[0], "", "Boat", "Bus"],
        "positives": [0, 10, 20, 1234, 5, 6],
        "ap": {
            "nl-1": [None, 0.5, 0.25, 0.75, 0.5, 0.125],
            "E1-fused": [0.5, 0.75, 0.75, 0.25, 0.375, 0.125],
            "E1": [None] * 6,
        },
    },
}  # fmt: skip


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """TABLES with another value in one place."""
    tables = copy.deepcopy(TABLES)
    *above, last = path
    place: Any = tables
    for key in above:
        place = place[key]
    place[last] = to
    return tables


def without(*path: str | int) -> dict[str, Any]:
    tables = copy.deepcopy(TABLES)
    *above, last = path
    place: Any = tables
    for key in above:
        place = place[key]
    del place[last]
    return tables


def write_tables(folder: Path, tables: Any = TABLES) -> Path:
    path = folder / "tables.json"
    path.write_text(json.dumps(tables))
    return path
