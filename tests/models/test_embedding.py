import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shares import Shares, SumOverShares
from whenabouts.core.errors import SettingsError
from whenabouts.models import embedding as embedding_module
from whenabouts.models.embedding import (
    Embedding,
    EmbeddingSettings,
    NormedLinear,
    build_embedding,
    drop_,
    random_bytes,
)


def normed_linear(width: int = 4, width_out: int = 3, seed: int = 0) -> NormedLinear:
    """A layer in float64 whose scale, shift and statistics are not those of the start."""
    torch.manual_seed(seed)
    layer = NormedLinear(width, width_out).double()
    nn.init.normal_(layer.scale)
    nn.init.normal_(layer.shift)
    nn.init.normal_(layer.running_mean)
    nn.init.uniform_(layer.running_variance, 0.5, 2)
    return layer


def by_definition(layer: NormedLinear, rows: np.ndarray, mean: object, variance: object) -> object:
    y = rows @ layer.linear.weight.detach().numpy().T
    normal = (y - mean) / np.sqrt(variance + 1e-5)
    return normal * layer.scale.detach().numpy() + layer.shift.detach().numpy()


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_normed_linear_in_training(factor: float) -> None:
    layer = normed_linear()
    rows = np.random.default_rng(0).normal(size=(7, 4))
    y = rows @ layer.linear.weight.detach().numpy().T
    expected = by_definition(layer, rows, y.mean(0), y.var(0))
    got = layer(torch.from_numpy(rows), factor).detach().numpy()
    np.testing.assert_allclose(got, factor * expected, rtol=1e-10)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_normed_linear_in_evaluation(factor: float) -> None:
    layer = normed_linear().eval()
    rows = np.random.default_rng(0).normal(size=(7, 4))
    mean, variance = layer.running_mean.numpy(), layer.running_variance.numpy()
    expected = by_definition(layer, rows, mean.copy(), variance.copy())
    got = layer(torch.from_numpy(rows), factor).detach().numpy()
    np.testing.assert_allclose(got, factor * expected, rtol=1e-10)


def test_normed_linear_keeps_the_statistics_torch_keeps() -> None:
    layer = normed_linear()
    theirs = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3)).double()
    with torch.no_grad():
        theirs[0].weight.copy_(layer.linear.weight)
        for mine, other in [
            (layer.scale, theirs[1].weight),
            (layer.shift, theirs[1].bias),
            (layer.running_mean, theirs[1].running_mean),
            (layer.running_variance, theirs[1].running_var),
        ]:
            other.copy_(mine)
    for seed in range(3):
        rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 4)))
        torch.testing.assert_close(layer(rows), theirs(rows))
    torch.testing.assert_close(layer.running_variance, theirs[1].running_var)
    torch.testing.assert_close(layer.eval()(rows), theirs.eval()(rows))


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_rows_use_the_running_statistics(num_rows: int) -> None:
    layer = normed_linear()
    before = layer.running_mean.clone(), layer.running_variance.clone()
    rows = torch.rand(num_rows, 4, dtype=torch.float64)
    got = layer(rows)
    assert torch.equal(before[0], layer.running_mean)
    assert torch.equal(before[1], layer.running_variance)
    torch.testing.assert_close(got, layer.eval()(rows), rtol=0, atol=0)


def test_two_rows_have_statistics() -> None:
    layer = normed_linear()
    before = layer.running_mean.clone()
    layer(torch.rand(2, 4, dtype=torch.float64))
    assert not torch.equal(before, layer.running_mean)


# ---- a batch in shares ---------------------------------------------------------------------------

SPLITS = [(5, 3), (7, 1), (8, 0), (0, 8), (1, 1), (2, 0), (3, 0, 1, 4), (0, 1, 0), (0, 0)]


