"""Segments judged by their windows: as if each window were a segment, then log-mean-exp."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.attention import AttentionSettings
from whenabouts.models.heads import HeadSettings
from whenabouts.models.hierarchical import (
    LSE,
    NL,
    Att2,
    Hierarchical,
    HierarchicalSettings,
    SegmentWindows,
    scaled,
)
from whenabouts.models.rated_kernel import KernelSettings, RatedPairs

FRAMES, WIDTH, CLASSES, VIDEO_CLASSES, ENCODED = 5, 8, 6, 9, 64
COUNTS = torch.tensor([5, 5, 4, 2, 1, 0])
MASK = torch.arange(FRAMES) < COUNTS.unsqueeze(1)
PAIR_SEGMENT, PAIR_CLASS = torch.tensor([0, 0, 2, 3, 4]), torch.tensor([5, 0, 3, 3, 1])
VIDEO_MASK = torch.tensor([[True, True, True], [True, True, False]])
KINDS: list[type[Any]] = [Att2, NL, LSE]
ATTENTIONS = [
    AttentionSettings(hidden=16),
    AttentionSettings(hidden=16, weights="softmax"),
    AttentionSettings(hidden=16, num_heads=3, gated=True),
]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_head = pytest.mark.parametrize(
    "head", [HeadSettings(), HeadSettings("moe")], ids=lambda head: head.kind
)


def model_of(kind: type[Any], frames: int, sharpness: float = 4.0, **changes: Any) -> Hierarchical:
    settings: HierarchicalSettings = replace(
        scaled(kind(), "tiny"), windows=SegmentWindows(frames, sharpness), **changes
    )
    torch.manual_seed(0)
    return Hierarchical(settings, WIDTH, CLASSES, VIDEO_CLASSES, FRAMES).eval()


def features_of(seed: int = 0) -> Tensor:
    """Frames that differ by much, so that a window is not like the next."""
    drawn = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(len(MASK), FRAMES, WIDTH, generator=drawn)


def each_window(num_frames: int) -> list[list[tuple[int, int]]]:
    """[start, end) of the windows of each segment; where none fits, all that there is."""
    return [
        [
            (min(first, max(count - num_frames, 0)), min(first + num_frames, count))
            for first in range(FRAMES - num_frames + 1)
        ]
        for count in COUNTS.tolist()
    ]


def by_hand(model: Hierarchical, num_frames: int) -> Tensor:
    """Each window encoded as a segment of its own by the model without windows [B, K, E]."""
    features, rows = features_of(), []
    attention = model.segment_module.attention._settings
    whole = model_of(LSE, 0, segment_attention=attention)
    for segment, windows in zip(features, each_window(num_frames)):
        for start, end in windows:
            window = segment[None, start : max(end, start + 1)]
            mask = torch.full(window.shape[:2], end > start)
            rows.append(whole.encode_segments(window, mask)[0])
    return torch.cat(rows).view(len(MASK), -1, ENCODED)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda a: f"{a.weights}-{a.num_heads}")
def test_a_window_is_encoded_as_a_segment_is(attention: AttentionSettings, num_frames: int) -> None:
    model = model_of(LSE, num_frames, segment_attention=attention)
    encoded, frames = checked(Hierarchical.encode_segments)(model, features_of(), MASK)
    windows = model.windows_of(encoded)
    assert windows.shape == (len(MASK), FRAMES - num_frames + 1, ENCODED)
    torch.testing.assert_close(windows, by_hand(model, num_frames), rtol=1e-4, atol=1e-5)
    whole = model_of(LSE, 0, segment_attention=attention)
    torch.testing.assert_close(frames, whole.encode_segments(features_of(), MASK)[1])
    assert not windows[-1].any()  # of no frame


@pytest.mark.parametrize("num_frames", [0, 5, 9])
@every_kind
def test_as_many_frames_as_a_segment_has_are_the_segment(kind: type[Any], num_frames: int) -> None:
    model, whole = model_of(kind, num_frames), model_of(kind, 0)
    encoded, wanted = (m.encode_segments(features_of(), MASK)[0] for m in (model, whole))
    assert torch.equal(encoded, wanted)
    assert torch.equal(model(features_of(), MASK), whole.segment_head(wanted))


@every_head
@pytest.mark.parametrize("sharpness", [0.5, 4.0])
def test_logits_against_the_formula(sharpness: float, head: HeadSettings) -> None:
    model = model_of(LSE, 2, sharpness, head=head)
    encoded = model.encode_segments(features_of(), MASK)[0]
    logits = checked(Hierarchical.segment_logits)(model, encoded)
    z = np.stack(
        [model.segment_head(w).detach().numpy() for w in model.windows_of(encoded)]
    ).astype(np.float64)
    wanted = np.log(np.exp(sharpness * z).mean(axis=1)) / sharpness
    np.testing.assert_allclose(logits.detach(), wanted, rtol=1e-4, atol=1e-5)
    assert (np.ptp(z[:2], axis=1) > 0.1).any()
    pairs = logits[PAIR_SEGMENT, PAIR_CLASS]
    of_pairs = model.pair_logits(features_of(), MASK, PAIR_SEGMENT, PAIR_CLASS)
    torch.testing.assert_close(of_pairs, pairs)
    torch.testing.assert_close(model(features_of(), MASK), logits)


def test_a_sharp_one_is_the_best_window() -> None:
    model = model_of(LSE, 2, 1e3)
    encoded = model.encode_segments(features_of(), MASK)[0]
    best = torch.stack([model.segment_head(w).amax(dim=0) for w in model.windows_of(encoded)])
    torch.testing.assert_close(model.segment_logits(encoded), best, atol=5e-3, rtol=0)


def test_with_a_kernel_each_window_is_near_to_what_it_is_near_to() -> None:
    model = model_of(LSE, 2)
    drawn = torch.Generator().manual_seed(1)
    supports, label = torch.rand(8, ENCODED, generator=drawn), torch.arange(8.0) % 2
    pairs = RatedPairs(
        supports, torch.arange(8), torch.full((8,), 3), label, model.segment_head(supports)
    )
    model.rated_kernel.fit(KernelSettings(penalty=0.01), pairs)
    encoded = model.encode_segments(features_of(), MASK)[0]
    each = [model.rated_kernel(w, model.segment_head(w)) for w in model.windows_of(encoded)]
    z = torch.stack(each).double()
    wanted = (4 * z).exp().mean(dim=1).log() / 4
    found = model.segment_logits(encoded)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    of_pairs = model.pair_logits_of(encoded, PAIR_SEGMENT, PAIR_CLASS)
    torch.testing.assert_close(of_pairs, found[PAIR_SEGMENT, PAIR_CLASS])


def test_lse_pools_a_video_over_all_windows() -> None:
    """Each with the same weight, whichever segment it is of; a segment's share is its windows'."""
    model = model_of(LSE, 2)
    segments = model.encode_segments(features_of(), MASK)[0].view(2, 3, -1)
    logits, attention = checked(Hierarchical.video_logits)(model, segments, VIDEO_MASK)
    for video, real in enumerate(VIDEO_MASK):
        rows = model.windows_of(segments[video][real]).flatten(0, 1)
        odds = model.video_head(rows).double().exp()
        pooled = odds.mean(dim=0).log()
        torch.testing.assert_close(logits[video].double(), pooled, rtol=1e-4, atol=1e-4)
        p = pooled.sigmoid()
        of_window = (odds / odds.sum(dim=0) * p).sum(dim=1) / p.sum()
        shares = of_window.view(int(real.sum()), -1).sum(dim=1)
        torch.testing.assert_close(attention[video][real].double(), shares, rtol=1e-4, atol=1e-4)
    assert not attention[~VIDEO_MASK].any()
    training, nothing = model.train().video_logits(segments, VIDEO_MASK)
    torch.testing.assert_close(training, logits)
    assert nothing.shape == attention.shape


@pytest.mark.parametrize("kind", [Att2, NL])
def test_what_pools_features_takes_the_mean_of_the_windows(kind: type[Any]) -> None:
    model, whole = model_of(kind, 2), model_of(kind, 0)
    segments = model.encode_segments(features_of(), MASK)[0].view(2, 3, -1)
    means = model.windows_of(segments).mean(dim=2)
    for found, wanted in zip(
        model.video_logits(segments, VIDEO_MASK), whole.video_logits(means, VIDEO_MASK)
    ):
        torch.testing.assert_close(found, wanted)


@every_kind
def test_padding_never_changes_the_answer(kind: type[Any]) -> None:
    model, features = model_of(kind, 2), features_of()
    garbage = torch.where(MASK.unsqueeze(-1), features, 50.0)
    torch.testing.assert_close(model(garbage, MASK), model(features, MASK))
    assert model(features, MASK).isfinite().all()


@every_kind
def test_gradients_reach_all_of_it(kind: type[Any]) -> None:
    model = model_of(kind, 2).train()
    model.pair_logits(features_of(), MASK, PAIR_SEGMENT, PAIR_CLASS).sum().backward()
    parts = dict(model.segment_module.named_parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parts.values())
    assert parts["embedding.linear.linear.weight"].grad.abs().sum() > 0


def test_under_bfloat16_the_pooling_is_float32() -> None:
    model = model_of(LSE, 2)
    wanted = model(features_of(), MASK)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(features_of(), MASK)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("frames", -1, "at least 0"), ("sharpness", 0.0, "above 0"), ("sharpness", -2.0, "above 0")],
)
def test_settings_out_of_range(field: str, value: float, rule: str) -> None:
    with pytest.raises(SettingsError, match=rf"{field}: the value is {value}; it must be {rule}"):
        SegmentWindows(**{field: value})
