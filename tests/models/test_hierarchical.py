import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whenabouts.core.settings import to_dict
from whenabouts.models.attention import AttentionSettings
from whenabouts.models.embedding import EmbeddingSettings
from whenabouts.models.fcfc import FrameMixSettings
from whenabouts.models.heads import HeadSettings
from whenabouts.models.hierarchical import (
    FCFC,
    LSE,
    NL,
    SE,
    Att2,
    Hierarchical,
    HierarchicalSettings,
    Loss2,
    Scale,
    scaled,
)
from whenabouts.models.table import FAMILIES, build_model, model_settings

VIDEOS, SEGMENTS, FRAMES, WIDTH = 3, 4, 5, 8
CLASSES, VIDEO_CLASSES = 6, 9
MASK = torch.ones(VIDEOS, SEGMENTS, FRAMES, dtype=torch.bool)
MASK[0, 3, 2:] = False  # a partial last segment
MASK[1, 1:] = False
MASK[1, 0, 4:] = False  # a video of one partial segment
SEGMENT_MASK = MASK.any(dim=2)
PAIR_SEGMENT, PAIR_CLASS = torch.tensor([0, 0, 4, 11]), torch.tensor([5, 0, 3, 3])

KINDS: list[type[Any]] = [Att2, Loss2, NL, SE, FCFC, LSE]
HEADS = [HeadSettings(), HeadSettings("moe")]
Encoded = tuple[Tensor, Tensor, Tensor, Tensor]


def small(kind: type[Any], **changes: Any) -> HierarchicalSettings:
    settings: HierarchicalSettings = replace(scaled(kind(), "tiny"), **changes)
    return settings


def model_of(settings: HierarchicalSettings, seed: int = 0, frames: int = FRAMES) -> Hierarchical:
    """With a non-local block that has left its start, so that it does something."""
    torch.manual_seed(seed)
    model = Hierarchical(settings, WIDTH, CLASSES, VIDEO_CLASSES, frames)
    if isinstance(settings, NL | FCFC):
        assert model.context is not None
        nn.init.normal_(model.context.out.scale)
    return model


def features_of(seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).normal(size=(*MASK.shape, WIDTH))
    return nn.functional.normalize(torch.from_numpy(drawn).float(), dim=-1)


def encode(model: Hierarchical, features: Tensor, mask: Tensor) -> Encoded:
    """Segment features, frame attention, video logits, segment attention."""
    segment, frame_attention = model.encode_segments(features.flatten(0, 1), mask.flatten(0, 1))
    segment = segment.unflatten(0, mask.shape[:2])
    video, segment_attention = model.video_logits(segment, mask.any(dim=2))
    return segment, frame_attention.unflatten(0, mask.shape[:2]), video, segment_attention


every_kind = pytest.mark.parametrize("kind", KINDS)
every_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)


@every_head
@every_kind
def test_shapes_and_pairs(kind: type[Any], head: HeadSettings) -> None:
    model = model_of(small(kind, head=head)).eval()
    features, mask = features_of().flatten(0, 1), MASK.flatten(0, 1)
    segment, frame_attention, video, segment_attention = encode(model, features_of(), MASK)
    assert segment.shape == (VIDEOS, SEGMENTS, 64)
    assert frame_attention.shape == MASK.shape
    assert video.shape == (VIDEOS, VIDEO_CLASSES)
    assert segment_attention.shape == SEGMENT_MASK.shape
    logits = model(features, mask)
    assert logits.shape == (VIDEOS * SEGMENTS, CLASSES)
    torch.testing.assert_close(logits, model.segment_head(segment.flatten(0, 1)))
    pairs = logits[PAIR_SEGMENT, PAIR_CLASS]
    torch.testing.assert_close(model.pair_logits(features, mask, PAIR_SEGMENT, PAIR_CLASS), pairs)
    shared = model.pair_logits_of(segment.flatten(0, 1), PAIR_SEGMENT, PAIR_CLASS)
    torch.testing.assert_close(shared, pairs)


@every_kind
def test_attention_is_a_score_and_nothing_at_padding(kind: type[Any]) -> None:
    model = model_of(small(kind)).eval()
    _, frame_attention, _, segment_attention = encode(model, features_of(), MASK)
    for attention, mask in [(frame_attention, MASK), (segment_attention, SEGMENT_MASK)]:
        assert not attention[~mask].any()
        assert ((attention[mask] > 0) & (attention[mask] <= 1)).all()