def trained(layer: NormedLinear, rows: torch.Tensor, wanted: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients (rows, weight, scale, shift) and running statistics of a step."""
    rows = rows.clone().requires_grad_()
    got = layer(rows, 1.5)
    (got * wanted).sum().backward()
    statistics = layer.running_mean.clone(), layer.running_variance.clone()
    return [got.detach(), rows.grad, *(p.grad for p in layer.parameters()), *statistics]


@pytest.mark.parametrize("split", SPLITS)
def test_shares_together_are_the_whole_batch(split: tuple[int, ...]) -> None:
    """Gradients of weights add up; statistics are the same everywhere."""
    draw = torch.Generator().manual_seed(5)
    rows = torch.randn(sum(split), 4, generator=draw, dtype=torch.float64)
    wanted = torch.randn(sum(split), 3, generator=draw, dtype=torch.float64)
    shares = list(zip(rows.split(split), wanted.split(split)))

    def work(rank: int, sum_over_shares: SumOverShares) -> list[torch.Tensor]:
        layers[rank].sum_over_shares = sum_over_shares
        return trained(layers[rank], *shares[rank])

    whole, layers = normed_linear(), [normed_linear() for _ in split]
    for _ in range(2):  # the second step begins with moved statistics
        for layer in (whole, *layers):
            layer.zero_grad()
        expected = trained(whole, rows, wanted)
        together = Shares(len(split))
        got = list(zip(*together.run(work)))
        assert together.num_sums == (3 if sum(split) > 1 else 2)
        for mine, theirs in zip(got[:2], expected[:2]):
            torch.testing.assert_close(torch.cat(mine), theirs)
        for mine, theirs in zip(got[2:5], expected[2:5]):
            torch.testing.assert_close(sum(mine), theirs)
        for mine, theirs in zip(got[5:], expected[5:]):
            assert all(torch.equal(each, mine[0]) for each in mine)
            torch.testing.assert_close(mine[0], theirs)


def test_the_variance_of_shares_does_not_cancel() -> None:
    """A mean 10,000 times the deviation, in float32: squares alone would leave nothing of it."""
    torch.manual_seed(0)
    layer = NormedLinear(4, 4)
    nn.init.eye_(layer.linear.weight)
    rows = 1e4 + torch.randn(64, 4)
    layer.sum_over_shares = lambda tensor: tensor
    got = layer(rows).detach()
    exact = rows.double()
    exact = (exact - exact.mean(0)) / (exact.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=2e-3)
    torch.testing.assert_close(layer.running_variance, 0.9 + 0.1 * rows.var(0))


def test_a_share_in_half_precision() -> None:
    """Products in bfloat16, sums in float32, as in torch's batch norm."""
    torch.manual_seed(0)
    alone, shared = NormedLinear(8, 5), NormedLinear(8, 5)
    shared.load_state_dict(alone.state_dict())
    shared.sum_over_shares = lambda tensor: tensor
    outcomes = []
    for layer in (alone, shared):
        rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16):
            got = layer(rows)
        got.float().square().sum().backward()
        gradients = [p.grad for p in layer.parameters()]
        outcomes.append([got, layer.running_mean, layer.running_variance, *gradients])
    for mine, theirs in zip(*outcomes):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)


