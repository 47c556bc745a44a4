from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from layer_oracle import EMPTY, MASK, array, frames_of, shares_of, stirred, unit, videos_of
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.netfv import NetFV, NetFVPool, build_netfv

WIDTH, CLUSTERS = 6, 3


def pool_of() -> NetFVPool:
    """With spreads that differ by channel and cluster, and centres as long as a frame."""
    torch.manual_seed(0)
    pool = stirred(NetFVPool(WIDTH, CLUSTERS))
    nn.init.normal_(pool.centres, std=0.4)
    nn.init.normal_(pool.log_spreads, std=0.4)
    return pool


def moments(pool: NetFVPool, x: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 and F2 of one video, with the residual of each frame and cluster."""
    residuals = (x[:, None] - array(pool.centres)) / np.exp(array(pool.log_spreads))
    shares = a[:, :, None]
    return (shares * residuals).sum(axis=0), (shares * (residuals**2 - 1)).sum(axis=0)


def by_definition(pool: NetFVPool, videos: list[np.ndarray]) -> np.ndarray:
    pooled = []
    for x, a in zip(videos, shares_of(pool.assignment.linear, videos)):
        parts = [unit(np.concatenate([unit(v) for v in part])) for part in moments(pool, x, a)]
        pooled.append(np.concatenate(parts))
    return np.stack(pooled)


@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool) -> None:
    pool, features = pool_of().train(training), frames_of(WIDTH)
    wanted = by_definition(pool, videos_of(features))
    got = pool(features, MASK).detach()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    assert not got[EMPTY].any()
    np.testing.assert_allclose(got[0, : WIDTH * CLUSTERS].norm(), 1)


def test_moments_by_hand() -> None:
    """Frames 1 and 3 of one channel, centre 2, spread 2: F1 = 0, F2 = 2 * (1/4 - 1)."""
    pool = NetFVPool(1, 1)
    nn.init.constant_(pool.centres, 2.0)
    nn.init.constant_(pool.log_spreads, np.log(2))
    first, second = checked(NetFVPool.moments)(
        pool, torch.ones(1, 2, 1), torch.tensor([[[1.0], [3.0]]])
    )
    torch.testing.assert_close(first, torch.tensor([[[0.0]]]))
    torch.testing.assert_close(second, torch.tensor([[[-1.5]]]))


def test_spreads_start_at_that_of_a_channel() -> None:
    pool = NetFVPool(16, 2)
    torch.testing.assert_close(pool.log_spreads.exp(), torch.full((2, 16), 0.25))


def test_gradients() -> None:
    pool, features, mask = pool_of(), frames_of(WIDTH)[[0, 1, 4]], MASK[[0, 1, 4]]
    parameters = tuple(pool.parameters())
    assert torch.autograd.gradcheck(lambda *_: pool(features, mask), parameters)


def test_a_pool_a_feature_list() -> None:
    model = build_netfv(NetFV(num_clusters=12), (8, 4), 5)
    assert [pool.centres.shape for pool in model.twins.pools] == [(12, 8), (6, 4)]
    assert model.head.hidden.linear.weight.shape == (1540, 2 * (12 * 8 + 6 * 4))


def test_sizes_of_the_paper() -> None:
    settings = NetFV()
    assert (settings.num_clusters, settings.twin_reduction, settings.head.hidden) == (96, 2, 1540)
    assert settings.head.context_gate
    assert settings.head.probability_gate
    assert (settings.head.head.kind, settings.head.head.num_experts) == ("moe", 2)


@pytest.mark.parametrize("name", ["num_clusters", "twin_reduction"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is 0; it must be at least 1"):
        NetFV(**{name: 0})
