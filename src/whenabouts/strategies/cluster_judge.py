"""How well pseudo-labels agree with ratings that were held back: V2's.

The clusters label the rated segments of V2 as they label any other; what they say is compared with
the ratings, and goes nowhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.metrics.segment_map import POSITIVE
from whenabouts.strategies.cluster_votes import Opinions


def judgement(
    segment: NDArray[np.int64],
    column: NDArray[np.int64],
    truth: NDArray[np.floating],
    opinions: Opinions,
    in_label: NDArray[np.bool_],
    num_classes: int,
) -> dict[str, float | int | None]:
    """Opinions on rated (segment, column) pairs [P] against what they are rated.

    in_label [P]: whether the class is a label of the pair's video. Of these pairs alone are counted
    `pairs`, and `base_rate`, the share that is positive, which labelling all of them would reach.

    labelled: pairs with a label; coverage: their share of `pairs`; mean_label: of them; precision:
    the share that is rated positive, of those labelled at least 0.5, and recall: the share of
    positive pairs that these are; negative_precision: the share rated negative, of those labelled
    below; brier: mean squared difference of label and rating, of those labelled.

    concordance: the chance that of two pairs of one class, one rated positive and one negative, the
    positive has more (share of frames x label); 0.5 is chance, equal ones count half.
    """
    place = _places(segment, column, opinions, num_classes)
    found = place >= 0
    label, strength = np.zeros(len(segment)), np.zeros(len(segment))
    label[found] = opinions.score[place[found]]
    strength[found] = label[found] * opinions.share[place[found]]
    is_labelled = found & in_label
    is_labelled[found] &= opinions.is_label[place[found]]
    is_positive = truth >= POSITIVE
    high, low = is_labelled & (label >= POSITIVE), is_labelled & (label < POSITIVE)
    return {
        "pairs": int(in_label.sum()),
        "base_rate": _mean(is_positive[in_label]),
        "labelled": int(is_labelled.sum()),
        "coverage": _mean(is_labelled[in_label]),
        "mean_label": _mean(label[is_labelled]),
        "precision": _mean(is_positive[high]),
        "recall": _mean(high[in_label & is_positive]),
        "negative_precision": _mean(~is_positive[low]),
        "brier": _mean((label - is_positive)[is_labelled] ** 2),
        "concordance": concordance(column[in_label], is_positive[in_label], strength[in_label]),
    }


def concordance(
    column: NDArray[np.int64], is_positive: NDArray[np.bool_], strength: NDArray[np.float64]
) -> float | None:
    """Over all classes, the share of (positive, negative) pairs of a class in the right order."""
    right = pairs = 0.0
    for k in np.unique(column):
        of_class = column == k
        positive = strength[of_class & is_positive]
        negative = np.sort(strength[of_class & ~is_positive])
        below = np.searchsorted(negative, positive, "left")
        not_above = np.searchsorted(negative, positive, "right")
        right += float((below + not_above).sum()) / 2
        pairs += len(positive) * len(negative)
    return right / pairs if pairs else None


def _places(
    segment: NDArray[np.int64], column: NDArray[np.int64], opinions: Opinions, num_classes: int
) -> NDArray[np.int64]:
    """Where the opinion on each pair stands; -1 where there is none."""
    key, wanted = opinions.segment * num_classes + opinions.column, segment * num_classes + column
    if not len(key):
        return np.full(len(wanted), -1)
    near = np.searchsorted(key, wanted).clip(max=len(key) - 1)
    return np.where(key[near] == wanted, near, -1)


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
