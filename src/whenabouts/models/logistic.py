"""S-Logi and F-Logi: the logistic models of one loss.

    S-Logi   p = sigmoid(W mean_t(x_t) + b)   the mean of the segment's frames, then a linear layer
    F-Logi   p = mean_t(sigmoid(W x_t + b))   a linear layer on every frame, then the mean score

x_t: the L2-normalised features of frame t. Both as in the 11th place solution of the 3rd YouTube-8M
challenge (2019), which trains them on rated pairs alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class SLogi:
    """Settings of S-Logi: it has none."""

    family: Literal["s-logi"] = "s-logi"


@dataclass(frozen=True)
class FLogi:
    """Settings of F-Logi: it has none."""

    family: Literal["f-logi"] = "f-logi"


class _Logistic(nn.Module):
    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def pair_rows(
        self, pair_class: Int[Tensor, " P"]
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, " P"]]:
        """Weights and bias of the class of each pair: only rated classes need computing."""
        weight, bias = self.linear.weight, self.linear.bias
        return functional.embedding(pair_class, weight), bias.index_select(0, pair_class)


class SegmentLogistic(_Logistic):
    """S-Logi. `forward`: logits [B, C]; `pair_logits`: only those of (segment, class) pairs [P].

    It reads nothing but the mean of the frames, so the mean may stand in for them as one frame.
    """

    reads_mean = True

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        logits: Tensor = self.linear(mean_over_frames(features, mask))
        return logits

    def pair_logits(
        self,
        features: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        pair_segment: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        weight, bias = self.pair_rows(pair_class)
        mean = mean_over_frames(features, mask).index_select(0, pair_segment)
        return (mean * weight).sum(dim=-1) + bias


class FrameLogistic(_Logistic):
    """F-Logi. Its logit is that of the mean score, log p - log(1 - p), without overflow."""

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        return logit_of_mean(self.linear(features), mask.unsqueeze(-1), dim=1)

    def pair_logits(
        self,
        features: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        pair_segment: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        weight, bias = self.pair_rows(pair_class)
        frames = features.index_select(0, pair_segment)
        logits = torch.bmm(frames, weight.unsqueeze(-1)).squeeze(-1) + bias.unsqueeze(-1)
        return logit_of_mean(logits, mask.index_select(0, pair_segment), dim=1)


def mean_over_frames(
    features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B D"]:
    """Mean of the real frames; 0 where a segment has none."""
    weight = mask / mask.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.bmm(weight.to(features.dtype).unsqueeze(1), features).squeeze(1)


def logit_of_mean(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """logit(mean of sigmoid(logits)) over `dim`, where mask is True (broadcast to logits).

    log p and log(1 - p) are log-sum-exps of log-sigmoids; their common 1/n cancels. A slice without
    a real frame gives 0, as if p = 1/2.
    """
    # A slice without a real frame shows all of them: over none, the gradient would be NaN.
    hidden = torch.where(mask | ~mask.any(dim, keepdim=True), 0.0, -math.inf)
    log_p = torch.logsumexp(functional.logsigmoid(logits) + hidden, dim)
    log_not_p = torch.logsumexp(functional.logsigmoid(-logits) + hidden, dim)
    return torch.where(mask.any(dim), log_p - log_not_p, 0.0)
