"""Bytes or floats -> features, on the device: dequantise bytes, then L2-normalise each frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from whenabouts.corpus.dataset import DatasetSettings, FeatureType

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from torch import Tensor

SMALLEST_NORM = 1e-12


def normalised(
    frames: UInt8[Tensor, "*B T D"] | Float[Tensor, "*B T D"],
    mask: Bool[Tensor, "*B T"],
    dataset: DatasetSettings,
) -> Float[Tensor, "*B T D"]:
    """Features of unit L2 norm over the concatenated lists; exactly 0 where mask is False.

    frames: of the data set's type, uint8 or float32. Of bytes, x = byte * (high - low) / 255 +
    (high - low) / 512 + low, as YouTube-8M's own reader dequantises (a bias of half a step);
    floats are x as they are.
    """
    assert frames.dtype == getattr(torch, dataset.dtype), "frames are of the data set's type"
    # In place on one float copy: the pass is bound by memory, and each copy would cost as much.
    if dataset.dtype == "uint8":
        span = dataset.high - dataset.low
        features = frames.to(torch.float32).mul_(span / 255).add_(span / 512 + dataset.low)
    else:  # where nothing is, there may be NaN, which no factor makes 0
        features = frames.masked_fill(~mask.unsqueeze(-1), 0)
    norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp_min_(SMALLEST_NORM)
    return features.mul_(mask.unsqueeze(-1) / norm)


class BatchBuffer:
    """Host memory for batches of frames, used again for every batch.

    On CUDA it is page-locked, and torch's own allocator of page-locked memory hands a block out
    again only when the copy from it is done. On the CPU one block serves all batches: a batch must
    be dequantised before the next is gathered.
    """

    def __init__(self, device: torch.device, dtype: FeatureType = "uint8") -> None:
        self._pinned = device.type == "cuda"
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._block = torch.empty(0, dtype=self._dtype)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Tensor of this shape with whatever values lie there."""
        size = math.prod(shape)
        if self._pinned:
            return torch.empty(shape, dtype=self._dtype, pin_memory=True)
        if len(self._block) < size:
            self._block = torch.empty(size, dtype=self._dtype)
        return self._block[:size].view(shape)
