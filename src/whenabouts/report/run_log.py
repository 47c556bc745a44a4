"""What a run wrote while it trained: `metrics.jsonl` as curves, `recipe.json` as a dictionary."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RunError
from whenabouts.metrics.watched import MEASURES, Measure

Record = dict[str, Any]
MOST_LEVELS = 12


@dataclass(frozen=True)
class Curve:
    """Finite values [N] at rising steps [N], counted within the phase."""

    step: NDArray[np.float64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Phase:
    """One stretch of training; its step 0 stands at `first_step` of the whole run.

    watched: what was evaluated, a curve a split, and measure: its key among MEASURES.
    num_not_finite: losses that were NaN or infinite, not drawn.
    """

    name: str
    first_step: float
    num_steps: float
    seconds: float
    segments_per_s: float
    loss: Curve
    learning_rate: Curve
    measure: Measure
    watched: dict[str, Curve]
    num_not_finite: int


@dataclass(frozen=True)
class Best:
    split: str
    phase: str
    step: float
    whole_step: float
    measure: Measure
    value: float


def read_run_log(path: str | Path) -> tuple[Phase, ...]:
    """The phases of a `metrics.jsonl` in the order they ran.

    A broken last line (a killed run) is skipped; where a resumed run repeats steps, the later
    lines count. Raises RunError at any other line that is not an object with kind, phase, step.
    """
    by_phase: dict[str, list[Record]] = {}
    for record in _read_records(Path(path)):
        by_phase.setdefault(record["phase"], []).append(record)
    phases: list[Phase] = []
    for name, records in by_phase.items():
        first = phases[-1].first_step + phases[-1].num_steps if phases else 0.0
        phases.append(_phase(name, first, records))
    return tuple(phases)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The settings a run was trained with. Raises RunError if it is no JSON object or too deep."""
    try:
        recipe = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"not JSON ({error})", where=path, rule="a recipe is a JSON object"
        ) from error
    if not isinstance(recipe, dict):
        raise RunError("not a JSON object", where=path, rule="a recipe is a table of settings")
    if not _is_shallow(recipe, MOST_LEVELS):
        raise RunError("too deep", where=path, rule=f"settings have at most {MOST_LEVELS} levels")
    return recipe


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def splits(phases: Iterable[Phase]) -> list[str]:
    """The evaluated splits, V2 (the one runs are chosen by) first."""
    return sorted({s for phase in phases for s in phase.watched}, key=lambda s: (s != "v2", s))


def best_of(phases: Iterable[Phase], split: str) -> Best:
    """The highest value of a split over all phases, the first of equals."""
    found = [
        Best(split, phase.name, step, phase.first_step + step, phase.measure, value)
        for phase in phases
        if split in phase.watched
        for step, value in zip(phase.watched[split].step, phase.watched[split].value)
    ]
    return max(found, key=lambda best: best.value)


def measure_name(phases: Iterable[Phase]) -> str:
    """The name of what was watched: that of the first phase that watched anything, else mAP."""
    measures = [phase.measure for phase in phases if phase.watched]
    return MEASURES[measures[0] if measures else "mean_ap"]


def smooth(curve: Curve, num_windows: int = 40) -> Curve:
    """The centred running mean over 1/`num_windows` of the curve, narrower towards both ends."""
    half = len(curve) // (2 * num_windows)
    total = np.concatenate([[0.0], np.cumsum(curve.value)])
    at = np.arange(len(curve))
    reach = np.minimum(half, np.minimum(at, len(curve) - 1 - at))
    mean = (total[at + reach + 1] - total[at - reach]) / (2 * reach + 1)
    return Curve(curve.step, mean)


def thin(curve: Curve, most: int = 1500) -> Curve:
    """At most `most` points: means of neighbours, so that a long run's page stays small."""
    if len(curve) <= most:
        return curve
    starts = np.linspace(0, len(curve), most, endpoint=False).astype(np.int64)
    count = np.diff(np.append(starts, len(curve)))
    return Curve(*(np.add.reduceat(a, starts) / count for a in (curve.step, curve.value)))


def _read_records(path: Path) -> Iterator[Record]:
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return
            raise _broken(path, number, "not JSON") from error
        if not isinstance(record, dict):
            raise _broken(path, number, "not an object")
        if record.get("kind") not in ("train", "evaluate"):
            continue
        if not isinstance(record.get("phase"), str):
            raise _broken(path, number, "no phase")
        if not math.isfinite(_number(record, "step")):
            raise _broken(path, number, "no step")
        yield record


def _broken(path: Path, number: int, fact: str) -> RunError:
    return RunError(
        fact, where=f"{path}, line {number}", rule="a line is an object with kind, phase and step"
    )


def _phase(name: str, first_step: float, records: list[Record]) -> Phase:
    train = _unrepeated([r for r in records if r.get("kind") == "train"])
    looked = [r for r in records if r.get("kind") == "evaluate"]
    measure: Measure = next((m for m in MEASURES if any(m in r for r in looked)), "mean_ap")
    evaluate = [r for r in looked if measure in r]
    losses = np.array([_number(r, "loss") for r in train if "loss" in r])
    curves = {
        split: _curve(_unrepeated([r for r in evaluate if r.get("split") == split]), measure)
        for split in sorted({str(r.get("split")) for r in evaluate})
    }
    return Phase(
        name=name,
        first_step=first_step,
        num_steps=max((_number(r, "step") for r in train + evaluate), default=0.0),
        seconds=max(_finite(records, "time_s"), default=math.nan),
        segments_per_s=float(np.median(_finite(train, "segments_per_s") or [math.nan])),
        loss=_curve(train, "loss"),
        learning_rate=_curve(train, "learning_rate"),
        measure=measure,
        watched={split: curve for split, curve in curves.items() if len(curve)},
        num_not_finite=int((~np.isfinite(losses)).sum()),
    )


def _unrepeated(records: list[Record]) -> list[Record]:
    """Records of rising step: one that goes back (a resumed run) takes back what it repeats."""
    kept: list[Record] = []
    for record in records:
        while kept and kept[-1]["step"] >= record["step"]:
            kept.pop()
        kept.append(record)
    return kept


def _curve(records: list[Record], key: str) -> Curve:
    points = np.array([(_number(r, "step"), _number(r, key)) for r in records]).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)]
    return Curve(points[:, 0], points[:, 1])


def _finite(records: list[Record], key: str) -> list[float]:
    return [value for r in records if math.isfinite(value := _number(r, key))]


def _number(record: Record, key: str) -> float:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
