"""The 20 models and the five ensembles, against the table of the paper."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import get_args

import pytest
import tyro

from whenabouts.commands.train import Train
from whenabouts.core.errors import StageError
from whenabouts.models import hierarchical
from whenabouts.recipes.published import (
    ENSEMBLES,
    GROUPS,
    NAMES,
    PAPER_MAP,
    WIDTHS,
    Scale,
    members,
    published_weights,
    video_members,
    weights_of_present,
)
from whenabouts.recipes.table import RECIPES, recipe_named

SCALES: tuple[Scale, ...] = get_args(Scale)
COUNTS = {"nl": 2, "se": 2, "att2": 2, "fcfc": 1, "loss2": 1, "f-logi": 3, "s-logi": 1,
          "cluster": 6, "student": 2}  # fmt: skip
# The table as printed: rows of groups, columns E1..E5.
TABLE = """
NL 0.09 0.06 0.11 0.08 0.05
SE 0.09 0.06 0.11 0.08 0.05
Att2 0.09 0.06 0.11 0.08 0.05
FCFC 0.08 0.05 0.10 0.07 0.04
Loss2 0.05 0.03 0.05 0.04 0.02
F-Logi 0.09 0.14 0.05 0.08 0.12
S-Logi 0.06 0.14 0.04 0.05 0.12
Cluster 0 0 0 0.12 0.16
public 0.7957 0.7868 0.7874 0.7941 0.7932
private 0.7864 0.7774 0.7778 0.7846 0.7831
"""
ROWS = {line.split()[0]: tuple(map(float, line.split()[1:])) for line in TABLE.split("\n") if line}


@pytest.mark.parametrize("scale", SCALES)
def test_there_are_20_models_of_9_groups(scale):
    found = members(scale)
    assert len(found) == len({m.name for m in found}) == len({m.seed for m in found}) == 20
    assert Counter(m.group for m in found) == COUNTS
    assert all(m.recipe in RECIPES for m in (*found, *video_members(scale)))


def test_weights_are_those_of_the_table():
    for column, (name, ensemble) in enumerate(ENSEMBLES.items()):
        assert name == f"E{column + 1}"
        assert (ensemble.public, ensemble.private) == (
            ROWS["public"][column], ROWS["private"][column],
        )  # fmt: skip
        for group in GROUPS:
            row = ROWS.get(NAMES[group], (0.0,) * 5)
            assert ensemble.weights.get(group, 0.0) == row[column]


@pytest.mark.parametrize("name", ENSEMBLES)
def test_each_column_sums_to_one_with_cluster_as_the_total_of_six(name):
    weights, all_members = ENSEMBLES[name].weights, members("small")
    by_hand = sum(
        weights.get(group, 0.0) * (1 if group == "cluster" else count)
        for group, count in COUNTS.items()
    )
    assert by_hand == pytest.approx(1.00, abs=1e-12)
    found = published_weights(name, all_members)
    assert sum(found.values()) == pytest.approx(1.00, abs=1e-12)
    clusters = [weight for member, weight in found.items() if member.startswith("cluster")]
    assert sum(clusters) == pytest.approx(weights["cluster"], abs=1e-12)
    assert len(clusters) == (6 if weights["cluster"] else 0)
    assert len(set(clusters)) <= 1
    assert not any(member.startswith("student") for member in found)
    assert found["f-logi-2"] == weights["f-logi"]


def test_missing_members_raise_the_others_in_proportion():
    weights = {"a": 0.2, "b": 0.3, "c": 0.5}
    assert weights_of_present(weights, ["a", "b", "x"]) == {"a": 0.4, "b": 0.6}
    assert weights_of_present(weights, {"a", "b", "c"}) == pytest.approx(weights)
    with pytest.raises(StageError, match="none of the members"):
        weights_of_present(weights, ["x"])


@pytest.mark.parametrize("scale", SCALES)
def test_two_of_a_kind_differ_in_seed_width_and_head(scale):
    found = {m.name: m for m in members(scale)}
    for first in ("nl-1", "se-1", "att2-1", "student-1", "cluster-nl-1", "cluster-se-1"):
        second = found[first[:-1] + "2"]
        more = second.settings[len(found[first].settings) :]
        assert second.seed != found[first].seed
        assert more == (
            "--model.embedding.width", str(2 * WIDTHS[scale]), "--model.head.kind", "moe",
        )  # fmt: skip


def test_three_f_logi_differ_in_seed_and_rate():
    three = [m for m in members("small") if m.group == "f-logi"]
    rates = [m.settings[m.settings.index("--optimiser.learning-rate") + 1] for m in three]
    assert len(set(rates)) == len({m.seed for m in three}) == 3


def test_widths_and_sizes_are_those_of_the_models():
    assert SCALES == hierarchical.SCALES
    assert {s: w for s, (w, _) in hierarchical.WIDTH_AND_HIDDEN.items()} == WIDTHS


def test_who_makes_the_pseudo_labels():
    sources = {m.group: m.labels for m in members("tiny") if m.labels}
    assert sources == {"cluster": "cluster", "student": "teacher"}


def test_repeats_share_no_seed_and_no_name():
    repeats = [m.repeated(k) for k in (1, 2, 3) for m in members("small")]
    assert members("small")[0].repeated(1) == members("small")[0]
    assert len({m.seed for m in repeats}) == len({m.name for m in repeats}) == 60
    assert members("small")[4].repeated(2).name == "nl-1.r2"


def test_the_paper_names_every_group_but_the_students():
    assert set(PAPER_MAP) == set(GROUPS) - {"student"}
    assert set(NAMES) == set(GROUPS)


@pytest.mark.parametrize("scale", SCALES)
def test_every_flag_is_one_of_its_recipe(scale):
    """Parsed as the command line does: a recipe's flags depend on its scale."""
    for member in (*members(scale), *video_members(scale)):
        is_sized = "--scale" in member.settings
        recipe = recipe_named(member.recipe, scale if is_sized else None)  # type: ignore[arg-type]
        default = Train(recipe, tyro.MISSING, tyro.MISSING)
        words = ["index", "-o", "run", *member.settings, "--loop.seed", str(member.seed)]
        parsed = tyro.cli(Train, args=words, default=default, config=(tyro.conf.AvoidSubcommands,))
        assert parsed.recipe.loop.seed == member.seed
        if is_sized:
            assert parsed.scale == scale


def test_it_is_made_without_torch():
    code = "import sys, whenabouts.recipes.published; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
