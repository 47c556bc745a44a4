"""Search of the weights of an ensemble, on what was held out of its members' training.

Five ways to choose them, the plainest first:

    equal    the same for all
    single   all to the member that is best alone
    draws    the best of N random draws, uniform over weights that sum to 1, and of the above
             (500: Skalic & Austin 2018)
    ascent   from equal weights, one member's weight at a time is moved up or down, the others in
             proportion, as long as the metric rises; then again with smaller steps
    convex   what makes a smooth count of wrongly ordered pairs smallest (see `trials.PairLoss`): a
             convex function, so that there is one smallest value and no draw decides. By
             exponentiated gradient, u <- u exp(-rate g), which stays above 0 (Kivinen & Warmuth
             1997); divided by their sum, u are the weights

Weights that are given (published ones, say) stand beside them as `given`: what is looked for must
beat them. They may be used, too.

Each has a metric on all videos, which flatters it, for the weights were chosen on them; and an
estimate across halves of the videos (see `halves`): chosen on one half, scored on the other. The
way with the best estimate is used, of equals the plainest, with the weights it gives on all videos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.halves import choose_across
from whenabouts.ensemble.trials import Trials

WayName = Literal["given", "equal", "single", "draws", "ascent", "convex"]
WAYS: tuple[WayName, ...] = get_args(WayName)[1:]  # of which there is always one
NUM_DRAWS = 500
STEPS = (0.4, 0.2, 0.1, 0.05)
MAX_SWEEPS = 4
DESCENT_STEPS = 300
NEGLIGIBLE = 1e-4
LEAST_FALL = 1e-7  # of the loss in a step, in parts of it, before the descent has arrived
Metric = Callable[[NDArray[np.float64]], float]


class Convex(Protocol):
    """A convex function of weights [K] >= 0: its value and its gradient."""

    def at(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]: ...


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
    """ways: the given one, if any, and one each of WAYS; alone: the metric of each member [K];
    judged_on: what, in words."""

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


def search_weights(
    trials: Trials,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    given: tuple[float, ...] | None = None,
    on_draw: Callable[[int], object] | None = None,
) -> WeightSearch:
    """Try all ways. The same trials and seed give the same weights. given: weights [K], which sum
    to 1, to be compared. on_draw(1) is called after each of the drawn weights."""
    num_members = trials.num_members
    tried = weights_to_try(num_members, num_draws, seed)
    of_each = []
    for of_weights in map_in_order(trials.metrics, tried):
        of_each.append(of_weights)
        if on_draw is not None:
            on_draw(1)
    metrics = np.array(of_each)
    has_halves = not np.isnan(metrics).any()
    ways = (
        *(() if given is None else (_given(trials, np.array(given), has_halves=has_halves),)),
        _best_of("equal", tried[:1], metrics[:1]),
        _best_of("single", tried[1 : 1 + num_members], metrics[1 : 1 + num_members]),
        _best_of("draws", tried, metrics),
        _by_ascent(trials, has_halves=has_halves),
        _by_descent(trials, has_halves=has_halves),
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


def _given(trials: Trials, weights: NDArray[np.float64], *, has_halves: bool) -> Way:
    whole, first, second = trials.metrics(weights)
    estimate = (first + second) / 2 if has_halves else None
    return Way("given", tuple(weights.tolist()), whole, estimate, 1)


def _by_ascent(trials: Trials, *, has_halves: bool) -> Way:
    start = np.full(trials.num_members, 1 / trials.num_members)
    return _by_parts(
        "ascent",
        trials,
        lambda part: ascend(lambda weights: trials.metrics(weights)[part], start),
        has_halves=has_halves,
    )


def _by_descent(trials: Trials, *, has_halves: bool) -> Way:
    def descended(part: int) -> tuple[NDArray[np.float64], int]:
        return descend(trials.pair_loss(part), trials.num_members)

    return _by_parts("convex", trials, descended, has_halves=has_halves)


def _by_parts(
    name: WayName,
    trials: Trials,
    found_on: Callable[[int], tuple[NDArray[np.float64], int]],
    *,
    has_halves: bool,
) -> Way:
    """found_on(part) -> (weights [K], trials made) on all videos (0) or a half of them (1, 2)."""
    weights, num_trials = found_on(0)
    estimate = None
    if has_halves:
        of_first, of_second = trials.metrics(found_on(1)[0]), trials.metrics(found_on(2)[0])
        estimate = (of_first[2] + of_second[1]) / 2
    return Way(name, tuple(weights.tolist()), trials.metrics(weights)[0], estimate, num_trials)


def descend(loss: Convex, num_members: int) -> tuple[NDArray[np.float64], int]:
    """(weights [K], what makes the loss smallest divided by its sum; evaluations made).

    From equal weights. A step that does not lower the loss is not taken, and the next is half as
    long; one that does makes the next a fifth longer. No step changes a weight by more than a
    factor of e. Shares below NEGLIGIBLE, which the descent only nears 0 with, are 0.
    """
    weights, num_tried = np.full(num_members, 1 / num_members), 1
    value, gradient = loss.at(weights)
    rate = np.inf
    for _ in range(DESCENT_STEPS):
        rate = min(rate, 1 / max(float(np.abs(gradient).max()), 1e-12))
        tried = weights * np.exp(-rate * gradient)
        (lower, slope), num_tried = loss.at(tried), num_tried + 1
        if lower < value:
            has_arrived = value - lower < LEAST_FALL * abs(value)
            weights, value, gradient, rate = tried, lower, slope, rate * 1.2
        else:
            has_arrived, rate = bool(np.allclose(tried, weights, rtol=1e-7)), rate / 2
        if has_arrived:
            break
    share = weights / weights.sum()
    share[share < NEGLIGIBLE] = 0
    return share / share.sum(), num_tried
