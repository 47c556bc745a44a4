import numpy as np
import pytest
import torch

from whenabouts.core.errors import SettingsError
from whenabouts.models.squeeze_excitation import (
    SqueezeExcitationSettings,
    TemporalSqueezeExcitation,
)

MASK = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)


def block_of(width: int = 32, reduction: int = 4) -> TemporalSqueezeExcitation:
    torch.manual_seed(0)
    return TemporalSqueezeExcitation(SqueezeExcitationSettings(reduction), width).double()


def features_of(width: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (3, 3, width)))


def by_definition(block: TemporalSqueezeExcitation, features: np.ndarray) -> np.ndarray:
    """One video, its real positions alone."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in block.parameters())
    inner = np.maximum(w1 @ features.mean(axis=0) + b1, 0)
    return features / (1 + np.exp(-(w2 @ inner + b2)))


def test_against_the_formula() -> None:
    block, features = block_of(), features_of()
    got = block(features, MASK).detach()
    for i in (0, 1):
        expected = by_definition(block, features[i, MASK[i]].numpy())
        np.testing.assert_allclose(got[i, MASK[i]], expected, rtol=1e-7)


def test_padding_and_batch_mates_are_irrelevant() -> None:
    block, features = block_of(), features_of()
    got = block(features, MASK)
    other = torch.where(MASK.unsqueeze(-1), features, 1e3)
    torch.testing.assert_close(block(other, MASK)[MASK], got[MASK])
    torch.testing.assert_close(block(features[1:2], MASK[1:2]), got[1:2])


def test_order_moves_with_the_positions() -> None:
    block, features = block_of(), features_of()
    order = torch.tensor([2, 0, 1])
    got = block(features[:, order], MASK[:, order])
    torch.testing.assert_close(got, block(features, MASK)[:, order])


def test_without_a_real_position_it_is_finite() -> None:
    block, features = block_of(), features_of().requires_grad_()
    got = block(features, torch.zeros_like(MASK))
    got.sum().backward()
    assert got.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    # The gate of a mean of 0 alone decides: padding that is 0 stays 0.
    assert not block(torch.zeros_like(features), torch.zeros_like(MASK)).any()


def test_every_parameter_gets_a_gradient() -> None:
    block = block_of()
    block(features_of(), MASK).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in block.parameters())


def test_the_features_given_are_left_alone() -> None:
    features = features_of()
    kept = features.clone()
    block_of()(features, MASK)
    assert torch.equal(features, kept)


@pytest.mark.parametrize(
    ("width", "reduction", "inner"), [(32, 16, 2), (33, 16, 2), (32, 4, 8), (8, 16, 1)]
)
def test_inner_width(width: int, reduction: int, inner: int) -> None:
    assert block_of(width, reduction).squeeze.weight.shape == (inner, width)
    assert SqueezeExcitationSettings().reduction == 16


def test_impossible_reduction() -> None:
    with pytest.raises(SettingsError, match="reduction: the value is -1"):
        SqueezeExcitationSettings(-1)
