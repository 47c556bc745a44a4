"""Multiple-instance logistic (MIL): every part of a video is scored, the video by its best parts.

    y_k = mean of window k                     K windows of the frames, in order of time
    z_kc = w_c . y_k + b_c                     logit of topic c in window k
    z_c = 1/r log mean_k exp(r z_kc)           log-sum-exp over the windows that hold a frame

A label of a video is true of some of its parts, and which ones is not told: a bag of instances with
one label (Dietterich, Lathrop, Lozano-Pérez, "Solving the multiple instance problem with
axis-parallel rectangles", 1997; Maron & Lozano-Pérez, "A framework for multiple-instance learning",
1998). Log-sum-exp pooling: Pinheiro & Collobert, "From image-level to pixel-level labeling with
convolutional networks" (2015). r -> 0 is the mean of the logits, r -> infinity their maximum; with
r = 1 the odds of the video are the mean of the odds of its windows. Where the mean frame of a video
of many scenes shows none of them clearly, a window shows its own.

In training a random few of the windows are scored, anew in every step: it costs less, and no video
is learned by its one best window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from whenabouts.models.checks import refuse_not_above_zero, refuse_sizes_below_one
from whenabouts.models.heads import HeadSettings, build_head
from whenabouts.models.windows import window_means

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class MIL:
    """Settings of the multiple-instance classifier."""

    family: Literal["mil"] = "mil"
    num_windows: int = 16
    """K windows that cover a video."""
    num_drawn: int = 8
    """Windows scored in a training step."""
    sharpness: float = 1.0
    """r of the log-mean-exp over windows: towards 0 their mean, the more the nearer their
    maximum."""
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_windows", "num_drawn")
        refuse_not_above_zero(self, "sharpness")


class MultipleInstance(nn.Module):
    """[B, T, D] -> logits [B, V]. A video that is all padding is answered as one frame of zeros.

    Frames must come in order of time; padding never changes an answer.
    """

    def __init__(self, settings: MIL, width: int, num_video_classes: int) -> None:
        super().__init__()
        self._settings = settings
        self.head = build_head(settings.head, width, num_video_classes)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        settings = self._settings
        windows, holds = window_means(features, mask, settings.num_windows)
        if self.training and settings.num_drawn < settings.num_windows:
            windows, holds = drawn_windows(windows, holds, settings.num_drawn)
        logits: Tensor = self.head(windows.flatten(0, 1)).unflatten(0, holds.shape)
        return log_mean_exp(logits, holds, settings.sharpness)


def drawn_windows(
    windows: Float[Tensor, "B K D"], holds: Bool[Tensor, "B K"], num_drawn: int
) -> tuple[Float[Tensor, "B N D"], Bool[Tensor, "B N"]]:
    """Some windows of each video at random, without replacement; those that hold a frame first."""
    rank = torch.rand(holds.shape, device=holds.device).masked_fill(~holds, -1)
    drawn = rank.topk(num_drawn, dim=1).indices
    index = drawn.unsqueeze(-1).expand(-1, -1, windows.shape[-1])
    return windows.gather(1, index), holds.gather(1, drawn)


def log_mean_exp(
    logits: Float[Tensor, "B K V"], mask: Bool[Tensor, "B K"], sharpness: float
) -> Float[Tensor, "B V"]:
    """1/r log mean_k exp(r z_k) over real positions; over all, where a video has none."""
    real = mask | ~mask.any(dim=1, keepdim=True)  # over none, the gradient would be NaN
    hidden = torch.where(real, 0.0, -math.inf).to(logits.dtype).unsqueeze(-1)
    total = torch.logsumexp(sharpness * logits + hidden, dim=1)
    count = real.sum(dim=1, keepdim=True).to(logits.dtype)
    return (total - count.log()) / sharpness
