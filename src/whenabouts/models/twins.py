"""One pooling a feature list, side by side.

    features [B, T, D1 + D2 + ...]  -- split by list, each pooled -->  [B, E1 + E2 + ...]

In the 2018 winner's networks (Skalic & Austin) the visual list, which comes first, has a pooling of
full size and audio a smaller twin. A single list, whatever it is, has full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from whenabouts.models.video_head import VideoHead, VideoHeadSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


def twin_sizes(size: int, num_lists: int, reduction: int) -> tuple[int, ...]:
    """`size` for the first feature list, `reduction` times less (but 1 at least) for the others."""
    return (size,) + (max(size // reduction, 1),) * (num_lists - 1)


class Pool(nn.Module):
    """Frames [B, T, D] and mask -> [B, E]; width: E."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


class Twins(Pool):
    """pools: one a feature list, of these widths."""

    def __init__(self, widths: Sequence[int], pools: Sequence[Pool]) -> None:
        super().__init__(sum(pool.width for pool in pools))
        assert len(widths) == len(pools), "a pooling for each feature list"
        self._widths = list(widths)
        self.pools = nn.ModuleList(pools)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        lists = features.split(self._widths, dim=-1)
        return torch.cat([pool(part, mask) for pool, part in zip(self.pools, lists)], dim=1)


class PooledVideo(nn.Module):
    """Twins, then the head of a video classifier: [B, T, D] -> logits [B, V].

    Neither padding nor the order of the frames changes an answer. A video that is all padding is
    answered as one whose pooled feature is 0.
    """

    def __init__(
        self,
        widths: Sequence[int],
        pools: Sequence[Pool],
        head: VideoHeadSettings,
        num_video_classes: int,
    ) -> None:
        super().__init__()
        self.twins = Twins(widths, pools)
        self.head = VideoHead(head, self.twins.width, num_video_classes)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        logits: Tensor = self.head(self.twins(features, mask))
        return logits
