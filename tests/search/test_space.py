"""What is searched: words and files into intervals and choices, refusals with suggestions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whenabouts.core.errors import UsageError
from whenabouts.core.settings import leaves
from whenabouts.recipes.table import RECIPES, recipe_named
from whenabouts.search.space import (
    DEFAULTS,
    OF_KERNEL,
    Choice,
    Interval,
    Span,
    apply,
    default_space,
    described,
    parse_space,
    refuse_unfit,
)

ATT2 = recipe_named("att2", "small")


@pytest.mark.parametrize(
    ("word", "name", "span"),
    [
        ("strategy.negatives.outside=0:0.5", "strategy.negatives.outside", Interval(0, 0.5)),
        ("optimiser.learning-rate=1e-4:1e-2:log", "optimiser.learning_rate",
         Interval(1e-4, 1e-2, log=True)),
        ("loop.average-half-life=0:500", "loop.average_half_life", Interval(0, 500)),
        ("model.embedding.width=256,512", "model.embedding.width", Choice((256, 512))),
        ("optimiser.name=adam,adamw", "optimiser.name", Choice(("adam", "adamw"))),
        ("loop.compile=true,false", "loop.compile", Choice((True, False))),
        ("model.embedding.dropout=0.5", "model.embedding.dropout", Choice((0.5,))),
    ],
)  # fmt: skip
def test_a_word(word: str, name: str, span: Span) -> None:
    assert parse_space([word], ATT2) == {name: span}


def test_a_file_and_words_after_it(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text(json.dumps({
        "optimiser.learning-rate": "1e-4:1e-2:log",
        "strategy.negatives.outside": {"low": 0, "high": 0.5},
        "model.embedding.width": [64, 128],
        "loop.patience": [5, 10],
    }))  # fmt: skip
    space = parse_space([str(file), "loop.patience=7:9"], ATT2)
    assert space == {
        "optimiser.learning_rate": Interval(1e-4, 1e-2, log=True),
        "strategy.negatives.outside": Interval(0, 0.5),
        "model.embedding.width": Choice((64, 128)),
        "loop.patience": Interval(7, 9),
    }
    file.write_text(json.dumps(described(space)))
    assert parse_space([str(file)], ATT2) == space


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("optimizer.learning_rate=1:2", r"no setting 'optimizer.learning_rate'; did you mean "
         "'optimiser.learning_rate'"),
        ("model.width=1,2", r"no setting 'model.width'; did you mean"),
        ("model.embedding=1,2", "no setting 'model.embedding'"),
        ("optimiser.learning_rate=2:1", "optimiser.learning_rate: the interval is 2 to 1"),
        ("optimiser.learning_rate=0:1:log", "above 0 for log"),
        ("optimiser.learning_rate=0:1:lg", "'0:1:lg' is no interval; it is NAME=LOW:HIGH"),
        ("optimiser.learning_rate=a:b", "'a:b' is no interval"),
        ("optimiser.learning_rate=-1:1", "optimiser.learning_rate: the value is -1"),
        ("model.embedding.dropout=0:1", "model.embedding.dropout: the value is 1"),
        ("model.embedding.width=0.5:3", "model.embedding.width: the value is 0.5; .* type int"),
        ("model.embedding.width=2,2", "the choices are"),
        ("optimiser.name=adam,sgd", "optimiser.name: the value is 'sgd'; .*'adam', 'adamw'"),
        ("gone.json", "gone.json: no such file, nor a setting; a setting is NAME=LOW:HIGH"),
    ],
)  # fmt: skip
def test_what_is_refused(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_space([word], ATT2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"loop.seed": 3}', "the value is 3; a list, an object or text"),
        ('{"loop.seed": {"low": 1, "hihg": 3}}', "did you mean 'high'"),
        ('{"loop.seed": [[1]]}', "loop.seed"),
    ],
)
def test_a_file_that_is_refused(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(UsageError, match=told):
        parse_space([str(tmp_path / "s.json")], ATT2)


# ---- the defaults --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_defaults_that_hold_the_recipe_itself(name: str) -> None:
    recipe = recipe_named(name)
    space, has = default_space(recipe), leaves(recipe)
    refuse_unfit(space, recipe)
    tuned = "strategy.pretrain.optimiser" if name == "lse" else "optimiser"
    assert f"{tuned}.learning_rate" in space
    assert f"{tuned}.weight_decay" in space
    assert all(span.holds(has[name]) for name, span in space.items())


def test_a_kernel_is_searched_in_place_of_fine_tuning() -> None:
    space = default_space(recipe_named("lse"))
    assert space["strategy.kernel.penalty"] == Interval(0.03, 3.0, log=True)
    assert space["strategy.kernel.bandwidth"] == Interval(0.25, 4.0, log=True)
    assert space["strategy.kernel.prior"] == Interval(0.0, 1.0)
    assert space["strategy.kernel.answers"] == Interval(0.0, 0.6)
    assert not [n for n in space if n.startswith(("optimiser", "strategy.negatives"))]
    assert not [n for n in default_space(ATT2) if n.startswith("strategy.kernel")]


def test_every_row_of_the_defaults_is_of_some_recipe() -> None:
    known = {setting for name in RECIPES for setting in leaves(recipe_named(name))}
    assert set(DEFAULTS) | set(OF_KERNEL) <= known


def test_defaults_of_two_recipes() -> None:
    assert list(default_space(recipe_named("s-logi"))) == [
        *("optimiser.learning_rate", "strategy.negatives.outside", "loop.average_half_life"),
        "optimiser.weight_decay",
    ]
    of_att2 = default_space(ATT2)
    assert of_att2["model.embedding.width"] == Choice((256, 512, 1024))
    fine, pretraining = "optimiser.learning_rate", "strategy.pretrain.optimiser.learning_rate"
    assert of_att2[fine] == Interval(2e-5, 2e-3, log=True)
    assert of_att2[pretraining] == Interval(2e-4, 5e-3, log=True)


def test_values_make_a_recipe() -> None:
    changed = apply(ATT2, {"model.embedding.width": 64, "optimiser.learning_rate": 0.5})
    assert (changed.model.embedding.width, changed.optimiser.learning_rate) == (64, 0.5)
    same = apply(changed, {"model.embedding.width": 512, "optimiser.learning_rate": 2e-4})
    assert same == ATT2
