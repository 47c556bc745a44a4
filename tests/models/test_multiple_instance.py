from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from layer_oracle import EMPTY, MASK, array, frames_of, videos_of
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings, MixtureHead
from whenabouts.models.multiple_instance import (
    MIL,
    MultipleInstance,
    drawn_windows,
    log_mean_exp,
)

WIDTH, CLASSES = 6, 3


def model_of(settings: MIL) -> MultipleInstance:
    torch.manual_seed(0)
    return MultipleInstance(settings, WIDTH, CLASSES).double()


@pytest.mark.parametrize(("windows", "sharpness"), [(1, 1.0), (2, 1.0), (3, 0.5), (16, 4.0)])
def test_against_the_formula(windows: int, sharpness: float) -> None:
    model = model_of(MIL(num_windows=windows, sharpness=sharpness)).eval()
    features = frames_of(WIDTH)
    got = array(model(features, MASK))
    weight, bias = array(model.head.linear.weight), array(model.head.linear.bias)
    for video, x in enumerate(videos_of(features)):
        part = np.arange(len(x)) * windows // max(len(x), 1)
        means = [x[part == k].mean(axis=0) for k in range(windows) if (part == k).any()]
        z = np.stack(means or [np.zeros(WIDTH)]) @ weight.T + bias
        wanted = np.log(np.exp(sharpness * z).mean(axis=0)) / sharpness
        np.testing.assert_allclose(got[video], wanted, rtol=1e-9)


def test_the_odds_of_a_video_are_the_mean_of_those_of_its_windows() -> None:
    """By hand: odds 1 and 3 have the mean 2, and a padded window's odds of 100 do not count."""
    logits = torch.tensor([[[1.0], [3.0], [100.0]]]).log()
    mask = torch.tensor([[True, True, False]])
    got = checked(log_mean_exp)(logits, mask, 1.0)
    torch.testing.assert_close(got.exp(), torch.tensor([[2.0]]))


def test_sharpness_goes_from_the_mean_to_the_maximum() -> None:
    logits, mask = torch.tensor([[[-1.0], [0.5], [2.0]]]), torch.ones(1, 3, dtype=torch.bool)
    pooled = [float(log_mean_exp(logits, mask, r)) for r in (1e-3, 1.0, 4.0, 1e3)]
    assert pooled == sorted(pooled)
    assert pooled[0] == pytest.approx(0.5, abs=1e-3)
    assert pooled[-1] == pytest.approx(2.0, abs=2e-3)


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_far_logits_stay_finite(far: float) -> None:
    logits = torch.full((1, 2, 1), far, requires_grad=True)
    pooled = log_mean_exp(logits, torch.ones(1, 2, dtype=torch.bool), 1.0)
    pooled.sum().backward()
    assert pooled.item() == pytest.approx(far)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.flatten(), torch.tensor([0.5, 0.5]), rtol=1e-3, atol=0)


def test_one_scene_of_many_is_seen_where_the_mean_hides_it() -> None:
    """A topic in one window of four, and against it in the others: the mean says no, MIL yes."""
    model = MultipleInstance(MIL(num_windows=4), 2, 1).eval()
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.tensor([[8.0, -8.0]]))
        model.head.linear.bias.zero_()
    frames = torch.eye(2)[[1, 1, 0, 0, 1, 1, 1, 1]].unsqueeze(0)
    mask = torch.ones(1, 8, dtype=torch.bool)
    whole = model.head(frames.mean(dim=1))
    assert whole.item() == pytest.approx(-4)
    assert model(frames, mask).item() == pytest.approx(8 - math.log(4), abs=1e-3)


def test_windows_follow_time() -> None:
    """Within a window the order is nothing, between windows it is not."""
    model, mask = model_of(MIL(num_windows=2)).eval(), torch.ones(1, 4, dtype=torch.bool)
    features = frames_of(WIDTH, mask=mask)
    wanted = model(features, mask)
    torch.testing.assert_close(model(features[:, [1, 0, 3, 2]], mask), wanted)
    torch.testing.assert_close(model(features[:, [2, 3, 0, 1]], mask), wanted)
    assert not torch.allclose(model(features[:, [0, 2, 1, 3]], mask), wanted)


# ---- drawn windows -------------------------------------------------------------------------------


def test_windows_are_drawn_without_replacement_and_real_ones_first() -> None:
    torch.manual_seed(0)
    windows = torch.arange(6.0).repeat(400, 1).unsqueeze(-1)
    holds = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 0, 0]], dtype=torch.bool).repeat(200, 1)
    drawn, mask = checked(drawn_windows)(windows, holds, 3)
    assert drawn.shape == (400, 3, 1)
    assert all(len(set(row)) == 3 for row in drawn.squeeze(-1).tolist())
    assert mask[::2].all()
    assert (mask[1::2].sum(dim=1) == 2).all()
    assert set(drawn[1::2][mask[1::2]].flatten().tolist()) == {1, 3}
    counts = drawn[::2].flatten().long().bincount(minlength=6).tolist()
    assert counts[5] == 0
    assert all(90 < count < 150 for count in counts[:5])  # 120 each


def test_training_scores_a_few_windows_and_evaluation_all() -> None:
    model = model_of(MIL(num_windows=5, num_drawn=2))
    features, whole = frames_of(WIDTH)[[4]], MASK[[4]]
    torch.manual_seed(1)
    seen = {round(model(features, whole)[0, 0].item(), 9) for _ in range(200)}
    assert len(seen) == 10  # pairs of five windows
    model.eval()
    assert torch.equal(model(features, whole), model(features, whole))
    every = model_of(MIL(num_windows=5, num_drawn=5))
    torch.testing.assert_close(every(features, whole), model(features, whole))


# ---- the model -----------------------------------------------------------------------------------


def test_gradients() -> None:
    model, features = model_of(MIL(num_windows=2, sharpness=2.0)).eval(), frames_of(WIDTH)

    def logits(*_: torch.Tensor) -> torch.Tensor:
        return model(features, MASK)

    assert torch.autograd.gradcheck(logits, tuple(model.parameters()))


def test_an_empty_video_is_answered_by_the_bias() -> None:
    model = model_of(MIL()).eval()
    torch.testing.assert_close(model(frames_of(WIDTH), MASK)[EMPTY], model.head.linear.bias)


def test_the_head_may_be_a_mixture() -> None:
    model = model_of(MIL(head=HeadSettings("moe")))
    assert isinstance(model.head, MixtureHead)
    assert model(frames_of(WIDTH), MASK).shape == (len(MASK), CLASSES)


@pytest.mark.parametrize("name", ["num_windows", "num_drawn"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is 0; it must be at least 1"):
        MIL(**{name: 0})


def test_an_impossible_sharpness() -> None:
    with pytest.raises(SettingsError, match=r"sharpness: the value is 0.0; it must be above 0"):
        MIL(sharpness=0.0)
