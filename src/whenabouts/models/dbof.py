"""Gated soft DBoF: a deep bag of frames, how much of the video belongs to each of many clusters.

    a_t = softmax(BN(W x_t))                                        K shares of frame t
    g = sigmoid(BN(W2 W1 m)),  m = unit(max_t a_t)                  W1: K -> D, W2: back to K
    pooled = unit(g * sum_t a_t)                                    over real frames

unit: to length 1. DBoF: Abu-El-Haija et al., "YouTube-8M: a large-scale video classification
benchmark" (2016); soft and gated as in WILLOW's code of 2017 (Miech, Laptev, Sivic), which the 2018
winner (Skalic & Austin) took over: the strongest frame of each cluster, through a bottleneck, gates
the histogram. In that code audio is soft but not gated; here the twin is the same in small. Sizes:
the winner's first DBoF, which has no context gate and no probability gate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import nn

from whenabouts.models.assignment import SoftAssignment
from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.embedding import NormedLinear
from whenabouts.models.lengths import unit
from whenabouts.models.twins import Pool, PooledVideo, twin_sizes
from whenabouts.models.video_head import VideoHeadSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class DBoF:
    """Settings of DBoF, a deep bag of frames."""

    family: Literal["dbof"] = "dbof"
    num_clusters: int = 4096
    """K, how many clusters."""
    twin_reduction: int = 8
    """How many times fewer clusters a further feature list (audio) has."""
    head: VideoHeadSettings = field(
        default_factory=lambda: VideoHeadSettings(context_gate=False, probability_gate=False)
    )

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_clusters", "twin_reduction")


def build_dbof(settings: DBoF, widths: tuple[int, ...], num_video_classes: int) -> PooledVideo:
    sizes = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
    pools = [GatedDBoFPool(width, size) for width, size in zip(widths, sizes)]
    return PooledVideo(widths, pools, settings.head, num_video_classes)


class GatedDBoFPool(Pool):
    """Frames [B, T, D] -> [B, K] of length 1."""

    def __init__(self, width: int, num_clusters: int) -> None:
        super().__init__(num_clusters)
        self.assignment = SoftAssignment(width, num_clusters)
        self.bottleneck = nn.Linear(num_clusters, width, bias=False)
        self.gate = NormedLinear(width, num_clusters)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B K"]:
        shares = self.assignment(features, mask)
        strongest = unit(shares.amax(dim=1))  # padding has the share 0, below that of any frame
        gate = self.gate(self.bottleneck(strongest)).sigmoid()
        return unit(gate * shares.sum(dim=1))
