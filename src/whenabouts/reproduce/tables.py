"""The tables of the paper beside ours: the mAP of each model (Table 2) and of E1..E5 (Table 3); and
the models and steps of our preset.

From what stages left in the folder; what is not there is left out and said to be missing. A value
is the mAP on V2: of each repeat, with mean and standard deviation (n - 1) where there are several.

The best of 20 models is chosen on V2, and looks better there than it is; an ensemble of published
weights is not chosen at all. So both have a value across the halves of V2's videos, too: of the
best model, that of the one that is best on the other half; of an ensemble, the mean of its halves.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from whenabouts.core.errors import StageError
from whenabouts.core.list_length import LONGEST, OF_CHALLENGE, ListLength
from whenabouts.ensemble.halves import choose_across
from whenabouts.recipes import best
from whenabouts.recipes.published import (
    ENSEMBLES,
    PAPER_MAP,
    Member,
    Scale,
    members,
    published_weights,
)
from whenabouts.reproduce.late import (
    FUSED,
    ITS_REFINED,
    LISTED,
    MEAN,
    PRESETS,
    REFINED,
    Preset,
    best_result,
    halves,
    mean_ap,
    read_json,
    results_of,
    used_weights,
)
from whenabouts.reproduce.target import EXPONENTS, V2, numbers

FORMAT = 2


@dataclass(frozen=True)
class Found:
    """A folder of finished stages, of a scale and so many repeats; length: of the lists that
    count."""

    root: Path
    scale: Scale
    repeats: int
    length: ListLength

    def values(self, name: str) -> dict[str, Any]:
        """The mAP of those repeats that there are, by this name of the first."""
        return spread([mean_ap(path) for path in self._evaluated(name) if path])

    def across_halves(self, name: str) -> dict[str, Any]:
        """The mean of the two halves, of each repeat."""
        return spread([float(np.mean(halves(path))) for path in self._evaluated(name) if path])

    def best_of(self, names: Sequence[str]) -> dict[str, Any]:
        """The best of these in each repeat; and across halves, where all that are there tell."""
        of_names = [self._evaluated(name) for name in names]
        sets = [[path for path in of_set if path] for of_set in zip(*of_names)]
        best = [max(known) for of_set in sets if (known := _known(map(mean_ap, of_set)))]
        return {**spread(best), "across_halves": spread(list(map(_chosen_across, sets)))}

    def _evaluated(self, name: str) -> list[Path | None]:
        """The numbers of each repeat; None where it is not evaluated."""
        paths = (self.root / numbers(_named(name, k)) for k in range(1, self.repeats + 1))
        return [path if _is_there(path, self.length) else None for path in paths]


def _chosen_across(of_set: Sequence[Path]) -> float:
    """What is best on one half, on the other half, both ways; NaN if one does not tell."""
    across = choose_across(np.array([halves(path) for path in of_set])) if of_set else None
    return float("nan") if across is None else across.estimate


def spread(found: Iterable[float]) -> dict[str, Any]:
    """Of what is no NaN. mean is None where there is no value, sd where there are fewer than
    two."""
    values = _known(found)
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not isnan(value)]


def tables(
    root: Path,
    scale: Scale,
    repeats: int,
    presets: Collection[Preset] = PRESETS,
    length: ListLength = OF_CHALLENGE,
) -> dict[str, Any]:
    """Everything that the tables show and more, ready for JSON.

    presets: of whose results one is chosen; shown is all that is there. length: of the lists that
    were evaluated.

    Raises StageError if nothing is evaluated yet.
    """
    found, all_members = Found(root, scale, repeats, length), members(scale)
    models = [_model(found, member) for member in all_members]
    ensembles = [_ensemble(found, name, all_members) for name in ENSEMBLES]
    ours = _best(found)
    best_single = _best_single(models) or _best_single(ours["models"] if ours else [])
    if best_single is None:
        raise StageError("no model is evaluated on V2 yet", where=root)
    results = [path for path in map(numbers, results_of(presets)) if _is_there(root / path, length)]
    shown = (*ENSEMBLES, MEAN, *results_of(PRESETS))
    return {
        "format": FORMAT,
        "scale": scale,
        "repeats": repeats,
        "measure": "mAP on V2" if length == OF_CHALLENGE else f"mAP@{length.text} on V2",
        "models": models,
        "single": found.best_of([member.name for member in all_members]),
        "ensembles": ensembles,
        "best": ours,
        "best_single": best_single,
        "chosen": best_result(root, results) if results else None,
        "classes": _classes(found, (best_single, *shown)),
    }


def _best_single(models: Iterable[dict[str, Any]]) -> str | None:
    """The name of the model with the best mean, the first of equals; None where none has one."""
    known = [model for model in models if model["mean"] is not None]
    return max(known, key=lambda model: model["mean"])["name"] if known else None


def _named(name: str, repeat: int) -> str:
    """The name in a repeat, as the plan has it: NL-1.r2, E1.r2-fused."""
    if repeat == 1:
        return name
    head = next((ensemble for ensemble in ENSEMBLES if name.startswith(f"{ensemble}-")), name)
    return f"{head}.r{repeat}{name[len(head) :]}"


def _is_there(path: Path, length: ListLength) -> bool:
    """Whether there are numbers by lists of this length: a call with another one may have left its
    own."""
    if not (path / "evaluation.json").is_file():
        return False
    told: str = read_json(path / "evaluation.json").get("k", OF_CHALLENGE.text)
    return told == length.text


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
    used = used_weights(found.root / "scores" / V2 / name)
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
        "across_halves": found.across_halves(name),
        "fused": fused,
        "searched": {**searched, **found.values(name + FUSED)},
        "refined": _refined(found, name + ITS_REFINED),
    }


def _searched(scores: Path) -> dict[str, Any]:
    """The exponents and the filter that a search on V2 found, and how far to trust them."""
    if not (scores / "made-by.json").is_file():
        return {}
    kept = read_json(scores / "made-by.json")
    across = kept["search"]["cross_validated"]
    return {"settings": kept["fused"], "cross_validated": across}


def _refined(found: Found, name: str) -> dict[str, Any]:
    """settings: alike, smooth and centre, 0 where none pays. cross_validated: of the best, and of
    the scores as they were, chosen on one half of V2's videos and scored on the other."""
    path = found.root / "scores" / V2 / name / "made-by.json"
    kept = read_json(path) if path.is_file() else None
    return {
        "settings": kept and kept["refined"],
        "cross_validated": kept and kept["search"]["cross_validated"],
        **found.values(name),
    }


