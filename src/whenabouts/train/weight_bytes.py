"""Weights as bytes <-> weights as floats: 8-bit uniform quantisation, a tensor at a time.

    w ~ lowest + step * q,          q = round((w - lowest) / step) in 0 .. 255
    lowest, highest = min w, max w  step = (highest - lowest) / 255

Skalic & Austin, "Building a Size Constrained Predictive Model for Video Classification" (2018), who
leave tensors of up to 17,000 elements as they are: biases and norms, of which a step counts for
more and which are few bytes. No weight is moved by more than half a step, and the lowest and the
highest not at all, so that what comes back gives the same bytes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from whenabouts.core.errors import RunError

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

MOST_KEPT = 17_000  # elements of the largest tensor that stays float32
LEVELS = 255
AT_ONCE = 1 << 22  # elements computed in float64 at a time, so that memory stays flat
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Scale:
    """What the bytes 0 and 255 of a tensor stand for; the others lie evenly between them."""

    lowest: float
    highest: float

    @property
    def step(self) -> float:
        return (self.highest - self.lowest) / LEVELS

    @property
    def is_sound(self) -> bool:
        """Whether every byte stands for a finite float32, and larger bytes for no smaller ones."""
        return -LARGEST <= self.lowest <= self.highest <= LARGEST


def quantize(weights: Float[Tensor, "*shape"]) -> tuple[UInt8[Tensor, "*shape"], Scale]:
    """The nearest byte of each weight, and their scale; equal weights have the step 0.

    Raises RunError on a NaN or an infinity, which no byte stands for.
    """
    scale = Scale(*(float(end) for end in weights.aminmax()))
    if not scale.is_sound:
        raise RunError(
            "a weight is NaN or infinite", rule="only numbers have a byte", remedy="train anew"
        )
    levels = torch.empty(weights.shape, dtype=torch.uint8, device=weights.device)
    for part, to in zip(weights.flatten().split(AT_ONCE), levels.view(-1).split(AT_ONCE)):
        to.copy_((part.double() - scale.lowest).div_(scale.step or 1.0).round_())
    return levels, scale


def dequantize(levels: UInt8[Tensor, "*shape"], scale: Scale) -> Float[Tensor, "*shape"]:
    """The float32 nearest to what each byte stands for."""
    weights = torch.empty(levels.shape, dtype=torch.float32, device=levels.device)
    for part, to in zip(levels.flatten().split(AT_ONCE), weights.view(-1).split(AT_ONCE)):
        q = part.double()
        # Not lowest + step * q: so the ends are exact, whose products with 255 have few places.
        to.copy_((q * scale.highest).add_((LEVELS - q).mul_(scale.lowest)).div_(LEVELS))
    return weights


def quantize_large(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """The same tensors, those of many floats as bytes; and the scales of these, ready for JSON."""
    stored, scales = dict(tensors), {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() > MOST_KEPT:
            stored[name], scale = quantize(tensor)
            scales[name] = asdict(scale)
    return stored, scales


def dequantize_all(tensors: Mapping[str, Tensor], scales: Any, where: object) -> dict[str, Tensor]:
    """Undo `quantize_large`. Raises RunError where the scales, as read from JSON, do not fit."""
    if not isinstance(scales, dict):
        raise RunError("'quantised' is no JSON object", where=where, rule="it has a scale a tensor")
    restored = dict(tensors)
    for name, kept in scales.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != torch.uint8:
            found = "not there" if tensor is None else tensor.dtype
            raise RunError(
                f"'{name}' has a scale and is {found}", where=where, rule="scales are of bytes"
            )
        restored[name] = dequantize(tensor, _scale(name, kept, where))
    return restored


def _scale(name: str, kept: Any, where: object) -> Scale:
    names = [field.name for field in fields(Scale)]
    is_whole = isinstance(kept, dict) and sorted(kept) == sorted(names)
    if not is_whole or not all(type(value) is float for value in kept.values()):
        fact = f"the scale of '{name}' is {kept!r}"
        raise RunError(fact, where=where, rule=f"a scale has two floats, {' and '.join(names)}")
    scale = Scale(**kept)
    if not scale.is_sound:
        fact = f"the scale of '{name}' is {kept!r}"
        raise RunError(fact, where=where, rule="the ends are finite, and in order")
    return scale
