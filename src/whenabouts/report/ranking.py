"""Classes by their AP: order, extremes, chosen ones, and what a random order would reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROLES = {0.0: "best", 0.25: "upper quartile", 0.5: "median", 0.75: "lower quartile", 1.0: "worst"}


def random_order_ap(
    num_rated: NDArray[np.int64],
    num_positives: NDArray[np.int64],
    num_ranked: int | None = None,
    k: int = 0,
) -> NDArray[np.float64]:
    """The expected AP of each class [C] when all that is ranked stands in random order; NaN without
    positives. num_ranked, k: how many segments there are, and how many a list holds; all where
    num_ranked is None.

    With N rated pairs, P of them positive, and n of them in the list: a place i <= n holds a
    positive with probability P / N, and then each of the i - 1 places above does with
    (P - 1) / (N - 1). The mean of precision x relevance summed over i is
    (H + (n - H) (P - 1) / (N - 1)) / N, where H = 1 + 1/2 + ... + 1/n. Where the list is cut n is
    random: its mean is N k / num_ranked, and that of H is the sum over j <= N of r_j / j, where r_j
    is the probability that one of j given segments or more is in the list.
    """
    n = num_rated.astype(np.float64)
    count = np.arange(1, num_rated.max(initial=0) + 1)
    share, reach = 1.0, np.ones(len(count))
    if num_ranked is not None and k < num_ranked:
        share, reach = k / num_ranked, _reach(count, num_ranked, k)
    h = np.concatenate([[0.0], np.cumsum(reach / count)])[num_rated]
    others = (num_positives - 1) / np.maximum(n - 1, 1)
    expected = (h + (share * n - h) * others) / np.maximum(n, 1)
    return np.where(num_positives > 0, expected, np.nan)


def _reach(count: NDArray[np.int64], num_ranked: int, k: int) -> NDArray[np.float64]:
    """The probability that one of `count` (1, 2, ...) given items, or more, is among the first k of
    num_ranked in random order."""
    left = np.maximum(num_ranked - k - (count - 1), 0) / np.maximum(num_ranked - (count - 1), 1)
    return 1 - np.cumprod(left, dtype=np.float64)


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
