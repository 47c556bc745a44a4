"""NetFV: learnable Fisher vectors, the mean and the spread of the frames of each cluster.

    a_t = softmax(BN(W x_t))                                        K shares of frame t
    F1_k = sum_t a_tk (x_t - c_k) / s_k
    F2_k = sum_t a_tk ((x_t - c_k)^2 / s_k^2 - 1)                   over real frames, by channel
    each: length 1 for each cluster, side by side, then length 1 again

Miech, Laptev, Sivic, "Learnable pooling with context gating for video classification" (2017), after
Perronnin & Dance, "Fisher kernels on visual vocabularies for image categorization" (2007). In
products, F2 is (A^T X^2 - 2 c A^T X + (sum_t a_tk) c^2) / s^2 - sum_t a_tk.

LOUPE has s = w^2 + 1e-6, near 1, on frames that a batch normalisation has brought to spread 1. Here
a frame has length 1 and a channel the spread D^-0.5, so s = exp(r) starts there: at s = 1 every F2
would be -sum_t a_tk and say nothing. LOUPE's code gives length 1 to each cluster of F1 alone, and
ties c to W unless told not to; here F1 and F2 are treated alike and c is free.
"""

from __future__ import annotations

import math
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
class NetFV:
    """Settings of NetFV: Fisher vectors."""

    family: Literal["netfv"] = "netfv"
    num_clusters: int = 96
    """K, how many clusters."""
    twin_reduction: int = 2
    """How many times fewer clusters a further feature list (audio) has."""
    head: VideoHeadSettings = field(default_factory=lambda: VideoHeadSettings(hidden=1540))

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_clusters", "twin_reduction")


def build_netfv(settings: NetFV, widths: tuple[int, ...], num_video_classes: int) -> PooledVideo:
    sizes = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
    pools = [NetFVPool(width, size) for width, size in zip(widths, sizes)]
    return PooledVideo(widths, pools, settings.head, num_video_classes)


class NetFVPool(Pool):
    """Frames [B, T, D] -> [B, 2 * K * D]: F1, then F2, each of length 1."""

    def __init__(self, width: int, num_clusters: int) -> None:
        super().__init__(2 * num_clusters * width)
        self.assignment = SoftAssignment(width, num_clusters)
        self.centres = nn.Parameter(torch.randn(num_clusters, width) / width)
        self.log_spreads = nn.Parameter(torch.full_like(self.centres, -0.5 * math.log(width)))

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        shares = self.assignment(features, mask)
        first, second = self.moments(shares, features)
        return torch.cat([unit_clusters(first), unit_clusters(second)], dim=1)

    def moments(
        self, shares: Float[Tensor, "B T K"], features: Float[Tensor, "B T D"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K D"]]:
        """F1 and F2, without the residuals of each frame and cluster [B, T, K, D]."""
        by_cluster, total = shares.transpose(1, 2), shares.sum(dim=1).unsqueeze(-1)
        sums, squares = torch.bmm(by_cluster, features), torch.bmm(by_cluster, features.square())
        centres, precision = self.centres, torch.exp(-self.log_spreads)
        first = (sums - total * centres) * precision
        spread = squares - centres * (2 * sums - total * centres)
        return first, spread * precision.square() - total
