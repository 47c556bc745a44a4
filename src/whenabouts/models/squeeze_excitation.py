"""Temporal squeeze-and-excitation: the video's mean gates the channels of each of its positions.

    z = mean_t x_t                                               over real positions
    g = sigmoid(W2 relu(W1 z + b1) + b2)                         W1: E -> E / 16, W2: back to E
    y_t = g * x_t

Hu, Shen, Sun, "Squeeze-and-excitation networks" (2018), squeezed over time instead of space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.logistic import mean_over_frames

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class SqueezeExcitationSettings:
    """The gate on the channels of segments."""

    reduction: int = 16
    """How many times narrower the squeezed vector is than E."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "reduction")


class TemporalSqueezeExcitation(nn.Module):
    """[B, T, E] -> [B, T, E]. Padding is left out of the mean."""

    def __init__(self, settings: SqueezeExcitationSettings, width: int) -> None:
        super().__init__()
        inner = max(width // settings.reduction, 1)
        self.squeeze = nn.Linear(width, inner)
        self.excite = nn.Linear(inner, width)

    def forward(
        self, features: Float[Tensor, "B T E"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T E"]:
        mean = mean_over_frames(features, mask)
        gate: Tensor = self.excite(self.squeeze(mean).relu_()).sigmoid()
        return features * gate.unsqueeze(1)
