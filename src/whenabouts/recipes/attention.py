"""The hierarchical attention models of the paper (11th place, 3rd YouTube-8M challenge, 2019).

One dial sets their size: `--scale tiny|small|paper`. `paper` has the published rates, for a corpus
of the size of YouTube-8M; the smaller sizes have those that were best on V2 of corpora of some
thousand videos (notes/LOG.md), and pre-train on a few segments of each video, drawn anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from whenabouts.models.hierarchical import (
    FCFC,
    LSE,
    NL,
    SE,
    Att2,
    HierarchicalSettings,
    Loss2,
    Scale,
    SegmentWindows,
    scaled,
)
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.s2 import S2, Pretrain
from whenabouts.strategies.s3 import S3
from whenabouts.train.settings import Loop, Optimiser


@dataclass(frozen=True)
class Pace:
    """What goes with a scale. rate, fine_rate: learning rates of pre-training and fine-tuning."""

    rate: float
    fine_rate: float
    evaluate_every: int
    max_segments: int

    @property
    def optimiser(self) -> Optimiser:
        return Optimiser(name="adamw", learning_rate=self.rate, clip_norm=1.0)


FEW_VIDEOS = Pace(rate=1e-3, fine_rate=2e-4, evaluate_every=25, max_segments=8)
WITHOUT_NORM = replace(FEW_VIDEOS, rate=5e-3)  # FCFC has no batch norm, and learns more slowly
PACES: dict[Scale, Pace] = {
    "tiny": FEW_VIDEOS,
    "small": FEW_VIDEOS,
    "paper": Pace(rate=2e-4, fine_rate=2e-5, evaluate_every=50, max_segments=0),
}


def _two_steps(model: HierarchicalSettings, scale: Scale) -> Recipe:
    """S2: video labels first, then rated segments at a lower rate."""
    pace = PACES[scale]
    if isinstance(model, FCFC) and scale != "paper":
        pace = WITHOUT_NORM
    pretrain = Pretrain(
        optimiser=pace.optimiser,
        evaluate_every=pace.evaluate_every,
        max_segments=pace.max_segments,
    )
    return Recipe(
        model=scaled(model, scale),
        strategy=S2(pretrain=pretrain),
        optimiser=replace(pace.optimiser, learning_rate=pace.fine_rate),
        loop=Loop(batch_size=128),
    )


def att2(scale: Scale = "paper") -> Recipe:
    """Att2: attention over frames, then over segments; S2 (paper: mAP 0.788).

    whenabouts train att2 INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _two_steps(Att2(), scale)


def loss2(scale: Scale = "paper") -> Recipe:
    """Loss2: the network of Att2 with both losses at once, S3 (paper: 0.778).

    whenabouts train loss2 INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    pace = PACES[scale]
    return replace(
        _two_steps(Loss2(), scale),
        strategy=S3(max_segments=pace.max_segments),
        optimiser=pace.optimiser,
        loop=Loop(batch_size=128, evaluate_every=pace.evaluate_every),
    )


def nl(scale: Scale = "paper") -> Recipe:
    """NL: Att2 with a non-local block over time; S2 (paper: 0.789).

    whenabouts train nl INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _two_steps(NL(), scale)


def se(scale: Scale = "paper") -> Recipe:
    """SE: Att2 with temporal squeeze-and-excitation; S2 (paper: 0.788).

    whenabouts train se INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _two_steps(SE(), scale)


def fcfc(scale: Scale = "paper") -> Recipe:
    """FCFC: two fully connected layers a segment, then as NL; S2 (paper: 0.784).

    whenabouts train fcfc INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _two_steps(FCFC(), scale)


def lse(scale: Scale = "paper") -> Recipe:
    """LSE: scores of segments are pooled, not features; then similarity to rated segments (ours).

    whenabouts train lse INDEX -o RUN --scale small

    Costs minutes (small) to hours (paper) on two cores.
    """
    recipe, pace = _two_steps(LSE(windows=SegmentWindows(frames=2)), scale), PACES[scale]
    assert isinstance(recipe.strategy, S2)
    # A label is true of few segments: more of a video are drawn, for the same cost of fewer videos.
    drawn = 20 if pace.max_segments else 0
    pretrain = replace(recipe.strategy.pretrain, batch_size=64, max_segments=drawn, shift=2)
    return replace(recipe, strategy=S2(pretrain=pretrain, fine_tuning="kernel"))
