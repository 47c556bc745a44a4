import struct
from math import fsum
from pathlib import Path

import numpy as np
import pytest

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.metrics import calibration as calibration_module
from whenabouts.metrics.calibration import Calibration, calibrate_pairs, calibrate_videos
from whenabouts.metrics.video import VideoTruth, video_truth


def bins_of(found: Calibration) -> list[tuple[int, int, float]]:
    return list(
        zip(found.num_pairs.tolist(), found.num_positives.tolist(), found.score_sum.tolist())
    )


def by_definition(
    positive: np.ndarray, scores: np.ndarray, num_bins: int
) -> tuple[list[tuple[int, int, float]], float]:
    """Bins and ECE, pair by pair: those of equal upper bits stay together, the mass decides."""
    together: dict[int, list[tuple[bool, float]]] = {}
    for is_positive, score in zip(positive.ravel().tolist(), scores.ravel().tolist()):
        (bits,) = struct.unpack("<I", struct.pack("<f", score))
        together.setdefault(bits >> 15, []).append((is_positive, score))
    n, total = scores.size, fsum(scores.ravel().tolist())
    bins: dict[int, list[tuple[bool, float]]] = {}
    below = 0.0
    for _, pairs in sorted(together.items()):
        mass = len(pairs) / n / 2 + fsum(s for _, s in pairs) / total / 2
        bins.setdefault(int((below + mass / 2) * num_bins), []).extend(pairs)
        below += mass
    sums = [(len(b), sum(y for y, _ in b), fsum(s for _, s in b)) for b in bins.values()]
    return sums, sum(k / n * abs(y / k - s / k) for k, y, s in sums)


