"""The table of video families, and what every one of them promises."""

from __future__ import annotations

import json
import typing
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from layer_oracle import EMPTY, MASK, frames_of, stirred
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.core.settings import to_dict
from whenabouts.models.hierarchical import SCALES
from whenabouts.models.mix_nextvlad import MixNeXtVLAD
from whenabouts.models.netvlad import NetVLAD
from whenabouts.models.recurrent import BiLSTM
from whenabouts.models.video_level import VideoLogistic
from whenabouts.models.video_table import (
    SIZES,
    VIDEO_FAMILIES,
    VideoSettings,
    build_video_model,
    head_weights,
    video_model_settings,
    video_scaled,
)

CLASSES = 5
every_family = pytest.mark.parametrize("family", VIDEO_FAMILIES)
every_width = pytest.mark.parametrize("widths", [(8,), (8, 4)])
ORDERED = ("bilstm", "bigru")


def model_of(family: str, widths: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    settings = video_scaled(VIDEO_FAMILIES[family](), "tiny")
    return stirred(build_video_model(settings, widths, CLASSES))


# ---- every family --------------------------------------------------------------------------------


@every_width
@every_family
def test_padding_and_batch_mates_never_change_the_answer(
    family: str, widths: tuple[int, ...]
) -> None:
    model, features = model_of(family, widths).eval(), frames_of(sum(widths))
    wanted = checked(type(model).forward)(model, features, MASK)
    assert wanted.shape == (len(MASK), CLASSES)
    assert wanted.unique(dim=0).shape == wanted.shape
    garbage = torch.where(MASK.unsqueeze(-1), features, 50.0)
    torch.testing.assert_close(model(garbage, MASK), wanted)
    longer = torch.cat([features, garbage + 1], dim=1), torch.cat([MASK, MASK & False], dim=1)
    torch.testing.assert_close(model(*longer), wanted)
    for video, mask in enumerate(MASK):
        alone = model(features[video : video + 1], MASK[video : video + 1])
        torch.testing.assert_close(alone, wanted[video : video + 1])
        if mask.any():
            real = features[video, mask].unsqueeze(0)
            bare = model(real, torch.ones(real.shape[:2], dtype=torch.bool))
            torch.testing.assert_close(bare, wanted[video : video + 1])


@every_family
def test_padding_never_changes_the_training_either(family: str) -> None:
    """Statistics of batch normalisation, and gradients."""
    seen = []
    for filler in (0.0, 50.0):
        model, features = model_of(family, (8, 4)), frames_of(12)
        torch.manual_seed(1)  # of dropout
        model(torch.where(MASK.unsqueeze(-1), features, filler), MASK).square().sum().backward()
        seen.append([*model.buffers(), *(p.grad for p in model.parameters())])
    for one, other in zip(*seen):
        torch.testing.assert_close(one, other)


@every_width
@every_family
def test_order_of_frames(family: str, widths: tuple[int, ...]) -> None:
    model, features = model_of(family, widths).eval(), frames_of(sum(widths))
    order = torch.tensor([3, 0, 4, 2, 1])
    got, wanted = model(features[:, order], MASK[:, order]), model(features, MASK)
    if family in ORDERED:
        assert not torch.allclose(got[0], wanted[0])
    else:
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_videos", [1, 3])
@every_family
def test_videos_that_are_all_padding_are_finite(
    family: str, num_videos: int, training: bool
) -> None:
    model = model_of(family, (8, 4)).float().train(training)
    features = frames_of(12).float()[:num_videos]
    logits = model(features, torch.zeros(num_videos, 5, dtype=torch.bool))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


@every_family
def test_an_empty_video_in_a_batch_in_training(family: str) -> None:
    model, features = model_of(family, (8, 4)).float(), frames_of(12).float()
    logits = model(features, MASK)
    logits.square().sum().backward()
    assert logits[EMPTY].isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_width
@every_family
def test_every_parameter_gets_a_gradient(family: str, widths: tuple[int, ...]) -> None:
    model = model_of(family, widths)
    model(frames_of(sum(widths)), MASK).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@every_family
def test_every_feature_list_counts(family: str) -> None:
    model, features = model_of(family, (8, 4)).eval(), frames_of(12)
    wanted = model(features, MASK)
    for part in (slice(8), slice(8, 12)):
        changed = features.clone()
        changed[0, :, part] = changed[0, :, part].flip(-1)
        got = model(changed, MASK)
        assert not torch.allclose(got[0], wanted[0], rtol=1e-3)
        torch.testing.assert_close(got[1:], wanted[1:])


@every_family
def test_the_features_given_are_left_alone(family: str) -> None:
    model, features, mask = model_of(family, (8, 4)), frames_of(12), MASK.clone()
    model(features, mask).sum().backward()
    assert torch.equal(features, frames_of(12))
    assert torch.equal(mask, MASK)


@every_family
def test_a_few_steps_learn_what_a_video_shows(family: str) -> None:
    """Eight videos of one topic each, told apart by their frames; evaluation sees it as well."""
    torch.manual_seed(0)
    settings = video_scaled(VIDEO_FAMILIES[family](), "tiny")
    model, topics = build_video_model(settings, (8, 4), 4), torch.arange(8) % 4
    frames = nn.functional.normalize(
        torch.eye(12)[topics].unsqueeze(1) + 0.1 * torch.randn(8, 6, 12), dim=-1
    )
    mask = torch.arange(6) < torch.tensor([6, 5, 4, 6, 3, 6, 6, 5]).unsqueeze(1)
    labels = nn.functional.one_hot(topics, 4).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        logits = model(frames, mask)
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimiser.step()
    assert model.eval()(frames, mask).argmax(dim=1).tolist() == topics.tolist()


@every_family
def test_a_seed_decides_everything(family: str) -> None:
    settings = video_scaled(VIDEO_FAMILIES[family](), "tiny")

    def answer(seed: int) -> Tensor:
        torch.manual_seed(seed)
        model = build_video_model(settings, (8, 4), CLASSES)
        return model(frames_of(12).float(), MASK)

    assert torch.equal(answer(1), answer(1))
    assert not torch.equal(answer(1), answer(2))


# ---- the table -----------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    assert set(VIDEO_FAMILIES.values()) == set(typing.get_args(VideoSettings))
    assert {name: kind().family for name, kind in VIDEO_FAMILIES.items()} == {
        name: name for name in VIDEO_FAMILIES
    }


@every_family
def test_settings_come_back_from_a_recipe(family: str) -> None:
    settings = video_scaled(VIDEO_FAMILIES[family](), "small")
    assert video_model_settings(json.loads(json.dumps(to_dict(settings)))) == settings


def test_a_misspelt_family_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"here: no video model family 'netvald'.*'netvlad'\?"):
        video_model_settings({"family": "netvald"}, "here")


