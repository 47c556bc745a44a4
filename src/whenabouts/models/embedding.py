"""The embedding of single frames, in front of attention.

    y = drop(relu(BN(W x)))        W: D -> E, without a bias, since BN would take it out again

BN (Ioffe & Szegedy, "Batch Normalization", 2015) sees real frames only; drop is dropout (Srivastava
et al., "Dropout", 2014). `identity` leaves the frames as they are, and E = D.

Where a batch is cut into shares, BN can see the whole of it, while dropout draws the noise of each
share apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional

from whenabouts.core.errors import SettingsError
from whenabouts.models.checks import refuse_sizes_below_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

    SumOverShares = Callable[[Tensor], Tensor]

BYTE_VALUES = 256
BLOCK = 1 << 18  # elements; a block of noise stays in the cache of a core


@dataclass(frozen=True)
class EmbeddingSettings:
    """What frames become before anything is pooled."""

    kind: Literal["dense", "identity"] = "dense"
    """dense, a layer, or identity: the features as they are."""
    width: int = 1024
    """E, of a dense embedding."""
    dropout: float = 0.5
    """Share of the embedded values set to 0 in training."""

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
        if torch.compiler.is_compiling():  # it fuses dropout, but not bytes seen as numbers
            share = self._threshold / BYTE_VALUES
            return functional.dropout(functional.relu(self.linear(rows)), share)
        # drop(relu(x)) = relu(drop(x)), and what the kept values are multiplied by goes into BN.
        embedded = self.linear(rows, BYTE_VALUES / (BYTE_VALUES - self._threshold))
        drop_(embedded, self._threshold)
        return functional.relu_(embedded)


def build_embedding(settings: EmbeddingSettings, width: int) -> nn.Module:
    return nn.Identity() if settings.kind == "identity" else Embedding(settings, width)


class NormedLinear(nn.Module):
    """A linear layer without bias, then batch normalisation over the rows.

    One row has no variance: then, as in evaluation, the running statistics serve.

    sum_over_shares: None where the rows are the whole batch. Where they are one share of it, this
    sums a tensor over all shares, and the statistics are those of the whole batch. Every share
    must then go through the layer in training, forward and backward, even one without rows; the
    loss is the sum of the losses of the shares, and so is the gradient of scale and shift.
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
        self.sum_over_shares: SumOverShares | None = None
        self._momentum, self._eps = momentum, eps

    def forward(self, rows: Float[Tensor, "N D"], factor: float = 1.0) -> Float[Tensor, "N E"]:
        """BN(W x) * factor."""
        scale, shift = self.scale * factor, self.shift * factor
        if self.training and self.sum_over_shares is not None:
            return self._with_shared_statistics(rows, scale, shift, self.sum_over_shares)
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

    def _with_shared_statistics(
        self, rows: Tensor, scale: Tensor, shift: Tensor, sum_over_shares: SumOverShares
    ) -> Tensor:
        y = self.linear(rows)
        count, mean, variance = self._moments(y.detach(), sum_over_shares)
        if count < 2:  # in all shares together, so that all of them turn off here
            return self._with_running_statistics(rows, scale, shift)
        self.running_mean.lerp_(mean, self._momentum)
        self.running_variance.lerp_(variance * (count / (count - 1)), self._momentum)
        gain = (variance + self._eps).rsqrt()
        normal: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
            y, mean, gain, count, sum_over_shares
        )
        return torch.addcmul(shift, normal, scale).to(y.dtype)

    def _moments(self, y: Tensor, sum_over_shares: SumOverShares) -> tuple[int, Tensor, Tensor]:
        """Number of rows in all shares, their mean and their variance (over N).

        The variance takes a pass of its own: E y^2 - (E y)^2 would cancel where the mean is large.
        """
        num_rows = self.running_mean.new_full((1,), len(y))  # exact below 2^24 rows
        sums = sum_over_shares(torch.cat([y.sum(0, dtype=num_rows.dtype), num_rows]))
        count = int(sums[-1])
        mean = sums[:-1] / max(count, 1)
        squares = sum_over_shares((y - mean).square_().sum(0))
        return count, mean, squares / max(count, 1)


class _Normalised(torch.autograd.Function):
    """z = (y - mean) * gain, with the mean and 1 / deviation of the N rows of all shares.

    With g the gradient of the summed loss by z, that by y takes the same two means over all rows:

        gain * (g - mean(g) - z mean(g z))
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        mean: Tensor,
        gain: Tensor,
        count: int,
        sum_over_shares: SumOverShares,
    ) -> Tensor:
        normal = (y - mean).mul_(gain)
        ctx.save_for_backward(normal, gain)
        ctx.count, ctx.sum_over_shares = count, sum_over_shares
        return normal

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (normal, gain) = gradients, ctx.saved_tensors
        sums = torch.stack([gradient.sum(0), (gradient * normal).sum(0)])
        mean, along = ctx.sum_over_shares(sums) / ctx.count
        given = (gradient - mean).addcmul_(normal, along, value=-1).mul_(gain)
        return given, None, None, None, None


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
