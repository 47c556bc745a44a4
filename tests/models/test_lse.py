"""LSE: a video's logits are pooled from those of its segments; attention is their share in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings
from whenabouts.models.hierarchical import LSE, Att2, Hierarchical, _shares, scaled

VIDEOS, SEGMENTS, VIDEO_CLASSES, WIDTH = 3, 4, 9, 64
MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]).bool()
NOTHING = torch.zeros(1, SEGMENTS, dtype=torch.bool)


def model_of(**changes: Any) -> Hierarchical:
    torch.manual_seed(0)
    settings = replace(scaled(LSE(), "tiny"), **changes)
    return Hierarchical(settings, 8, 6, VIDEO_CLASSES, 5).eval()


def segments_of(seed: int = 0) -> Tensor:
    """Segment features far enough apart that pooling matters."""
    drawn = torch.Generator().manual_seed(seed)
    return 8 * torch.randn(VIDEOS, SEGMENTS, WIDTH, generator=drawn)


def by_hand(
    model: Hierarchical, segments: Tensor, sharpness: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Video by video, class by class, over its real segments."""
    logits, attention = np.zeros((VIDEOS, VIDEO_CLASSES)), np.zeros((VIDEOS, SEGMENTS))
    for b in range(VIDEOS):
        real = MASK[b].nonzero()[:, 0].numpy()
        z = np.stack([model.video_head(segments[b, s][None])[0].detach().numpy() for s in real])
        odds = np.exp(sharpness * z.astype(np.float64))
        logits[b] = np.log(odds.mean(axis=0)) / sharpness
        p = 1 / (1 + np.exp(-logits[b]))
        attention[b, real] = (odds / odds.sum(axis=0) * p).sum(axis=1) / p.sum()
    return logits, attention


@pytest.mark.parametrize("head", [HeadSettings(), HeadSettings("moe")], ids=lambda h: h.kind)
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_against_the_formula(sharpness: float, head: HeadSettings) -> None:
    model, segments = model_of(sharpness=sharpness, head=head), segments_of()
    logits, attention = checked(Hierarchical.video_logits)(model, segments, MASK)
    wanted, shares = by_hand(model, segments, sharpness)
    np.testing.assert_allclose(logits.detach(), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attention, shares, atol=1e-5)
    other, _ = by_hand(model, segments, 2 * sharpness)
    assert np.abs(other - wanted).max() > 0.05


def test_the_logits_are_between_mean_and_highest() -> None:
    segments = segments_of()[:1]
    each = model_of().video_head(segments[0])
    mean, highest = each.mean(dim=0), each.amax(dim=0)
    everything = torch.ones(1, SEGMENTS, dtype=torch.bool)
    for sharpness, wanted in ((1e-3, mean), (1e3, highest)):
        found, _ = model_of(sharpness=sharpness).video_logits(segments, everything)
        torch.testing.assert_close(found[0], wanted, atol=0.1, rtol=0)


def test_one_segment_is_the_video() -> None:
    model, segments = model_of(sharpness=3.0), segments_of()
    logits, attention = model.video_logits(segments, MASK)
    torch.testing.assert_close(logits[1], model.video_head(segments[1, :1])[0])
    torch.testing.assert_close(attention[1], torch.tensor([1.0, 0, 0, 0]))


def test_attention_sums_to_one_over_real_segments() -> None:
    _, attention = model_of().video_logits(segments_of(), MASK)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(VIDEOS))
    assert not attention[~MASK].any()
    assert (attention[MASK] > 0).all()
    nothing = model_of().video_logits(segments_of()[:1], NOTHING)[1]
    assert not nothing.any()


def test_shares_by_hand() -> None:
    """Two classes: of p = 3/4 all in the second segment, of p = 1/4 a half in each."""
    far = torch.tensor(200.0)
    logits = torch.tensor([[[-far, 0.0], [far, 0.0], [9.0, 9.0]]])
    pooled, mask = torch.tensor([[3.0, 1 / 3]]).log(), torch.tensor([[True, True, False]])
    found = checked(_shares)(logits, pooled, mask, 1.0)
    torch.testing.assert_close(found, torch.tensor([[1 / 8, 7 / 8, 0.0]]))
    halved = _shares(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 1), MASK[:1, :2], 2.0)
    e = float(np.exp(2.0))
    torch.testing.assert_close(halved, torch.tensor([[1 / (1 + e), e / (1 + e)]]))


@pytest.mark.parametrize("low", [-100.0, -1e4])
def test_shares_of_a_video_that_is_found_to_have_nothing(low: float) -> None:
    """Probabilities that no float holds still have shares."""
    logits = low + torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    found = _shares(logits, torch.full((1, 2), low), MASK[:1, :2], 1.0)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]]))


def test_no_gradient_flows_through_attention() -> None:
    logits, attention = model_of().video_logits(segments_of().requires_grad_(), MASK)
    assert logits.requires_grad
    assert not attention.requires_grad


def test_in_training_logits_are_the_same_and_attention_is_left_out() -> None:
    model, segments = model_of(), segments_of()
    wanted, _ = model.video_logits(segments, MASK)
    logits, attention = model.train().video_logits(segments, MASK)
    torch.testing.assert_close(logits, wanted)
    assert attention.shape == MASK.shape
    assert not attention.any()


def test_under_bfloat16_the_pooling_is_float32() -> None:
    model, segments = model_of(), segments_of()
    wanted, _ = model.video_logits(segments, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        logits, attention = model.video_logits(segments, MASK)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, wanted, atol=0.1, rtol=0.02)
    torch.testing.assert_close(attention.float().sum(dim=1), torch.ones(VIDEOS), atol=0.02, rtol=0)


def test_it_has_no_video_features() -> None:
    model = model_of()
    assert model.video_attention is None
    assert not [name for name in model.state_dict() if "video_attention" in name]
    with pytest.raises(AssertionError):
        model.encode_video(segments_of(), MASK)


def test_its_segment_module_starts_as_that_of_att2() -> None:
    torch.manual_seed(0)
    att2 = Hierarchical(scaled(Att2(), "tiny"), 8, 6, VIDEO_CLASSES, 5).state_dict()
    ours = model_of().state_dict()
    shared = [name for name in ours if name.startswith("segment_module")]
    assert shared
    assert all(torch.equal(ours[name], att2[name]) for name in shared)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_sharpness_out_of_range(value: float) -> None:
    with pytest.raises(SettingsError, match=rf"sharpness: the value is {value}; it must be above"):
        LSE(sharpness=value)
