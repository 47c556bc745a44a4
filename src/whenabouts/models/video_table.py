"""All families of the video classifier on one screen: settings -> module, and their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import nn

from whenabouts.core.errors import SettingsError, suggest
from whenabouts.core.settings import from_dict
from whenabouts.models.dbof import DBoF, build_dbof
from whenabouts.models.heads import LogisticHead, MixtureHead
from whenabouts.models.hierarchical import Scale
from whenabouts.models.mix_nextvlad import MixNeXtVLAD, NeXtVLADMixture
from whenabouts.models.multiple_instance import MIL, MultipleInstance
from whenabouts.models.netfv import NetFV, build_netfv
from whenabouts.models.netvlad import NetVLAD, build_netvlad
from whenabouts.models.nextvlad import NeXtVLAD, NeXtVLADNetwork
from whenabouts.models.recurrent import BiGRU, BiLSTM, Recurrent
from whenabouts.models.video_level import VideoLevel, VideoLogistic, VideoMLP, VideoMoE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

VideoSettings = (
    VideoLogistic | VideoMoE | VideoMLP | MIL | NetVLAD | NetFV | DBoF | BiLSTM | BiGRU | NeXtVLAD
    | MixNeXtVLAD
)  # fmt: skip


class VideoModel(Protocol):
    """What every video model answers: [B, T, D] features and mask, T >= 1 -> logits."""

    def __call__(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]: ...


VIDEO_FAMILIES: dict[str, type[VideoSettings]] = {
    "video-logistic": VideoLogistic,
    "video-moe": VideoMoE,
    "video-mlp": VideoMLP,
    "mil": MIL,
    "netvlad": NetVLAD,
    "netfv": NetFV,
    "dbof": DBoF,
    "bilstm": BiLSTM,
    "bigru": BiGRU,
    "nextvlad": NeXtVLAD,
    "mix-nextvlad": MixNeXtVLAD,
}


def build_video_model(
    settings: VideoSettings, widths: tuple[int, ...], num_video_classes: int
) -> nn.Module:
    """The module for frames whose feature lists have these widths and lie side by side."""
    match settings:
        case VideoLogistic() | VideoMoE() | VideoMLP():
            return VideoLevel(settings, sum(widths), num_video_classes)
        case MIL():
            return MultipleInstance(settings, sum(widths), num_video_classes)
        case NetVLAD():
            return build_netvlad(settings, widths, num_video_classes)
        case NetFV():
            return build_netfv(settings, widths, num_video_classes)
        case DBoF():
            return build_dbof(settings, widths, num_video_classes)
        case BiLSTM() | BiGRU():
            return Recurrent(settings, sum(widths), num_video_classes)
        case NeXtVLAD():
            return NeXtVLADNetwork(settings, widths, num_video_classes)
        case MixNeXtVLAD():
            return NeXtVLADMixture(settings, widths, num_video_classes)


def video_model_settings(values: Any, where: str = "model") -> VideoSettings:
    """Settings from a recipe's dictionary; `family` says which."""
    family = str(values.get("family", "")) if isinstance(values, dict) else ""
    if family not in VIDEO_FAMILIES:
        fact = f"no video model family '{family}'"
        raise SettingsError(fact, where=where, remedy=suggest(family, VIDEO_FAMILIES))
    return from_dict(VIDEO_FAMILIES[family], values, where)


def head_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights, without biases, of a model's classifier heads: what L2 on the head means."""
    for module in model.modules():
        if isinstance(module, LogisticHead | MixtureHead):
            yield from (p for name, p in module.named_parameters() if name.endswith("weight"))


# ---- sizes ---------------------------------------------------------------------------------------

Settings = TypeVar("Settings", bound=VideoSettings)

# `paper` is what each family has by default, `small` trains in minutes on two cores.
SIZES: dict[str, dict[Scale, dict[str, int]]] = {
    "video-mlp": {"tiny": {"width": 32}, "small": {"width": 512}, "paper": {"width": 2048}},
    "netvlad": {
        "tiny": {"num_clusters": 4, "hidden": 32},
        "small": {"num_clusters": 32, "hidden": 256},
        "paper": {"num_clusters": 256, "hidden": 1024},
    },
    "netfv": {
        "tiny": {"num_clusters": 4, "hidden": 32},
        "small": {"num_clusters": 16, "hidden": 256},
        "paper": {"num_clusters": 96, "hidden": 1540},
    },
    "dbof": {
        "tiny": {"num_clusters": 16, "hidden": 32},
        "small": {"num_clusters": 512, "hidden": 256},
        "paper": {"num_clusters": 4096, "hidden": 1024},
    },
    "bilstm": {
        "tiny": {"hidden": 16, "top": 32},
        "small": {"hidden": 64, "top": 128},
        "paper": {"hidden": 512, "top": 1024},
    },
    "nextvlad": {
        "tiny": {"num_clusters": 4, "groups": 2, "hidden": 32},
        "small": {"num_clusters": 32, "groups": 8, "hidden": 256},
        "paper": {"num_clusters": 128, "groups": 8, "hidden": 2048},
    },
}
SIZES["bigru"] = SIZES["bilstm"]


def video_scaled(settings: Settings, scale: Scale) -> Settings:
    """The same settings with the sizes of this scale; models without sizes stay as they are."""
    if isinstance(settings, MixNeXtVLAD):
        return replace(settings, member=video_scaled(settings.member, scale))
    changed: dict[str, Any] = dict(SIZES.get(settings.family, {}).get(scale, {}))
    if isinstance(settings, NetVLAD | NetFV | DBoF):  # their hidden layer belongs to the head
        changed["head"] = replace(settings.head, hidden=changed.pop("hidden"))
    return replace(settings, **changed)
