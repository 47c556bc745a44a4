"""FCFC's segment module: one layer over the channels of each frame, then one over the frames.

    h_t = relu(A x_t + b)          A: D -> E; h_t = 0 for a frame that is padding
    s_e = sum_t w_t h_te + c       w shared by the channels; per_channel: own w_e and c_e for each

As in the 11th place solution of the 3rd YouTube-8M challenge (2019). A missing frame counts as 0
and the others are not rescaled. A segment without a real frame gives 0. w starts as the mean over
the frames, c as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.rows import RealRows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class FrameMixSettings:
    """The two layers that make a segment of its frames."""

    width: int = 1024
    """E."""
    per_channel: bool = False
    """Weights over the frames for each channel, not one set for all."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "width")


class FrameMix(nn.Module):
    """Frames [B, T, D] -> segment feature [B, E] and, as frame attention, the mask [B, T].

    T is fixed: the second layer has a weight for each frame of a segment.
    """

    def __init__(self, settings: FrameMixSettings, width: int, segment_frames: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(width, settings.width)
        channels = settings.width if settings.per_channel else 1
        self.weight = nn.Parameter(torch.full((segment_frames, channels), 1 / segment_frames))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B T"]]:
        num_frames = len(self.weight)
        assert mask.shape[1] == num_frames, f"built for {num_frames} frames, got {mask.shape[1]}"
        real = RealRows(mask, keep_little=True)
        hidden = real.put(functional.relu_(self.embedding(real.take(features))))
        is_real = mask.to(hidden.dtype)
        mixed = self._over_frames(hidden, is_real) + self.bias
        return mixed * is_real.amax(dim=1, keepdim=True), is_real

    def _over_frames(
        self, hidden: Float[Tensor, "B T E"], is_real: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        if self.weight.shape[1] > 1:
            return (hidden * self.weight * is_real.unsqueeze(-1)).sum(dim=1)
        weight = self.weight.squeeze(1) * is_real  # [B, T]
        return torch.bmm(weight.unsqueeze(1), hidden).squeeze(1)
