"""S1: rated segments alone, the segment loss alone (YouTube-8M 2019, 11th place).

Search: train on V1 and watch the mAP on V2 until the plateau. Final, if asked for: train anew on
V1 + V2 with the same settings and twice the iterations of the best step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import Split
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RESIDENT_BYTES, RatedBatch, RatedSegments
from whenabouts.losses import rated_bce, rated_bce_with_unrated
from whenabouts.metrics.segment_map import evaluate_pairs
from whenabouts.train.checkpoint import Position
from whenabouts.train.distributed import Team
from whenabouts.train.fit import Work, fit
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser

WATCH_BATCH = 4096


@dataclass(frozen=True)
class S1:
    """Settings of S1. unrated_weight: of unrated classes of rated segments as negatives."""

    kind: Literal["s1"] = "s1"
    unrated_weight: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What training works with and on: the corpus, this process, where files go."""

    corpus: Corpus
    run: Path
    log: MetricsLog
    team: Team
    resident_bytes: int = RESIDENT_BYTES

    def rated(self, splits: Sequence[Split]) -> RatedSegments:
        corpus = self.corpus
        labels = corpus.rated(corpus.rows(splits))
        return RatedSegments(corpus, labels, corpus.classes, self.team.device, self.resident_bytes)


def train_s1(
    build: Callable[[], nn.Module],
    strategy: S1,
    optimiser: Optimiser,
    loop: Loop,
    bench: Bench,
    *,
    final: bool,
) -> Position:
    """Train; returns where the search ended. `build` makes the untrained model."""
    watched = bench.rated(["v2"])
    work = _work("v1", ("v1",), strategy, loop, bench, watched)
    found = _fit(build, work, optimiser, loop, bench)
    if final:
        longer = replace(loop, max_steps=2 * found.best_step)
        both = _work("final", ("v1", "v2"), strategy, longer, bench, None)
        _fit(build, both, optimiser, longer, bench)
    return found


def _fit(
    build: Callable[[], nn.Module],
    work: Work[RatedBatch],
    optimiser: Optimiser,
    loop: Loop,
    bench: Bench,
) -> Position:
    torch.manual_seed(loop.seed)
    model = build().to(bench.team.device)
    return fit(model, work, optimiser, loop, bench.run, bench.log, bench.team)


def _work(
    phase: str,
    splits: tuple[Split, ...],
    strategy: S1,
    loop: Loop,
    bench: Bench,
    watched: RatedSegments | None,
) -> Work[RatedBatch]:
    segments = bench.rated(splits)
    order = ShuffledOrder(len(segments), loop.batch_size, loop.seed)
    classes, team = bench.corpus.classes, bench.team

    def batch(step: int) -> RatedBatch:
        whole = order.batch(step)
        return segments.batch(team.share(whole), num_segments=len(whole))

    def loss(model: nn.Module, batch: RatedBatch) -> Tensor:
        return segment_loss(model, batch, strategy.unrated_weight)

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


def segment_loss(model: nn.Module, batch: RatedBatch, unrated_weight: float) -> Tensor:
    if unrated_weight:
        return rated_bce_with_unrated(
            batch.pair_label,
            batch.pair_weight,
            model(batch.features, batch.mask),
            batch.pair_segment,
            batch.pair_class,
            unrated_weight,
            batch.num_segments,
        )
    logits = pair_logits(model, batch)
    return rated_bce(batch.pair_label, batch.pair_weight, logits, batch.num_segments)


def pair_logits(model: nn.Module, batch: RatedBatch) -> Tensor:
    logits: Tensor = model.pair_logits(  # type: ignore[operator]
        batch.features, batch.mask, batch.pair_segment, batch.pair_class
    )
    return logits


def watched_map(model: nn.Module, watched: RatedSegments, classes: ClassOrder, team: Team) -> float:
    """mAP over the rated pairs of the watched split; each process scores its part."""
    scores = torch.zeros(len(watched.labels), device=team.device)
    block = team.block(len(watched))
    for first in range(block.start, block.stop, WATCH_BATCH):
        segments = np.arange(first, min(first + WATCH_BATCH, block.stop))
        pairs = watched.pairs_of(int(segments[0]), int(segments[-1]) + 1)
        scores[pairs] = pair_logits(model, watched.batch(segments))
    values = team.sum(scores).cpu().numpy()
    return evaluate_pairs(watched.labels, values, classes).mean_ap
