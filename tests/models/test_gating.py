import math

import numpy as np
import pytest
import torch
from torch import nn

from layer_oracle import linear, normed, sigmoid, stirred
from shapes import checked
from whenabouts.models.gating import (
    ContextGate,
    ProbabilityGate,
    SqueezeGate,
    logit_of_product,
)


def rows_of(width: int, num_rows: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (num_rows, width)))


def context(gate: ContextGate, h: np.ndarray) -> np.ndarray:
    return h * sigmoid(normed(gate.gate, h))


def squeeze(gate: SqueezeGate, h: np.ndarray) -> np.ndarray:
    return h * sigmoid(linear(gate.excite, np.maximum(normed(gate.squeeze, h), 0)))


def probability(gate: ProbabilityGate, logits: np.ndarray) -> np.ndarray:
    p = sigmoid(logits)
    q = p * sigmoid(normed(gate.gate, p))
    return np.log(q / (1 - q))


GATES = [
    (lambda: ContextGate(5), context),
    (lambda: SqueezeGate(5, 2), squeeze),
    (lambda: ProbabilityGate(5), probability),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("build", "by_definition"), GATES)
def test_against_the_formula(build, by_definition, training: bool) -> None:
    gate, rows = stirred(build()).train(training), rows_of(5)
    wanted = by_definition(gate, rows.numpy())
    np.testing.assert_allclose(checked(type(gate).forward)(gate, rows).detach(), wanted, rtol=1e-9)


@pytest.mark.parametrize(("build", "by_definition"), GATES)
def test_every_parameter_gets_a_gradient(build, by_definition) -> None:
    gate = stirred(build())
    gate(rows_of(5)).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in gate.parameters())


def test_gates_close_and_open() -> None:
    gate = ContextGate(2)
    nn.init.zeros_(gate.gate.scale)
    with torch.no_grad():
        gate.gate.shift.copy_(torch.tensor([-60.0, 60.0]))
    torch.testing.assert_close(gate(torch.tensor([[3.0, 4.0], [1.0, 2.0]])),
                               torch.tensor([[0.0, 4.0], [0.0, 2.0]]))  # fmt: skip


@pytest.mark.parametrize(("width", "reduction", "inner"), [(32, 16, 2), (33, 16, 2), (8, 16, 1)])
def test_inner_width_of_the_squeeze_gate(width: int, reduction: int, inner: int) -> None:
    assert SqueezeGate(width, reduction).squeeze.linear.weight.shape == (inner, width)


# ---- probabilities -------------------------------------------------------------------------------


def test_logit_of_product_by_hand() -> None:
    """1/2 * 1/2 = 1/4 and 3/4 * 2/3 = 1/2."""
    a, b = torch.tensor([0.0, math.log(3)]), torch.tensor([0.0, math.log(2)])
    got = logit_of_product(a, b)
    torch.testing.assert_close(got, torch.tensor([-math.log(3), 0.0]), atol=1e-6, rtol=1e-6)


def test_logit_of_product_over_a_grid() -> None:
    a, b = torch.meshgrid(*[torch.linspace(-12, 12, 25, dtype=torch.float64)] * 2, indexing="ij")
    p = a.sigmoid() * b.sigmoid()
    got = checked(logit_of_product)(a.flatten(), b.flatten())
    wanted = p.log() - (-p).log1p()
    torch.testing.assert_close(got, wanted.flatten(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("a", [-1e4, -90.0, 0.0, 90.0, 1e4])
@pytest.mark.parametrize("b", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_logit_of_product_never_overflows(a: float, b: float) -> None:
    """Far from 0 the logit is that of the smaller factor, or the sum of both where both are low."""
    given = torch.tensor([a, b], requires_grad=True)
    got = logit_of_product(given[:1], given[1:])
    got.backward()
    assert got.isfinite().all()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert got.item() == pytest.approx(min(a, b, a + b), abs=1.1)


def test_gradient_of_logit_of_product() -> None:
    a, b = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(logit_of_product, (a, b))


def test_a_gate_never_raises_a_probability() -> None:
    gate, logits = stirred(ProbabilityGate(5)), rows_of(5)
    assert (gate(logits) < logits).all()
