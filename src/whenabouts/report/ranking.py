"""Classes by their AP: order, extremes, chosen ones, and what a random order would reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROLES = {0.0: "best", 0.25: "upper quartile", 0.5: "median", 0.75: "lower quartile", 1.0: "worst"}


def random_order_ap(
    num_rated: NDArray[np.int64], num_positives: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The expected AP of each class [C] when its rated pairs stand in random order; NaN without
    positives.

    With N rated pairs, P of them positive: a place k holds a positive with probability P / N, and
    then each of the k - 1 places above does with (P - 1) / (N - 1). The mean of precision x
    relevance summed over k is (H + (N - H) (P - 1) / (N - 1)) / N, where H = 1 + 1/2 + ... + 1/N.
    """
    n = num_rated.astype(np.float64)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, num_rated.max(initial=0) + 1))])
    h = harmonic[num_rated]
    others = (num_positives - 1) / np.maximum(n - 1, 1)
    expected = (h + (n - h) * others) / np.maximum(n, 1)
    return np.where(num_positives > 0, expected, np.nan)


def best_first(ap: NDArray[np.float64]) -> NDArray[np.int64]:
    """The columns by falling AP, equals by column; classes without AP (NaN) are left out."""
    order = np.argsort(-ap, kind="stable")
    return order[np.isfinite(ap[order])]


def extremes(ap: NDArray[np.float64], num: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The columns of the `num` best and the `num` worst classes, both best first, none in both."""
    order = best_first(ap)
    num_best = min(num, -(-len(order) // 2))
    num_worst = min(num, len(order) - num_best)
    return order[:num_best], order[len(order) - num_worst :]


def chosen_columns(
    ap: NDArray[np.float64], num_positives: NDArray[np.int64], min_positives: int
) -> dict[int, str]:
    """The best, quartile and worst columns, each with that word, none twice.

    Taken among the classes of at least `min_positives` rated positives (among all with an AP if
    none has so many): with one or two positives a curve says nothing.
    """
    order = best_first(ap)
    many = order[num_positives[order] >= min_positives]
    order = many if len(many) else order
    chosen: dict[int, str] = {}
    if len(order):
        for share, role in ROLES.items():
            chosen.setdefault(int(order[round(share * (len(order) - 1))]), role)
    return chosen
