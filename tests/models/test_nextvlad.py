from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layer_oracle import (
    MASK,
    array,
    by_video,
    frames_of,
    linear,
    normed,
    sigmoid,
    softmax,
    stirred,
    unit,
    videos_of,
)
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings
from whenabouts.models.nextvlad import NeXtVLAD, NeXtVLADNetwork, NeXtVLADPool

WIDTH, CLUSTERS, GROUPS = 6, 3, 4


def pool_of(width: int = WIDTH) -> NeXtVLADPool:
    torch.manual_seed(0)
    return stirred(NeXtVLADPool(width, CLUSTERS, GROUPS, expansion=2))


def pooled_by_definition(
    pool: NeXtVLADPool, videos: list[np.ndarray], num_groups: int = GROUPS
) -> np.ndarray:
    """Before the last BN: [B, K * F], frame by frame, group by group and cluster by cluster."""
    rows = linear(pool.expand, np.concatenate(videos))
    assigned = by_video(normed(pool.assignment, rows), videos)
    attended = by_video(sigmoid(linear(pool.attention, rows)), videos)
    centres, pooled = array(pool.centres), []
    for y, logits, g in zip(by_video(rows, videos), assigned, attended):
        v = np.zeros_like(centres)
        for t in range(len(y)):
            groups, choices = np.split(y[t], num_groups), np.split(logits[t], num_groups)
            for i in range(num_groups):
                a = softmax(choices[i])
                for k in range(len(centres)):
                    v[k] += g[t, i] * a[k] * (groups[i] - centres[k])
        pooled.append(np.concatenate([unit(each) for each in v]))
    return np.stack(pooled)


@pytest.mark.parametrize("training", [True, False])
def test_pool_against_the_formula(training: bool) -> None:
    pool, features = pool_of().train(training), frames_of(WIDTH)
    wanted = normed(pool.norm, pooled_by_definition(pool, videos_of(features)))
    got = checked(NeXtVLADPool.forward)(pool, features, MASK).detach()
    np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10)
    assert pool.width == got.shape[1] == CLUSTERS * 2 * WIDTH // GROUPS


def test_groups_that_do_not_divide_the_width() -> None:
    """2 * 5 channels in 4 groups: of 3 channels each."""
    pool = pool_of(width=5).eval()
    assert pool.expand.weight.shape == (12, 5)
    assert pool(frames_of(5), MASK).shape == (5, CLUSTERS * 3)


@pytest.mark.parametrize("training", [True, False])
def test_network_against_the_formula(training: bool) -> None:
    """Two feature lists; without dropout."""
    settings = NeXtVLAD(num_clusters=CLUSTERS, groups=GROUPS, hidden=8, reduction=2, dropout=0.0)
    torch.manual_seed(0)
    network = stirred(NeXtVLADNetwork(settings, (WIDTH, 4), 3)).train(training)
    features, lists = frames_of(WIDTH + 4), []
    parts = [features[..., :WIDTH], features[..., WIDTH:]]
    for pool, part, num_groups in zip(network.twins.pools, parts, (GROUPS, GROUPS // 2)):
        pooled = pooled_by_definition(pool, videos_of(part), num_groups)
        lists.append(normed(pool.norm, pooled))
    h = normed(network.hidden, np.hstack(lists))
    squeezed = np.maximum(normed(network.gate.squeeze, h), 0)
    wanted = linear(network.head.linear, h * sigmoid(linear(network.gate.excite, squeezed)))
    got = network(features, MASK).detach()
    np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


def test_dropout_in_training_alone() -> None:
    settings = NeXtVLAD(num_clusters=2, groups=2, hidden=8)
    network = NeXtVLADNetwork(settings, (WIDTH,), 3)
    features = frames_of(WIDTH).float()
    assert not torch.equal(network(features, MASK), network(features, MASK))
    network.eval()
    assert torch.equal(network(features, MASK), network(features, MASK))


def test_gradients_of_the_pool() -> None:
    pool, features, mask = pool_of(), frames_of(WIDTH)[[0, 1, 4]], MASK[[0, 1, 4]]
    parameters = tuple(pool.parameters())
    assert torch.autograd.gradcheck(lambda *_: pool(features, mask), parameters)


def test_the_twin_has_half_the_clusters_and_groups() -> None:
    network = NeXtVLADNetwork(NeXtVLAD(num_clusters=6, groups=4, hidden=8), (8, 4), 3)
    assert [pool.centres.shape for pool in network.twins.pools] == [(6, 4), (3, 4)]
    assert network.hidden.linear.weight.shape == (8, 6 * 4 + 3 * 4)


def test_sizes_of_the_paper() -> None:
    settings = NeXtVLAD()
    assert (settings.num_clusters, settings.groups, settings.hidden) == (128, 8, 2048)
    assert (settings.expansion, settings.reduction, settings.dropout) == (2, 16, 0.5)
    assert settings.head == HeadSettings("logistic")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((n, 0) for n in ("num_clusters", "groups", "expansion", "twin_reduction", "hidden")),
        ("reduction", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_impossible_settings(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is {value}; it must be at least"):
        NeXtVLAD(**{name: value})
