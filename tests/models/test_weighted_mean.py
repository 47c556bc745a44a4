"""The weighted mean of models against the formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from shapes import checked
from whenabouts.models.weighted_mean import WeightedMean, logit_of_weighted_mean

FEATURES, MASK = torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool)


class Fixed(nn.Module):
    """Answers with its own logits; notes what it was asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        assert features is FEATURES
        assert mask is MASK
        return self.logits


def answer(logits: list[Tensor], weights: list[float]) -> Tensor:
    model = WeightedMean([Fixed(each) for each in logits], weights)
    return checked(WeightedMean.forward)(model, FEATURES, MASK).detach()


def test_by_hand() -> None:
    """0.75 x 0.5 + 0.25 x 0.9 = 0.6, whose odds are 1.5."""
    half, nine_tenths = torch.zeros(3, 1), torch.full((3, 1), math.log(9))
    found = answer([half, nine_tenths], [0.75, 0.25])
    torch.testing.assert_close(found, torch.full((3, 1), math.log(1.5)))
    other = answer([nine_tenths, half], [0.75, 0.25])  # 0.8
    torch.testing.assert_close(other, torch.full((3, 1), math.log(4)))


@pytest.mark.parametrize("weights", [[0.5, 0.3, 0.2], [1 / 3] * 3, [0.998, 0.001, 0.001]])
def test_against_the_formula(weights: list[float]) -> None:
    logits = [torch.randn(3, 5) * 4 for _ in weights]
    found = answer(logits, weights).double().sigmoid()
    expected = sum(w * z.double().sigmoid() for w, z in zip(weights, logits))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_one_member_gives_its_own_logits() -> None:
    """Bit for bit, which the formula would not give."""
    logits = torch.linspace(-3, 3, 3000).view(3, 1000)
    assert torch.equal(answer([logits], [1.0]), logits)
    formula = logit_of_weighted_mean(logits.unsqueeze(0), torch.zeros(1))
    assert not torch.equal(formula, logits)


def test_equal_members_give_their_own_probabilities() -> None:
    logits = torch.randn(3, 5) * 5
    torch.testing.assert_close(answer([logits, logits], [0.3, 0.7]), logits, rtol=1e-5, atol=1e-6)


def test_order_of_members_is_irrelevant() -> None:
    one, other = torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(answer([one, other], [0.3, 0.7]), answer([other, one], [0.7, 0.3]))


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_large_logits_stay_finite(size: float) -> None:
    """Two that agree, and two that do not: the mean of 0 and 1 is then the weight of the 1."""
    ends = torch.tensor([[size], [-size]])
    log_weights = torch.tensor([0.25, 0.75]).log()
    found = checked(logit_of_weighted_mean)(torch.stack([ends, ends]), log_weights)
    torch.testing.assert_close(found, ends)
    apart = logit_of_weighted_mean(torch.stack([ends, -ends]), log_weights)
    torch.testing.assert_close(apart.sigmoid(), torch.tensor([[0.25], [0.75]]))


def test_small_scores_are_not_rounded_to_nothing() -> None:
    logits = torch.tensor([[[-80.0]], [[-90.0]]])
    found = logit_of_weighted_mean(logits, torch.tensor([0.5, 0.5]).log())
    assert float(found) == pytest.approx(math.log(0.5 * (math.exp(-80) + math.exp(-90))), abs=1e-4)


def test_members_are_parts_of_it() -> None:
    """So that it moves to a device, and into evaluation mode, as a whole."""
    model = WeightedMean([nn.Dropout(), nn.Dropout()], [0.5, 0.5]).eval()
    assert not any(member.training for member in model.members)
    assert {name for name, _ in model.named_buffers()} == {"log_weights"}
