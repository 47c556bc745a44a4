"""Gates: what a network knows of a video opens or closes its own features and scores.

    context       y = h * sigmoid(BN(W h))                          W: E -> E
    squeeze       y = h * sigmoid(W2 relu(BN(W1 h)) + b2)           W1: E -> E / r, W2: back to E
    probability   q = p * sigmoid(BN(W p))                          W: V -> V, p = sigmoid(logits)

context, and probability on the scores of a mixture of experts: Miech, Laptev, Sivic, "Learnable
pooling with context gating for video classification" (2017), with BN as in their LOUPE. squeeze:
Hu, Shen, Sun, "Squeeze-and-excitation networks" (2018), as NeXtVLAD has it (Lin, Xiao, Fan, 2018).
BN sees the videos of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from whenabouts.models.embedding import NormedLinear

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ContextGate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = NormedLinear(width, width)

    def forward(self, features: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        gated: Tensor = features * self.gate(features).sigmoid()
        return gated


class SqueezeGate(nn.Module):
    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.squeeze = NormedLinear(width, inner)
        self.excite = nn.Linear(inner, width)

    def forward(self, features: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        squeezed = functional.relu(self.squeeze(features))
        gated: Tensor = features * self.excite(squeezed).sigmoid()
        return gated


class ProbabilityGate(nn.Module):
    """Logits in, logits out, so that losses stay exact."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.gate = NormedLinear(num_classes, num_classes)

    def forward(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        return logit_of_product(logits, self.gate(logits.sigmoid()))


def logit_of_product(a: Float[Tensor, "*N"], b: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """logit(sigmoid(a) * sigmoid(b)) = -log(exp(-a) + exp(-b) + exp(-a - b)), without overflow."""
    return -torch.logsumexp(torch.stack([-a, -b, -a - b]), dim=0)
