"""BiLSTM -> LSTM and BiGRU -> GRU: the last state of a network that reads the frames in order.

    u_t = [forwards_t, backwards_t]                a layer that reads both ways, hidden + hidden
    s_t = layer over u_1 .. u_t                    top; the logits are linear in s_T

T is the last real frame: padding is never read. LSTM: Hochreiter & Schmidhuber, "Long short-term
memory" (1997); GRU: Cho et al., "Learning phrase representations using RNN encoder-decoder for
statistical machine translation" (2014). As the 2018 winner (Skalic & Austin) has them: s is the
cell of the LSTM, not its output, and the only state of the GRU; the gates that keep the past start
open, at bias 1; the feature lists go in side by side. Frames drawn at random must come in order of
time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from whenabouts.models.checks import refuse_sizes_below_one
from whenabouts.models.heads import HeadSettings, build_head
from whenabouts.models.rows import RealRows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class _Recurrent:
    """What both have."""

    hidden: int = 512
    """Width of each direction of the first layer."""
    top: int = 1024
    """Width of the second layer."""
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "hidden", "top")


@dataclass(frozen=True)
class BiLSTM(_Recurrent):
    """Settings of BiLSTM -> LSTM."""

    family: Literal["bilstm"] = "bilstm"


@dataclass(frozen=True)
class BiGRU(_Recurrent):
    """Settings of BiGRU -> GRU."""

    family: Literal["bigru"] = "bigru"


class Recurrent(nn.Module):
    """[B, T, D] -> logits [B, V]. A video that is all padding has the state 0."""

    def __init__(self, settings: BiLSTM | BiGRU, width: int, num_video_classes: int) -> None:
        super().__init__()
        layer: type[nn.LSTM | nn.GRU] = nn.LSTM if isinstance(settings, BiLSTM) else nn.GRU
        self.both_ways = layer(width, settings.hidden, batch_first=True, bidirectional=True)
        self.forwards = layer(2 * settings.hidden, settings.top, batch_first=True)
        self.head = build_head(settings.head, settings.top, num_video_classes)
        _open_gates(self.both_ways)
        _open_gates(self.forwards)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        logits: Tensor = self.head(self.last_state(features, mask))
        return logits

    def last_state(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        outputs, _ = self.both_ways(_packed(features, mask))
        _, state = self.forwards(outputs)
        last = state[1] if isinstance(self.forwards, nn.LSTM) else state  # [1, B, E]
        return torch.where(mask.any(dim=1, keepdim=True), last.squeeze(0), 0.0)


def _packed(features: Tensor, mask: Tensor) -> PackedSequence:
    """The real frames of each video; of one that has none, the first, since none may be empty."""
    read = mask.clone()
    read[:, 0] |= ~mask.any(dim=1)
    videos = RealRows(read).take(features).split(read.sum(dim=1).tolist())
    return pack_sequence(videos, enforce_sorted=False)


def _open_gates(layer: nn.RNNBase) -> None:
    """Of LSTM the forget gate (of input, forget, cell, output), of GRU reset and update (and new).

    Every gate has two biases, which are added.
    """
    width = layer.hidden_size
    opened = slice(width, 2 * width) if isinstance(layer, nn.LSTM) else slice(2 * width)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("bias"):
                parameter[opened] = 1.0 if name.startswith("bias_ih") else 0.0
