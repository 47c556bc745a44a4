"""Exponential moving average of the weights: it is looked at and kept, while the raw ones train.

    average <- d average + (1 - d) weights
    d = min(2 ** (-1 / half_life), (1 + step) / (10 + step))

Polyak & Juditsky, "Acceleration of stochastic approximation by averaging" (1992), with forgetting:
the 2018 winner of the YouTube-8M challenge (Skalic & Austin) takes a half-life of about 2000 steps.
The second bound lets the first steps be forgotten soon. Running statistics are averaged too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of the floating-point tensors of a model's state, by name."""

    def __init__(self, model: nn.Module, half_life: int) -> None:
        """half_life: steps after which an old weight counts half."""
        self._decay = 0.5 ** (1 / half_life)
        self.tensors = {name: value.clone() for name, value in _averaged(model).items()}

    @torch.no_grad()
    def take(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (from 1)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.tensors.values()), list(_averaged(model).values()), 1 - decay
        )

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Within it the model is the average; what is written to its tensors there stays so."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, value in _averaged(model).items():
            kept = value.clone()
            value.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    return {name: v for name, v in model.state_dict().items() if v.is_floating_point()}
