"""The models of our preset: names, seeds and flags that the command line takes."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import tyro

from whenabouts.commands.train import Train
from whenabouts.recipes import best
from whenabouts.recipes.published import (
    ENSEMBLES,
    WIDTHS,
    Scale,
    members,
    published_weights,
    video_members,
)
from whenabouts.recipes.table import recipe_named

SCALES: tuple[Scale, ...] = get_args(Scale)


@pytest.mark.parametrize("scale", SCALES)
def test_every_flag_is_one_of_its_recipe(scale):
    for member in best.members(scale):
        sized = scale if member.setting("--scale") else None
        default = Train(recipe_named(member.recipe, sized), tyro.MISSING, tyro.MISSING)
        words = ["index", "-o", "run", *member.settings, "--loop.seed", str(member.seed)]
        parsed = tyro.cli(Train, args=words, default=default, config=(tyro.conf.AvoidSubcommands,))
        assert parsed.recipe.loop.seed == member.seed
        if member.recipe != "s-logi":
            assert parsed.recipe.strategy.fine_tuning == member.setting("--strategy.fine-tuning")
            assert parsed.recipe.model.embedding.width == 2 * WIDTHS[scale]
            assert member.setting("--model.head.kind") in (None, parsed.recipe.model.head.kind)
            assert parsed.scale == scale


def test_one_learns_from_rated_segments_alone():
    [logistic] = [m for m in best.members("small") if m.recipe == "s-logi"]
    assert (logistic.name, logistic.settings) == ("best-logistic", ())


def test_no_two_models_differ_in_the_seed_alone():
    found = best.members("small")
    assert len({(m.recipe, m.settings) for m in found}) == len(found) > 1


@pytest.mark.parametrize("scale", SCALES)
def test_no_two_models_share_a_name_or_a_seed(scale):
    both = (*members(scale), *best.members(scale))
    repeats = [member.repeated(k) for k in (1, 2, 3) for member in both]
    assert len({m.name for m in repeats}) == len({m.seed for m in repeats}) == 3 * len(both)
    assert {m.name for m in best.members(scale)}.isdisjoint(m.name for m in video_members(scale))


def test_none_counts_in_a_published_ensemble():
    both = (*best.members("small"), *members("small"))
    for name in ENSEMBLES:
        assert published_weights(name, both) == published_weights(name, members("small"))


def test_a_small_scale_is_learned_in_few_steps():
    for tiny, small in zip(best.members("tiny"), best.members("small"), strict=True):
        assert int(tiny.setting("--loop.max-steps") or 10**6) <= 400
        assert small.setting("--loop.max-steps") is None
        if tiny.recipe == "s-logi":
            continue
        assert int(tiny.setting("--strategy.pretrain.max-steps") or 10**6) <= 250
        assert small.setting("--strategy.pretrain.max-steps") is None
        assert (tiny.setting("--scale"), small.setting("--scale")) == ("tiny", "small")


def test_it_is_made_without_torch():
    code = "import sys, whenabouts.recipes.best; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