# ---- our preset ----------------------------------------------------------------------------------


def _best(found: Found) -> dict[str, Any] | None:
    """Models and steps of our preset; None where nothing of it is there. missing: models that the
    mean lacks."""
    models = [
        {"name": member.name, "recipe": member.recipe, **found.values(member.name)}
        for member in best.members(found.scale)
    ]
    steps = [_mean_step(found), _refined_step(found)]
    if _is_there(found.root / numbers(LISTED), found.length):
        steps.append(_listed_step(found))
    if all(each["mean"] is None for each in (*models, *steps)):
        return None
    used = (steps[0]["settings"] or {}).get("weights", {})
    missing = sorted({model["name"] for model in models} - used.keys()) if used else []
    return {"models": models, "steps": steps, "missing": missing}


def _mean_step(found: Found) -> dict[str, Any]:
    """settings: which way of choosing weights V2 preferred, and those. cross_validated: of that
    way, of the best model alone and of equal weights, each chosen on one half of V2's videos and
    scored on the other."""
    scores = found.root / "scores" / V2 / MEAN
    settings = across = None
    if (scores / "made-by.json").is_file():
        kept = read_json(scores / "made-by.json")
        used = kept["search"]["used"]
        settings = {**kept["ensemble"], "by": used, "weights": used_weights(scores)}
        halves = {way["name"]: way["across_halves"] for way in kept["search"]["ways"]}
        if halves[used] is not None:
            across = {
                "mean_ap": halves[used],
                "single_mean_ap": halves["single"],
                "equal_mean_ap": halves["equal"],
            }
    of_step = {"name": MEAN, "says": "geometric mean, weights from V2"}
    return {**of_step, "settings": settings, "cross_validated": across, **found.values(MEAN)}


def _refined_step(found: Found) -> dict[str, Any]:
    path = found.root / "scores" / V2 / REFINED / "made-by.json"
    search = read_json(path)["search"] if path.is_file() else {}
    by_order = " by the order alone" if search.get("k") == LONGEST.text else ""
    says = f"smoothed and centred by video, settings from V2{by_order}"
    return {"name": REFINED, "says": says, **_refined(found, REFINED)}


def _listed_step(found: Found) -> dict[str, Any]:
    """settings: the length of the lists."""
    path = found.root / "scores" / V2 / LISTED / "made-by.json"
    settings = read_json(path)["shortlisted"] if path.is_file() else None
    of_step = {"name": LISTED, "says": f"listed by mean x best of the video, ordered as {REFINED}"}
    return {**of_step, "settings": settings, "cross_validated": None, **found.values(LISTED)}


# ---- classes -------------------------------------------------------------------------------------


def _classes(found: Found, names: Iterable[str]) -> dict[str, Any]:
    """AP a class of each that is there: parallel lists, in the order of the classes."""
    paths = {name: found.root / numbers(name) for name in dict.fromkeys(names)}
    rows = {n: _class_rows(path) for n, path in paths.items() if _is_there(path, found.length)}
    there = {name: of_classes for name, of_classes in rows.items() if of_classes}
    first = next(iter(there.values()), [])
    return {
        "ids": [int(row["Index"]) for row in first],
        "names": [row["Name"] for row in first],
        "positives": [int(row["Positives"]) for row in first],
        "ap": {
            name: [float(row["AP"]) if row["AP"] else None for row in of_classes]
            for name, of_classes in there.items()
        },
    }


def _class_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "classes.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
