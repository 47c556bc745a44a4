"""All recipes on one screen: name -> function."""

from __future__ import annotations

from collections.abc import Callable

from whenabouts.core.errors import UsageError, suggest
from whenabouts.recipes.logistic import f_logi, s_logi
from whenabouts.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "s-logi": s_logi,
    "f-logi": f_logi,
}


def recipe_named(name: str) -> Recipe:
    if name not in RECIPES:
        raise UsageError(f"no recipe '{name}'", remedy=suggest(name, RECIPES))
    return RECIPES[name]()
