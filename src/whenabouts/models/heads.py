"""Classifier heads: a feature -> one logit a class.

    logistic   p = sigmoid(w . x + b)
    moe        p = sum_m softmax(g)_m sigmoid(w_m . x + b_m),    g_m = v_m . x, m = 1 .. M + 1

moe: a mixture of M logistic experts a class (Jordan & Jacobs, "Hierarchical mixtures of experts and
the EM algorithm", 1994) as in YouTube-8M's starter code: expert M + 1 is a dummy that always
answers 0. M = 2 is MoE-2. Its logit is log p - log(1 - p), without overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from whenabouts.models.checks import refuse_sizes_below_one

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class HeadSettings:
    """What makes probabilities of classes of a feature."""

    kind: Literal["logistic", "moe"] = "logistic"
    """logistic, or moe: a mixture of experts."""
    num_experts: int = 2
    """Of moe, without the dummy."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_experts")


class LogisticHead(nn.Module):
    """`forward`: [N, E] -> logits [N, C]; `pair_logits`: only those of (row, class) pairs [P]."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Float[Tensor, "N E"]) -> Float[Tensor, "N C"]:
        logits: Tensor = self.linear(features)
        return logits

    def pair_logits(
        self,
        features: Float[Tensor, "N E"],
        pair_row: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        weight = functional.embedding(pair_class, self.linear.weight)
        bias = self.linear.bias.index_select(0, pair_class)
        return (features.index_select(0, pair_row) * weight).sum(dim=-1) + bias


class MixtureHead(nn.Module):
    """As LogisticHead, with M experts a class. The rows of one class lie together."""

    def __init__(self, width: int, num_classes: int, num_experts: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self._gates_shape = (num_classes, num_experts + 1)
        self._experts_shape = (num_classes, num_experts)
        self.gates = nn.Linear(width, num_classes * (num_experts + 1), bias=False)
        self.experts = nn.Linear(width, num_classes * num_experts)

    def forward(self, features: Float[Tensor, "N E"]) -> Float[Tensor, "N C"]:
        gates = self.gates(features).unflatten(-1, self._gates_shape)
        experts = self.experts(features).unflatten(-1, self._experts_shape)
        return mixture_logit(gates, experts)

    def pair_logits(
        self,
        features: Float[Tensor, "N E"],
        pair_row: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        rows = features.index_select(0, pair_row).unsqueeze(-1)  # [P, E, 1]
        gates = torch.bmm(self._rows(self.gates.weight, self._gates_shape, pair_class), rows)
        experts = torch.bmm(self._rows(self.experts.weight, self._experts_shape, pair_class), rows)
        bias = functional.embedding(pair_class, self.experts.bias.view(self._experts_shape))
        return mixture_logit(gates.squeeze(-1), experts.squeeze(-1) + bias)

    @staticmethod
    def _rows(weight: Tensor, shape: tuple[int, int], pair_class: Tensor) -> Tensor:
        """The weights of each pair's class, [P, M or M + 1, E]."""
        num_classes, num_rows = shape
        rows = functional.embedding(pair_class, weight.view(num_classes, -1))
        return rows.view(len(pair_class), num_rows, weight.shape[1])


Head = LogisticHead | MixtureHead


def build_head(settings: HeadSettings, width: int, num_classes: int) -> Head:
    if settings.kind == "logistic":
        return LogisticHead(width, num_classes)
    return MixtureHead(width, num_classes, settings.num_experts)


def mixture_logit(
    gates: Float[Tensor, "*N M+1"], experts: Float[Tensor, "*N M"]
) -> Float[Tensor, "*N"]:
    """logit(p) from the logits of the gates and of the experts.

    log p and log(1 - p) are log-sum-exps; what softmax divides by is common to both and cancels.
    """
    gate, dummy = gates[..., :-1], gates[..., -1:]
    log_p = torch.logsumexp(gate + functional.logsigmoid(experts), dim=-1)
    against = torch.cat([gate + functional.logsigmoid(-experts), dummy], dim=-1)
    return log_p - torch.logsumexp(against, dim=-1)


def copy_rows(target: Head, source: Head, source_rows: Int[Tensor, " C"]) -> None:
    """Class c of `target` gets the weights of class source_rows[c] of `source`.

    A negative row leaves the class as it is. Both heads are of one kind and width.
    """
    assert len(source_rows) == target.num_classes, "a row for each class of the target"
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            rows = source_rows.to(mine.device)
            is_copied = rows >= 0
            # Every parameter holds its classes one after the other.
            copied = theirs.view(source.num_classes, -1)[rows[is_copied]]
            mine.view(target.num_classes, -1)[is_copied] = copied
