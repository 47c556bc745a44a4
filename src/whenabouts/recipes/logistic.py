"""The logistic models of the paper (11th place, 3rd YouTube-8M challenge, 2019)."""

from __future__ import annotations

from dataclasses import replace

from whenabouts.models.logistic import FLogi, SLogi
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.s1 import S1
from whenabouts.train.settings import Loop, Optimiser

# The published models have next to none (1e-8, for millions of videos). With some thousand rated
# segments a linear layer learns the noise of its features (notes/LOG.md).
L2 = 2e-4


def s_logi() -> Recipe:
    """S-Logi: mean of the frames, linear, sigmoid; rated segments alone (paper: mAP 0.789).

    Costs seconds to minutes on two cores. whenabouts train s-logi INDEX -o RUN
    """
    return Recipe(model=SLogi(), strategy=S1(), optimiser=Optimiser(weight_decay=L2), loop=Loop())


def f_logi() -> Recipe:
    """F-Logi: linear and sigmoid on each frame, mean score; rated segments alone (paper: 0.791).

    Costs seconds to minutes on two cores. whenabouts train f-logi INDEX -o RUN
    """
    return replace(s_logi(), model=FLogi())
