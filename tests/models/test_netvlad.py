from __future__ import annotations

import numpy as np
import pytest
import torch

from layer_oracle import EMPTY, MASK, array, frames_of, shares_of, stirred, unit, videos_of
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.assignment import SoftAssignment
from whenabouts.models.netvlad import NetVLAD, NetVLADPool, build_netvlad, residual_sums

WIDTH, CLUSTERS = 6, 3


def pool_of() -> NetVLADPool:
    torch.manual_seed(0)
    return stirred(NetVLADPool(WIDTH, CLUSTERS))


def by_definition(pool: NetVLADPool, videos: list[np.ndarray]) -> np.ndarray:
    """The pooled feature of each video, frame by frame and cluster by cluster."""
    centres, pooled = array(pool.centres), []
    for x, a in zip(videos, shares_of(pool.assignment.linear, videos)):
        v = [sum(a[t, k] * (x[t] - centres[k]) for t in range(len(x))) for k in range(CLUSTERS)]
        v = [unit(each + np.zeros(WIDTH)) for each in v]
        pooled.append(unit(np.concatenate(v)))
    return np.stack(pooled)


@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool) -> None:
    pool, features = pool_of().train(training), frames_of(WIDTH)
    wanted = by_definition(pool, videos_of(features))
    got = pool(features, MASK).detach()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    assert not got[EMPTY].any()


def test_residuals_by_hand() -> None:
    """Two frames on a line, centres 1 and 3: shares 1 and 1/4 of the first cluster."""
    shares = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    features, centres = torch.tensor([[[2.0], [9.0]]]), torch.tensor([[1.0], [3.0]])
    got = checked(residual_sums)(shares, features, centres)
    torch.testing.assert_close(got, torch.tensor([[[1 + 0.25 * 8], [0.75 * 6]]]))


def test_feature_lists_may_be_views() -> None:
    """As they are in training: columns of the frames, which lie side by side."""
    pool, features = pool_of(), frames_of(WIDTH + 4)
    whole = torch.ones_like(MASK)
    for mask in (MASK, whole):
        got = pool(features[..., 2 : WIDTH + 2], mask)
        torch.testing.assert_close(got, pool(features[..., 2 : WIDTH + 2].contiguous(), mask))


def test_gradients() -> None:
    pool, features = pool_of(), frames_of(WIDTH)[[0, 1, 4]]
    parameters = tuple(pool.parameters())

    def pooled(*_: torch.Tensor) -> torch.Tensor:
        return pool(features, MASK[[0, 1, 4]])

    assert torch.autograd.gradcheck(pooled, parameters)


# ---- soft assignment -----------------------------------------------------------------------------


def test_shares_are_of_real_frames_alone() -> None:
    assignment = stirred(SoftAssignment(WIDTH, CLUSTERS))
    features = frames_of(WIDTH)
    shares = checked(SoftAssignment.forward)(assignment, features, MASK)
    torch.testing.assert_close(shares.sum(dim=-1), MASK.double())
    assert (shares[MASK] > 0).all()
    other = torch.where(MASK.unsqueeze(-1), features, 1e3)
    torch.testing.assert_close(assignment(other, MASK), shares)


def test_padding_never_enters_the_statistics() -> None:
    pool, features = pool_of(), frames_of(WIDTH)
    layer = pool.assignment.linear
    before = layer.running_mean.clone()
    pool(torch.where(MASK.unsqueeze(-1), features, 1e3), MASK)
    mean = (features[MASK] @ layer.linear.weight.T).mean(dim=0)
    torch.testing.assert_close(layer.running_mean, 0.9 * before + 0.1 * mean)


# ---- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "clusters"), [((8,), [12]), ((8, 4), [12, 6]), ((8, 4, 2), [12, 6, 6])]
)
def test_a_pool_a_feature_list(widths: tuple[int, ...], clusters: list[int]) -> None:
    model = build_netvlad(NetVLAD(num_clusters=12), widths, 5)
    shapes = [pool.centres.shape for pool in model.twins.pools]
    assert shapes == [(k, width) for k, width in zip(clusters, widths)]
    assert model.head.hidden.linear.weight.shape == (1024, sum(np.multiply(clusters, widths)))


def test_sizes_of_the_paper() -> None:
    settings = NetVLAD()
    assert (settings.num_clusters, settings.twin_reduction, settings.head.hidden) == (256, 2, 1024)
    assert settings.head.context_gate
    assert settings.head.probability_gate
    assert (settings.head.head.kind, settings.head.head.num_experts) == ("moe", 2)


@pytest.mark.parametrize("name", ["num_clusters", "twin_reduction"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is 0; it must be at least 1"):
        NetVLAD(**{name: 0})
