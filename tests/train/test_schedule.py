"""The learning rate by hand, the optimisers by one step, and settings that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.train.fit import build_optimiser, learning_rate
from whenabouts.train.settings import Loop, Optimiser


def test_the_published_schedule() -> None:
    """0.01, x 0.95 each 4 M examples, smoothly; batches of 1024."""
    settings = Optimiser()
    assert learning_rate(settings, 0, 1024) == 0.01
    after_4m = 4_000_000 / 1024
    assert learning_rate(settings, 3906, 1024) == pytest.approx(
        0.01 * 0.95 ** (3906 / after_4m), rel=1e-12
    )
    assert learning_rate(settings, 4_000_000, 1) == pytest.approx(0.0095, rel=1e-12)
    assert learning_rate(settings, 2_000_000, 4) == pytest.approx(0.009025, rel=1e-12)


def test_decay_counts_examples_not_steps() -> None:
    settings = Optimiser(learning_rate=1.0, decay=0.5, decay_examples=100)
    rates = [learning_rate(settings, step, 50) for step in range(5)]
    assert rates == pytest.approx([1, 0.5**0.5, 0.5, 0.5**1.5, 0.25], rel=1e-12)
    assert learning_rate(settings, 10, 20) == pytest.approx(0.25, rel=1e-12)


def test_warmup_rises_linearly_and_is_over_after_its_steps() -> None:
    settings = Optimiser(learning_rate=2.0, decay=1.0, warmup_steps=3)
    rates = [learning_rate(settings, step, 64) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_warmup_and_decay_multiply() -> None:
    settings = Optimiser(learning_rate=1.0, decay=0.25, decay_examples=10, warmup_steps=1)
    assert learning_rate(settings, 0, 5) == pytest.approx(0.5)
    assert learning_rate(settings, 1, 5) == pytest.approx(0.25**0.5)


def one_step(settings: Optimiser, gradient: float) -> float:
    """Where a weight of 2 is after one step with this gradient."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    model.weight.grad = torch.full((1, 1), gradient)
    build_optimiser(model, settings).step()
    return model.weight.item()


def test_weight_decay_is_decoupled_under_adamw_and_l2_under_adam() -> None:
    """The first step of Adam moves by the rate, whatever the size of the gradient."""
    assert one_step(Optimiser("adam", 0.1), 5.0) == pytest.approx(1.9)
    assert one_step(Optimiser("adam", 0.1), -5.0) == pytest.approx(2.1)
    assert one_step(Optimiser("adam", 0.1, weight_decay=0.5), 0.0) == pytest.approx(1.9)
    assert one_step(Optimiser("adamw", 0.1, weight_decay=0.5), 0.0) == pytest.approx(1.9)
    assert one_step(Optimiser("adamw", 0.1, weight_decay=0.1), 0.0) == pytest.approx(1.98)
    assert one_step(Optimiser("adam", 0.1, weight_decay=0.0), 0.0) == 2.0


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Loop, {"batch_size": 0}, "batch_size: the value is 0; it must be at least 1"),
        (Loop, {"max_steps": 0}, "max_steps: .*at least 1"),
        (Loop, {"evaluate_every": 0}, "evaluate_every: .*at least 1"),
        (Loop, {"patience": 0}, "patience: .*at least 1"),
        (Loop, {"seed": -1}, "seed: .*at least 0"),
        (Loop, {"checkpoint_every_s": -0.5}, "checkpoint_every_s: .*at least 0"),
        (Optimiser, {"learning_rate": -0.1}, "learning_rate: .*at least 0"),
        (Optimiser, {"learning_rate": float("nan")}, "learning_rate: the value is nan"),
        (Optimiser, {"weight_decay": -1.0}, "weight_decay: .*at least 0"),
        (Optimiser, {"warmup_steps": -1}, "warmup_steps: .*at least 0"),
        (Optimiser, {"clip_norm": -1.0}, "clip_norm: .*at least 0"),
        (Optimiser, {"decay_examples": 0}, "decay_examples: .*at least 1"),
        (Optimiser, {"decay": 0.0}, "decay: the value is 0.0; it must be above 0, at most 1"),
        (Optimiser, {"decay": 1.1}, "decay: .*at most 1"),
    ],
)
def test_settings_that_cannot_be(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        kind(**values)


def test_least_settings_are_allowed() -> None:
    assert Loop(1, 1, 1, 1, 0.0, 0).batch_size == 1
    assert Optimiser("adamw", 0.0, 0.0, 1.0, 1, 0, 0.0).decay == 1.0
