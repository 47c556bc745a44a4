"""Every recipe is found, complete, built, and trains on a toy; the logistic ones as published."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pseudo_world import write_random
from toy_work import ALONE
from whenabouts.core.errors import UsageError
from whenabouts.core.settings import from_dict, to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import LSE, SCALES, Scale, SegmentWindows, scaled
from whenabouts.models.logistic import FLogi, SLogi
from whenabouts.models.video_level import VideoMLP
from whenabouts.models.video_table import VIDEO_FAMILIES, VideoSettings
from whenabouts.recipes.logistic import f_logi, s_logi
from whenabouts.recipes.recipe import Recipe
from whenabouts.recipes.table import RECIPES, recipe_named
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.s1 import S1
from whenabouts.strategies.s2 import S2
from whenabouts.strategies.s3 import S3
from whenabouts.strategies.setup import Negatives, Setup
from whenabouts.strategies.table import refuse_untrainable, train_strategy
from whenabouts.strategies.video_labels import Polish, VideoLabels
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

LOGISTIC = ("s-logi", "f-logi")
VIDEO = tuple(n for n in RECIPES if isinstance(recipe_named(n).model, VideoSettings))


def test_the_logistic_recipes_are_those_of_the_paper() -> None:
    """Adam 0.01, x 0.95 each 4 M examples, batches of 1024, rated pairs alone; L2 is our own."""
    optimiser = Optimiser("adam", 0.01, 2e-4, 0.95, 4_000_000, 0, 0.0)
    loop = Loop(1024, 20_000, 20, 20, 60.0, 0)
    assert s_logi() == Recipe(SLogi(), S1("s1", Negatives(0.0, 0.0)), optimiser, loop)
    assert f_logi() == replace(s_logi(), model=FLogi())


def test_the_table() -> None:
    assert RECIPES["s-logi"] is s_logi
    assert RECIPES["f-logi"] is f_logi
    assert len(set(RECIPES.values())) == len(RECIPES)


def test_every_video_family_has_its_recipe() -> None:
    assert {recipe_named(name).model.family: name for name in VIDEO} == {n: n for n in VIDEO}
    assert set(VIDEO) == set(VIDEO_FAMILIES)


@pytest.mark.parametrize("name", VIDEO)
def test_the_video_recipes_have_the_published_rates_at_their_size(name: str) -> None:
    """Adam 2e-4 x 0.8 each 4 M examples, clip 1, L2 1e-6 on the head, 300 frames, two epochs of
    averaging at 8e-5 with a half-life of 2000 steps."""
    recipe = recipe_named(name)
    assert recipe.optimiser == Optimiser("adam", 2e-4, 0.0, 0.8, 4_000_000, 0, 1.0)
    assert isinstance(recipe.strategy, VideoLabels)
    assert (recipe.strategy.num_frames, recipe.strategy.head_l2) == (300, 1e-6)
    assert recipe.strategy.polish == Polish(2, 8e-5, 2000)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_says_what_it_is(name: str) -> None:
    """What it is in the first line, of the paper's with its number; cost and command below."""
    first, *_ = (RECIPES[name].__doc__ or "").splitlines()
    recipe, text = RECIPES[name], RECIPES[name].__doc__ or ""
    assert recipe() == recipe() == recipe_named(name)
    if name in VIDEO:
        assert first.startswith("Video: ")
    elif name == "lse":
        assert first.endswith("(ours).")
    else:
        assert "paper" in first
        assert "0.7" in first
    assert f"whenabouts train {name} " in text
    assert "osts " in text


