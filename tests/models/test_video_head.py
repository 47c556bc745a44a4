"""What follows the pooling, and the pooling of each feature list."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layer_oracle import MASK, frames_of, linear, normed, sigmoid, stirred
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings
from whenabouts.models.logistic import mean_over_frames
from whenabouts.models.twins import Pool, PooledVideo, Twins, twin_sizes
from whenabouts.models.video_head import VideoHead, VideoHeadSettings


def head_of(settings: VideoHeadSettings) -> VideoHead:
    torch.manual_seed(0)
    return stirred(VideoHead(settings, 7, 4))


def by_definition(head: VideoHead, pooled: np.ndarray) -> np.ndarray:
    """Probabilities; with a logistic head."""
    h = normed(head.hidden, pooled)
    if not isinstance(head.context_gate, nn.Identity):
        h = h * sigmoid(normed(head.context_gate.gate, h))
    p = sigmoid(linear(head.head.linear, h))
    if not isinstance(head.probability_gate, nn.Identity):
        p = p * sigmoid(normed(head.probability_gate.gate, p))
    return p


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("context", "probability"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_against_the_formula(context: bool, probability: bool, training: bool) -> None:
    settings = VideoHeadSettings(5, context, HeadSettings("logistic"), probability)
    head = head_of(settings).train(training)
    assert isinstance(head.context_gate, nn.Identity) != context
    assert isinstance(head.probability_gate, nn.Identity) != probability
    pooled = np.random.default_rng(0).normal(size=(6, 7))
    got = checked(VideoHead.forward)(head, torch.from_numpy(pooled)).sigmoid().detach()
    np.testing.assert_allclose(got, by_definition(head, pooled), rtol=1e-8)


def test_the_head_is_the_one_asked_for() -> None:
    moe = head_of(VideoHeadSettings(5, False, HeadSettings("moe", 3), False)).head
    assert moe.experts.weight.shape == (4 * 3, 5)


def test_impossible_size() -> None:
    with pytest.raises(SettingsError, match="hidden: the value is 0; it must be at least 1"):
        VideoHeadSettings(hidden=0)


# ---- twins ---------------------------------------------------------------------------------------


class MeanPool(Pool):
    def __init__(self, width: int, factor: float) -> None:
        super().__init__(width)
        self.factor = factor

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return mean_over_frames(features, mask) * self.factor


@pytest.mark.parametrize(
    ("size", "num_lists", "reduction", "sizes"),
    [(256, 1, 2, (256,)), (256, 2, 2, (256, 128)), (3684, 2, 8, (3684, 460)), (5, 3, 8, (5, 1, 1))],
)
def test_twin_sizes(size: int, num_lists: int, reduction: int, sizes: tuple[int, ...]) -> None:
    assert twin_sizes(size, num_lists, reduction) == sizes


def test_each_list_goes_to_its_own_pool() -> None:
    features = frames_of(5)
    twins = Twins((3, 2), [MeanPool(3, 1.0), MeanPool(2, -2.0)])
    got = checked(Twins.forward)(twins, features, MASK)
    mean = mean_over_frames(features, MASK)
    torch.testing.assert_close(got, mean * torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0]))
    assert twins.width == 5


def test_the_head_reads_all_lists() -> None:
    settings = VideoHeadSettings(4, False, HeadSettings("logistic"), False)
    model = stirred(PooledVideo((3, 2), [MeanPool(3, 1.0), MeanPool(2, -2.0)], settings, 6))
    features = frames_of(5)
    got = checked(PooledVideo.forward)(model, features, MASK)
    torch.testing.assert_close(got, model.head(model.twins(features, MASK)))


def test_a_pool_for_each_list() -> None:
    with pytest.raises(AssertionError, match="a pooling for each feature list"):
        Twins((3, 2), [MeanPool(3, 1.0)])
