"""From the pooled feature of a video to its logits.

    h = BN(W x)                            W: E -> hidden
    h = context gate of h
    p = head(h), logistic or moe
    p = probability gate of p

As in Miech, Laptev, Sivic, "Learnable pooling with context gating for video classification" (2017),
and in the 2018 winner (Skalic & Austin, "Building a size constrained predictive model for video
classification"). Both gates can be left out.

BN on h is an option of theirs and stays on here. Pooled features of different videos are much
alike, and a gate normalises what is left once their mean is taken out. Without BN on h that mean
moves, in training, faster than the gate's running statistics follow, and evaluation fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.embedding import NormedLinear
from whenabouts.models.gating import ContextGate, ProbabilityGate
from whenabouts.models.heads import HeadSettings, build_head

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class VideoHeadSettings:
    hidden: int = 1024
    """Width of the layer after pooling."""
    context_gate: bool = True
    """Gate the features before the head."""
    head: HeadSettings = field(default_factory=lambda: HeadSettings("moe"))
    probability_gate: bool = True
    """Gate the head's probabilities."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "hidden")


class VideoHead(nn.Module):
    """[B, E] -> logits [B, V]."""

    def __init__(self, settings: VideoHeadSettings, width: int, num_video_classes: int) -> None:
        super().__init__()
        hidden = settings.hidden
        self.hidden = NormedLinear(width, hidden)
        self.context_gate = ContextGate(hidden) if settings.context_gate else nn.Identity()
        self.head = build_head(settings.head, hidden, num_video_classes)
        self.probability_gate = (
            ProbabilityGate(num_video_classes) if settings.probability_gate else nn.Identity()
        )

    def forward(self, pooled: Float[Tensor, "B E"]) -> Float[Tensor, "B V"]:
        hidden = self.context_gate(self.hidden(pooled))
        logits: Tensor = self.probability_gate(self.head(hidden))
        return logits
