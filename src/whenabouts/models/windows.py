"""Windows of frames that follow each other: of a video, and of a segment.

Of a video: its frames in order of time, cut into equal parts, the mean of each.

    x_t -> window floor(K r_t / n)             r_t: how many real frames come before t, n: of all
    y_k = mean of the x_t of window k

Frames that follow each other mostly show the same scene, and what differs between them is mostly
noise: a window's mean keeps the scene, while the mean of a whole video blurs all of its scenes into
one. The cut is by order, not by seconds, so that frames drawn at random and all frames of a video
give the same windows but for the noise. With fewer than K frames each frame is a window of its own.

Of a segment: so many frames from each frame on, so that they overlap, and what takes a moment fills
one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


def window_means(
    features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], num_windows: int
) -> tuple[Float[Tensor, "B K D"], Bool[Tensor, "B K"]]:
    """The means of K windows and which of them hold a frame; 0 where one holds none."""
    before = mask.cumsum(dim=1) - 1
    count = mask.sum(dim=1, keepdim=True).clamp_min(1)
    window = before * num_windows // count
    windows = torch.arange(num_windows, device=mask.device).view(1, -1, 1)
    holds = (windows == window.unsqueeze(1)) & mask.unsqueeze(1)  # [B, K, T]
    size = holds.sum(dim=-1, keepdim=True)
    weights = holds.to(features.dtype) / size.clamp_min(1)
    return torch.bmm(weights, features), size.squeeze(-1) > 0


def sliding_windows(mask: Bool[Tensor, "B T"], num_frames: int) -> Bool[Tensor, "B K T"]:
    """The real frames of K = T - num_frames + 1 windows of `num_frames`, one from each frame on.

    Real frames come first. A window that would reach past them begins earlier, so that a short
    segment has its last window several times; with fewer real frames than a window has, each
    window holds all of them.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    num_windows = max(mask.shape[1] - num_frames, 0) + 1
    last = (mask.sum(dim=1, keepdim=True) - num_frames).clamp_min(0)
    start = torch.minimum(position[:num_windows], last).unsqueeze(-1)  # [B, K, 1]
    inside = (position >= start) & (position < start + num_frames)
    return inside & mask.unsqueeze(1)
