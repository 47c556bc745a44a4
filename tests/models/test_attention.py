from typing import Any

import numpy as np
import pytest
import torch

from whenabouts.core.errors import SettingsError
from whenabouts.models.attention import AttentionPool, AttentionSegment, AttentionSettings
from whenabouts.models.embedding import EmbeddingSettings

MASK = torch.tensor(
    [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=torch.bool
)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"weights": "softmax"},
    {"gated": True},
    {"num_heads": 3},
    {"num_heads": 3, "weights": "softmax", "gated": True},
]


def pool_of(width: int = 6, **options: Any) -> AttentionPool:
    torch.manual_seed(0)
    pool = AttentionPool(AttentionSettings(hidden=7, eps=0.3, **options), width).double()
    return pool.requires_grad_(True)


def features_of(width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (*MASK.shape, width)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_definition(
    pool: AttentionPool, features: np.ndarray, settings: AttentionSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled feature and attention of one video, given its real positions alone."""
    v, b, w, c = (p.detach().numpy() for p in pool.parameters())
    hidden = features @ v.T + b
    half = settings.hidden
    if settings.gated:
        hidden = np.tanh(hidden[:, :half]) * sigmoid(hidden[:, half:])
    else:
        hidden = np.maximum(hidden, 0)
    logits = hidden @ w.T + c
    if settings.weights == "softmax":
        scores = np.exp(logits) / np.exp(logits).sum(axis=0)
    else:
        scores = sigmoid(logits)
    heads = [(a @ features) / (a.sum() + settings.eps) for a in scores.T]
    return np.mean(heads, axis=0), scores.mean(axis=1)


@pytest.mark.parametrize("options", OPTIONS)
def test_against_the_formula(options: dict[str, Any]) -> None:
    pool, features = pool_of(**options), features_of()
    settings = AttentionSettings(hidden=7, eps=0.3, **options)
    pooled, attention = pool(features, MASK)
    for i, mask in enumerate(MASK):
        if not mask.any():
            continue
        wanted, scores = by_definition(pool, features[i, mask].numpy(), settings)
        np.testing.assert_allclose(pooled[i].detach(), wanted, rtol=1e-10)
        np.testing.assert_allclose(attention[i, mask].detach(), scores, rtol=1e-10)
    assert not attention[~MASK].any()


def test_scores_by_hand() -> None:
    """One channel, scores 1/2 and 3/4: (1/2 * 2 + 3/4 * 4) / (5/4 + eps)."""
    pool = AttentionPool(AttentionSettings(hidden=1, eps=0.25), 1)
    with torch.no_grad():
        pool.hidden.weight.fill_(1)
        pool.hidden.bias.fill_(-2)
        pool.out.weight.fill_(np.log(3) / 2)
        pool.out.bias.fill_(0)
    features = torch.tensor([[[2.0], [4.0], [9.0]]])
    pooled, attention = pool(features, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(attention, torch.tensor([[0.5, 0.75, 0.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[4 / 1.5]]))


@pytest.mark.parametrize("options", OPTIONS)
def test_padding_and_batch_mates_are_irrelevant(options: dict[str, Any]) -> None:
    pool, features = pool_of(**options), features_of()
    pooled, attention = pool(features, MASK)
    other = torch.where(MASK.unsqueeze(-1), features, 1e3)
    torch.testing.assert_close(pool(other, MASK)[0], pooled)
    torch.testing.assert_close(pool(other, MASK)[1], attention)
    longer = torch.cat([features, features + 50], dim=1)
    longer_mask = torch.cat([MASK, torch.zeros_like(MASK)], dim=1)
    torch.testing.assert_close(pool(longer, longer_mask)[0], pooled)
    torch.testing.assert_close(pool(features[1:2], MASK[1:2])[0], pooled[1:2])


@pytest.mark.parametrize("options", OPTIONS)
def test_order_is_irrelevant(options: dict[str, Any]) -> None:
    pool, features = pool_of(**options), features_of()
    pooled, attention = pool(features, MASK)
    order = torch.tensor([2, 0, 3, 1])
    pooled_too, attention_too = pool(features[:, order], MASK[:, order])
    torch.testing.assert_close(pooled_too, pooled)
    torch.testing.assert_close(attention_too, attention[:, order])


@pytest.mark.parametrize("options", OPTIONS)
def test_without_a_real_position_all_is_zero_and_finite(options: dict[str, Any]) -> None:
    pool, features = pool_of(**options), features_of().requires_grad_()
    pooled, attention = pool(features, torch.zeros_like(MASK))
    assert not pooled.any()
    assert not attention.any()
    (pooled.sum() + attention.sum()).backward()
    assert features.grad is not None
    assert not features.grad.any()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("options", OPTIONS)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    pool = pool_of(**options)
    pool(features_of(), MASK)[0].square().sum().backward()
    for name, parameter in pool.named_parameters():
        if name == "out.bias" and options.get("weights") == "softmax":
            assert parameter.grad.abs().max() < 1e-12  # softmax does not see a common shift
        else:
            assert parameter.grad.abs().max() > 1e-6, name


def test_heads_are_different_scores() -> None:
    assert pool_of(num_heads=3).logits(features_of()).shape == (*MASK.shape, 3)


@pytest.mark.parametrize(("name", "value"), [("hidden", 0), ("num_heads", 0), ("hidden", -3)])
def test_impossible_sizes(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is {value}; it must be at least 1"):
        AttentionSettings(**{name: value})


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_eps_is_positive(eps: float) -> None:
    with pytest.raises(SettingsError, match=r"eps: the value is .* above 0"):
        AttentionSettings(eps=eps)


# ---- the segment module --------------------------------------------------------------------------


def segment_module(kind: Any = "dense", dropout: float = 0.0) -> AttentionSegment:
    torch.manual_seed(0)
    embedding = EmbeddingSettings(kind, width=5, dropout=dropout)
    return AttentionSegment(embedding, AttentionSettings(hidden=4), 6).double()


@pytest.mark.parametrize("training", [True, False])
def test_segment_is_pooled_from_embedded_real_frames(training: bool) -> None:
    module, features = segment_module().train(training), features_of()
    got, attention = module(features, MASK)
    rows = module.embedding(features[MASK])
    settings = AttentionSettings(hidden=4)
    for i, mask in enumerate(MASK):
        mine = rows[MASK.nonzero()[:, 0] == i].detach().numpy()
        if len(mine):
            wanted, scores = by_definition(module.attention, mine, settings)
            np.testing.assert_allclose(got[i].detach(), wanted, rtol=1e-6)
            np.testing.assert_allclose(attention[i, mask].detach(), scores, rtol=1e-6)
    assert not got[3].any()


@pytest.mark.parametrize("num_segments", [5, 2])
def test_a_little_or_much_padding_in_evaluation(num_segments: int) -> None:
    """Little padding is computed and much is left out; neither changes the answer."""
    module = segment_module().eval()
    mask = torch.ones(num_segments, 4, dtype=torch.bool)
    mask[0, 1:] = False
    features = torch.rand(num_segments, 4, 6, dtype=torch.float64)
    garbage = torch.where(mask.unsqueeze(-1), features, -70)
    alone, _ = module(features[:1, :1], mask[:1, :1])
    torch.testing.assert_close(module(garbage, mask)[0][:1], alone)
    torch.testing.assert_close(module(garbage, mask)[0], module(features, mask)[0])


LITTLE_PADDING = torch.ones_like(MASK).index_put((torch.tensor(1), torch.tensor(3)), ~MASK[0, 0])


@pytest.mark.parametrize("mask", [MASK, LITTLE_PADDING])
def test_padding_never_enters_the_statistics(mask: torch.Tensor) -> None:
    module, features = segment_module(), features_of()
    module(torch.where(mask.unsqueeze(-1), features, 1e3), mask)
    rows = features[mask] @ module.embedding.linear.linear.weight.T
    torch.testing.assert_close(module.embedding.linear.running_mean, 0.1 * rows.mean(0))


@pytest.mark.parametrize("num_frames", [1, 3, 8])
def test_segments_of_any_length(num_frames: int) -> None:
    module = segment_module()
    mask = torch.ones(2, num_frames, dtype=torch.bool)
    feature, attention = module(torch.rand(2, num_frames, 6, dtype=torch.float64), mask)
    assert feature.shape == (2, 5)
    assert attention.shape == (2, num_frames)


def test_identity_pools_the_frames_themselves() -> None:
    module, features = segment_module("identity"), features_of()
    torch.testing.assert_close(module(features, MASK)[0], module.attention(features, MASK)[0])


@pytest.mark.parametrize("num_real", [0, 1])
def test_almost_nothing_real_in_training(num_real: int) -> None:
    module = segment_module(dropout=0.5)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, :num_real] = True
    features = features_of()[:3]
    feature, attention = module(features, mask)
    (feature.sum() + attention.sum()).backward()
    assert feature.isfinite().all()
    assert not feature[[0, 2]].any()
    assert all(p.grad.isfinite().all() for p in module.parameters())
