"""The tables of the paper beside ours: the mAP of each model (Table 2) and of E1..E5 (Table 3).

From what stages left in the folder; what is not there is left out and said to be missing. A value
is the mAP on V2: of each repeat, with mean and standard deviation (n - 1) where there are several.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from whenabouts.core.errors import StageError
from whenabouts.recipes.published import (
    ENSEMBLES,
    PAPER_MAP,
    Member,
    Scale,
    members,
    published_weights,
)
from whenabouts.reproduce.late import FUSED, best_ensemble, mean_ap, read_json
from whenabouts.reproduce.target import EXPONENTS, V2, numbers

FORMAT = 1


@dataclass(frozen=True)
class Found:
    """A folder of finished stages, of a scale and so many repeats."""

    root: Path
    scale: Scale
    repeats: int

    def values(self, name: str) -> dict[str, Any]:
        """The mAP of those repeats that there are, by this name of the first."""
        paths = [self.root / numbers(_named(name, k)) for k in range(1, self.repeats + 1)]
        found = [mean_ap(path) for path in paths if _is_there(path)]
        return spread([value for value in found if not isnan(value)])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """mean is None where there is no value, sd where there are fewer than two."""
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def tables(root: Path, scale: Scale, repeats: int) -> dict[str, Any]:
    """Everything that the tables show and more, ready for JSON.

    Raises StageError if nothing is evaluated yet.
    """
    found, all_members = Found(root, scale, repeats), members(scale)
    models = [_model(found, member) for member in all_members]
    ensembles = [_ensemble(found, name, all_members) for name in ENSEMBLES]
    known = [model for model in models if model["mean"] is not None]
    if not known:
        raise StageError("no model is evaluated on V2 yet", where=root)
    best_single = max(known, key=lambda model: model["mean"])["name"]
    fused = [numbers(name + FUSED) for name in ENSEMBLES]
    fused = [path for path in fused if _is_there(root / path)]
    chosen = best_ensemble(root, fused) + FUSED if fused else None
    shown = [*ENSEMBLES, *(name + FUSED for name in ENSEMBLES)]
    return {
        "format": FORMAT,
        "scale": scale,
        "repeats": repeats,
        "measure": "mAP on V2",
        "models": models,
        "ensembles": ensembles,
        "best_single": best_single,
        "chosen": chosen,
        "classes": _classes(root, [best_single, *shown]),
    }


def _named(name: str, repeat: int) -> str:
    """The name in a repeat, as the plan has it: NL-1.r2, E1.r2-fused."""
    if repeat == 1:
        return name
    head, fused, exponents = name.partition(FUSED)
    return f"{head}.r{repeat}{fused}{exponents}"


def _is_there(path: Path) -> bool:
    return (path / "evaluation.json").is_file()


def _model(found: Found, member: Member) -> dict[str, Any]:
    assert member.group is not None
    return {
        "name": member.name,
        "group": member.group,
        "recipe": member.recipe,
        "paper": PAPER_MAP.get(member.group),
        **found.values(member.name),
    }


def _ensemble(found: Found, name: str, all_members: Iterable[Member]) -> dict[str, Any]:
    published = ENSEMBLES[name]
    weights = published_weights(name, all_members)
    used = _used_weights(found.root / "scores" / V2 / name)
    fused = [
        {"video": video, "segment": segment, **found.values(f"{name}{FUSED}-{video}-{segment}")}
        for video, segment in EXPONENTS
    ]
    searched = _searched(found.root / "scores" / V2 / f"{name}{FUSED}")
    return {
        "name": name,
        "paper_public": published.public,
        "paper_private": published.private,
        "published_weights": weights,
        "weights": used,
        "missing": sorted(weights.keys() - used.keys()) if used else [],
        **found.values(name),
        "fused": fused,
        "searched": {**searched, **found.values(name + FUSED)},
    }


def _used_weights(scores: Path) -> dict[str, float]:
    """What the members counted, by name; empty where the ensemble is not there."""
    if not (scores / "made-by.json").is_file():
        return {}
    kept = read_json(scores / "made-by.json")
    return {Path(member["scores"]).name: member["weight"] for member in kept["members"]}


def _searched(scores: Path) -> dict[str, Any]:
    """The exponents and the filter that a search on V2 found, and how far to trust them."""
    if not (scores / "made-by.json").is_file():
        return {}
    kept = read_json(scores / "made-by.json")
    across = kept["search"]["cross_validated"]
    return {"settings": kept["fused"], "cross_validated": across}


def _classes(root: Path, names: Iterable[str]) -> dict[str, Any]:
    """AP a class of each that is there: parallel lists, in the order of the classes."""
    rows = {name: _class_rows(root / numbers(name)) for name in dict.fromkeys(names)}
    there = {name: found for name, found in rows.items() if found}
    first = next(iter(there.values()), [])
    return {
        "ids": [int(row["Index"]) for row in first],
        "names": [row["Name"] for row in first],
        "positives": [int(row["Positives"]) for row in first],
        "ap": {
            name: [float(row["AP"]) if row["AP"] else None for row in found]
            for name, found in there.items()
        },
    }


def _class_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "classes.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
