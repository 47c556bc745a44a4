from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layer_oracle import MASK, array, frames_of, linear, normed, softmax, stirred, videos_of
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.mix_nextvlad import MixNeXtVLAD, NeXtVLADMixture, online_distillation
from whenabouts.models.nextvlad import NeXtVLAD

WIDTHS, CLASSES, MEMBERS = (6, 4), 5, 3
MEMBER = NeXtVLAD(num_clusters=2, groups=2, hidden=8, reduction=2, dropout=0.0)


def mixture_of(num_members: int = MEMBERS) -> NeXtVLADMixture:
    torch.manual_seed(0)
    settings = MixNeXtVLAD(member=MEMBER, num_members=num_members)
    return stirred(NeXtVLADMixture(settings, WIDTHS, CLASSES))


@pytest.mark.parametrize("training", [True, False])
def test_against_the_formula(training: bool) -> None:
    mixture, features = mixture_of().train(training), frames_of(sum(WIDTHS))
    got, members = checked(NeXtVLADMixture.all_logits)(mixture, features, MASK)
    each = [array(member(features, MASK)) for member in mixture.members]
    np.testing.assert_allclose(members.detach().unbind(1), each, rtol=1e-12)
    means = [x.mean(axis=0) if len(x) else np.zeros(10) for x in videos_of(features)]
    weights = softmax(linear(mixture.mixing, normed(mixture.norm, np.stack(means))))
    wanted = [sum(w * z[i] for w, z in zip(weights[i], each)) for i in range(len(MASK))]
    np.testing.assert_allclose(got.detach(), wanted, rtol=1e-6, atol=1e-7)


def test_forward_is_the_mixture() -> None:
    mixture, features = mixture_of().eval(), frames_of(sum(WIDTHS))
    wanted = mixture.all_logits(features, MASK)[0]
    torch.testing.assert_close(mixture(features, MASK), wanted)


def test_one_member_is_itself() -> None:
    mixture, features = mixture_of(1).eval(), frames_of(sum(WIDTHS))
    torch.testing.assert_close(mixture(features, MASK), mixture.members[0](features, MASK))


def test_members_differ() -> None:
    first, *others = mixture_of().members
    for other in others:
        assert not torch.equal(first.twins.pools[0].centres, other.twins.pools[0].centres)


# ---- online distillation -------------------------------------------------------------------------


def logits_of(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 3, (4, CLASSES))), torch.from_numpy(
        rng.normal(0, 3, (4, MEMBERS, CLASSES))
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_against_the_formula(temperature: float) -> None:
    mixture, members = logits_of()
    total = 0.0
    for z, each in zip(mixture.numpy(), members.numpy()):
        p = softmax(z / temperature)
        for member in each:
            total += float((p * np.log(p / softmax(member / temperature))).sum())
    got = checked(online_distillation)(mixture, members, temperature, 4)
    assert float(got) == pytest.approx(temperature**2 * total / 4)


def test_distillation_by_hand() -> None:
    """Halves against 1/4 and 3/4: log 2 - log 3 / 2, twice over for two members."""
    mixture, members = torch.zeros(1, 2), torch.tensor([[[0.0, 1.0], [0.0, -1.0]]]) * np.log(3)
    got = online_distillation(mixture, members, 1.0, 1)
    assert float(got) == pytest.approx(2 * (np.log(2) - np.log(0.75) - np.log(2) + np.log(1.5) -
                                            np.log(3) / 2), abs=1e-6)  # fmt: skip


def test_members_that_agree_with_the_mixture_lose_nothing() -> None:
    mixture, _ = logits_of()
    members = (mixture + 7).unsqueeze(1).expand(-1, MEMBERS, -1)  # softmax sees no common shift
    assert float(online_distillation(mixture, members, 3.0, 4)) == pytest.approx(0, abs=1e-12)


def test_videos_of_all_shares_count() -> None:
    mixture, members = logits_of()
    whole = online_distillation(mixture, members, 2.0, 4)
    parts = [online_distillation(mixture[i], members[i], 2.0, 4) for i in (slice(1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), whole)


def test_only_members_learn_from_the_mixture() -> None:
    mixture, members = (z.requires_grad_() for z in logits_of())
    online_distillation(mixture, members, 3.0, 4).backward()
    assert mixture.grad is None
    assert members.grad is not None
    assert members.grad.abs().amax(dim=-1).min() > 0
    for temperature in (0.5, 3.0):
        given = (mixture.detach(), members)
        assert torch.autograd.gradcheck(
            lambda z, m, t=temperature: online_distillation(z, m, t, 4), given
        )


def test_the_gradient_hardly_depends_on_the_temperature() -> None:
    """What T^2 is for: at high temperature the gradient stays as it is."""
    slopes = []
    for temperature in (30.0, 300.0):
        mixture, members = logits_of()
        online_distillation(mixture, members.requires_grad_(), temperature, 4).backward()
        slopes.append(members.grad)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0.2, atol=0.02)


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_distillation_is_finite(extreme: float) -> None:
    mixture, members = logits_of()
    members = (members * extreme).float().requires_grad_()
    loss = online_distillation(mixture.float() * extreme, members, 3.0, 4)
    loss.backward()
    assert loss.isfinite()
    assert members.grad is not None
    assert members.grad.isfinite().all()


# ---- settings ------------------------------------------------------------------------------------


def test_sizes_of_the_paper() -> None:
    settings = MixNeXtVLAD()
    assert (settings.num_members, settings.temperature) == (3, 3.0)
    assert settings.member == NeXtVLAD()


@pytest.mark.parametrize(
    ("name", "value"), [("num_members", 0), ("temperature", 0.0), ("temperature", float("nan"))]
)
def test_impossible_settings(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is {value}; it must be"):
        MixNeXtVLAD(**{name: value})
