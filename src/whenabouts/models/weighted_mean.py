"""Several models as one: p = sum_m w_m p_m, p_m = sigmoid(z_m) of member m, the w_m sum to 1.

It answers with the logit of that mean, as any model does, so that whatever runs a model runs it:

    log p - log(1 - p),   log p       = logsumexp_m(log w_m + logsigmoid(z_m))
                          log (1 - p) = logsumexp_m(log w_m + logsigmoid(-z_m))

which neither overflows nor rounds a small p to 0. The weighted mean of the members' probabilities:
Skalic & Austin, "Building a Size Constrained Predictive Model for Video Classification" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class WeightedMean(nn.Module):
    """`forward`: features and mask -> logits [B, C] of the mean; one member gives its own."""

    log_weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        assert len(members) == len(weights) > 0, "one weight a member"
        self.members = nn.ModuleList(members)
        self.register_buffer("log_weights", torch.tensor([math.log(w) for w in weights]))

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        logits = [member(features, mask) for member in self.members]
        if len(logits) == 1:
            only: Tensor = logits[0]
            return only
        return logit_of_weighted_mean(torch.stack(logits), self.log_weights)


def logit_of_weighted_mean(
    logits: Float[Tensor, "M B C"], log_weights: Float[Tensor, " M"]
) -> Float[Tensor, "B C"]:
    """logit(sum_m w_m sigmoid(logits_m)), finite for any finite logits."""
    log_weights = log_weights.view(-1, 1, 1)
    log_p = torch.logsumexp(log_weights + functional.logsigmoid(logits), dim=0)
    log_not_p = torch.logsumexp(log_weights + functional.logsigmoid(-logits), dim=0)
    return log_p - log_not_p