@every_kind
def test_padding_never_changes_the_answer(kind: type[Any]) -> None:
    model, features = model_of(small(kind)).eval(), features_of()
    expected = encode(model, features, MASK)
    garbage = torch.where(MASK.unsqueeze(-1), features, 50.0)
    for got, wanted in zip(encode(model, garbage, MASK), expected):
        torch.testing.assert_close(got, wanted)
    more = torch.cat([features, features + 3], dim=1)  # segments that are padding
    got = encode(model, more, torch.cat([MASK, torch.zeros_like(MASK)], dim=1))
    torch.testing.assert_close(got[2], expected[2])


@every_kind
def test_padded_segments_hold_anything(kind: type[Any]) -> None:
    """Also where the features of padded segments are not those of empty ones."""
    model = model_of(small(kind)).eval()
    segments = torch.randn(VIDEOS, SEGMENTS, 64)
    video, attention = model.video_logits(segments, SEGMENT_MASK)
    other = torch.where(SEGMENT_MASK.unsqueeze(-1), segments, -9.0)
    torch.testing.assert_close(model.video_logits(other, SEGMENT_MASK)[0], video)
    torch.testing.assert_close(model.video_logits(other, SEGMENT_MASK)[1], attention)


@every_kind
def test_batch_mates_are_irrelevant_in_evaluation(kind: type[Any]) -> None:
    model, features = model_of(small(kind)).eval(), features_of()
    expected = encode(model, features, MASK)
    for video in range(VIDEOS):
        alone = encode(model, features[video : video + 1], MASK[video : video + 1])
        for got, wanted in zip(alone, expected):
            torch.testing.assert_close(got, wanted[video : video + 1])


@every_kind
def test_order_of_segments_is_irrelevant_to_the_video(kind: type[Any]) -> None:
    model, features = model_of(small(kind)).eval(), features_of()
    order = torch.tensor([2, 3, 0, 1])
    got = encode(model, features[:, order], MASK[:, order])
    expected = encode(model, features, MASK)
    torch.testing.assert_close(got[2], expected[2])
    torch.testing.assert_close(got[3], expected[3][:, order])


@pytest.mark.parametrize("kind", [Att2, NL, SE, LSE])
def test_order_of_frames_is_irrelevant_to_attention(kind: type[Any]) -> None:
    model, features = model_of(small(kind)).eval(), features_of()
    got = encode(model, features.flip(2), MASK.flip(2))
    torch.testing.assert_close(got[0], encode(model, features, MASK)[0])


@pytest.mark.parametrize("training", [True, False])
@every_head
@every_kind
def test_all_padding_is_zero_and_finite(
    kind: type[Any], head: HeadSettings, training: bool
) -> None:
    """Zero are features and attention: a video is what the head says of the feature 0."""
    model = model_of(small(kind, head=head)).train(training)
    segment, frame_attention, logits, segment_attention = encode(
        model, features_of(), torch.zeros_like(MASK)
    )
    assert not any(part.any() for part in (segment, frame_attention, segment_attention))
    torch.testing.assert_close(logits, model.video_head(torch.zeros(VIDEOS, 64)))
    pairs = model.pair_logits_of(segment.flatten(0, 1), PAIR_SEGMENT, PAIR_CLASS)
    (pairs.sum() + logits.sum() + segment_attention.mean() + frame_attention.mean()).backward()
    assert pairs.isfinite().all()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_kind
def test_an_empty_video_in_a_batch_in_training(kind: type[Any]) -> None:
    model = model_of(small(kind))
    mask = MASK.clone()
    mask[2] = False
    segment, _, video, _ = encode(model, features_of(), mask)
    of_nothing = model.video_head(torch.zeros(1, 64))[0]
    assert not segment[2].any()
    torch.testing.assert_close(video[2], of_nothing)
    assert (video[:2] != of_nothing).any(dim=1).all()
    video.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_head
