"""Commands that depend on what earlier stages found: which members there are, what V2 chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whenabouts.core.errors import StageError
from whenabouts.recipes.published import ENSEMBLES, weights_of_present
from whenabouts.workflow.stage import Commands, LateCommands

FUSED = "-fused"  # behind the name of an ensemble


def average_present(weights: Mapping[Path, float], out: Path, then: Commands = ()) -> LateCommands:
    """The weighted mean of those members' Scores that there are. weights: by Scores folder."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        of_path = {str(path): weight for path, weight in weights.items()}
        kept = weights_of_present(of_path, {str(path) for path in there})
        words = ("ensemble", *kept, "-o", str(out), "--weights", *map(repr, kept.values()))
        return (words, *then)

    return commands


def fuse_as_on_v2(segments: Path, videos: Path, chosen: Path, out: Path) -> LateCommands:
    """Fuse with the exponents and the filter that a search on V2 found. chosen: its Scores."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        found = read_json(root / chosen / "made-by.json")["fused"]
        exponents, candidates = found["exponents"], found["candidates"]
        flags = {
            "--video-exponent": exponents["video"],
            "--segment-exponent": exponents["segment"],
            **{f"--{name.replace('_', '-')}": value for name, value in candidates.items()},
        }
        given = ((name, str(value)) for name, value in flags.items() if value is not None)
        words = ("fuse", str(segments), str(videos), "-o", str(out))
        return ((*words, *(word for pair in given for word in pair)),)

    return commands


def submit_best(target: str, out: Path) -> LateCommands:
    """The submission file of the target by the ensemble that is best on V2."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        best = best_ensemble(root, _numbers(there))
        scores = Path("scores", target, best + FUSED)
        if scores not in there:
            raise StageError("not there", where=scores, rule=f"{best} is the best on V2")
        return (("submit", str(scores), "-o", str(out)),)

    return commands


def report_best(index: Path, out: Path) -> LateCommands:
    """The page about the ensemble that is best on V2."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        best = best_ensemble(root, _numbers(there))
        title = f"whenabouts reproduce: {best}, fused with the video classifier"
        scores = str(Path("scores", "v2", best + FUSED))
        return (("report", scores, str(index), "-o", str(out), "--title", title),)

    return commands


def best_ensemble(root: Path, numbers: Iterable[Path]) -> str:
    """The ensemble whose fused Scores have the best mAP on V2, the first of equals.

    Raises StageError if none is evaluated.
    """
    names = {path.name.removesuffix(FUSED): path for path in numbers}
    found = {name: mean_ap(root / names[name]) for name in ENSEMBLES if name in names}
    if not found:
        raise StageError("no ensemble is evaluated on V2", where=root, remedy="run one of E1..E5")
    return max(found, key=lambda name: found[name])


def mean_ap(numbers: Path) -> float:
    """mAP of segments in a folder that `evaluate --out` wrote."""
    value = read_json(numbers / "evaluation.json")["segments"]["mean_ap"]
    return float("nan") if value is None else float(value)


def _numbers(there: frozenset[Path]) -> list[Path]:
    return [path for path in there if path.parts[0] == "numbers"]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a stage made. Raises StageError where it holds no JSON."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"not JSON ({error})", where=path) from error
    return values
