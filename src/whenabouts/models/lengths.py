"""Vectors of length 1, as pooled features are before a linear layer.

    unit(v) = v / max(|v|, EPS)

Below EPS a vector is not blown up: what no frame belongs to stays (almost) 0, and an empty video
stays 0. EPS is that of TensorFlow's l2_normalize, with which the networks of YouTube-8M were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

EPS = 1e-6


def unit(vectors: Float[Tensor, "*N E"]) -> Float[Tensor, "*N E"]:
    scaled: Tensor = functional.normalize(vectors, dim=-1, eps=EPS)
    return scaled


def unit_clusters(residuals: Float[Tensor, "B K D"]) -> Float[Tensor, "B K*D"]:
    """unit() of each cluster's vector, then of all of them side by side.

    Both lengths follow from those of the clusters, so the residuals are multiplied only once.
    """
    lengths = torch.linalg.vector_norm(residuals, dim=-1, keepdim=True)  # [B, K, 1]
    gain = lengths.clamp_min(EPS).reciprocal()
    whole = torch.linalg.vector_norm(lengths * gain, dim=1, keepdim=True).clamp_min(EPS)
    scaled: Tensor = residuals * (gain / whole)
    return scaled.flatten(1)