def skewed(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores from 1e-5 to 1, and labels that follow their square."""
    rng = np.random.default_rng(seed)
    scores = (1 / (1 + np.exp(rng.normal(5, 3, shape)))).astype(np.float32)
    return rng.random(shape) < scores**2, scores


@pytest.mark.parametrize("num_bins", [1, 2, 7, 20])
@pytest.mark.parametrize("seed", range(4))
def test_pairs_against_the_definition(seed: int, num_bins: int) -> None:
    positive, scores = skewed(seed, (700,))
    found = calibrate_pairs(positive, scores, num_bins)
    expected, ece = by_definition(positive, scores, num_bins)
    assert [b[:2] for b in bins_of(found)] == [b[:2] for b in expected]
    assert found.score_sum == pytest.approx([b[2] for b in expected])
    assert found.ece == pytest.approx(ece)
    assert found.ece > 0


def test_by_hand() -> None:
    """Powers of two, so that every sum is exact. Four scores, two pairs each; the sum is 2.75."""
    scores = np.array([0.25, 0.5, 0.25, 0.125, 0.5, 0.125, 0.5, 0.5], np.float32)
    positive = np.array([1, 1, 0, 0, 1, 0, 0, 1], bool)
    found = calibrate_pairs(positive, scores, 100)
    assert bins_of(found) == [(2, 0, 0.25), (2, 1, 0.5), (4, 3, 2.0)]
    assert found.mean_score.tolist() == [0.125, 0.25, 0.5]
    assert found.share_positive.tolist() == [0, 0.5, 0.75]
    assert found.ece == pytest.approx((2 * 0.125 + 2 * 0.25 + 4 * 0.25) / 8)
    # Mass (2/8 + 1/11) / 2 = 0.17, then 0.22 and 0.61: their middles are 0.09, 0.28 and 0.69.
    assert bins_of(calibrate_pairs(positive, scores, 2)) == [(4, 1, 0.75), (4, 3, 2.0)]
    assert bins_of(calibrate_pairs(positive, scores, 1)) == [(8, 4, 2.75)]


def test_perfect_constant_and_worst() -> None:
    positive = np.arange(100) < 30
    assert calibrate_pairs(positive, positive.astype(np.float32)).ece == 0
    assert calibrate_pairs(positive, (~positive).astype(np.float32)).ece == 1
    constant = calibrate_pairs(positive, np.full(100, 0.25, np.float32))
    assert bins_of(constant) == [(100, 30, 25.0)]
    assert constant.ece == pytest.approx(0.05)
    zeros = calibrate_pairs(positive, np.zeros(100, np.float32))
    assert bins_of(zeros) == [(100, 30, 0.0)]


def test_a_calibrated_model_has_a_small_error_and_its_intervals_hold_the_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200_000).astype(np.float32) ** 3
    found = calibrate_pairs(rng.random(len(scores)) < scores, scores)
    low, high = found.share_interval()
    assert found.ece < 0.003
    assert ((low <= found.mean_score) & (found.mean_score <= high)).sum() >= 18
    turned = calibrate_pairs(rng.random(len(scores)) < scores / 2, scores)
    assert turned.ece == pytest.approx(scores.mean() / 2, abs=0.003)


def test_equal_mass_spreads_over_few_likely_labels() -> None:
    """One pair in a thousand is likely: bins of equal numbers would put all of them in one."""
    scores = np.full(100_000, 1e-4, np.float32)
    scores[:100] = np.linspace(0.1, 0.9, 100)
    found = calibrate_pairs(np.zeros(len(scores), bool), scores)
    assert (found.mean_score > 0.05).sum() >= 8


def test_the_error_by_chance_is_that_of_a_calibrated_model() -> None:
    """Of few pairs it is far from 0; here over 400 draws of labels that follow the scores."""
    rng = np.random.default_rng(0)
    scores = rng.random(600).astype(np.float32)
    drawn = [calibrate_pairs(rng.random(600) < scores, scores) for _ in range(400)]
    mean = np.mean([found.ece for found in drawn])
    assert mean > 0.05
    assert drawn[0].ece_by_chance == pytest.approx(mean, rel=0.03)
    by_hand = Calibration(np.array([50, 50]), np.array([0, 9]), np.array([25.0, 10.0]))
    expected = np.sqrt(2 / np.pi) * (np.sqrt(50 / 4) + np.sqrt(50 * 0.16)) / 100
    assert by_hand.ece_by_chance == pytest.approx(expected)


def test_intervals_of_wilson() -> None:
    found = Calibration(np.array([10, 10, 40]), np.array([5, 0, 40]), np.zeros(3))
    low, high = found.share_interval()
    assert low == pytest.approx([0.236593, 0, 0.912379], abs=1e-5)
    assert high == pytest.approx([0.763407, 0.277533, 1], abs=1e-5)


def case(seed: int) -> tuple[VideoTruth, np.ndarray]:
    positive, values = skewed(seed, (40, 9))
    classes = ClassOrder.of(np.random.default_rng(seed).permutation(50)[:9].tolist())
    labels = [np.array(classes.ids)[row] for row in positive]
    return video_truth(np.concatenate(labels), np.cumsum([0, *map(len, labels)]), classes), values


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("budget_bytes", [1, 32 * 9 * 4 * 7, 1 << 20])
def test_videos_are_all_their_pairs_in_any_chunks(
    budget_bytes: int, dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, values = case(3)
    values = values.astype(dtype)
    np.save(tmp_path / "scores.npy", values)
    monkeypatch.setattr(calibration_module, "BUDGET_BYTES", budget_bytes)
    found = calibrate_videos(truth, np.load(tmp_path / "scores.npy", mmap_mode="r"))
    expected, ece = by_definition(truth.dense(0, 40), values, calibration_module.NUM_BINS)
    assert [b[:2] for b in bins_of(found)] == [b[:2] for b in expected]
    assert found.score_sum == pytest.approx([b[2] for b in expected])
    assert found.ece == pytest.approx(ece)


def test_order_is_irrelevant_and_a_signed_zero_is_a_zero() -> None:
    positive, scores = skewed(1, (300,))
    scores[:40] = 0
    expected = bins_of(calibrate_pairs(positive, scores))
    order = np.random.default_rng(0).permutation(300)
    scores[:20] = -0.0
    found = bins_of(calibrate_pairs(positive[order], scores[order]))
    assert [b[:2] for b in found] == [b[:2] for b in expected]
    assert [b[2] for b in found] == pytest.approx([b[2] for b in expected])


def test_the_fine_bins_end_at_one() -> None:
    scores = np.array([0, 1, np.nextafter(np.float32(1), np.float32(0)), 1e-45], np.float32)
    found = calibrate_pairs(np.array([0, 1, 1, 0], bool), scores, 1000)
    assert bins_of(found) == [(2, 0, pytest.approx(0)), (1, 1, pytest.approx(1)), (1, 1, 1.0)]


def test_no_pairs() -> None:
    found = calibrate_pairs(np.empty(0, bool), np.empty(0, np.float32))
    assert bins_of(found) == []
    assert np.isnan(found.ece)
    assert np.isnan(found.ece_by_chance)


@pytest.mark.parametrize("score", [-0.1, 1.0001, np.inf, np.nan])
def test_what_is_no_probability_is_refused(score: float) -> None:
    scores = np.array([0.5, score], np.float32)
    with pytest.raises(ScoresError, match=rf"a score is {score:g}; calibration is a property"):
        calibrate_pairs(np.zeros(2, bool), scores)
