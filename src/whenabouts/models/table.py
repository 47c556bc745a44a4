"""All model families on one screen: settings -> module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from whenabouts.core.errors import SettingsError, suggest
from whenabouts.core.settings import from_dict
from whenabouts.models.logistic import FLogi, FrameLogistic, SegmentLogistic, SLogi

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

ModelSettings = SLogi | FLogi


class SegmentModel(Protocol):
    """What every segment model answers: [B, T, D] features and mask -> logits."""

    def __call__(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]: ...

    def pair_logits(
        self,
        features: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        pair_segment: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]: ...


FAMILIES: dict[str, type[ModelSettings]] = {"s-logi": SLogi, "f-logi": FLogi}


def build_model(settings: ModelSettings, width: int, num_classes: int) -> nn.Module:
    """The module for frames of `width` features and `num_classes` evaluated classes."""
    match settings:
        case SLogi():
            return SegmentLogistic(width, num_classes)
        case FLogi():
            return FrameLogistic(width, num_classes)


def model_settings(values: dict[str, Any], where: str = "model") -> ModelSettings:
    """Settings from a recipe's dictionary; `family` says which."""
    family = str(values.get("family", ""))
    if family not in FAMILIES:
        fact = f"no model family '{family}'"
        raise SettingsError(fact, where=where, remedy=suggest(family, FAMILIES))
    return from_dict(FAMILIES[family], values, where)
