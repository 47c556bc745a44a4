import numpy as np
import pytest
import torch
from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.models.fcfc import FrameMix, FrameMixSettings

MASK = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
MUCH = MASK
LITTLE = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)


def module_of(*, per_channel: bool = False, is_started: bool = True) -> FrameMix:
    torch.manual_seed(0)
    module = FrameMix(FrameMixSettings(5, per_channel), 6, 3).double()
    if is_started:
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    return module


def features_of(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 3, 6)))


def by_definition(module: FrameMix, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One segment, channel by channel."""
    w, c = module.weight.detach().numpy(), module.bias.detach().numpy()
    a, b = (p.detach().numpy() for p in module.embedding.parameters())
    out = np.zeros(5)
    for e in range(5):
        own = e if w.shape[1] > 1 else 0
        terms = [w[t, own] * max(a[e] @ features[t] + b[e], 0) for t in range(3) if mask[t]]
        out[e] = sum(terms) + c[own] if terms else 0
    return out


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("mask", [MUCH, LITTLE])
def test_against_the_formula(mask: torch.Tensor, per_channel: bool) -> None:
    module, features = module_of(per_channel=per_channel), features_of()
    got, attention = module(features, mask)
    for i in range(4):
        expected = by_definition(module, features[i].numpy(), mask[i].numpy())
        np.testing.assert_allclose(got[i].detach(), expected, rtol=1e-10)
    assert torch.equal(attention, mask.double())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("mask", [MUCH, LITTLE])
def test_padding_and_batch_mates_are_irrelevant(mask: torch.Tensor, per_channel: bool) -> None:
    module, features = module_of(per_channel=per_channel), features_of()
    got, _ = module(features, mask)
    other = torch.where(mask.unsqueeze(-1), features, 1e3)
    torch.testing.assert_close(module(other, mask)[0], got)
    torch.testing.assert_close(module(features[1:2], mask[1:2])[0], got[1:2])


def test_order_of_frames_matters() -> None:
    module, features = module_of(), features_of()
    whole = torch.ones_like(MASK)
    assert not torch.allclose(module(features.flip(1), whole)[0], module(features, whole)[0])


def test_it_starts_as_the_mean_over_frames() -> None:
    for per_channel in (False, True):
        module = module_of(per_channel=per_channel, is_started=False)
        features = features_of()
        hidden = module.embedding(features).relu()
        got, _ = module(features, torch.ones_like(MASK))
        torch.testing.assert_close(got, hidden.mean(dim=1))


@pytest.mark.parametrize("per_channel", [False, True])
def test_every_parameter_gets_a_gradient(per_channel: bool) -> None:
    module = module_of(per_channel=per_channel)
    nn.init.constant_(module.embedding.bias, 5)  # every ReLU is open
    module(features_of(), MASK)[0].square().sum().backward()
    assert all(p.grad.abs().min() > 1e-6 for p in module.parameters())


@pytest.mark.parametrize("per_channel", [False, True])
def test_without_a_real_frame_all_is_zero_and_finite(per_channel: bool) -> None:
    module = module_of(per_channel=per_channel)
    got, attention = module(features_of(), torch.zeros_like(MASK))
    got.sum().backward()
    assert not got.any()
    assert not attention.any()
    assert all(not p.grad.any() for p in module.parameters())


def test_number_of_weights() -> None:
    assert module_of().weight.shape == (3, 1)
    assert module_of(per_channel=True).weight.shape == (3, 5)


def test_another_length_is_refused() -> None:
    with pytest.raises(AssertionError, match="built for 3 frames, got 4"):
        module_of()(torch.rand(1, 4, 6).double(), torch.ones(1, 4, dtype=torch.bool))


def test_impossible_width() -> None:
    with pytest.raises(SettingsError, match="width: the value is 0"):
        FrameMixSettings(0)
