import numpy as np
import pytest
import torch
from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.models.non_local import NonLocal, NonLocalSettings

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
LITTLE_PADDING = torch.ones_like(MASK).index_put((torch.tensor(1), torch.tensor(3)), ~MASK[0, 0])
WIDTH = 6


def block_of(reduction: int = 2, *, is_started: bool = True) -> NonLocal:
    """In float64; `is_started` with a scale that is no longer 0."""
    torch.manual_seed(0)
    block = NonLocal(NonLocalSettings(reduction), WIDTH).double()
    if is_started:
        nn.init.normal_(block.out.scale)
        nn.init.normal_(block.out.shift)
        nn.init.normal_(block.out.running_mean)
        nn.init.uniform_(block.out.running_variance, 0.5, 2)
        nn.init.normal_(block.project.weight)
    return block


def features_of(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(*MASK.shape, WIDTH)))


def by_definition(block: NonLocal, features: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
    """The output of each video, at its real positions."""
    weights = block.project.weight.detach().numpy()
    inner = len(weights) // 3
    query_of, key_of, value_of = weights[:inner], weights[inner : 2 * inner], weights[2 * inner :]
    videos = [x[m].numpy() for x, m in zip(features, mask)]
    found = []
    for x in videos:
        scores = (x @ query_of.T) @ (x @ key_of.T).T / np.sqrt(inner)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        found.append(shares @ (x @ value_of.T) @ block.out.linear.weight.detach().numpy().T)
    rows = np.concatenate(found)
    mean, variance = rows.mean(0), rows.var(0)
    if not block.training:
        mean, variance = block.out.running_mean.numpy(), block.out.running_variance.numpy()
    scale, shift = block.out.scale.detach().numpy(), block.out.shift.detach().numpy()
    return [
        x + (y - mean) / np.sqrt(variance + 1e-5) * scale + shift for x, y in zip(videos, found)
    ]


@pytest.mark.parametrize("reduction", [1, 2, 3])
@pytest.mark.parametrize("mask", [MASK, LITTLE_PADDING])
@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool, mask: torch.Tensor, reduction: int) -> None:
    block, features = block_of(reduction).train(training), features_of()
    expected = by_definition(block, features, mask)
    got = block(features, mask).detach()
    for i, real in enumerate(mask):
        np.testing.assert_allclose(got[i, real], expected[i], rtol=1e-9)
    assert not got[~mask].any()


def test_without_padding_against_the_formula() -> None:
    block, features = block_of(), features_of()
    whole = block(features[:1].expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool))
    padded = torch.cat([features[:1].expand(2, -1, -1), torch.rand(2, 3, WIDTH)], dim=1)
    mask = torch.arange(7).expand(2, 7) < 4
    torch.testing.assert_close(block(padded, mask)[:, :4], whole)


@pytest.mark.parametrize("training", [True, False])
def test_it_starts_as_the_identity(training: bool) -> None:
    block, features = block_of(is_started=False).train(training), features_of()
    assert torch.equal(block(features, MASK)[MASK], features[MASK])


@pytest.mark.parametrize("training", [True, False])
def test_padding_is_irrelevant(training: bool) -> None:
    block, features = block_of().train(training), features_of()
    other = torch.where(MASK.unsqueeze(-1), features, 1e3)
    got = block(other, MASK)
    torch.testing.assert_close(got, block(features, MASK))
    assert not got[~MASK].any()


def test_batch_mates_are_irrelevant_in_evaluation() -> None:
    block, features = block_of().eval(), features_of()
    got = block(features, MASK)
    for i in range(4):
        torch.testing.assert_close(block(features[i : i + 1], MASK[i : i + 1]), got[i : i + 1])


def test_order_moves_with_the_positions() -> None:
    block, features = block_of().eval(), features_of()
    order = torch.tensor([2, 0, 3, 1])
    got = block(features[:, order], MASK[:, order])
    torch.testing.assert_close(got, block(features, MASK)[:, order])


@pytest.mark.parametrize("training", [True, False])
def test_without_a_real_position_all_is_zero_and_finite(training: bool) -> None:
    block, features = block_of().train(training), features_of().requires_grad_()
    got = block(features, torch.zeros_like(MASK))
    got.sum().backward()
    assert not got.any()
    assert features.grad is not None
    assert not features.grad.any()
    assert all(p.grad.isfinite().all() for p in block.parameters())


def test_a_video_without_real_positions_leaves_gradients_finite() -> None:
    block, features = block_of(), features_of().requires_grad_()
    block(features, MASK).square().sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert not features.grad[3].any()
    assert all(p.grad.isfinite().all() for p in block.parameters())


def test_gradients_at_the_start_and_after() -> None:
    """A scale of 0 lets nothing through to the inner layers; once it has moved, all learn."""
    wanted = features_of(1)
    for is_started, silent in [(False, {"project.weight", "out.linear.weight"}), (True, set())]:
        block = block_of(is_started=is_started)
        (block(features_of(), MASK) * wanted).sum().backward()
        got = {name for name, p in block.named_parameters() if not p.grad.abs().max() > 1e-9}
        assert got == silent


def test_each_of_query_key_and_value_learns() -> None:
    block = block_of()
    (block(features_of(), MASK) * features_of(1)).sum().backward()
    assert all(part.abs().max() > 1e-6 for part in block.project.weight.grad.chunk(3))


@pytest.mark.parametrize(("reduction", "inner"), [(1, 6), (2, 3), (4, 1), (50, 1)])
def test_inner_width(reduction: int, inner: int) -> None:
    block = NonLocal(NonLocalSettings(reduction), WIDTH)
    assert block.project.weight.shape == (3 * inner, WIDTH)
    assert block(torch.rand(1, 2, WIDTH), torch.ones(1, 2, dtype=torch.bool)).shape == (1, 2, WIDTH)


def test_impossible_reduction() -> None:
    with pytest.raises(SettingsError, match="reduction: the value is 0"):
        NonLocalSettings(0)
