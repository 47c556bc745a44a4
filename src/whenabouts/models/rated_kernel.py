"""Similarity to rated segments: kernel logistic regression on top of a segment head.

    f_c(x) = p_c l_c(x) + sum_i a_ci k(x, s_i) + b_c
    k(x, s) = exp(-|x - s|^2 / w - |q(x) - q(s)|^2 / v)              q_c = sqrt(sigmoid(l_c))

l_c is the logit of the segment head, s_i the feature of rated segment i, and the sum runs over the
segments that are rated for class c. a and b of a class minimise the logistic loss of its rated
pairs plus penalty / 2 a^T K a (Zhu & Hastie, "Kernel logistic regression and the import vector
machine", 2005), by Newton's method.

Segments are near where their features are, and the head's answers to all classes. With m the
median of |s_i - s_j|^2, n that of |q_i - q_j|^2 and A the share of the answers, w is `bandwidth`
m / (1 - A) and v is `bandwidth` n / A: at A = 0 answers do not count.

So a class is judged by what it is near to: its rated positives or its rated negatives; that is what
the 1st place of the challenge (2019) had for its second stage. A class without a rated positive, or
without a negative, keeps the logit of its head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from whenabouts.core.errors import SettingsError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MOST_SAMPLED = 1000  # features whose distances give the median
NEWTON_STEPS = 30
HALVINGS = 20
TOLERANCE = 1e-8  # of the loss, by which a step must improve it
LEAST_CURVATURE = 1e-6
LEAST_PENALTY = 1e-6  # with less, equal features make Newton's system singular
LEAST_BANDWIDTH = 1e-6
SAME_ANSWERS = 1e-2  # of |q|^2: what is nearer differs by little but noise
AT_ONCE = 1 << 25  # similarities computed at a time, so that memory stays flat


@dataclass(frozen=True)
class KernelSettings:
    """How segments are judged by their likeness to rated ones; see the head of the file."""

    prior: float = 0.3
    """p, how much of the head's logit stays."""
    penalty: float = 0.3
    """How strongly answers are held to p of the head's: of the norm of f - p l - b."""
    bandwidth: float = 1.0
    """Of the kernel, in median squared distances."""
    answers: float = 0.25
    """A, the share of the head's answers in them."""

    def __post_init__(self) -> None:
        least = {"prior": 0.0, "penalty": LEAST_PENALTY, "bandwidth": LEAST_BANDWIDTH}
        for name, limit in least.items():
            if not limit <= getattr(self, name) < math.inf:
                fact, rule = f"the value is {getattr(self, name)}", f"it must be at least {limit:g}"
                raise SettingsError(fact, where=name, rule=f"{rule}, and finite")
        if not 0 <= self.answers < 1:
            raise SettingsError(
                f"the value is {self.answers}",
                where="answers",
                rule="it is a share: at least 0, below 1",
            )


@dataclass(frozen=True)
class RatedPairs:
    """P rated pairs of U segments. logits: of the segment head."""

    features: Float[Tensor, "U E"]
    segment: Int[Tensor, " P"]
    column: Int[Tensor, " P"]
    label: Float[Tensor, " P"]
    logits: Float[Tensor, "U C"]


