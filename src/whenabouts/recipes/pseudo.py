"""The models of the paper that learn from pseudo-labels (11th place, YouTube-8M 2019).

Both are NL fine-tuned on rated and pseudo-labelled segments; they differ in who made the labels.
Others of the paper's six and two are variants: another seed, width or head of these, or `se` and
`att2` with `--strategy.pseudo.labels`.
"""

from __future__ import annotations

from dataclasses import replace

from whenabouts.models.hierarchical import Scale
from whenabouts.recipes.attention import nl
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.s2 import S2


def cluster(scale: Scale = "paper") -> Recipe:
    """Cluster: NL with the votes of clustered frames as pseudo-labels; S2 (paper: 0.786).

    whenabouts train cluster INDEX -o RUN --scale small --strategy.pseudo.labels LABELS

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _with_pseudo(scale)


def student(scale: Scale = "paper") -> Recipe:
    """Student: NL (paper, alone: 0.789) with a teacher's cleaned scores as pseudo-labels; S2.

    whenabouts train student INDEX -o RUN --scale small --strategy.pseudo.labels LABELS

    Costs minutes (small) to hours (paper) on two cores.
    """
    return _with_pseudo(scale)


def _with_pseudo(scale: Scale) -> Recipe:
    recipe = nl(scale)
    assert isinstance(recipe.strategy, S2)
    return replace(recipe, strategy=replace(recipe.strategy, pseudo=Pseudo(needed=True)))
