"""What a choice among trials is worth: chosen on one half of the videos, scored on the other.

The best of N trials looks better on what it was chosen on than it is. The halves (see
`rated_pairs.first_half`) change places, and the estimate is the mean of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AcrossHalves:
    """chosen: the trial that is best on the first half, and on the second; estimate: the mean of
    what each gives on the other half."""

    chosen: tuple[int, int]
    estimate: float


def choose_across(of_halves: NDArray[np.float64]) -> AcrossHalves | None:
    """of_halves: [N, 2], the metric of each trial on the first half and on the second, the higher
    the better; of equals the first is chosen. None if a half has no positive (NaN)."""
    if np.isnan(of_halves).any():
        return None
    on_first, on_second = of_halves.argmax(axis=0).tolist()
    estimate = float(of_halves[on_first, 1] + of_halves[on_second, 0]) / 2
    return AcrossHalves((on_first, on_second), estimate)
