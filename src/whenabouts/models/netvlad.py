"""NetVLAD: how far, and in which direction, the frames of each cluster lie from its centre.

    a_t = softmax(BN(W x_t))                                        K shares of frame t
    V_k = sum_t a_tk (x_t - c_k) = (A^T X)_k - (sum_t a_tk) c_k     over real frames
    V_k / |V_k| for each cluster, side by side, then length 1 again

Arandjelović, Gronat, Torii, Pajdla, Sivic, "NetVLAD: CNN architecture for weakly supervised place
recognition" (2016); for video and with a context gate: Miech, Laptev, Sivic (2017). As in LOUPE,
the centres c are learned apart from W. Sizes: the 2018 winner's first NetVLAD (Skalic & Austin).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from whenabouts.models.assignment import SoftAssignment
from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.lengths import unit_clusters
from whenabouts.models.twins import Pool, PooledVideo, twin_sizes
from whenabouts.models.video_head import VideoHeadSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class NetVLAD:
    """Settings of NetVLAD."""

    family: Literal["netvlad"] = "netvlad"
    num_clusters: int = 256
    """K, how many clusters."""
    twin_reduction: int = 2
    """How many times fewer clusters a further feature list (audio) has."""
    head: VideoHeadSettings = field(default_factory=VideoHeadSettings)

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_clusters", "twin_reduction")


def build_netvlad(
    settings: NetVLAD, widths: tuple[int, ...], num_video_classes: int
) -> PooledVideo:
    sizes = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
    pools = [NetVLADPool(width, size) for width, size in zip(widths, sizes)]
    return PooledVideo(widths, pools, settings.head, num_video_classes)


class NetVLADPool(Pool):
    """Frames [B, T, D] -> [B, K * D] of length 1."""

    def __init__(self, width: int, num_clusters: int) -> None:
        super().__init__(num_clusters * width)
        self.assignment = SoftAssignment(width, num_clusters)
        # Far shorter than a frame, as in LOUPE: what is common to all videos says nothing.
        self.centres = nn.Parameter(torch.randn(num_clusters, width) / width)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        shares = self.assignment(features, mask)
        return unit_clusters(residual_sums(shares, features, self.centres))


def residual_sums(
    shares: Float[Tensor, "B T K"], features: Float[Tensor, "B T D"], centres: Float[Tensor, "K D"]
) -> Float[Tensor, "B K D"]:
    """sum_t a_tk (x_t - c_k), without the residuals of each frame and cluster [B, T, K, D]."""
    sums = torch.bmm(shares.transpose(1, 2), features)
    return torch.addcmul(sums, shares.sum(dim=1).unsqueeze(-1), centres, value=-1)
