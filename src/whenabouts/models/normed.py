"""Batch normalisation of features that come from no linear layer.

    y = BN(x)

It is NormedLinear with the identity for its layer, so that there is one way to gather statistics,
also where a batch is cut into shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from whenabouts.models.embedding import NormedLinear

if TYPE_CHECKING:
    from torch import Tensor


class Normed(NormedLinear):
    """Rows [N, E] -> [N, E]."""

    def __init__(self, width: int) -> None:
        super().__init__(1, width)
        self.linear = nn.Identity()  # type: ignore[assignment]

    def _with_running_statistics(self, rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        gain = scale * (self.running_variance + self._eps).rsqrt()
        return torch.addcmul(shift - self.running_mean * gain, rows, gain)