@pytest.mark.parametrize("values", [{}, None, ["netvlad"], "netvlad"])
def test_no_family_at_all_is_refused(values: object) -> None:
    with pytest.raises(SettingsError, match="no video model family ''; choose from: video-logist"):
        video_model_settings(values)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"model.head: no setting 'hiden'; did you mean"):
        video_model_settings({"family": "netvlad", "head": {"hiden": 3}})


# ---- sizes ---------------------------------------------------------------------------------------


@every_family
def test_defaults_are_the_sizes_of_the_paper(family: str) -> None:
    kind = VIDEO_FAMILIES[family]
    assert video_scaled(kind(), "paper") == kind()


@every_family
def test_sizes_grow_with_the_scale(family: str) -> None:
    settings = VIDEO_FAMILIES[family]()
    sizes = []
    for scale in SCALES:
        with torch.device("meta"):
            model = build_video_model(video_scaled(settings, scale), (1024, 128), 50)
        sizes.append(sum(p.numel() for p in model.parameters()))
    has_sizes = family in SIZES or isinstance(settings, MixNeXtVLAD)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == (3 if has_sizes else 1)


def test_a_scale_leaves_the_rest_alone() -> None:
    settings = NetVLAD(twin_reduction=3)
    settings = replace(settings, head=replace(settings.head, context_gate=False))
    small = video_scaled(settings, "small")
    assert small == replace(settings, num_clusters=32, head=replace(settings.head, hidden=256))
    mixed = MixNeXtVLAD(num_members=2, temperature=1.5)
    assert video_scaled(mixed, "small") == replace(
        mixed, member=video_scaled(mixed.member, "small")
    )


# ---- weights of the head -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        (VideoLogistic(), [(5, 12)]),
        (video_scaled(BiLSTM(), "tiny"), [(5, 32)]),
        (video_scaled(NetVLAD(), "tiny"), [(15, 32), (10, 32)]),
        (video_scaled(MixNeXtVLAD(), "tiny"), [(5, 32)] * 3),
    ],
)
def test_weights_of_the_head(settings: VideoSettings, shapes: list[tuple[int, int]]) -> None:
    model = build_video_model(settings, (8, 4), CLASSES)
    assert [tuple(weight.shape) for weight in head_weights(model)] == shapes
