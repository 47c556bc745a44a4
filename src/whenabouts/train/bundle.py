"""Bundle: one or several trained runs in one folder, to be handed on; they score as one model.

bundle.json     the members in order: folder, weight in the mean, what it was trained on
1-netvlad/ ..   a member: a run's folder, of which only what prediction needs is there

A member may be used as the run that it is. `train/export.py` writes bundles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import RunError
from whenabouts.core.settings import from_dict, kept_settings
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.weighted_mean import WeightedMean
from whenabouts.train.run import Run, open_run, read_object, what_a_model_sees

FORMAT = 1
FILE = "bundle.json"
ROUNDING = 1e-6  # how far the weights' sum may be from 1


@dataclass(frozen=True)
class Member:
    """A member as bundle.json has it; run: its folder within the bundle."""

    run: str
    weight: float
    trained_on: tuple[str, ...]


@dataclass(frozen=True)
class BundleFile:
    """What bundle.json holds. bits: those of a weight of its large tensors."""

    members: tuple[Member, ...]
    bits: int
    format: int
    whenabouts: str


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: members that agree in what they score, and their weights in the mean."""

    path: Path
    members: tuple[Run, ...]
    weights: tuple[float, ...]

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        """The members as one model, in evaluation mode, and the facts stored with their weights.

        It was trained on whatever any of them was trained on.
        """
        loaded = [run.load_model() for run in self.members]
        members = [
            {**facts, "run": run.path.name, "weight": weight}
            for run, weight, (_, facts) in zip(self.members, self.weights, loaded)
        ]
        seen = {split for run, (_, facts) in zip(self.members, loaded)
                for split in trained_on(run, facts)}  # fmt: skip
        model = WeightedMean([model for model, _ in loaded], self.weights)
        return model.eval(), {"members": members, "trained_on": sorted(seen)}

    @property
    def scores_videos(self) -> bool:
        """Whether its members are video classifiers."""
        return self.members[0].scores_videos

    @property
    def scored_classes(self) -> ClassOrder:
        """The class order of its scores."""
        return self.members[0].scored_classes

    def fingerprint(self) -> bytes:
        """Differs for other members, and for other weights in the mean."""
        parts = [repr(self.weights).encode(), *(run.fingerprint() for run in self.members)]
        return b"".join(parts)

    def check_fits(self, corpus: Corpus) -> None:
        """Raise RunError unless the corpus has the features the members were trained on."""
        self.members[0].check_fits(corpus)


def open_scorer(path: str | Path) -> Run | Bundle:
    """Open whichever is there, a run or a bundle. Raises RunError where it is neither."""
    path = Path(path)
    if (path / FILE).is_file():
        return open_bundle(path)
    if (path / "recipe.json").is_file():
        return open_run(path)
    found = f"no recipe.json here, and no {FILE}" if path.is_dir() else "no folder here"
    raise RunError(
        found,
        where=path,
        rule="a run and a bundle are folders",
        remedy="make one with 'whenabouts train' or 'whenabouts export'",
    )


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle's folder. Raises RunError where it is none or its members do not agree."""
    path = Path(path)
    kept = _read_bundle_file(path / FILE)
    for member in kept.members:
        if member.run in ("", ".", "..") or Path(member.run).name != member.run:
            fact = f"a member's folder is '{member.run}'"
            raise RunError(fact, where=path / FILE, rule="it is a name of a folder in the bundle")
    runs = tuple(open_run(path / member.run) for member in kept.members)
    check_agree(runs)
    return Bundle(path, runs, tuple(member.weight for member in kept.members))


def _read_bundle_file(path: Path) -> BundleFile:
    try:
        values = read_object(path)
    except FileNotFoundError as error:
        raise RunError(
            f"no {FILE} here", where=path.parent, rule="a bundle is a folder",
            remedy="make one with 'whenabouts export RUN -o BUNDLE'",
        ) from error  # fmt: skip
    if values.get("format") != FORMAT:
        raise RunError(f"format is {values.get('format')}", where=path, rule=f"it must be {FORMAT}")
    with kept_settings(RunError):
        kept = from_dict(BundleFile, values, str(path))
    weights = [member.weight for member in kept.members]
    if not all(weight > 0 for weight in weights) or not abs(math.fsum(weights) - 1) <= ROUNDING:
        raise RunError(
            f"its weights are {weights}", where=path,
            rule="there is a member at least, and their weights are above 0 and sum to 1",
        )  # fmt: skip
    return kept


def check_agree(runs: Sequence[Run]) -> None:
    """Raise RunError unless all score the same classes of the same features."""
    first, *others = runs
    for run in others:
        fact = _disagreement(run, first)
        if fact:
            raise RunError(
                fact,
                where=run.path,
                rule=f"members of a bundle agree with the first of them, {first.path}",
                remedy="export them apart",
            )


def _disagreement(run: Run, first: Run) -> str:
    """In what the run differs from the first member; empty if in nothing that counts."""
    if run.scores_videos != first.scores_videos:
        kinds = {True: "whole videos", False: "segments"}
        return f"it scores {kinds[run.scores_videos]}, not {kinds[first.scores_videos]}"
    ours, theirs = run.scored_classes.ids, first.scored_classes.ids
    if ours != theirs:
        is_same_set = sorted(ours) == sorted(theirs)
        fact = "stand in another order" if is_same_set else f"are not those {len(theirs)}"
        return f"its {len(ours)} classes {fact}"
    seen, expected = what_a_model_sees(run.dataset), what_a_model_sees(first.dataset)
    return f"it was trained on {seen}, not on {expected}" if seen != expected else ""


def trained_on(run: Run, facts: dict[str, Any]) -> tuple[str, ...]:
    """The splits a run was trained on, as its weights say. Raises RunError if they do not."""
    splits = facts.get("trained_on")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise RunError(
            f"it was trained on {splits!r}", where=run.weights_path,
            rule="weights say which splits they were trained on, as a list of names",
        )  # fmt: skip
    return tuple(splits)
