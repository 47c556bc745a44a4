"""S3: both losses at once on train + V1 (11th place, 2019).

All frames serve the video loss, rated segments alone the segment loss; the mAP on V2 is watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from whenabouts.corpus.splits import Split
from whenabouts.feed.videos import Drawing
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.setup import Negatives, Setup, build_seeded, watched_map
from whenabouts.strategies.videos import Terms, video_work
from whenabouts.train.checkpoint import Position
from whenabouts.train.settings import Loop, Optimiser, refuse_below


@dataclass(frozen=True)
class S3:
    """Settings of S3.

    negatives: unrated classes as weak negatives. pseudo: pseudo-labels that carry a segment loss as
    well; its share does not count here.
    """

    kind: Literal["s3"] = "s3"
    segment_weight: float = 1.0
    """Of the segment loss beside the video loss."""
    max_segments: int = 0
    """Of a video drawn anew for each batch, rated ones first; 0 takes all."""
    sparsity: float = 0.0
    """Weight of the sum of a video's attention, an L1 term (STPN: 1e-4)."""
    negatives: Negatives = field(default_factory=Negatives)
    pseudo: Pseudo = field(default_factory=Pseudo)

    def __post_init__(self) -> None:
        for name in ("segment_weight", "max_segments", "sparsity"):
            refuse_below(name, getattr(self, name), 0)


def train_s3(
    build: Callable[[], nn.Module],
    strategy: S3,
    optimiser: Optimiser,
    loop: Loop,
    setup: Setup,
    *,
    final: bool,
) -> Position:
    """Train; returns where the search on V2 ended. `build` makes the untrained model."""
    model = build_seeded(build, loop.seed, setup.team)
    watched = setup.watched(model)

    pseudo = setup.pseudo(strategy.pseudo)
    terms = Terms(strategy.segment_weight, strategy.sparsity, strategy.negatives, pseudo)

    def evaluate(model: nn.Module) -> float:
        return watched_map(model, watched, setup.corpus.classes, setup.team)

    def run(
        model: nn.Module, phase: str, rated: tuple[Split, ...], loop: Loop, *, watch: bool
    ) -> Position:
        work = video_work(
            phase, ("train", *rated), rated, terms, Drawing(strategy.max_segments),
            loop, setup, evaluate if watch else None,
        )  # fmt: skip
        return setup.fit(model, work, optimiser, loop)

    found = run(model, "v1", ("v1",), loop, watch=True)
    if final:
        longer = replace(loop, max_steps=2 * found.best_step)
        model = build_seeded(build, loop.seed, setup.team)
        run(model, "final", ("v1", "v2"), longer, watch=False)
    return found
