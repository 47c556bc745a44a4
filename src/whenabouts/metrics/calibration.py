"""Calibration: of the pairs with a score near p, is a share p positive?

The pairs are cut into bins by score. With n pairs in all and n_b of them in bin b, the expected
calibration error is

    ECE = sum over b of n_b / n |share of positives in b - mean score in b|

(Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"; Guo et al.
2017, "On calibration of modern neural networks", there of the likeliest class alone, here of every
pair). It depends on the bins. Bins of equal width leave most of them empty, since scores crowd near
0; bins of equal numbers put every likely label of a large vocabulary into the last one. So a bin
has an equal *mass*: half of the mass is shared out by number of pairs, half by sum of scores, which
is the number of positives a calibrated model expects. The cuts depend on the scores alone.

Memory does not grow with the pairs: they are counted in fine bins first, which are the sign,
exponent and upper 8 bits of the fraction of a float32 (256 bins from any p to 2p). Their sums are
exact; only the cuts are rounded to them, and equal scores are never cut apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import BUDGET_BYTES, row_chunks
from whenabouts.metrics.video import VideoTruth

NUM_BINS = 20
DROPPED_BITS = 15  # of the 23 bits of a float32's fraction
NUM_FINE = int(np.float32(1).view(np.uint32) >> DROPPED_BITS) + 1
NORMAL_95 = 1.959964  # the quantile 0.975 of the normal distribution


@dataclass(frozen=True)
class Calibration:
    """The bins that hold a pair [M], by rising score: pairs, positives, and the sum of scores."""

    num_pairs: NDArray[np.int64]
    num_positives: NDArray[np.int64]
    score_sum: NDArray[np.float64]

    @property
    def mean_score(self) -> NDArray[np.float64]:
        return self.score_sum / self.num_pairs

    @property
    def share_positive(self) -> NDArray[np.float64]:
        return self.num_positives / self.num_pairs

    @property
    def ece(self) -> float:
        """The expected calibration error; NaN without pairs."""
        gap = np.abs(self.num_positives - self.score_sum).sum()
        return float(gap / self.num_pairs.sum()) if len(self.num_pairs) else float("nan")

    @property
    def ece_by_chance(self) -> float:
        """The ECE to expect of a calibrated model on so many independent pairs; NaN without pairs.

        Its positives in a bin differ from the sum of scores by sqrt(2 / pi) standard deviations on
        average, as a normal variable does, and their variance is n_b p (1 - p).
        """
        p = self.mean_score
        gap = np.sqrt(2 / np.pi * self.num_pairs * p * (1 - p)).sum()
        return float(gap / self.num_pairs.sum()) if len(self.num_pairs) else float("nan")

    def share_interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(low, high): the 95 % interval of each share, as if pairs were independent.

        Wilson (1927): the shares q whose distance to the one seen is within 1.96 standard
        deviations, sqrt(q (1 - q) / n).
        """
        n, z2 = self.num_pairs, NORMAL_95**2
        middle = (self.num_positives + z2 / 2) / (n + z2)
        p = self.share_positive
        reach = np.sqrt(z2 * (p * (1 - p) * n + z2 / 4)) / (n + z2)
        return np.maximum(middle - reach, 0), np.minimum(middle + reach, 1)


def calibrate_pairs(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], num_bins: int = NUM_BINS
) -> Calibration:
    """Calibration of pairs [P], say the rated ones. Raises ScoresError on a score outside [0, 1]
    or NaN."""
    return _calibrate([(positive, scores)], num_bins)


def calibrate_videos(
    truth: VideoTruth, values: NDArray[np.floating], num_bins: int = NUM_BINS
) -> Calibration:
    """Calibration of every (video, class) pair of the scores values [V, C], read in chunks.

    Raises ScoresError on a score outside [0, 1] or NaN.
    """
    chunks = row_chunks(values, BUDGET_BYTES // 32)
    parts = ((truth.dense(first, first + len(rows)), rows) for first, rows in chunks)
    return _calibrate(parts, num_bins)


def _calibrate(
    parts: Iterable[tuple[NDArray[np.bool_], NDArray[np.floating]]], num_bins: int
) -> Calibration:
    assert num_bins >= 1
    num_pairs, num_positives = np.zeros(NUM_FINE, np.int64), np.zeros(NUM_FINE, np.int64)
    score_sum = np.zeros(NUM_FINE)
    for positive, scores in parts:
        scores = scores.ravel().astype(np.float32)
        fine = _fine_bins(scores)
        num_pairs += np.bincount(fine, minlength=NUM_FINE)
        num_positives += np.bincount(fine[positive.ravel()], minlength=NUM_FINE)
        score_sum += np.bincount(fine, scores, NUM_FINE)
    return _merged(num_pairs, num_positives, score_sum, num_bins)


def _fine_bins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The fine bin of each score [P]: positive floats are ordered as their bits are."""
    fits = (scores >= 0) & (scores <= 1)  # NaN does not
    if not fits.all():
        raise ScoresError(
            f"a score is {scores[int(fits.argmin())]:g}",
            rule="calibration is a property of probabilities, which lie in [0, 1]",
        )
    # A zero with a sign, whose bits would be the highest, loses it in the sum.
    return ((scores + np.float32(0)).view(np.uint32) >> DROPPED_BITS).astype(np.int64)


def _merged(
    num_pairs: NDArray[np.int64],
    num_positives: NDArray[np.int64],
    score_sum: NDArray[np.float64],
    num_bins: int,
) -> Calibration:
    """At most `num_bins` bins of fine ones: each falls where the middle of its mass lies."""
    held = np.flatnonzero(num_pairs)
    if not len(held):
        return Calibration(num_pairs[held], num_positives[held], score_sum[held])
    pairs, positives, sums = num_pairs[held], num_positives[held], score_sum[held]
    mass = pairs / pairs.sum() + sums / max(sums.sum(), np.finfo(np.float64).tiny)
    up_to = np.cumsum(mass)
    place = (num_bins * ((up_to - mass / 2) / up_to[-1])).astype(np.int64)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return Calibration(*(np.add.reduceat(part, starts) for part in (pairs, positives, sums)))
