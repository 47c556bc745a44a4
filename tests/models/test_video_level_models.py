from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layer_oracle import MASK, array, frames_of, linear, normed, stirred, videos_of
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings
from whenabouts.models.video_level import (
    ResidualBlock,
    VideoLevel,
    VideoLevelSettings,
    VideoLogistic,
    VideoMLP,
    VideoMoE,
)

WIDTH, CLASSES = 6, 4
MLP = VideoMLP(width=5, num_blocks=3, dropout=0.0)
SETTINGS: list[VideoLevelSettings] = [VideoLogistic(), VideoMoE(), MLP]
every_family = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.family)


def model_of(settings: VideoLevelSettings) -> VideoLevel:
    torch.manual_seed(0)
    return stirred(VideoLevel(settings, WIDTH, CLASSES))


def means_of(features: torch.Tensor) -> np.ndarray:
    return np.stack([x.mean(axis=0) if len(x) else np.zeros(WIDTH) for x in videos_of(features)])


def test_logistic_against_the_formula() -> None:
    model, features = model_of(VideoLogistic()), frames_of(WIDTH)
    wanted = linear(model.head.linear, means_of(features))
    np.testing.assert_allclose(model(features, MASK).detach(), wanted, rtol=1e-6)


@pytest.mark.parametrize("num_experts", [1, 2])
def test_moe_is_the_mixture_of_the_mean(num_experts: int) -> None:
    model, features = model_of(VideoMoE(num_experts=num_experts)), frames_of(WIDTH)
    assert model.head.experts.weight.shape == (num_experts * CLASSES, WIDTH)
    wanted = model.head(torch.from_numpy(means_of(features)))
    torch.testing.assert_close(model(features, MASK), wanted)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("head", [HeadSettings(), HeadSettings("moe", 2)])
def test_mlp_against_the_formula(head: HeadSettings, training: bool) -> None:
    settings = VideoMLP(width=5, num_blocks=3, dropout=0.0, head=head)
    model, features = model_of(settings).train(training), frames_of(WIDTH)
    first, *blocks = model.layers
    h = normed(first, means_of(features))
    for block in blocks:
        inner = np.maximum(normed(block.inner.linear, h), 0)
        h = h + inner @ array(block.out.weight).T + array(block.out.bias)
    assert len(blocks) == 3
    wanted = array(model.head(torch.from_numpy(h)))
    np.testing.assert_allclose(model(features, MASK).detach(), wanted, rtol=1e-6, atol=1e-7)


@every_family
def test_the_mean_may_stand_in_for_the_frames(settings: VideoLevelSettings) -> None:
    model, features = model_of(settings).eval(), frames_of(WIDTH)
    mean = torch.from_numpy(means_of(features)).unsqueeze(1)
    assert model.reads_mean
    got = model(mean, MASK.any(dim=1, keepdim=True))
    torch.testing.assert_close(got, model(features, MASK))


def test_dropout_in_training_alone() -> None:
    block = ResidualBlock(VideoMLP(width=16, dropout=0.5).inner())
    rows = torch.randn(8, 16)
    assert not torch.equal(block(rows), block(rows))
    block.eval()
    assert torch.equal(block(rows), block(rows))


def test_a_block_adds_to_what_it_is_given() -> None:
    block = ResidualBlock(MLP.inner())
    rows = torch.randn(8, 5)
    torch.nn.init.zeros_(block.out.weight)
    torch.nn.init.zeros_(block.out.bias)
    assert torch.equal(block(rows), rows)


@every_family
def test_gradients(settings: VideoLevelSettings) -> None:
    model, features = model_of(settings), frames_of(WIDTH)
    parameters = tuple(model.parameters())
    assert torch.autograd.gradcheck(lambda *_: model(features, MASK), parameters)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (VideoMoE, "num_experts", 0),
        (VideoMLP, "width", 0),
        (VideoMLP, "num_blocks", 0),
        (VideoMLP, "dropout", 1.0),
        (VideoMLP, "dropout", -0.5),
    ],
)
def test_impossible_settings(kind: type[Any], name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is {value}; it must be at least"):
        kind(**{name: value})
