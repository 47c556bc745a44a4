from __future__ import annotations

import numpy as np
import pytest
import torch

from layer_oracle import (
    EMPTY,
    MASK,
    array,
    frames_of,
    normed,
    shares_of,
    sigmoid,
    stirred,
    unit,
    videos_of,
)
from whenabouts.core.errors import SettingsError
from whenabouts.models.dbof import DBoF, GatedDBoFPool, build_dbof

WIDTH, CLUSTERS = 6, 4


def pool_of() -> GatedDBoFPool:
    torch.manual_seed(0)
    return stirred(GatedDBoFPool(WIDTH, CLUSTERS))


def by_definition(pool: GatedDBoFPool, videos: list[np.ndarray]) -> np.ndarray:
    shares = shares_of(pool.assignment.linear, videos)
    sums = [sum(a, np.zeros(CLUSTERS)) for a in shares]
    strongest = [unit(a.max(axis=0)) if len(a) else np.zeros(CLUSTERS) for a in shares]
    gates = sigmoid(normed(pool.gate, np.stack(strongest) @ array(pool.bottleneck.weight).T))
    return np.stack([unit(gate * total) for gate, total in zip(gates, sums)])


@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool) -> None:
    pool, features = pool_of().train(training), frames_of(WIDTH)
    wanted = by_definition(pool, videos_of(features))
    got = pool(features, MASK).detach()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    assert not got[EMPTY].any()
    torch.testing.assert_close(got[MASK.any(dim=1)].norm(dim=1), torch.ones(4, dtype=got.dtype))


def test_gradients() -> None:
    pool, features, mask = pool_of(), frames_of(WIDTH)[[0, 1, 4]], MASK[[0, 1, 4]]
    parameters = tuple(pool.parameters())
    assert torch.autograd.gradcheck(lambda *_: pool(features, mask), parameters)


def test_a_pool_a_feature_list() -> None:
    model = build_dbof(DBoF(num_clusters=24), (8, 4), 5)
    assert [p.gate.linear.weight.shape for p in model.twins.pools] == [(24, 8), (3, 4)]
    assert [p.bottleneck.weight.shape for p in model.twins.pools] == [(8, 24), (4, 3)]
    assert model.head.hidden.linear.weight.shape == (1024, 24 + 3)


def test_sizes_of_the_paper() -> None:
    settings = DBoF()
    assert (settings.num_clusters, settings.twin_reduction, settings.head.hidden) == (4096, 8, 1024)
    assert not settings.head.context_gate
    assert not settings.head.probability_gate
    assert (settings.head.head.kind, settings.head.head.num_experts) == ("moe", 2)


@pytest.mark.parametrize("name", ["num_clusters", "twin_reduction"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is 0; it must be at least 1"):
        DBoF(**{name: 0})
