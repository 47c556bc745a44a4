import numpy as np
import pytest
import torch
from torch import nn

from layer_oracle import normed, stirred
from whenabouts.models.normed import Normed


@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool) -> None:
    layer = stirred(Normed(3)).train(training)
    rows = np.random.default_rng(0).normal(2, 3, size=(6, 3))
    wanted = normed(layer, rows)
    np.testing.assert_allclose(layer(torch.from_numpy(rows)).detach(), wanted, rtol=1e-10)


def test_statistics_are_those_torch_keeps() -> None:
    layer, theirs = Normed(3), nn.BatchNorm1d(3)
    for seed in range(3):
        rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 3))).float()
        torch.testing.assert_close(layer(rows), theirs(rows))
    torch.testing.assert_close(layer.running_mean, theirs.running_mean)
    torch.testing.assert_close(layer.running_variance, theirs.running_var)
    torch.testing.assert_close(layer.eval()(rows), theirs.eval()(rows))


def test_one_row_uses_the_running_statistics() -> None:
    layer = stirred(Normed(3))
    rows = torch.rand(1, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(rows), layer.eval()(rows))


def test_shares_of_a_batch() -> None:
    """One share that is the whole batch, through the sums over shares, is the batch itself."""
    layer, same = stirred(Normed(3)), stirred(Normed(3))
    layer.sum_over_shares = lambda sums: sums
    rows = torch.rand(4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(rows), same(rows))


def test_it_has_no_weight() -> None:
    assert {name for name, _ in Normed(3).named_parameters()} == {"scale", "shift"}