@every_kind
def test_every_parameter_gets_a_gradient(kind: type[Any], head: HeadSettings) -> None:
    model = model_of(small(kind, head=head))
    segment, _, video, _ = encode(model, features_of(), MASK)
    pairs = model.pair_logits_of(segment.flatten(0, 1), PAIR_SEGMENT, PAIR_CLASS)
    (pairs.square().sum() + video.square().sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_penalty_on_attention_reaches_the_scoring_network_alone() -> None:
    model = model_of(small(Att2, embedding=EmbeddingSettings("identity")))
    _, frame_attention, _, segment_attention = encode(model, features_of(), MASK)
    (frame_attention.mean() + segment_attention.mean()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("attention" in name), name


# ---- the families --------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [NL, Loss2])
def test_at_the_start_the_same_as_att2(kind: type[Any], training: bool) -> None:
    """Under one seed: Loss2 always, NL because its block starts as the identity."""
    answers = []
    for each in (Att2, kind):
        torch.manual_seed(3)
        model = Hierarchical(small(each), WIDTH, CLASSES, VIDEO_CLASSES, FRAMES).train(training)
        torch.manual_seed(4)
        segment, _, video, attention = encode(model, features_of(), MASK)
        answers.append((segment, attention, video, model.segment_head(segment)))
    for att2, other in zip(*answers):
        torch.testing.assert_close(other, att2)


@pytest.mark.parametrize("kind", [NL, SE, FCFC])
def test_the_context_comes_before_video_attention(kind: type[Any]) -> None:
    model = model_of(small(kind)).eval()
    segments = torch.randn(VIDEOS, SEGMENTS, 64)
    assert model.context is not None
    seen = model.context(segments, SEGMENT_MASK)
    video, attention = model.encode_video(segments, SEGMENT_MASK)
    wanted = model.video_attention(seen, SEGMENT_MASK)
    torch.testing.assert_close(video, wanted[0])
    torch.testing.assert_close(attention, wanted[1])
    plain, _ = model.video_attention(segments, SEGMENT_MASK)
    assert not torch.allclose(plain, video, atol=1e-3)


def test_att2_against_the_formula() -> None:
    """The whole way with frames as they are: sigmoid-weighted means of sigmoid-weighted means."""
    model = model_of(small(Att2, embedding=EmbeddingSettings("identity"))).double()
    features = features_of().double()
    encoded = encode(model, features, MASK)[0]
    got = model.encode_video(encoded, SEGMENT_MASK)[0].detach().numpy()

    def attend(pool: nn.Module, x: np.ndarray) -> np.ndarray:
        v, b, w, c = (p.detach().numpy() for p in pool.parameters())
        a = 1 / (1 + np.exp(-(np.maximum(x @ v.T + b, 0) @ w.T + c)))
        pooled: np.ndarray = (a * x).sum(axis=0) / (a.sum() + 1e-6)
        return pooled

    for i in range(VIDEOS):
        frames = [features[i, s, MASK[i, s]].numpy() for s in range(SEGMENTS) if MASK[i, s].any()]
        segments = np.stack([attend(model.segment_module.attention, x) for x in frames])
        np.testing.assert_allclose(got[i], attend(model.video_attention, segments), rtol=1e-10)


@pytest.mark.parametrize(("kind", "num_frames"), [(Att2, 1), (Att2, 3), (SE, 10), (NL, 7)])
def test_segments_of_other_lengths(kind: type[Any], num_frames: int) -> None:
    model = model_of(small(kind)).eval()
    mask = torch.ones(2, num_frames, dtype=torch.bool)
    feature, attention = model.encode_segments(torch.rand(2, num_frames, WIDTH), mask)
    assert feature.shape == (2, 64)
    assert attention.shape == (2, num_frames)


def test_fcfc_is_built_for_one_length() -> None:
    model = model_of(small(FCFC), frames=3).eval()
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert model(torch.rand(2, 3, WIDTH), mask).shape == (2, CLASSES)
    with pytest.raises(AssertionError, match="built for 3 frames, got 5"):
        model(torch.rand(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool))


OPTIONS = AttentionSettings(hidden=8, weights="softmax", num_heads=3, gated=True)


@pytest.mark.parametrize(
    "settings",
    [
        small(Att2, segment_attention=OPTIONS),
        small(NL, video_attention=OPTIONS),
        small(SE, embedding=EmbeddingSettings("identity")),
        small(FCFC, frame_mix=FrameMixSettings(16, per_channel=True)),
    ],
)
def test_options_reach_their_parts(settings: HierarchicalSettings) -> None:
    model, plain = model_of(settings).eval(), model_of(small(type(settings))).eval()
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (model, plain)]
    assert shapes[0] != shapes[1]
    assert encode(model, features_of(), MASK)[2].shape == (VIDEOS, VIDEO_CLASSES)


def test_attention_settings_go_to_their_own_level() -> None:
    segment, video = AttentionSettings(hidden=3), AttentionSettings(hidden=4)
    model = model_of(small(Att2, segment_attention=segment, video_attention=video))
    assert model.segment_module.attention.hidden.weight.shape == (3, 64)
    assert model.video_attention.hidden.weight.shape == (4, 64)


@every_kind
def test_a_seed_decides_everything(kind: type[Any]) -> None:
    def answer(seed: int) -> Tensor:
        model = model_of(small(kind), seed)
        return encode(model, features_of(), MASK)[2]

    assert torch.equal(answer(1), answer(1))
    assert not torch.equal(answer(1), answer(2))


# ---- what S2 needs -------------------------------------------------------------------------------


@every_head
def test_the_segment_head_takes_over_the_video_head(head: HeadSettings) -> None:
    model = model_of(small(Att2, head=head)).eval()
    feature = torch.randn(2, 64)
    own, video = model.segment_head(feature), model.video_head(feature)
    model.copy_video_head(torch.tensor([8, 0, -1, 3, 8, 1]))
    got = model.segment_head(feature)
    torch.testing.assert_close(got[:, [0, 1, 3, 4, 5]], video[:, [8, 0, 3, 8, 1]])
    torch.testing.assert_close(got[:, 2], own[:, 2], rtol=0, atol=0)
    torch.testing.assert_close(model.video_head(feature), video, rtol=0, atol=0)


@every_kind
def test_segment_parameters_are_those_the_segment_loss_trains(kind: type[Any]) -> None:
    model = model_of(small(kind))
    model(features_of().flatten(0, 1), MASK.flatten(0, 1)).square().sum().backward()
    trained = {id(p) for p in model.parameters() if p.grad is not None}
    given = [id(p) for p in model.segment_parameters()]
    assert len(given) == len(set(given))
    assert set(given) == trained
    assert len(trained) < len(list(model.parameters()))


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "width", "hidden"), [("tiny", 64, 32), ("small", 512, 128), ("paper", 1024, 256)]
)
@pytest.mark.parametrize("kind", [Att2, Loss2, NL, SE, LSE])
def test_scales_of_attention(kind: type[Any], scale: Scale, width: int, hidden: int) -> None:
    settings = kind(
        embedding=EmbeddingSettings(dropout=0.25),
        segment_attention=AttentionSettings(num_heads=2),
        video_attention=AttentionSettings(gated=True),
        head=HeadSettings("moe"),
    )
    assert scaled(settings, scale) == replace(
        settings,
        embedding=EmbeddingSettings(width=width, dropout=0.25),
        segment_attention=AttentionSettings(hidden, num_heads=2),
        video_attention=AttentionSettings(hidden, gated=True),
    )


