"""Losses against torch and by hand: what is not rated is unknown, not negative."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shapes import checked
from whenabouts.losses import rated_bce, rated_bce_with_unrated, video_bce

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
PAIR_SEGMENT, PAIR_CLASS = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0])
LABELS, WEIGHTS = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, 0.5])


def whole_logits(scale: float = 3.0) -> Tensor:
    """Logits [3, 4], segment 1 without a rated pair of its own."""
    return (scale * torch.randn(3, 4, generator=torch.manual_seed(0))).requires_grad_()


def with_unrated(logits: Tensor, unrated_weight: float, num_segments: int = 3) -> Tensor:
    pairs = PAIR_SEGMENT, PAIR_CLASS
    return rated_bce_with_unrated(LABELS, WEIGHTS, logits, *pairs, unrated_weight, num_segments)


def test_rated_by_hand() -> None:
    """-ln sigmoid(0) = ln 2; -ln(1 - sigmoid(ln 3)) = ln 4; -ln sigmoid(-ln 3) = ln 4."""
    logits = torch.tensor([0.0, LN3, -LN3])
    expected = (LN2 + 2 * LN4 + 0.5 * LN4) / 7
    assert float(rated_bce(LABELS, WEIGHTS, logits, 7)) == pytest.approx(expected)


def test_rated_against_torch() -> None:
    logits = torch.randn(50, generator=torch.manual_seed(1), dtype=torch.float64)
    labels = torch.rand(50, dtype=torch.float64)  # soft labels too
    weights = torch.rand(50, dtype=torch.float64)
    p = logits.sigmoid()
    expected = -(weights * (labels * p.log() + (1 - labels) * (1 - p).log())).sum() / 9
    torch.testing.assert_close(rated_bce(labels, weights, logits, 9), expected)


def test_the_normaliser_is_the_number_of_segments() -> None:
    """Twice the segments halve it; the number of pairs has no part in it."""
    logits = torch.tensor([0.3, -0.2, 1.0])
    once, twice = (float(rated_bce(LABELS, WEIGHTS, logits, n)) for n in (1, 2))
    assert once == pytest.approx(2 * twice)
    doubled = rated_bce(LABELS.repeat(2), WEIGHTS.repeat(2), logits.repeat(2), 1)
    assert float(doubled) == pytest.approx(2 * once)
    whole = whole_logits()
    for weight in (0.0, 0.7):
        one, two = (with_unrated(whole, weight, n).item() for n in (1, 2))
        assert one == pytest.approx(2 * two)


def test_of_videos_by_hand() -> None:
    """A sum over the classes, a mean over the videos: of a batch, also where it is of a larger
    one."""
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.5]])
    logits = torch.tensor([[0.0, LN3, -LN3], [0.0, 0.0, 0.0]])
    whole = (LN2 + LN4 + LN4) + 3 * LN2
    assert float(video_bce(labels, logits, 2)) == pytest.approx(whole / 2)
    assert float(video_bce(labels, logits, 8)) == pytest.approx(whole / 8)
    checked(video_bce)(labels, logits, 2)
    with pytest.raises(TypeError):
        checked(video_bce)(labels, logits[:1], 2)


def test_gradient_of_videos_is_the_error_over_their_number() -> None:
    logits = whole_logits()
    labels = (torch.rand(3, 4, generator=torch.manual_seed(3)) < 0.5).float()
    video_bce(labels, logits, 6).backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - labels) / 6)


def test_gradient_is_weight_times_error() -> None:
    logits = torch.tensor([0.0, LN3, -LN3], requires_grad=True)
    rated_bce(LABELS, WEIGHTS, logits, 4).backward()
    expected = [-0.5 / 4, 2 * 0.75 / 4, 0.5 * -0.75 / 4]
    assert logits.grad.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_finite_at_huge_logits(label: float, logit: float) -> None:
    values = torch.full((1, 2), logit, requires_grad=True)
    pair = torch.tensor([0])
    labels, weights = torch.tensor([label]), torch.ones(1)
    wrong = (label == 1) != (logit > 0)
    alone = rated_bce(labels, weights, values[0, :1], 1)
    assert alone.item() == (1e4 if wrong else 0.0)
    both = rated_bce_with_unrated(labels, weights, values, pair, pair, 0.5, 1)
    assert both.item() == (1e4 if wrong else 0.0) + (5e3 if logit > 0 else 0.0)
    (alone + both).backward()
    assert torch.isfinite(values.grad).all()


def test_unrated_weight_0_is_the_rated_loss_and_unrated_pairs_get_no_gradient() -> None:
    logits = whole_logits()
    loss = with_unrated(logits, 0.0)
    rated = rated_bce(LABELS, WEIGHTS, logits[PAIR_SEGMENT, PAIR_CLASS], 3)
    torch.testing.assert_close(loss, rated)
    loss.backward()
    is_rated = torch.zeros(3, 4, dtype=torch.bool)
    is_rated[PAIR_SEGMENT, PAIR_CLASS] = True
    assert (logits.grad[~is_rated] == 0).all()
    assert (logits.grad[is_rated] != 0).all()


def test_unrated_weight_by_hand() -> None:
    """One segment, three classes; class 1 is rated 1; the others count as negatives at 0.25."""
    logits = torch.tensor([[LN3, 0.0, -LN3]])
    pair_segment, pair_class = torch.tensor([0]), torch.tensor([1])
    loss = rated_bce_with_unrated(
        torch.ones(1), torch.ones(1), logits, pair_segment, pair_class, 0.25, 2
    )
    expected = (0.25 * LN4 + LN2 + 0.25 * math.log(4 / 3)) / 2
    assert float(loss) == pytest.approx(expected)


def test_unrated_weight_1_is_the_starter_code() -> None:
    """Plain BCE of all classes, where every class not rated 1 is a negative."""
    logits = whole_logits()
    target = torch.zeros(3, 4)
    target[PAIR_SEGMENT, PAIR_CLASS] = LABELS
    ones = torch.ones(3)
    loss = rated_bce_with_unrated(LABELS, ones, logits, PAIR_SEGMENT, PAIR_CLASS, 1.0, 3)
    expected = functional.binary_cross_entropy(logits.sigmoid(), target, reduction="sum") / 3
    torch.testing.assert_close(loss, expected)


def test_rated_weights_stand_beside_the_unrated_one() -> None:
    """The part of the rated pairs does not depend on unrated_weight; the rest is linear in it."""
    logits = whole_logits()
    none, half, one = (with_unrated(logits, w).item() for w in (0.0, 0.5, 1.0))
    assert half - none == pytest.approx(one - half, rel=1e-5)
    rest = functional.softplus(logits)
    rest[PAIR_SEGMENT, PAIR_CLASS] = 0
    assert one - none == pytest.approx(rest.sum().item() / 3, rel=1e-5)


def test_no_pair_in_this_share_of_a_batch() -> None:
    """A process may get none: its loss is 0, with a gradient of 0."""
    logits = torch.zeros(0, requires_grad=True)
    loss = rated_bce(torch.zeros(0), torch.zeros(0), logits, 5)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == (0,)


def test_declared_shapes() -> None:
    loss, both = checked(rated_bce), checked(rated_bce_with_unrated)
    logits = torch.zeros(3)
    assert loss(LABELS, WEIGHTS, logits, 3).shape == ()
    for wrong in (torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)):
        with pytest.raises(TypeError, match="Type-check error"):
            loss(LABELS, WEIGHTS, wrong, 3)
        with pytest.raises(TypeError, match="Type-check error"):
            loss(wrong, WEIGHTS, logits, 3)
        with pytest.raises(TypeError, match="Type-check error"):
            loss(LABELS, wrong, logits, 3)
    pairs = (PAIR_SEGMENT, PAIR_CLASS)
    assert both(LABELS, WEIGHTS, torch.zeros(3, 4), *pairs, 0.5, 3).shape == ()
    with pytest.raises(TypeError, match="Type-check error"):
        both(LABELS, WEIGHTS, logits, *pairs, 0.5, 3)
    with pytest.raises(TypeError, match="Type-check error"):
        both(LABELS, WEIGHTS, torch.zeros(3, 4), PAIR_SEGMENT, PAIR_CLASS[:-1], 0.5, 3)


def test_logits_of_reduced_precision_lose_nothing_in_the_loss() -> None:
    """Under autocast the last product gives bfloat16; the loss is that of its values as float32."""
    labels, weights = torch.tensor([1.0, 0.3]), torch.tensor([1.0, 0.123])
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    more = torch.tensor([0, 2]), torch.tensor([1, 3]), 0.1, 2
    found = rated_bce_with_unrated(labels, weights, logits, *more)
    assert found.dtype == torch.float32
    assert found == rated_bce_with_unrated(labels, weights, logits.float(), *more)