class RatedKernel(nn.Module):
    """Nothing until it is fitted, or loaded from a checkpoint of one that was.

    What a fit leaves are buffers: supports [U, E] and their answers q [U, C], or [U, 0] where they
    do not count; coefficient, support and column of each pair [P]; prior and bias of each class
    [C]; the widths w and v of the kernel [].
    """

    supports: Tensor
    answers: Tensor
    coefficient: Tensor
    pair_support: Tensor
    pair_class: Tensor
    prior: Tensor
    bias: Tensor
    width: Tensor
    answer_width: Tensor

    def __init__(self, feature_width: int, num_classes: int) -> None:
        super().__init__()
        self._shape = (feature_width, num_classes)
        for part in fields(_Fitted):
            self.register_buffer(part.name, None)

    @property
    def is_fitted(self) -> bool:
        return self.supports is not None

    def forward(
        self, features: Float[Tensor, "N E"], logits: Float[Tensor, "N C"]
    ) -> Float[Tensor, "N C"]:
        """logits: of the segment head."""
        num_classes, num_supports = self._shape[1], len(self.supports)
        places, shape = [self.pair_class, self.pair_support], (num_classes, num_supports)
        by_class = torch.sparse_coo_tensor(
            torch.stack(places), self.coefficient, shape, check_invariants=False
        )
        at_once = max(1, AT_ONCE // max(1, num_supports))
        parts = zip(features.split(at_once), logits.split(at_once))
        added = [torch.sparse.mm(by_class, self.similarity(*part).T).T for part in parts]
        return logits * self.prior + torch.cat(added) + self.bias

    def similarity(
        self, features: Float[Tensor, "N E"], logits: Float[Tensor, "N C"]
    ) -> Float[Tensor, "N U"]:
        """k of each row and each support."""
        near = rbf(features, self.supports, self.width)
        if self.answers.shape[1]:
            near *= rbf(answers_of(logits), self.answers, self.answer_width)
        return near

    def fit(self, settings: KernelSettings, pairs: RatedPairs) -> None:
        """Take these pairs as those to be near to; what was fitted before is forgotten."""
        fitted = _fit(settings, pairs, self._shape[1])
        for part in fields(fitted):
            setattr(self, part.name, getattr(fitted, part.name))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """How many segments were rated is told by the tensors themselves; without any it is not
        fitted. A file may be anybody's: what would index out of bounds is refused."""
        names = [part.name for part in fields(_Fitted)]
        found = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if "supports" in found and not found.keys() & WITHOUT_ANSWERS.keys():  # an older file
            found |= {name: make(found["supports"]) for name, make in WITHOUT_ANSWERS.items()}
        missing_keys += [prefix + name for name in names if found and name not in found]
        known = {prefix + name for name in names}
        unexpected_keys += [k for k in state_dict if k.startswith(prefix) and k not in known]
        if len(found) == len(names):
            wrong = _wrong(_Fitted(**found), *self._shape)
            error_msgs += [f"'{prefix}{name}' {why}" for name, why in wrong.items()]
            if wrong:
                return
        if len(found) in (0, len(names)):
            for name in names:
                setattr(self, name, found.get(name))


@dataclass(frozen=True)
class _Fitted:
    """The buffers of RatedKernel."""

    supports: Tensor
    answers: Tensor
    coefficient: Tensor
    pair_support: Tensor
    pair_class: Tensor
    prior: Tensor
    bias: Tensor
    width: Tensor
    answer_width: Tensor


WITHOUT_ANSWERS: dict[str, Callable[[Tensor], Tensor]] = {
    "answers": lambda supports: supports.new_empty(*supports.shape[:1], 0, dtype=torch.float32),
    "answer_width": lambda supports: supports.new_ones((), dtype=torch.float32),
}


def answers_of(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """q: the square roots of probabilities, so that what is hardly likely, and it is most of the
    classes, counts little."""
    return logits.float().sigmoid().sqrt()


def rbf(
    rows: Float[Tensor, "N E"], supports: Float[Tensor, "U E"], width: Float[Tensor, ""]
) -> Float[Tensor, "N U"]:
    """exp(-|x - s|^2 / width)"""
    return (-squared_distances(rows, supports) / width).exp_()


def squared_distances(
    rows: Float[Tensor, "N E"], others: Float[Tensor, "U E"]
) -> Float[Tensor, "N U"]:
    """|x - s|^2 by one product of matrices; rounding never makes it negative."""
    norms = rows.square().sum(1, keepdim=True), others.square().sum(1)
    return (norms[0] - 2 * rows @ others.T).add_(norms[1]).clamp_(min=0)


def _fit(settings: KernelSettings, pairs: RatedPairs, num_classes: int) -> _Fitted:
    features, share = pairs.features.float(), settings.answers
    answers = answers_of(pairs.logits if share else pairs.logits.new_empty(len(features), 0))
    width = settings.bandwidth * _median_distance(features) / (1 - share)
    apart = torch.maximum(_median_distance(answers), SAME_ANSWERS * answers.square().sum(1).mean())
    answer_width = settings.bandwidth * apart / (share or 1)
    kept = features, answers
    prior, bias = features.new_ones(num_classes), features.new_zeros(num_classes)
    coefficient = features.new_zeros(len(pairs.label))
    order = pairs.column.argsort(stable=True)
    for of_class in order.split(pairs.column.bincount(minlength=num_classes).tolist()):
        label = pairs.label[of_class]
        if not (label.any() and (label == 0).any()):
            continue
        column, segment = pairs.column[of_class[0]], pairs.segment[of_class]
        # In float32, rounding would give K negative eigenvalues.
        support, answer = (part[segment].double() for part in kept)
        kernel = rbf(support, support, width.double())
        kernel *= rbf(answer, answer, answer_width.double())
        offset = settings.prior * pairs.logits[segment, column].double()
        a, b = fit_class(kernel, offset, label.double(), settings.penalty)
        coefficient[of_class] = a.float()
        prior[column], bias[column] = settings.prior, b.float()
    is_used = coefficient != 0
    return _Fitted(
        supports=features,
        answers=answers,
        coefficient=coefficient[is_used],
        pair_support=pairs.segment[is_used],
        pair_class=pairs.column[is_used],
        prior=prior,
        bias=bias,
        width=width,
        answer_width=answer_width,
    )


def _median_distance(features: Float[Tensor, "U E"]) -> Float[Tensor, ""]:
    """The median |s_i - s_j|^2 of different features, of an even sample of them; 1 if all are
    equal."""
    stride = -(-len(features) // MOST_SAMPLED)
    # Not by a product of matrices, whose rounding tells equal features apart.
    distances = functional.pdist(features[::stride]).square()
    above = distances[distances > 0]
    return above.median() if len(above) else features.new_ones(())


def fit_class(
    kernel: Float[Tensor, "N N"],
    offset: Float[Tensor, " N"],
    label: Float[Tensor, " N"],
    penalty: float,
) -> tuple[Float[Tensor, " N"], Float[Tensor, ""]]:
    """(a, b) that minimise the loss of `class_loss`, by Newton's method with halved steps.

    A step is a weighted least-squares fit: (K + penalty W^-1) a + b = z, with the sum of a zero.
    Both kinds of label must be there, or b has no end.
    """
    a, b = torch.zeros_like(offset), offset.new_zeros(())
    loss = class_loss(kernel, offset, label, penalty, a, b)
    for _ in range(NEWTON_STEPS):
        step_a, step_b = _newton_step(kernel, offset, label, penalty, a, b)
        for halving in range(HALVINGS):
            share = 0.5**halving
            tried = a + share * step_a, b + share * step_b
            found = class_loss(kernel, offset, label, penalty, *tried)
            if found < loss:
                break
        else:
            break
        gained, loss = loss - found, found
        a, b = tried
        if gained < TOLERANCE * (1 + loss):
            break
    return a, b


def class_loss(
    kernel: Float[Tensor, "N N"],
    offset: Float[Tensor, " N"],
    label: Float[Tensor, " N"],
    penalty: float,
    a: Float[Tensor, " N"],
    b: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """sum_i BCE(y_i, o_i + (K a)_i + b) + penalty / 2 a^T K a"""
    near = kernel @ a
    bce = functional.binary_cross_entropy_with_logits(offset + near + b, label, reduction="sum")
    loss: Tensor = bce + penalty / 2 * (a @ near)
    return loss


def _newton_step(
    kernel: Tensor, offset: Tensor, label: Tensor, penalty: float, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    added = kernel @ a + b
    p = (offset + added).sigmoid()
    curvature = (p * (1 - p)).clamp_min(LEAST_CURVATURE)
    target = added + (label - p) / curvature
    ones = torch.ones_like(target)
    system = kernel + torch.diag(penalty / curvature)
    of_target, of_ones = torch.linalg.solve(system, torch.stack([target, ones], dim=1)).T
    new_b = of_target.sum() / of_ones.sum()
    return of_target - new_b * of_ones - a, new_b - b


def _wrong(fitted: _Fitted, feature_width: int, num_classes: int) -> dict[str, str]:
    """What of a checkpoint's tensors does not fit, by name."""
    num_supports, num_pairs = fitted.supports.shape[:1].numel(), fitted.coefficient.numel()
    # Answers count, or they do not.
    num_answers = num_classes if fitted.answers.shape[1:] != (0,) else 0
    shapes = {
        "supports": (num_supports, feature_width),
        "answers": (num_supports, num_answers),
        **dict.fromkeys(("coefficient", "pair_support", "pair_class"), (num_pairs,)),
        **dict.fromkeys(("prior", "bias"), (num_classes,)),
        "width": (),
        "answer_width": (),
    }
    below = {"pair_support": num_supports, "pair_class": num_classes}
    wrong = {}
    for name, shape in shapes.items():
        tensor, dtype = getattr(fitted, name), torch.int64 if name in below else torch.float32
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            wrong[name] = f"is {tensor.dtype} {list(tensor.shape)}, and not {dtype} {list(shape)}"
        elif name in below and ((tensor < 0) | (tensor >= below[name])).any():
            wrong[name] = f"has an index that is not from 0 to below {below[name]}"
        elif not tensor.isfinite().all():
            wrong[name] = "has a NaN or an infinity"
    for name in ("width", "answer_width"):
        if name not in wrong and not getattr(fitted, name) > 0:
            wrong[name] = "is not above 0"
    return wrong