def test_scales_of_fcfc() -> None:
    settings = scaled(FCFC(frame_mix=FrameMixSettings(per_channel=True)), "small")
    assert settings == FCFC(
        frame_mix=FrameMixSettings(512, per_channel=True), video_attention=AttentionSettings(128)
    )


@every_kind
def test_defaults_are_the_sizes_of_the_paper(kind: type[Any]) -> None:
    assert scaled(kind(), "paper") == kind()


@every_kind
def test_built_from_the_table(kind: type[Any]) -> None:
    settings = small(kind)
    kept = json.loads(json.dumps(to_dict(settings)))
    assert model_settings(kept) == settings
    assert FAMILIES[settings.family] is kind
    torch.manual_seed(0)
    model = build_model(
        settings, WIDTH, CLASSES, num_video_classes=VIDEO_CLASSES, segment_frames=FRAMES
    )
    assert isinstance(model, Hierarchical)
    same = Hierarchical
    torch.manual_seed(0)
    wanted = same(settings, WIDTH, CLASSES, VIDEO_CLASSES, FRAMES).state_dict()
    assert {n: v.shape for n, v in model.state_dict().items()} == {
        n: v.shape for n, v in wanted.items()
    }
    assert all(torch.equal(v, wanted[n]) for n, v in model.state_dict().items())


def test_all_families_are_tried_here() -> None:
    assert set(get_args(HierarchicalSettings)) == set(KINDS)


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"segment_frames": 5}, "num_video_classes"), ({"num_video_classes": 5}, "segment_frames")],
)
def test_hierarchical_models_need_their_sizes(given: dict[str, int], missing: str) -> None:
    build: Callable[..., nn.Module] = build_model
    with pytest.raises(AssertionError, match=f"nl needs {missing}"):
        build(small(NL), WIDTH, CLASSES, **given)
