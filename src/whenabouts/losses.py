"""Losses over rated (segment, class) pairs: what is not rated is unknown, not negative."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def rated_bce(
    labels: Float[Tensor, " P"],
    weights: Float[Tensor, " P"],
    logits: Float[Tensor, " P"],
    num_segments: int,
) -> Float[Tensor, ""]:
    """Binary cross-entropy summed over rated pairs, over the number of rated segments."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
    return loss / num_segments


def rated_bce_with_unrated(
    labels: Float[Tensor, " P"],
    weights: Float[Tensor, " P"],
    logits: Float[Tensor, "B C"],
    pair_segment: Int[Tensor, " P"],
    pair_class: Int[Tensor, " P"],
    unrated_weight: float | Float[Tensor, "B C"],
    num_segments: int,
) -> Float[Tensor, ""]:
    """As `rated_bce`, with unrated classes of rated segments as negatives of small weight.

    unrated_weight: one weight for all of them, or the weight of each. The challenge's starter code
    does so with weight 1 for all, as its mask is never connected.
    """
    logits = logits.float()  # products may be bfloat16, what is summed up is not
    target, weight = torch.zeros_like(logits), torch.zeros_like(logits) + unrated_weight
    target[pair_segment, pair_class] = labels
    weight[pair_segment, pair_class] = weights
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / num_segments


def video_bce(
    labels: Float[Tensor, "B V"], logits: Float[Tensor, "B V"], num_videos: int
) -> Float[Tensor, ""]:
    """Binary cross-entropy summed over the classes of the video labels, a mean over videos."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return loss / num_videos
