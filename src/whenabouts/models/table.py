"""All model families on one screen: settings -> module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from whenabouts.core.errors import SettingsError, suggest
from whenabouts.core.settings import from_dict
from whenabouts.models.hierarchical import (
    FCFC,
    LSE,
    NL,
    SE,
    Att2,
    Hierarchical,
    HierarchicalSettings,
    Loss2,
)
from whenabouts.models.logistic import FLogi, FrameLogistic, SegmentLogistic, SLogi

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

ModelSettings = SLogi | FLogi | HierarchicalSettings


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


FAMILIES: dict[str, type[ModelSettings]] = {
    "s-logi": SLogi,
    "f-logi": FLogi,
    "att2": Att2,
    "loss2": Loss2,
    "nl": NL,
    "se": SE,
    "fcfc": FCFC,
    "lse": LSE,
}


def build_model(
    settings: ModelSettings,
    width: int,
    num_classes: int,
    *,
    num_video_classes: int | None = None,
    segment_frames: int | None = None,
) -> nn.Module:
    """The module for frames of `width` features and `num_classes` evaluated classes.

    num_video_classes: of the video labels; segment_frames: frames of a whole segment. Only
    hierarchical models need them.
    """
    match settings:
        case SLogi():
            return SegmentLogistic(width, num_classes)
        case FLogi():
            return FrameLogistic(width, num_classes)
    assert num_video_classes is not None, f"{settings.family} needs num_video_classes"
    assert segment_frames is not None, f"{settings.family} needs segment_frames"
    return Hierarchical(settings, width, num_classes, num_video_classes, segment_frames)


def model_settings(values: Any, where: str = "model") -> ModelSettings:
    """Settings from a recipe's dictionary; `family` says which."""
    family = str(values.get("family", "")) if isinstance(values, dict) else ""
    if family not in FAMILIES:
        fact = f"no model family '{family}'"
        raise SettingsError(fact, where=where, remedy=suggest(family, FAMILIES))
    return from_dict(FAMILIES[family], values, where)
