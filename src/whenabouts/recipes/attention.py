"""The hierarchical attention models of the paper (11th place, 3rd YouTube-8M challenge, 2019).

One dial sets their size: `--scale tiny|small|paper`.
"""

from __future__ import annotations

from dataclasses import replace

from whenabouts.models.hierarchical import (
    FCFC,
    NL,
    SE,
    Att2,
    HierarchicalSettings,
    Loss2,
    Scale,
    scaled,
)
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.s2 import S2
from whenabouts.strategies.s3 import S3
from whenabouts.train.settings import Loop, Optimiser


def _two_steps(model: HierarchicalSettings, scale: Scale) -> Recipe:
    """S2: the rates and batch sizes of the paper's deep models."""
    return Recipe(
        model=scaled(model, scale),
        strategy=S2(),
        optimiser=Optimiser(name="adamw", learning_rate=2e-5, clip_norm=1.0),
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
    return replace(
        _two_steps(Loss2(), scale),
        strategy=S3(),
        optimiser=Optimiser(name="adamw", learning_rate=2e-4, clip_norm=1.0),
        loop=Loop(batch_size=128, evaluate_every=50),
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
