"""Soft assignment of frames to clusters, which NetVLAD, NetFV and DBoF pool by.

    a_t = softmax(BN(W x_t))                W: D -> K; a_t = 0 for a frame that is padding

Arandjelović, Gronat, Torii, Pajdla, Sivic, "NetVLAD: CNN architecture for weakly supervised place
recognition" (2016), with BN as in LOUPE (Miech, Laptev, Sivic, "Learnable pooling with context
gating for video classification", 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from whenabouts.models.embedding import NormedLinear
from whenabouts.models.rows import RealRows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class SoftAssignment(nn.Module):
    """Frames [B, T, D] -> shares [B, T, K] that sum to 1 in a real frame."""

    def __init__(self, width: int, num_clusters: int) -> None:
        super().__init__()
        self.linear = NormedLinear(width, num_clusters)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T K"]:
        real = RealRows(mask)
        return real.put(self.linear(real.take(features)).softmax(dim=-1))
