"""The non-local block: every position looks at all others, and adds what it finds.

    s_ij = (Q x_i) . (K x_j) / sqrt(I)                           Q, K, V: E -> I = E / 2
    z_i = x_i + BN(O sum_j softmax_j(s_ij) V x_j)                O: I -> E

Wang, Girshick, Gupta, He, "Non-local neural networks" (2018), embedded Gaussian version; the paper
has no 1 / sqrt(I). The scale of BN is 0 at the start, so that the block starts as the identity. No
bias in Q, K, V, O: of three of them softmax or BN would leave nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.embedding import NormedLinear
from whenabouts.models.rows import RealRows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class NonLocalSettings:
    """The block in which segments of a video look at each other."""

    reduction: int = 2
    """How many times narrower I is than E."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "reduction")


class NonLocal(nn.Module):
    """[B, T, E] -> [B, T, E], 0 at padding."""

    def __init__(self, settings: NonLocalSettings, width: int) -> None:
        super().__init__()
        self._inner = max(width // settings.reduction, 1)
        self.project = nn.Linear(width, 3 * self._inner, bias=False)
        self.out = NormedLinear(self._inner, width)
        nn.init.zeros_(self.out.scale)

    def forward(
        self, features: Float[Tensor, "B T E"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T E"]:
        real = RealRows(mask)
        rows = real.take(features)
        query, key, value = real.put(self.project(rows)).unsqueeze(1).chunk(3, dim=-1)
        # Not every kernel answers a query without a key, so an empty video sees its padding.
        seen = mask | ~mask.any(dim=1, keepdim=True)
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen[:, None, None], scale=self._inner**-0.5
        )
        return real.put(self.out(real.take(found.squeeze(1))).add_(rows))