def test_shares_meet_in_training_alone() -> None:
    layer = normed_linear().eval()
    rows = torch.rand(5, 4, dtype=torch.float64)
    expected = layer(rows)
    layer.sum_over_shares = lambda tensor: pytest.fail("a sum in evaluation")
    assert torch.equal(layer(rows), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_embedding_takes_a_share_without_rows(dropout: float) -> None:
    layer = Embedding(EmbeddingSettings(width=3, dropout=dropout), 4)
    assert layer(torch.zeros(0, 4)).shape == (0, 3)


# ---- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [1, 64, 255])
def test_drop_by_hand(threshold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every byte drawn once, just the `threshold` lowest values are dropped."""
    every_byte = torch.arange(256, dtype=torch.uint8)
    monkeypatch.setattr(embedding_module, "random_bytes", lambda size, device: every_byte[:size])
    rows = torch.full((4, 64), 3.0)
    drop_(rows, threshold)
    assert (rows.flatten() == 0).tolist() == [byte < threshold for byte in range(256)]
    assert set(rows.flatten()[threshold:].tolist()) == {3.0}


def test_drop_draws_anew_for_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_module, "BLOCK", 200)
    torch.manual_seed(0)
    rows = torch.ones(9, 100)
    drop_(rows, 128)
    assert all(20 < int(row.sum()) < 80 for row in rows)
    assert len(rows.unique(dim=0)) == 9


def test_drop_takes_rows_wider_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_module, "BLOCK", 10)
    rows = torch.ones(3, 100)
    drop_(rows, 128)
    assert 0 < int(rows.sum()) < 300


def test_every_bit_of_random_bytes_is_fair() -> None:
    torch.manual_seed(0)
    drawn = random_bytes(8 * 4000 + 3, torch.device("cpu"))
    assert drawn.shape == (8 * 4000 + 3,)
    lanes = drawn[:-3].view(4000, 8).numpy()  # the eight bytes of each word
    share = np.unpackbits(lanes, axis=1).mean(axis=0)
    assert np.abs(share - 0.5).max() < 0.04  # five standard deviations


@pytest.mark.parametrize(("dropout", "kept"), [(0.5, 128), (0.25, 192), (0.999, 1), (0.001, 256)])
def test_what_is_kept_is_scaled_up(dropout: float, kept: int) -> None:
    torch.manual_seed(0)
    layer = Embedding(EmbeddingSettings(width=16, dropout=dropout), 6)
    rows = torch.randn(4000, 6)
    whole = functional.relu(layer.linear(rows))
    got = layer(rows)
    is_kept = got != 0
    torch.testing.assert_close(got, torch.where(is_kept, whole * 256 / kept, 0.0))
    share = is_kept.sum() / (whole > 0).sum()
    assert abs(float(share) - kept / 256) < 0.015


def test_gradient_is_that_of_relu_then_dropout() -> None:
    torch.manual_seed(0)
    layer = Embedding(EmbeddingSettings(width=5, dropout=0.5), 4).double()
    nn.init.normal_(layer.linear.shift)
    rows, wanted = torch.randn(20, 4).double(), torch.randn(20, 5).double()
    rows.requires_grad_()
    inputs = [rows, *layer.parameters()]
    got = layer(rows)
    plain = functional.relu(layer.linear(rows)) * 2 * (got.detach() != 0)
    for mine, theirs in zip(
        torch.autograd.grad(got, inputs, wanted), torch.autograd.grad(plain, inputs, wanted)
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_seed_decides_what_is_dropped() -> None:
    torch.manual_seed(0)
    layer, rows = Embedding(EmbeddingSettings(width=16), 6), torch.randn(50, 6)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(rows))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_nothing_is_dropped_in_evaluation_nor_at_zero() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 6)
    layer = Embedding(EmbeddingSettings(width=16, dropout=0.0), 6)
    torch.testing.assert_close(layer(rows), functional.relu(layer.linear(rows)))
    layer = Embedding(EmbeddingSettings(width=16, dropout=0.9), 6).eval()
    torch.testing.assert_close(layer(rows), functional.relu(layer.linear(rows)))
    assert (layer(rows) > 0).float().mean() > 0.3


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    layer = Embedding(EmbeddingSettings(width=8), 6)
    layer(torch.randn(30, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in layer.parameters())


# ---- settings ------------------------------------------------------------------------------------


def test_identity_leaves_frames_as_they_are() -> None:
    settings = EmbeddingSettings("identity", width=9)
    rows = torch.randn(3, 5)
    assert torch.equal(build_embedding(settings, 5)(rows), rows)
    assert settings.width_of(5) == 5


def test_dense_has_its_own_width() -> None:
    settings = EmbeddingSettings(width=9)
    assert build_embedding(settings, 5)(torch.randn(3, 5)).shape == (3, 9)
    assert settings.width_of(5) == 9


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_impossible_dropout(dropout: float) -> None:
    with pytest.raises(SettingsError, match=r"dropout: the value is .*at least 0, below 1"):
        EmbeddingSettings(dropout=dropout)


def test_impossible_width() -> None:
    with pytest.raises(SettingsError, match="width: the value is 0; it must be at least 1"):
        EmbeddingSettings(width=0)
    EmbeddingSettings(width=1)
