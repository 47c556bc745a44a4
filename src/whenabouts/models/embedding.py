"""The embedding of single frames, in front of attention.

    y = drop(relu(BN(W x)))        W: D -> E, without a bias, since BN would take it out again

BN (Ioffe & Szegedy, "Batch Normalization", 2015) sees real frames only; drop is dropout (Srivastava
et al., "Dropout", 2014). `identity` leaves the frames as they are, and E = D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from whenabouts.core.errors import SettingsError
from whenabouts.models.checks import refuse_sizes_below_one

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

BYTE_VALUES = 256
BLOCK = 1 << 18  # elements; a block of noise stays in the cache of a core


@dataclass(frozen=True)
class EmbeddingSettings:
    """width: E, used by `dense`; dropout: share of the embedded values set to 0 in training."""

    kind: Literal["dense", "identity"] = "dense"
    width: int = 1024
    dropout: float = 0.5

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "width")
        if not 0 <= self.dropout < 1:
            fact = f"the value is {self.dropout}"
            raise SettingsError(fact, where="dropout", rule="it must be at least 0, below 1")

    def width_of(self, width: int) -> int:
        """E, for frames of `width` features."""
        return self.width if self.kind == "dense" else width


class Embedding(nn.Module):
    """Rows [N, D] -> [N, E]."""

    def __init__(self, settings: EmbeddingSettings, width: int) -> None:
        super().__init__()
        self.linear = NormedLinear(width, settings.width)
        self._threshold = min(round(settings.dropout * BYTE_VALUES), BYTE_VALUES - 1)

    def forward(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N E"]:
        if not (self.training and self._threshold):
            return functional.relu_(self.linear(rows))
        # drop(relu(x)) = relu(drop(x)), and what the kept values are multiplied by goes into BN.
        embedded = self.linear(rows, BYTE_VALUES / (BYTE_VALUES - self._threshold))
        drop_(embedded, self._threshold)
        return functional.relu_(embedded)


def build_embedding(settings: EmbeddingSettings, width: int) -> nn.Module:
    return nn.Identity() if settings.kind == "identity" else Embedding(settings, width)


class NormedLinear(nn.Module):
    """A linear layer without bias, then batch normalisation over the rows.

    One row has no variance: then, as in evaluation, the running statistics serve.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self, width: int, width_out: int, *, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width_out, bias=False)
        self.scale = nn.Parameter(torch.ones(width_out))
        self.shift = nn.Parameter(torch.zeros(width_out))
        self.register_buffer("running_mean", torch.zeros(width_out))
        self.register_buffer("running_variance", torch.ones(width_out))
        self._momentum, self._eps = momentum, eps

    def forward(self, rows: Float[Tensor, "N D"], factor: float = 1.0) -> Float[Tensor, "N E"]:
        """BN(W x) * factor."""
        scale, shift = self.scale * factor, self.shift * factor
        if not self.training or len(rows) < 2:
            return self._with_running_statistics(rows, scale, shift)
        return functional.batch_norm(
            self.linear(rows),
            self.running_mean,
            self.running_variance,
            scale,
            shift,
            training=True,
            momentum=self._momentum,
            eps=self._eps,
        )

    def _with_running_statistics(self, rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalisation by constants is part of the linear layer: one product, no second pass."""
        gain = scale * (self.running_variance + self._eps).rsqrt()
        weight = self.linear.weight * gain.unsqueeze(1)
        return functional.linear(rows, weight, shift - self.running_mean * gain)


def drop_(rows: Float[Tensor, "N E"], threshold: int) -> None:
    """Set each value to 0 with probability threshold / 256, in place and unseen by autograd.

    It must stand right before a ReLU, which passes no gradient back where its result is 0. One
    random byte a value: torch's own dropout costs as much on a CPU as the embedding's product.
    """
    block = len(rows) if rows.is_cuda else BLOCK // rows.shape[1]
    with torch.no_grad():
        for part in rows.split(max(block, 1)):
            noise = random_bytes(part.numel(), part.device).to(part.dtype)
            part.mul_(noise.ge_(threshold).view_as(part))


def random_bytes(size: int, device: torch.device) -> Tensor:
    """uint8 [size], from torch's own generator of the device."""
    words = torch.empty(-(-size // 8), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None).view(torch.uint8)[:size]
