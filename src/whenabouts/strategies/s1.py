"""S1: rated segments alone, the segment loss alone (YouTube-8M 2019, 11th place).

Search: train on V1 and watch the mAP on V2 until the plateau. Final, if asked for: train anew on
V1 + V2 with the same settings and twice the iterations of the best step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from whenabouts.corpus.splits import Split
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedBatch, RatedSegments
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
    """Settings of S1. negatives: unrated classes of rated segments as weak negatives."""

    kind: Literal["s1"] = "s1"
    negatives: Negatives = field(default_factory=Negatives)


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
    negatives = strategy.negatives
    model = build_seeded(build, loop.seed, setup.team)
    watched = setup.watched(model)
    work = rated_work("v1", ("v1",), model, negatives, loop, setup, watched)
    found = setup.fit(model, work, optimiser, loop)
    if final:
        longer = replace(loop, max_steps=2 * found.best_step)
        model = build_seeded(build, loop.seed, setup.team)
        both = rated_work("final", ("v1", "v2"), model, negatives, longer, setup, None)
        setup.fit(model, both, optimiser, longer)
    return found


def rated_work(
    phase: str,
    splits: tuple[Split, ...],
    model: nn.Module,
    negatives: Negatives,
    loop: Loop,
    setup: Setup,
    watched: RatedSegments | None,
) -> Work[RatedBatch]:
    """Batches of the rated segments of `splits` with the segment loss; watches V2."""
    segments = setup.rated(splits, model, with_outside=negatives.outside > 0)
    order = ShuffledOrder(len(segments), loop.batch_size, loop.seed)
    classes, team = setup.corpus.classes, setup.team

    def batch(step: int) -> RatedBatch:
        whole = order.batch(step)
        return segments.batch(team.share(whole), num_segments=len(whole))

    def loss(model: nn.Module, batch: RatedBatch) -> Tensor:
        return segment_loss(model, batch, negatives)

    def evaluate(model: nn.Module) -> float:
        assert watched is not None
        return watched_map(model, watched, classes, team)

    return Work(
        phase=phase,
        batch=batch,
        loss=loss,
        evaluate=evaluate if watched is not None else None,
        num_examples=len(segments),
        trained_on=splits,
    )
