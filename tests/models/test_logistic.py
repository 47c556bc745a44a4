"""S-Logi and F-Logi against a few lines of numpy, and what must not change their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shapes import checked
from whenabouts.models.logistic import (
    FrameLogistic,
    SegmentLogistic,
    logit_of_mean,
    mean_over_frames,
)

B, T, D, C = 5, 5, 3, 6
MASK = np.array(
    [
        [True, True, True, True, True],
        [True, True, False, False, False],
        [False, True, False, True, True],
        [True, False, False, False, False],
        [False, False, False, False, False],
    ]
)
PAIR_SEGMENT = torch.tensor([0, 0, 1, 4, 3, 1, 2])
PAIR_CLASS = torch.tensor([2, 5, 0, 1, 3, 2, 2])


def segment_reference(x: NDArray, mask: NDArray, weight: NDArray, bias: NDArray) -> NDArray:
    """Logits [C] of one segment: the mean frame, then linear."""
    mean = x[mask].mean(axis=0) if mask.any() else np.zeros(x.shape[1])
    return weight @ mean + bias


def frame_reference(x: NDArray, mask: NDArray, weight: NDArray, bias: NDArray) -> NDArray:
    """Logits [C] of one segment: linear and sigmoid on each frame, then the mean, then logit."""
    if not mask.any():
        return np.zeros(len(bias))
    p = (1 / (1 + np.exp(-(x[mask] @ weight.T + bias)))).mean(axis=0)
    return np.log(p) - np.log(1 - p)


class Case(NamedTuple):
    model: nn.Module
    reference: Callable[[NDArray, NDArray, NDArray, NDArray], NDArray]
    features: Tensor
    mask: Tensor

    def expected(self) -> NDArray:
        weight, bias = (p.detach().numpy() for p in self.model.parameters())
        rows = zip(self.features.detach().numpy(), self.mask.numpy())
        return np.stack([self.reference(x, m, weight, bias) for x, m in rows])

    def pairs(self) -> Tensor:
        return self.model.pair_logits(self.features, self.mask, PAIR_SEGMENT, PAIR_CLASS)


@pytest.fixture(params=[SegmentLogistic, FrameLogistic])
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    model = request.param(D, C).double()
    nn.init.normal_(model.linear.weight, std=2.0)
    nn.init.normal_(model.linear.bias)
    references = {SegmentLogistic: segment_reference, FrameLogistic: frame_reference}
    features = torch.randn(B, T, D, dtype=torch.float64)
    return Case(model, references[request.param], features, torch.from_numpy(MASK))


def test_against_numpy(case: Case) -> None:
    logits = case.model(case.features, case.mask)
    assert logits.shape == (B, C)
    np.testing.assert_allclose(logits.detach().numpy(), case.expected(), rtol=1e-6, atol=1e-7)


def test_pairs_are_the_entries_of_the_whole(case: Case) -> None:
    expected = case.model(case.features, case.mask)[PAIR_SEGMENT, PAIR_CLASS]
    torch.testing.assert_close(case.pairs(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        case.pairs().detach().numpy(),
        case.expected()[PAIR_SEGMENT, PAIR_CLASS],
        rtol=1e-6,
        atol=1e-7,
    )


def test_the_two_models_differ_where_frames_differ() -> None:
    """Frames at logits 4 and -2: the mean score is not the score of the mean frame."""
    features, mask = torch.tensor([[[1.0], [0.0]]]), torch.ones(1, 2, dtype=torch.bool)
    answers = []
    for kind in (SegmentLogistic, FrameLogistic):
        model = kind(1, 1)
        with torch.no_grad():
            model.linear.weight.fill_(6.0)
            model.linear.bias.fill_(-2.0)
        answers.append(model(features, mask).sigmoid().item())
    p_4, p_minus_2 = 0.98201379, 0.11920292
    assert answers[0] == pytest.approx(0.73105858)  # sigmoid(6 / 2 - 2)
    assert answers[1] == pytest.approx((p_4 + p_minus_2) / 2)


@pytest.mark.parametrize("more", [1, 7])
def test_padding_never_changes_the_answer(case: Case, more: int) -> None:
    garbage = torch.full((B, more, D), 1e3, dtype=torch.float64)
    padded = case._replace(
        features=torch.cat([case.features, garbage], dim=1),
        mask=torch.cat([case.mask, torch.zeros(B, more, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(
        padded.model(padded.features, padded.mask), case.model(case.features, case.mask)
    )
    torch.testing.assert_close(padded.pairs(), case.pairs())


def test_what_a_hidden_frame_holds_is_irrelevant(case: Case) -> None:
    other = torch.where(case.mask.unsqueeze(-1), case.features, -50.0)
    torch.testing.assert_close(
        case.model(other, case.mask), case.model(case.features, case.mask), rtol=0, atol=0
    )
    torch.testing.assert_close(case._replace(features=other).pairs(), case.pairs(), rtol=0, atol=0)


def test_the_order_of_frames_is_irrelevant(case: Case) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = case._replace(features=case.features[:, order], mask=case.mask[:, order])
    torch.testing.assert_close(
        moved.model(moved.features, moved.mask), case.model(case.features, case.mask)
    )
    torch.testing.assert_close(moved.pairs(), case.pairs())


def test_batch_mates_are_irrelevant(case: Case) -> None:
    whole = case.model(case.features, case.mask)
    for row in range(B):
        alone = case.model(case.features[row : row + 1], case.mask[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row])
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(case.model(case.features[order], case.mask[order]), whole[order])


def test_a_fully_masked_segment_is_finite_and_teaches_nothing_wrong(case: Case) -> None:
    features = case.features.clone().requires_grad_()
    logits = case.model(features, case.mask)
    assert torch.isfinite(logits[4]).all()
    (logits.sum() + case._replace(features=features).pairs().sum()).backward()
    for parameter in case.model.parameters():
        assert torch.isfinite(parameter.grad).all()
    hidden = ~case.mask
    assert torch.isfinite(features.grad).all()
    assert (features.grad[hidden] == 0).all()
    assert (features.grad[case.mask] != 0).any(dim=-1).all()


@pytest.mark.parametrize("of", ["forward", "pairs"])
def test_every_parameter_gets_a_gradient(case: Case, of: str) -> None:
    rows = slice(0, 4)
    if of == "forward":
        case.model(case.features[rows], case.mask[rows]).sum().backward()
        classes = range(C)
    else:
        case.pairs().sum().backward()
        classes = sorted(set(PAIR_CLASS.tolist()) - {1})  # class 1 is asked of no real frame
    for name, parameter in case.model.named_parameters():
        assert (parameter.grad[classes] != 0).any(), name
        untouched = [c for c in range(C) if c not in PAIR_CLASS]
        if of == "pairs":
            assert (parameter.grad[untouched] == 0).all(), name


def test_gradients_against_autograd_of_the_formula(case: Case) -> None:
    """The formulas in torch, segment by segment, without any mask."""
    weight, bias = case.model.linear.weight, case.model.linear.bias
    case.model(case.features[:4], case.mask[:4]).square().sum().backward()
    found = weight.grad.clone(), bias.grad.clone()
    case.model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for x, m in zip(case.features[:4], case.mask[:4]):
        if isinstance(case.model, FrameLogistic):
            logits = torch.logit((x[m] @ weight.T + bias).sigmoid().mean(dim=0))
        else:
            logits = weight @ x[m].mean(dim=0) + bias
        total = total + logits.square().sum()
    total.backward()
    torch.testing.assert_close(found, (weight.grad, bias.grad), rtol=1e-6, atol=1e-6)


# ---- the parts -----------------------------------------------------------------------------------


def test_mean_over_frames_by_hand() -> None:
    features = torch.tensor([[[2.0, 4.0], [6.0, 0.0], [100.0, 100.0]]]).repeat(2, 1, 1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_over_frames(features, mask).tolist() == [[4.0, 2.0], [0.0, 0.0]]


def all_real(logits: Tensor) -> Tensor:
    return torch.ones_like(logits, dtype=torch.bool)


def test_logit_of_mean_equals_the_direct_formula() -> None:
    logits = 8 * torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.manual_seed(1))
    mask = torch.rand(3, 5, 4) < 0.7
    mask[:, 0] = True
    p = torch.where(mask, logits.sigmoid(), 0).sum(dim=1) / mask.sum(dim=1)
    found = logit_of_mean(logits, mask, dim=1)
    torch.testing.assert_close(found, torch.log(p) - torch.log1p(-p))
    shared = mask[:, :, :1]
    torch.testing.assert_close(
        logit_of_mean(logits, shared, dim=1),
        logit_of_mean(logits, shared.expand_as(logits), dim=1),
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_logit_of_mean_over_any_axis(dim: int) -> None:
    logits = torch.randn(2, 3, generator=torch.manual_seed(2))
    expected = torch.logit(logits.sigmoid().mean(dim=dim))
    torch.testing.assert_close(logit_of_mean(logits, all_real(logits), dim), expected)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([1e4, 1e4, 1e4], 1e4),
        ([-1e4, -1e4], -1e4),
        ([1e4, -1e4], 0.0),
        ([1e4, 1e4, -1e4], 0.6931472),  # p = 2/3
        ([-1e4, 0.0], -1.0986123),  # p = 1/4
        ([3.25], 3.25),
    ],
)
def test_logit_of_mean_is_finite_where_sigmoid_is_full(
    frames: list[float], expected: float
) -> None:
    logits = torch.tensor(frames, requires_grad=True)
    found = logit_of_mean(logits, all_real(logits), dim=0)
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    found.backward()
    assert torch.isfinite(logits.grad).all()


# ---- the shapes they declare ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SegmentLogistic, FrameLogistic])
def test_declared_shapes(kind: type[nn.Module]) -> None:
    model, x, mask = kind(D, C), torch.zeros(B, T, D), torch.from_numpy(MASK)
    forward, pair_logits = checked(kind.forward), checked(kind.pair_logits)
    assert forward(model, x, mask).shape == (B, C)
    assert pair_logits(model, x, mask, PAIR_SEGMENT, PAIR_CLASS).shape == (len(PAIR_CLASS),)
    rows = checked(kind.pair_rows)(model, PAIR_CLASS)
    assert [r.shape for r in rows] == [(len(PAIR_CLASS), D), (len(PAIR_CLASS),)]
    assert checked(mean_over_frames)(x, mask).shape == (B, D)
    refused = "Type-check error"
    for wrong in (mask[:, :-1], mask[:-1], mask.float(), mask.unsqueeze(-1)):
        with pytest.raises(TypeError, match=refused):
            forward(model, x, wrong)
        with pytest.raises(TypeError, match=refused):
            checked(mean_over_frames)(x, wrong)
    with pytest.raises(TypeError, match=refused):
        pair_logits(model, x, mask, PAIR_SEGMENT[:-1], PAIR_CLASS)
    with pytest.raises(TypeError, match=refused):
        pair_logits(model, x[0], mask, PAIR_SEGMENT, PAIR_CLASS)
    with pytest.raises(TypeError, match=refused):
        checked(kind.pair_rows)(model, PAIR_CLASS.float())
