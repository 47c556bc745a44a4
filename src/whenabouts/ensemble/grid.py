"""Settings tried one by one on rated pairs: what each gives, and what choosing the best is worth.

The best of N trials looks better on the pairs it was chosen on than it is: see `halves`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from whenabouts.core.settings import to_dict
from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.halves import choose_across

Settings = TypeVar("Settings")
# mAP over all videos, over the first half of them, over the second; NaN without positives.
MeanAPs = tuple[float, float, float]


@dataclass(frozen=True)
class Trial(Generic[Settings]):
    settings: Settings
    mean_ap: float

    def to_dict(self) -> dict[str, Any]:
        return {**to_dict(self.settings), "mean_ap": self.mean_ap}


@dataclass(frozen=True)
class Across(Generic[Settings]):
    """Means over the two halves of the videos, each scored with what is best on the other.

    chosen: on the first half and on the second; mean_ap: of the chosen; of_each: of each that was
    tried, on the same halves, in the order they were tried in. A half has fewer pairs a class than
    the whole, so these compare with each other, not with the mAP of a trial.
    """

    chosen: tuple[Settings, Settings]
    mean_ap: float
    of_each: tuple[float, ...]


@dataclass(frozen=True)
class Tried(Generic[Settings]):
    """in_order: as they were tried; across: None if a half has no positive."""

    in_order: tuple[Trial[Settings], ...]
    across: Across[Settings] | None

    @property
    def best_first(self) -> tuple[Trial[Settings], ...]:
        """Of equals the one tried first comes first."""
        return tuple(sorted(self.in_order, key=lambda trial: -trial.mean_ap))


def try_each(
    settings: Iterable[Settings], mean_aps_of: Callable[[Settings], MeanAPs]
) -> Tried[Settings]:
    """Try each of the settings once, in their order."""
    tried = tuple(dict.fromkeys(settings))
    mean_aps = np.array(list(map_in_order(mean_aps_of, tried)))
    trials = tuple(Trial(s, m) for s, m in zip(tried, mean_aps[:, 0].tolist()))
    halves = choose_across(mean_aps[:, 1:])
    if halves is None:
        return Tried(trials, None)
    on_first, on_second = halves.chosen
    of_each = tuple(mean_aps[:, 1:].mean(axis=1).tolist())
    return Tried(trials, Across((tried[on_first], tried[on_second]), halves.estimate, of_each))
