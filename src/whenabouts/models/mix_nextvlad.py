"""MixNeXtVLAD: three NeXtVLADs, mixed by what the mean frame looks like, that teach each other.

    w = softmax(U BN(mean_t x_t) + b)              one weight a member, from the real frames
    z = sum_m w_m z_m                              z_m: the logits of member m
    loss = BCE(z) + sum_m BCE(z_m) + L,   L = T^2 sum_m KL(softmax(z / T) || softmax(z_m / T))

Lin, Xiao, Fan, "NeXtVLAD: an efficient neural network to aggregate frame-level features for
large-scale video classification" (2018), with the online distillation of Lan, Zhu, Gong, "Knowledge
distillation by on-the-fly native ensemble" (2018). T^2 keeps the gradient of L as large as that of
BCE whatever T is (Hinton, Vinyals, Dean, 2015). The mixture teaches: L moves the members alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import nn
from torch.nn import functional

from whenabouts.models.checks import (
    refuse_more_layers,
    refuse_not_above_zero,
    refuse_sizes_below_one,
)
from whenabouts.models.logistic import mean_over_frames
from whenabouts.models.nextvlad import NeXtVLAD, NeXtVLADNetwork
from whenabouts.models.normed import Normed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class MixNeXtVLAD:
    """Settings of the mixture. member: those all members share."""

    family: Literal["mix-nextvlad"] = "mix-nextvlad"
    member: NeXtVLAD = field(default_factory=NeXtVLAD)
    num_members: int = 3
    """NeXtVLADs side by side."""
    temperature: float = 3.0
    """T of the distillation of the mixture into its members."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_members")
        refuse_more_layers(self, "num_members")
        refuse_not_above_zero(self, "temperature")


class NeXtVLADMixture(nn.Module):
    """`forward`: [B, T, D] -> logits [B, V] of the mixture; `all_logits`: the members' as well."""

    def __init__(
        self, settings: MixNeXtVLAD, widths: tuple[int, ...], num_video_classes: int
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            NeXtVLADNetwork(settings.member, widths, num_video_classes)
            for _ in range(settings.num_members)
        )
        self.norm = Normed(sum(widths))
        self.mixing = nn.Linear(sum(widths), settings.num_members)
        self.temperature: Final = settings.temperature

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        return self.all_logits(features, mask)[0]

    def all_logits(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B M V"]]:
        """Logits of the mixture and of each member."""
        members = torch.stack([member(features, mask) for member in self.members], dim=1)
        weights = self.mixing(self.norm(mean_over_frames(features, mask))).softmax(dim=-1)
        return torch.bmm(weights.unsqueeze(1), members).squeeze(1), members


def online_distillation(
    mixture_logits: Float[Tensor, "B V"],
    member_logits: Float[Tensor, "B M V"],
    temperature: float,
    num_videos: int,
) -> Float[Tensor, ""]:
    """L: the divergence of the members from their mixture, summed over members, a mean over videos.

    No gradient goes into the mixture's logits.
    """
    taught = functional.log_softmax(member_logits / temperature, dim=-1)
    teacher = functional.log_softmax(mixture_logits.detach() / temperature, dim=-1)
    teacher = teacher.unsqueeze(1).expand_as(taught)
    divergence = functional.kl_div(taught, teacher, reduction="sum", log_target=True)
    return divergence * (temperature**2 / num_videos)
