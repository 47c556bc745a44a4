"""Attention pooling: a small network scores each position, the feature is the weighted mean.

    a_t = sigmoid(w . relu(V x_t + b) + c)                       V: E -> hidden
    pooled = sum_t a_t x_t / (sum_t a_t + eps)                   over real positions

Nguyen, Liu, Prasad, Han, "Weakly supervised action localization by sparse temporal pooling network"
(STPN, 2018). The scores are class-agnostic. Options: softmax over the positions for sigmoid;
tanh(V x) * sigmoid(U x) for relu (gated: Ilse, Tomczak, Welling, "Attention-based deep multiple
instance learning", 2018); several heads (several w), whose pooled features are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.embedding import EmbeddingSettings, build_embedding
from whenabouts.models.rows import RealRows
from whenabouts.models.windows import sliding_windows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class AttentionSettings:
    """How frames of a segment, or segments of a video, are weighted and pooled."""

    hidden: int = 256
    """Width of the scoring network."""
    weights: Literal["sigmoid", "softmax"] = "sigmoid"
    """How its outputs become weights: sigmoid, divided by their sum, or softmax."""
    num_heads: int = 1
    """Scores of each position; what is pooled by each is averaged."""
    gated: bool = False
    """tanh times a sigmoid gate in the hidden layer, in place of relu."""
    eps: float = 1e-6
    """Added to the sum of the weights, so that nothing is divided by 0."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "hidden", "num_heads")
        if not self.eps > 0:
            raise SettingsError(f"the value is {self.eps}", where="eps", rule="it must be above 0")


class AttentionPool(nn.Module):
    """[B, T, E] -> pooled [B, E] and attention [B, T].

    The attention is the mean of the heads' scores a, in [0, 1] and 0 at padding. Without a real
    position both are 0.
    """

    def __init__(self, settings: AttentionSettings, width: int) -> None:
        super().__init__()
        hidden = settings.hidden
        self.hidden = nn.Linear(width, 2 * hidden if settings.gated else hidden)
        self.out = nn.Linear(hidden, settings.num_heads)
        self._settings = settings

    def forward(
        self, features: Float[Tensor, "B T E"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B T"]]:
        return self.pool(features, self.logits(features), mask)

    def logits(self, features: Float[Tensor, "*N E"]) -> Float[Tensor, "*N H"]:
        """What the scoring network says of each position, before sigmoid or softmax."""
        hidden = self.hidden(features)
        if self._settings.gated:
            value, gate = hidden.chunk(2, dim=-1)
            hidden = value.tanh() * gate.sigmoid()
        else:
            hidden = hidden.relu_()
        logits: Tensor = self.out(hidden)
        return logits

    def pool(
        self,
        features: Float[Tensor, "B T E"],
        logits: Float[Tensor, "B T H"],
        mask: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B T"]]:
        pooled, attention = self.pool_windows(features, logits, mask.unsqueeze(1))
        return pooled.squeeze(1), attention.squeeze(1)

    def pool_windows(
        self,
        features: Float[Tensor, "B T E"],
        logits: Float[Tensor, "B T H"],
        windows: Bool[Tensor, "B K T"],
    ) -> tuple[Float[Tensor, "B K E"], Float[Tensor, "B K T"]]:
        """Each window pooled by itself, as if the other positions were padding."""
        scores = self._scores(logits.unsqueeze(1), windows.unsqueeze(-1))
        weights = scores / (scores.sum(dim=2, keepdim=True) + self._settings.eps)
        # Pooling is linear in the weights: one pass with their mean is the mean over heads.
        return torch.bmm(weights.mean(dim=-1), features), scores.mean(dim=-1)

    def scores(
        self, logits: Float[Tensor, "B T H"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """The attention, without pooling."""
        scores = self._scores(logits.unsqueeze(1), mask[:, None, :, None])
        return scores.mean(dim=-1).squeeze(1)

    def _scores(
        self, logits: Float[Tensor, "B 1 T H"], windows: Bool[Tensor, "B K T 1"]
    ) -> Float[Tensor, "B K T H"]:
        if self._settings.weights == "sigmoid":
            return logits.sigmoid() * windows
        # The lowest number instead of -inf: without a real position softmax stays finite.
        lowest = torch.finfo(logits.dtype).min
        return logits.masked_fill(~windows, lowest).softmax(dim=2) * windows


class AttentionSegment(nn.Module):
    """Frames [B, T, D] -> segment feature [B, E] and frame attention [B, T], for any T.

    With windows of `window_frames` (0: of all frames) the feature is those of its K windows, one
    after another, [B, K E]; the attention is still that on all frames.
    """

    def __init__(
        self,
        embedding: EmbeddingSettings,
        attention: AttentionSettings,
        width: int,
        window_frames: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = build_embedding(embedding, width)
        self.attention = AttentionPool(attention, embedding.width_of(width))
        self._window_frames = window_frames

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B T"]]:
        real = RealRows(mask, keep_little=not self.training)  # statistics are of real frames alone
        rows = self.embedding(real.take(features))
        logits = self.attention.logits(rows)
        frames, frame_logits = real.put(rows), real.put(logits)
        windows = sliding_windows(mask, self._window_frames or mask.shape[1])
        pooled, _ = self.attention.pool_windows(frames, frame_logits, windows)
        return pooled.flatten(1), self.attention.scores(frame_logits, mask)
