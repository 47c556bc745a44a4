"""All recipes on one screen: name -> function."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from whenabouts.core.errors import UsageError, suggest
from whenabouts.models.hierarchical import Scale
from whenabouts.recipes.attention import att2, fcfc, loss2, lse, nl, se
from whenabouts.recipes.logistic import f_logi, s_logi
from whenabouts.recipes.pseudo import cluster, student
from whenabouts.recipes.recipe import Recipe
from whenabouts.recipes.video import (
    bigru,
    bilstm,
    dbof,
    mil,
    mix_nextvlad,
    netfv,
    netvlad,
    nextvlad,
    video_logistic,
    video_mlp,
    video_moe,
)

RECIPES: dict[str, Callable[..., Recipe]] = {
    "s-logi": s_logi,
    "f-logi": f_logi,
    "att2": att2,
    "loss2": loss2,
    "nl": nl,
    "se": se,
    "fcfc": fcfc,
    "lse": lse,
    "cluster": cluster,
    "student": student,
    "video-logistic": video_logistic,
    "video-moe": video_moe,
    "video-mlp": video_mlp,
    "mil": mil,
    "netvlad": netvlad,
    "netfv": netfv,
    "dbof": dbof,
    "bilstm": bilstm,
    "bigru": bigru,
    "nextvlad": nextvlad,
    "mix-nextvlad": mix_nextvlad,
}


def recipe_named(name: str, scale: Scale | None = None) -> Recipe:
    """The recipe, at its own size or at `scale`. Raises UsageError if there is none of that name,
    or if it has no sizes."""
    if name not in RECIPES:
        raise UsageError(f"no recipe '{name}'", remedy=suggest(name, RECIPES))
    if scale is None:
        return RECIPES[name]()
    if "scale" not in inspect.signature(RECIPES[name]).parameters:
        raise UsageError(f"'{name}' has no sizes", remedy="leave --scale out")
    return RECIPES[name](scale)
