"""Bytes -> features, on the device: dequantise, then L2-normalise each frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from whenabouts.corpus.dataset import DatasetSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from torch import Tensor

SMALLEST_NORM = 1e-12


def normalised(
    frames: UInt8[Tensor, "*B T D"], mask: Bool[Tensor, "*B T"], dataset: DatasetSettings
) -> Float[Tensor, "*B T D"]:
    """Features of unit L2 norm over the concatenated lists; exactly 0 where mask is False.

    x = byte * (high - low) / 255 + (high - low) / 512 + low, as YouTube-8M's own reader
    dequantises (a bias of half a step).
    """
    span = dataset.high - dataset.low
    # In place on one float copy: the pass is bound by memory, and each copy would cost as much.
    features = frames.to(torch.float32).mul_(span / 255).add_(span / 512 + dataset.low)
    norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp_min_(SMALLEST_NORM)
    return features.mul_(mask.unsqueeze(-1) / norm)


class BatchBuffer:
    """Host memory for batches of bytes, used again for every batch.

    On CUDA it is page-locked, and torch's own allocator of page-locked memory hands a block out
    again only when the copy from it is done. On the CPU one block serves all batches: a batch must
    be dequantised before the next is gathered.
    """

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type == "cuda"
        self._block = torch.empty(0, dtype=torch.uint8)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """uint8 tensor of this shape with whatever bytes lie there."""
        size = math.prod(shape)
        if self._pinned:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        if len(self._block) < size:
            self._block = torch.empty(size, dtype=torch.uint8)
        return self._block[:size].view(shape)
