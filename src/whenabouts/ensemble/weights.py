"""Search of the weights of an ensemble, on what was held out of its members' training.

Four ways to choose them, the plainest first:

    equal    the same for all
    single   all to the member that is best alone
    draws    the best of N random draws, uniform over weights that sum to 1, and of the above
             (500: Skalic & Austin 2018)
    ascent   from equal weights, one member's weight at a time is moved up or down, the others in
             proportion, as long as the metric rises; then again with smaller steps

Each has a metric on all videos, which flatters it, for the weights were chosen on them; and an
estimate across halves of the videos (see `halves`): chosen on one half, scored on the other. The
way with the best estimate is used, of equals the plainest, with the weights it gives on all videos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from whenabouts.ensemble.halves import choose_across
from whenabouts.ensemble.trials import Trials

WayName = Literal["equal", "single", "draws", "ascent"]
WAYS: tuple[WayName, ...] = get_args(WayName)
NUM_DRAWS = 500
STEPS = (0.4, 0.2, 0.1, 0.05)
MAX_SWEEPS = 4
Metric = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class Way:
    """weights: [K], found on all videos; value: the metric there; across_halves: the estimate, None
    if a half has no positive. A half has fewer videos than the whole, so estimates compare with
    each other, not with values. num_trials: weights tried, on all videos."""

    name: WayName
    weights: tuple[float, ...]
    value: float
    across_halves: float | None
    num_trials: int

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "weights": list(self.weights)}


@dataclass(frozen=True)
class WeightSearch:
    """ways: one each of WAYS; alone: the metric of each member [K]; judged_on: what, in words."""

    metric: str
    judged_on: str
    ways: tuple[Way, ...]
    alone: tuple[float, ...]

    @property
    def best(self) -> Way:
        """Compared by value only where there is no estimate."""
        return max(self.ways, key=lambda w: w.value if w.across_halves is None else w.across_halves)

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "judged_on": self.judged_on,
            "used": self.best.name,
            "ways": [way.to_dict() for way in self.ways],
            "alone": list(self.alone),
        }


def search_weights(trials: Trials, num_draws: int = NUM_DRAWS, seed: int = 0) -> WeightSearch:
    """Try all ways. The same trials and seed give the same weights."""
    num_members = trials.num_members
    tried = weights_to_try(num_members, num_draws, seed)
    metrics = np.array([trials.metrics(weights) for weights in tried])
    ways = (
        _best_of("equal", tried[:1], metrics[:1]),
        _best_of("single", tried[1 : 1 + num_members], metrics[1 : 1 + num_members]),
        _best_of("draws", tried, metrics),
        _by_ascent(trials, has_halves=not np.isnan(metrics).any()),
    )
    alone = tuple(metrics[1 : 1 + num_members, 0].tolist())
    return WeightSearch(trials.metric, trials.judged_on, ways, alone)


def weights_to_try(num_members: int, num_draws: int, seed: int) -> NDArray[np.float64]:
    """[1 + K + num_draws, K]: equal weights, each member alone, then the random draws."""
    rng = np.random.default_rng(seed)
    equal = np.full((1, num_members), 1 / num_members)
    draws = rng.dirichlet(np.ones(num_members), num_draws)
    return np.concatenate([equal, np.eye(num_members), draws])


def ascend(metric: Metric, start: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """(weights [K] from which no step along one of them raises the metric, trials made)."""
    best, highest, num_trials = start, metric(start), 1
    for step in STEPS:
        for _ in range(MAX_SWEEPS):
            before = highest
            for moved in ((k, way * step) for k in range(len(best)) for way in (1, -1)):
                weights = _moved(best, *moved)
                value, num_trials = metric(weights), num_trials + 1
                if value > highest:
                    best, highest = weights, value
            if highest == before:
                break
    return best, num_trials


def _moved(weights: NDArray[np.float64], k: int, change: float) -> NDArray[np.float64]:
    """Weight k changed, within [0, 1], and the others in proportion; equal ones if they were 0."""
    others = weights.copy()
    others[k] = 0
    if not others.any():
        others[np.arange(len(others)) != k] = 1
    share = min(max(weights[k] + change, 0.0), 1.0)
    moved = others * ((1 - share) / max(others.sum(), np.finfo(float).tiny))
    moved[k] = share
    normalised: NDArray[np.float64] = moved / moved.sum()
    return normalised


def _best_of(name: WayName, tried: NDArray[np.float64], metrics: NDArray[np.float64]) -> Way:
    """metrics: [N, 3], as of `Trials.metrics`; of equals the first is the best."""
    best = int(metrics[:, 0].argmax())
    across = choose_across(metrics[:, 1:])
    estimate = across.estimate if across else None
    weights = tuple(tried[best].tolist())
    return Way(name, weights, float(metrics[best, 0]), estimate, len(tried))


def _by_ascent(trials: Trials, *, has_halves: bool) -> Way:
    start = np.full(trials.num_members, 1 / trials.num_members)

    def ascended(part: int) -> tuple[NDArray[np.float64], int]:
        return ascend(lambda weights: trials.metrics(weights)[part], start)

    weights, num_trials = ascended(0)
    estimate = None
    if has_halves:
        of_first, of_second = trials.metrics(ascended(1)[0]), trials.metrics(ascended(2)[0])
        estimate = (of_first[2] + of_second[1]) / 2
    return Way("ascent", tuple(weights.tolist()), trials.metrics(weights)[0], estimate, num_trials)
