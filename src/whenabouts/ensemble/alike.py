"""How alike the segments of a video are, by their scores in all classes; means over alike ones.

    d_st = sum_c 1 - sqrt(p_sc p_tc) - sqrt((1 - p_sc)(1 - p_tc))
    u_s = sum_t w_st z_t / sum_t w_st          w_st = exp(-d_st / L),  s and t of one video

d is the squared Hellinger distance of two answers, class by class, so that L counts classes: two
segments share little where they disagree altogether in more classes than that. The mean over what
looks alike, however far apart, is that of non-local means (Buades, Coll & Morel, "A non-local
algorithm for image denoising", 2005). A scene that comes back is averaged with itself, and nothing
leaks over a cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1 << 20  # distances; so that a video of a day, too, takes little memory


def alike_means(
    values: NDArray[np.float64],
    scores: NDArray[np.floating],
    first: NDArray[np.int64],
    alike: Sequence[float],
) -> list[NDArray[np.float64]]:
    """u [N, C] of values z [N, C] for each L of `alike`; L = 0 gives the values themselves.

    scores: [N, C] in [0, 1]. Video k has rows first[k] : first[k + 1].
    """
    found = [np.empty_like(values) if each else values for each in alike]
    shared = [(each, means) for each, means in zip(alike, found) if each]
    for start, stop in pairwise(first.tolist()) if shared else ():
        video = slice(start, stop)
        parts = [(each, means[video]) for each, means in shared]
        _write_means(parts, values[video], roots(scores[video]))
    return found


def roots(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """sqrt(p) and sqrt(1 - p), side by side [N, 2 C]: C less their products are distances."""
    values = scores.astype(np.float64)
    found: NDArray[np.float64] = np.sqrt(np.concatenate([values, 1 - values], axis=1))
    return found


def distances(of: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """d [N, M] of the `roots` of N and of M segments."""
    num_classes = of.shape[1] // 2
    found: NDArray[np.float64] = np.maximum(num_classes - of @ to.T, 0)
    return found


def _write_means(
    parts: Sequence[tuple[float, NDArray[np.float64]]],
    values: NDArray[np.float64],
    of: NDArray[np.float64],
) -> None:
    """parts: each L, and where u of a video's values [n, C] goes; of: the video's `roots`."""
    step = max(1, AT_ONCE // len(values))
    for start in range(0, len(values), step):
        stop = min(start + step, len(values))
        apart = distances(of[start:stop], of)
        for alike, means in parts:
            with np.errstate(over="ignore", under="ignore"):
                weights = np.exp(-apart / alike)
            # 1, whatever rounding made of a distance of 0
            weights[np.arange(stop - start), np.arange(start, stop)] = 1
            means[start:stop] = weights @ values / weights.sum(1, keepdims=True)
