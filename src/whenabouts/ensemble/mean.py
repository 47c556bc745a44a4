"""The weighted mean of the Scores of K members, pair by pair; weights w_k sum to 1.

    mean        p = sum_k w_k p_k                                as published
    geometric   logit p = sum_k w_k logit p_k,                   logit p = log(p / (1 - p))
                the geometric mean of the odds: p = G / (G + G'), G = prod_k p_k^w_k,
                G' = prod_k (1 - p_k)^w_k
    rank        p = sum_k w_k rank_k                             see `ensemble.ranks`

The geometric mean is taken of the odds, not of the probabilities, so that it treats a class and its
absence alike, and so that one member's 0 is no veto. A stored 0 or 1 is what rounding made of
something smaller or larger: it counts as a quarter of the smallest score above 0, or a quarter of a
step below 1, of the member's type.

Sums are in float64, in the order of the members' paths whatever order they are given in, and are
rounded once. Of a single member, `mean` and `geometric` are its scores, bit for bit. The mean of
ranks says how segments stand in a class, and nothing of one class beside another: it suits mAP, not
GAP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.half_floats import are_shares, weighted
from whenabouts.core.ranking import BUDGET_BYTES, let_go
from whenabouts.core.scores import ScoresWriter, new_scores
from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.members import Finish, Member, by_path, shares
from whenabouts.ensemble.ranks import ranks_at, write_mean_ranks

Kind = Literal["mean", "geometric", "rank"]
STRIP_SCORES = 1 << 17  # so that the sums of a strip of rows stay in the cache


@dataclass(frozen=True)
class EnsembleSettings:
    """weights: one a member, divided by their sum; none given: equal ones. dtype: what is written;
    "members": the widest of their types."""

    kind: Kind = "mean"
    weights: tuple[float, ...] = ()
    dtype: Literal["float32", "float16", "members"] = "float32"


def average(
    members: Sequence[Member],
    out: Path,
    settings: EnsembleSettings,
    *,
    made_by: dict[str, Any] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    on_rows: Callable[[float], object] | None = None,
) -> None:
    """Write the mean of the members (see `match_members`) to `out`, in the order of the first.

    made_by: more facts to keep. on_rows(n) is called now and then, with rows' worth of work done.
    Memory does not grow with members, nor with rows but for their table. The folder appears when it
    is whole; an attempt that fails leaves nothing. Raises SettingsError for weights that mean
    nothing; ScoresError where a score is not in [0, 1] (for ranks: is NaN).
    """
    weights = shares(settings.weights, len(members))
    first, pairs = members[0].scores, by_path(members, weights)
    with new_scores(out, first.segments, first.classes, _dtype(settings, members)) as writer:
        if settings.kind == "rank":
            write_mean_ranks(pairs, writer, on_rows, budget_bytes)
        else:
            write_means(settings.kind, pairs, writer, on_rows, budget_bytes)
        writer.commit(_made_by(members, weights, settings.kind) | (made_by or {}))


def entered(kind: Kind, member: Member, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores of a member as what is added: themselves, or their logits.

    Raises ScoresError unless they are in [0, 1].
    """
    values = scores.astype(np.float64)
    member.refuse_out_of_range(values)
    if kind == "mean":
        return values
    steps = np.finfo(scores.dtype)
    np.clip(values, float(steps.smallest_subnormal) / 4, 1 - float(steps.epsneg) / 4, out=values)
    logits: NDArray[np.float64] = np.log(values)
    logits -= np.log1p(-values)
    return logits


def left(kind: Kind, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores that weighted sums of what was `entered` stand for."""
    return 1 / (1 + np.exp(-sums)) if kind == "geometric" else sums


def entered_at(
    kind: Kind, member: Member, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What the member adds at pairs [P] of rows and columns of the first member."""
    if kind == "rank":
        return ranks_at(member, row, column)
    return entered(kind, member, member.at(row, column))


def write_means(
    kind: Kind,
    pairs: Sequence[tuple[Member, float]],
    writer: ScoresWriter,
    on_rows: Callable[[float], object] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    finish: Finish | None = None,
) -> None:
    """Write the mean, by probabilities or odds, of members and their shares to all rows.

    finish(rows, scores) -> what is written of these rows of the first member; it is called in
    several threads.
    """
    # Also the geometric mean of one is that one, and a 0 in it stays 0.
    kind = kind if len(pairs) > 1 else "mean"
    dtype = writer.dtype

    def mean_of(rows: slice) -> NDArray[np.floating]:
        scores = left(kind, _sums(kind, pairs, rows)).astype(dtype)
        return scores if finish is None else finish(rows, scores)

    for first, stop in _chunks(writer, budget_bytes // len(pairs)):
        for member, _ in pairs:
            member.read_ahead(slice(stop, min(2 * stop - first, len(writer.segments))))
        strips = list(_strips(first, stop, len(writer.classes)))
        for strip, scores in zip(strips, map_in_order(mean_of, strips)):
            writer.write(strip.start, scores)
        for member, _ in pairs:
            let_go(member.scores.values)
        if on_rows is not None:
            on_rows(stop - first)


def _sums(kind: Kind, pairs: Sequence[tuple[Member, float]], rows: slice) -> NDArray[np.float64]:
    sums: NDArray[np.float64] | None = None
    scratch: NDArray[np.float64] | None = None
    for member, weight in pairs:
        added = _added(kind, member, weight, member.rows(rows), scratch)
        if sums is None:
            sums = added
        else:
            sums += added
            scratch = added
    assert sums is not None, "a member has a weight above 0"
    return sums


def _added(
    kind: Kind,
    member: Member,
    weight: float,
    scores: NDArray[np.floating],
    scratch: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """What is `entered` of the scores, times the weight; in `scratch`, if that is of use."""
    if kind == "mean" and scores.dtype == np.float16 and are_shares(scores):
        return weighted(scores, weight, scratch)
    added = entered(kind, member, scores)
    added *= weight
    return added


def _chunks(writer: ScoresWriter, chunk_bytes: int) -> Iterator[tuple[int, int]]:
    """Rows between two times that the files' pages are let go: that takes longer for larger files,
    and so is done seldom."""
    num_rows, row_bytes = len(writer.segments), 4 * max(1, len(writer.classes))
    step = max(1, chunk_bytes // row_bytes)
    for first in range(0, num_rows, step):
        yield first, min(first + step, num_rows)


def _strips(first: int, stop: int, num_columns: int) -> Iterator[slice]:
    step = max(1, STRIP_SCORES // max(1, num_columns))
    for start in range(first, stop, step):
        yield slice(start, min(start + step, stop))


def _dtype(settings: EnsembleSettings, members: Sequence[Member]) -> str:
    if settings.dtype == "members":
        return str(np.result_type(*(member.scores.values.dtype for member in members)))
    return settings.dtype


def _made_by(members: Sequence[Member], weights: Sequence[float], kind: Kind) -> dict[str, Any]:
    """Where the scores come from; trained on is what any of the members was trained on."""
    sources = [member.scores for member in members]
    trained_on = {split for s in sources for split in s.made_by.get("trained_on", ())}
    return {
        "ensemble": {"kind": kind},
        "members": [
            {"scores": str(s.path), "weight": weight, **s.made_by}
            for s, weight in zip(sources, weights)
        ],
        "trained_on": sorted(trained_on),
    }
