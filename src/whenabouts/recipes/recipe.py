"""A recipe: everything that decides what a training does, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from whenabouts.models.table import ModelSettings
from whenabouts.models.video_table import VideoSettings
from whenabouts.strategies.table import Strategy
from whenabouts.train.settings import Loop, Optimiser


@dataclass(frozen=True)
class Recipe:
    """model: family and sizes; strategy: what is trained on what; optimiser, loop: how."""

    model: ModelSettings | VideoSettings
    strategy: Strategy
    optimiser: Optimiser
    loop: Loop
