"""NeXtVLAD: NetVLAD over groups of channels, with attention, so that K clusters cost far less.

    y_t = W x_t + b                                W: D -> 2 D, in G groups y_tg of F channels
    g_tg = sigmoid(u_g . y_t + d_g)                attention on group g of frame t
    a_tgk = softmax_k(BN(Z_g y_t))                 K shares of each group
    V_k = sum_tg g_tg a_tgk (y_tg - c_k)           over real frames
    v = BN(V_k / |V_k| side by side)
    h = BN(H drop(v))                              to `hidden`
    logits = head(squeeze gate of h)

Lin, Xiao, Fan, "NeXtVLAD: an efficient neural network to aggregate frame-level features for
large-scale video classification" (2018); as in their code, audio has a twin with half the clusters
and groups. F is rounded up where G does not divide 2 D.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from whenabouts.core.errors import SettingsError
from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.embedding import NormedLinear
from whenabouts.models.gating import SqueezeGate
from whenabouts.models.heads import HeadSettings, build_head
from whenabouts.models.lengths import unit
from whenabouts.models.netvlad import residual_sums
from whenabouts.models.normed import Normed
from whenabouts.models.rows import RealRows
from whenabouts.models.twins import Pool, Twins, twin_sizes

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class NeXtVLAD:
    """Settings of NeXtVLAD."""

    family: Literal["nextvlad"] = "nextvlad"
    num_clusters: int = 128
    """K, how many clusters."""
    groups: int = 8
    """G: each frame becomes so many narrower vectors."""
    expansion: int = 2
    """How many times wider the frame is before that."""
    twin_reduction: int = 2
    """How many times fewer clusters and groups a further feature list (audio) has."""
    dropout: float = 0.5
    """Share of the pooled values set to 0 in training."""
    hidden: int = 2048
    """Width of the layer after pooling."""
    reduction: int = 16
    """How many times narrower the squeeze gate is than that layer."""
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        sizes = ("num_clusters", "groups", "expansion", "twin_reduction", "hidden", "reduction")
        refuse_sizes_below_one(self, *sizes)
        if not 0 <= self.dropout < 1:
            fact = f"the value is {self.dropout}"
            raise SettingsError(fact, where="dropout", rule="it must be at least 0, below 1")


class NeXtVLADPool(Pool):
    """Frames [B, T, D] -> normalised [B, K * F]."""

    def __init__(self, width: int, num_clusters: int, groups: int, expansion: int) -> None:
        group_width = -(-expansion * width // groups)
        super().__init__(num_clusters * group_width)
        expanded = groups * group_width
        self._clusters_shape, self._groups = (groups, num_clusters), groups
        self.expand = nn.Linear(width, expanded)
        nn.init.normal_(self.expand.weight, std=width**-0.5)  # a frame's length is kept
        self.attention = nn.Linear(expanded, groups)
        self.assignment = NormedLinear(expanded, groups * num_clusters)
        self.centres = nn.Parameter(torch.randn(num_clusters, group_width) * group_width**-0.5)
        self.norm = Normed(self.width)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        real = RealRows(mask)
        rows = self.expand(real.take(features))
        shares = self._by_group(real.put(self._shares(rows)))
        groups = self._by_group(real.put(rows))
        pooled: Tensor = self.norm(unit(residual_sums(shares, groups, self.centres)).flatten(1))
        return pooled

    def _shares(self, rows: Float[Tensor, "N G*F"]) -> Float[Tensor, "N G*K"]:
        attention = self.attention(rows).sigmoid().unsqueeze(-1)
        shares = self.assignment(rows).unflatten(-1, self._clusters_shape).softmax(dim=-1)
        weighted: Tensor = (shares * attention).flatten(1)
        return weighted

    def _by_group(self, values: Float[Tensor, "B T G*E"]) -> Float[Tensor, "B T*G E"]:
        by_group: Tensor = values.unflatten(-1, (self._groups, -1))
        return by_group.flatten(1, 2)


class NeXtVLADNetwork(nn.Module):
    """[B, T, D] -> logits [B, V].

    Neither padding nor the order of the frames changes an answer. A video that is all padding is
    answered as one whose V is 0.
    """

    def __init__(self, settings: NeXtVLAD, widths: tuple[int, ...], num_video_classes: int) -> None:
        super().__init__()
        clusters = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
        groups = twin_sizes(settings.groups, len(widths), settings.twin_reduction)
        pools = [NeXtVLADPool(*s, settings.expansion) for s in zip(widths, clusters, groups)]
        self.twins = Twins(widths, pools)
        self.hidden = NormedLinear(self.twins.width, settings.hidden)
        self.gate = SqueezeGate(settings.hidden, settings.reduction)
        self.head = build_head(settings.head, settings.hidden, num_video_classes)
        self._dropout = settings.dropout

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        pooled = self.twins(features, mask)
        dropped = functional.dropout(pooled, self._dropout, self.training)
        logits: Tensor = self.head(self.gate(self.hidden(dropped)))
        return logits