@pytest.mark.parametrize("name", LOGISTIC)
def test_a_recipe_survives_json(name: str) -> None:
    recipe = recipe_named(name)
    assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_a_misspelt_recipe_is_suggested() -> None:
    with pytest.raises(UsageError, match=r"no recipe 's_logi'; did you mean 's-logi'\?"):
        recipe_named("s_logi")
    with pytest.raises(UsageError, match=r"no recipe 'zzz'; choose from: s-logi, f-logi, "):
        recipe_named("zzz")


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains(name: str, corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipe_named(name, None if name in LOGISTIC else "tiny")
    loop = replace(recipe.loop, max_steps=3, batch_size=16)
    strategy = recipe.strategy
    if isinstance(strategy, S2):
        strategy = replace(strategy, pretrain=replace(strategy.pretrain, max_steps=2, batch_size=8))
        if strategy.pseudo.needed:
            labels = str(write_random(tmp_path / "labels.parquet", corpus))
            strategy = replace(strategy, pseudo=replace(strategy.pseudo, labels=labels))
    (tmp_path / "checkpoints").mkdir()
    with closing(MetricsLog(tmp_path)) as log:
        position = train_strategy(
            lambda: build_for(recipe.model, corpus.dataset, corpus.classes, corpus.video_classes),
            strategy,
            recipe.optimiser,
            loop,
            Setup(corpus, tmp_path, log, ALONE),
            final=True,
        )
    # A kernel has no steps of its own: it stands where the pre-training was best.
    is_kernel = isinstance(strategy, S2) and strategy.fine_tuning == "kernel"
    assert (position.step, position.best_step) == ((2, 2) if is_kernel else (3, 3))
    assert (tmp_path / "v1.safetensors").is_file()
    assert (tmp_path / "final.safetensors").is_file()


@pytest.mark.parametrize("name", ["att2", "nl", "se", "fcfc", "cluster", "student"])
def test_the_attention_recipes_have_the_published_rates_at_their_size(name: str) -> None:
    """AdamW 2e-4, then 2e-5, batches of 128, all frames, clipped at 1."""
    recipe = recipe_named(name)
    assert isinstance(recipe.strategy, S2)
    pretrain = recipe.strategy.pretrain
    rates = [pretrain.optimiser, recipe.optimiser]
    assert [(o.name, o.learning_rate, o.clip_norm) for o in rates] == [
        ("adamw", 2e-4, 1.0),
        ("adamw", 2e-5, 1.0),
    ]
    assert (pretrain.batch_size, recipe.loop.batch_size, pretrain.max_segments) == (128, 128, 0)


@pytest.mark.parametrize("name", ["cluster", "student"])
def test_recipes_that_learn_from_pseudo_labels_need_them(name: str, corpus: Corpus) -> None:
    """But for that they are NL."""
    for scale in SCALES:
        recipe, nl = recipe_named(name, scale), recipe_named("nl", scale)
        assert isinstance(recipe.strategy, S2)
        assert recipe.strategy.pseudo.needed
        without = replace(recipe.strategy, pseudo=Pseudo())
        assert replace(recipe, strategy=without) == nl
    with pytest.raises(UsageError, match=r"strategy\.pseudo\.labels: no pseudo-labels are given"):
        refuse_untrainable(corpus, recipe.strategy)


def test_single_layers_on_the_mean_frame_learn_faster() -> None:
    rates = {name: recipe_named(name, "small").optimiser.learning_rate for name in VIDEO}
    single = {name for name, rate in rates.items() if rate == 1e-2}
    assert single == {"video-logistic", "video-moe"}
    others = {name: rate for name, rate in rates.items() if name not in single}
    assert others.pop("mil") == 3e-2
    assert others.pop("video-mlp") == 3e-4
    assert set(others.values()) == {1e-3}


@pytest.mark.parametrize("name", VIDEO)
def test_multiple_instances_are_averaged_over_steps_that_score_other_windows(name: str) -> None:
    recipe = recipe_named(name, "small")
    assert isinstance(recipe.strategy, VideoLabels)
    drawn = (recipe.strategy.num_frames, recipe.loop.average_half_life)
    assert drawn == {"mil": (128, 30), "video-mlp": (64, 50)}.get(name, (64, 0))


def test_the_small_residual_network_is_held_back() -> None:
    small, paper = (recipe_named("video-mlp", scale).model for scale in ("small", "paper"))
    assert isinstance(small, VideoMLP)
    assert isinstance(paper, VideoMLP)
    assert (small.num_blocks, small.dropout, small.head.kind) == (1, 0.8, "logistic")
    assert (paper.num_blocks, paper.dropout, paper.head.kind) == (2, 0.5, "moe")


def test_loss2_is_att2_with_both_losses_at_once() -> None:
    recipe = recipe_named("loss2")
    assert recipe.strategy == S3(segment_weight=1.0)
    assert (recipe.optimiser.learning_rate, recipe.loop.batch_size) == (2e-4, 128)


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_smaller_sizes_learn_faster_from_fewer_segments(scale: Scale) -> None:
    att2, loss2 = recipe_named("att2", scale), recipe_named("loss2", scale)
    assert isinstance(att2.strategy, S2)
    assert isinstance(loss2.strategy, S3)
    pretrain = att2.strategy.pretrain
    assert (pretrain.optimiser.learning_rate, att2.optimiser.learning_rate) == (1e-3, 2e-4)
    assert loss2.optimiser == pretrain.optimiser
    assert pretrain.max_segments == loss2.strategy.max_segments == 8


@pytest.mark.parametrize("scale", SCALES)
def test_lse_is_att2_that_pools_scores_and_is_near_to_rated_segments(scale: Scale) -> None:
    """For a label that few segments show, more of a video are drawn, of fewer videos; and a segment
    is judged by its windows of two frames."""
    lse, att2 = recipe_named("lse", scale), recipe_named("att2", scale)
    assert lse.model == replace(scaled(LSE(), scale), windows=SegmentWindows(2, 4.0))
    assert isinstance(lse.strategy, S2)
    assert isinstance(att2.strategy, S2)
    ours, theirs = lse.strategy.pretrain, att2.strategy.pretrain
    assert lse.strategy == S2(pretrain=ours, fine_tuning="kernel")
    assert ours.batch_size < theirs.batch_size
    assert (ours.max_segments > theirs.max_segments) == (scale != "paper")
    assert (ours.shift, theirs.shift) == (2, 0)
    same = {"batch_size": theirs.batch_size, "max_segments": theirs.max_segments, "shift": 0}
    assert replace(ours, **same) == theirs
    assert replace(lse, model=att2.model, strategy=att2.strategy) == att2


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_fcfc_which_has_no_norm_pre_trains_faster(scale: Scale) -> None:
    fcfc, att2 = recipe_named("fcfc", scale), recipe_named("att2", scale)
    assert isinstance(fcfc.strategy, S2)
    assert fcfc.strategy.pretrain.optimiser.learning_rate == 5e-3
    assert fcfc.optimiser == att2.optimiser


def test_the_dial_sets_the_size() -> None:
    widths = {scale: recipe_named("nl", scale).model.embedding.width for scale in SCALES}
    assert widths == {"tiny": 64, "small": 512, "paper": 1024}
    assert recipe_named("nl") == recipe_named("nl", "paper")
    with pytest.raises(UsageError, match="'s-logi' has no sizes"):
        recipe_named("s-logi", "small")
