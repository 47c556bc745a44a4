"""S1: rated segments alone, the segment loss alone (YouTube-8M 2019, 11th place).

Pseudo-labelled segments may go beside them (`strategies/pseudo.py`).

Search: train on V1 and watch the mAP on V2 until the plateau. Final, if asked for: train anew on
V1 + V2 with the same settings and twice the iterations of the best step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from whenabouts.corpus.splits import Split
from whenabouts.feed.mixed import MixedBatch, MixedSegments
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedBatch, RatedSegments
from whenabouts.strategies.pseudo import Pseudo, PseudoLabels, all_seen, facts_of
from whenabouts.strategies.setup import (
    Negatives,
    Setup,
    build_seeded,
    segment_loss,
    watched_map,
)
from whenabouts.train.checkpoint import Position
from whenabouts.train.fit import Work
from whenabouts.train.settings import Loop, Optimiser


@dataclass(frozen=True)
class S1:
    """Settings of S1. negatives: unrated classes of rated segments as weak negatives. pseudo:
    pseudo-labels to learn from as well."""

    kind: Literal["s1"] = "s1"
    negatives: Negatives = field(default_factory=Negatives)
    pseudo: Pseudo = field(default_factory=Pseudo)


def train_s1(
    build: Callable[[], nn.Module],
    strategy: S1,
    optimiser: Optimiser,
    loop: Loop,
    setup: Setup,
    *,
    final: bool,
) -> Position:
    """Train; returns where the search ended. `build` makes the untrained model."""
    negatives, pseudo = strategy.negatives, setup.pseudo(strategy.pseudo)
    model = build_seeded(build, loop.seed, setup.team)
    watched = setup.watched(model)
    work = rated_work("v1", ("v1",), model, negatives, pseudo, loop, setup, watched)
    found = setup.fit(model, work, optimiser, loop)
    if final:
        longer = replace(loop, max_steps=2 * found.best_step)
        model = build_seeded(build, loop.seed, setup.team)
        both = rated_work("final", ("v1", "v2"), model, negatives, pseudo, longer, setup, None)
        setup.fit(model, both, optimiser, longer)
    return found


def rated_work(
    phase: str,
    splits: tuple[Split, ...],
    model: nn.Module,
    negatives: Negatives,
    pseudo: PseudoLabels | None,
    loop: Loop,
    setup: Setup,
    watched: RatedSegments | None,
) -> Work[RatedBatch | MixedBatch]:
    """Batches of the rated segments of `splits`, and of pseudo-labelled ones if there are any, with
    the segment loss; watches V2."""
    rated = setup.rated(splits, model, with_outside=negatives.outside > 0)
    batch, num_examples = _batches(rated, pseudo, model, loop, setup)
    classes, team = setup.corpus.classes, setup.team

    def loss(model: nn.Module, batch: RatedBatch | MixedBatch) -> Tensor:
        return segment_loss(model, batch, negatives)

    def evaluate(model: nn.Module) -> float:
        assert watched is not None
        return watched_map(model, watched, classes, team)

    return Work(
        phase=phase,
        batch=batch,
        loss=loss,
        evaluate=evaluate if watched is not None else None,
        num_examples=num_examples,
        trained_on=all_seen(splits, pseudo),
        facts=facts_of(pseudo),
    )


def _batches(
    rated: RatedSegments, pseudo: PseudoLabels | None, model: nn.Module, loop: Loop, setup: Setup
) -> tuple[Callable[[int], RatedBatch | MixedBatch], int]:
    """Step -> this process's share of a batch, and how many examples an epoch has.

    What the rated segments leave of the budget for resident ones is for the pseudo-labelled.
    """
    team = setup.team
    if pseudo is None:
        order = ShuffledOrder(len(rated), loop.batch_size, loop.seed)

        def batch(step: int) -> RatedBatch:
            whole = order.batch(step)
            return rated.batch(team.share(whole), num_segments=len(whole))

        return batch, len(rated)
    labels = pseudo.beside(rated.labels, setup.corpus)
    others = setup.segments(labels, model, max(0, setup.resident_bytes - rated.bytes))
    mixed = MixedSegments(rated, others, loop.batch_size, pseudo.share, loop.seed)
    return lambda step: mixed.batch(step, team.rank, team.size), mixed.num_examples
