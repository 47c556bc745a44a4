"""A run's folder: made once, resumed only with the settings it had, opened only if it is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from small_corpus import DATASET
from whenabouts import __version__
from whenabouts.core.classes import ClassOrder, read_classes
from whenabouts.core.errors import LabelsError, RunError, UsageError
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import FeatureList
from whenabouts.models.table import build_model
from whenabouts.recipes.logistic import f_logi, s_logi
from whenabouts.recipes.table import recipe_named
from whenabouts.strategies.s1 import S1
from whenabouts.strategies.setup import Negatives
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.run import Run, create_run, open_run


@pytest.fixture
def path(tmp_path: Path, corpus: Corpus) -> Path:
    create_run(tmp_path / "runs" / "a", s_logi(), corpus, resume=False)
    return tmp_path / "runs" / "a"


def weights(run: Run, phase: str, value: float, **facts: Any) -> None:
    model = build_model(s_logi().model, run.dataset.width, len(run.classes))
    torch.nn.init.constant_(model.linear.weight, value)
    save_weights(run.path / f"{phase}.safetensors", model, facts)


def change(path: Path, **values: Any) -> None:
    kept = json.loads((path / "recipe.json").read_text())
    (path / "recipe.json").write_text(json.dumps({**kept, **values}))


# ---- making and resuming -------------------------------------------------------------------------


def test_what_a_new_run_holds(path: Path, corpus: Corpus) -> None:
    kept = json.loads((path / "recipe.json").read_text())
    assert kept == {
        "format": 1,
        "recipe": to_dict(s_logi()),
        "dataset": json.loads(json.dumps(to_dict(corpus.dataset))),
        "corpus": str(corpus.path),
        "corpus_digest": corpus.digest,
        "whenabouts": __version__,
    }
    assert read_classes(path / "classes.csv") == corpus.classes
    assert (path / "checkpoints").is_dir()


def test_a_run_is_never_overwritten(path: Path, corpus: Corpus) -> None:
    with pytest.raises(RunError, match=r"a: a run is here already; go on with --resume"):
        create_run(path, s_logi(), corpus, resume=False)


def test_the_same_run_is_resumed(path: Path, corpus: Corpus) -> None:
    before = (path / "recipe.json").read_bytes()
    create_run(path, s_logi(), corpus, resume=True)
    assert (path / "recipe.json").read_bytes() == before


def test_resuming_what_is_not_there_begins_it(tmp_path: Path, corpus: Corpus) -> None:
    create_run(tmp_path / "new", s_logi(), corpus, resume=True)
    assert open_run(tmp_path / "new").classes == corpus.classes


def test_a_run_moved_elsewhere_with_its_corpus_is_resumed(path: Path, corpus: Corpus) -> None:
    create_run(path, s_logi(), replace(corpus, path=Path("elsewhere.index")), resume=True)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (f_logi(), "recipe.model.family is 'f-logi', and was 's-logi' when the run began"),
        (
            replace(s_logi(), loop=replace(s_logi().loop, seed=4)),
            "recipe.loop.seed is 4, and was 0 when the run began",
        ),
        (
            replace(s_logi(), optimiser=replace(s_logi().optimiser, learning_rate=0.5)),
            "recipe.optimiser.learning_rate is 0.5, and was 0.01",
        ),
        (
            replace(s_logi(), strategy=S1(negatives=Negatives(unrated=1.0))),
            "recipe.strategy.negatives.unrated is 1.0, and was 0.0",
        ),
    ],
)
def test_another_recipe_is_refused_by_the_setting(
    recipe: Any, message: str, path: Path, corpus: Corpus
) -> None:
    with pytest.raises(RunError, match=rf"recipe\.json: {message}.*a resumed run has the settings"):
        create_run(path, recipe, corpus, resume=True)


def test_every_setting_that_differs_is_named(path: Path, corpus: Corpus) -> None:
    loop = replace(s_logi().loop, seed=4, patience=7)
    with pytest.raises(RunError) as refused:
        create_run(path, replace(s_logi(), loop=loop), corpus, resume=True)
    told = str(refused.value)
    assert "recipe.loop.seed is 4, and was 0 when the run began" in told
    assert "recipe.loop.patience is 7, and was" in told
    assert "..." not in told
    many = replace(loop, batch_size=1, max_steps=1, evaluate_every=1, compile=True)
    with pytest.raises(
        RunError, match=r"([a-z._]+ is [^;]*, and was [^;]*; ){5}\.\.\.; a resumed run"
    ):
        create_run(path, replace(s_logi(), loop=many), corpus, resume=True)


def test_another_data_set_is_refused(path: Path, corpus: Corpus) -> None:
    other = replace(corpus, dataset=replace(DATASET, segment_s=10))
    with pytest.raises(RunError, match=r"dataset\.segment_s is 10, and was 5 when the run began"):
        create_run(path, s_logi(), other, resume=True)
    wider = replace(DATASET, features=(FeatureList("rgb", 33), DATASET.features[1]))
    with pytest.raises(RunError, match=r"dataset\.features is .*33.*, and was .*32"):
        create_run(path, s_logi(), replace(corpus, dataset=wider), resume=True)


def test_a_setting_that_was_not_there_then_is_refused(path: Path, corpus: Corpus) -> None:
    kept = json.loads((path / "recipe.json").read_text())
    del kept["recipe"]["loop"]["seed"]
    change(path, recipe=kept["recipe"])
    with pytest.raises(RunError, match=r"recipe\.loop\.seed is 0, and was None"):
        create_run(path, s_logi(), corpus, resume=True)
    change(path, recipe={**to_dict(s_logi()), "more": 1})
    with pytest.raises(RunError, match=r"recipe\.more is None, and was 1"):
        create_run(path, s_logi(), corpus, resume=True)


def test_other_classes_are_refused(path: Path, corpus: Corpus) -> None:
    for ids in (corpus.classes.ids[::-1], corpus.classes.ids[:-1]):
        other = replace(corpus, classes=ClassOrder.of(ids))
        with pytest.raises(RunError, match="the corpus has other classes than the run"):
            create_run(path, s_logi(), other, resume=True)
    unnamed = replace(corpus, classes=ClassOrder.of(corpus.classes.ids))
    create_run(path, s_logi(), unnamed, resume=True)  # only the order counts


@pytest.mark.parametrize("name", ["video_ids", "split", "num_frames"])
def test_other_data_is_refused(name: str, path: Path, corpus: Corpus) -> None:
    values = getattr(corpus, name).copy()
    values[0] = b"other" if name == "video_ids" else values[0] + 1
    message = r"other videos, splits, labels or ratings than when the run began.*\.index\)"
    with pytest.raises(RunError, match=message):
        create_run(path, s_logi(), replace(corpus, **{name: values}), resume=True)


def test_a_run_that_does_not_say_what_data_it_had_is_resumed(path: Path, corpus: Corpus) -> None:
    kept = json.loads((path / "recipe.json").read_text())
    del kept["corpus_digest"]
    (path / "recipe.json").write_text(json.dumps(kept))
    create_run(path, s_logi(), replace(corpus, split=corpus.split[::-1]), resume=True)


# ---- opening -------------------------------------------------------------------------------------


def test_an_opened_run_is_what_was_made(path: Path, corpus: Corpus) -> None:
    run = open_run(str(path))
    assert (run.path, run.dataset, run.classes) == (path, corpus.dataset, corpus.classes)
    assert run.recipe == to_dict(s_logi())


def test_no_run_here(tmp_path: Path) -> None:
    message = r": no recipe.json here; a run is a folder; make one with 'whenabouts train"
    with pytest.raises(RunError, match=str(tmp_path) + message):
        open_run(tmp_path)
    with pytest.raises(RunError, match=r"no recipe\.json here"):
        open_run(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "recipe.json: not JSON"),
        ("\udcff", "recipe.json: not JSON"),
        ("[" * 100_000, "recipe.json: not JSON"),
        ("[1, 2]", "recipe.json: not a JSON object"),
        ("{}", "recipe.json: it has no dataset"),
        ('{"dataset": []}', "recipe.json: it has no dataset"),
        ('{"dataset": {}}', "recipe.json: it has no recipe"),
    ],
)
def test_a_broken_recipe(path: Path, text: str, message: str) -> None:
    (path / "recipe.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=message):
        open_run(path)


def test_a_broken_data_set_or_class_file(path: Path) -> None:
    change(path, dataset={**to_dict(DATASET), "segment": 5})
    with pytest.raises(RunError, match=r"recipe\.json: dataset: no setting 'segment'"):
        open_run(path)
    change(path, dataset=to_dict(DATASET))
    (path / "classes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LabelsError, match=r"classes\.csv"):
        open_run(path)


# ---- weights -------------------------------------------------------------------------------------


def test_no_weights_yet(path: Path) -> None:
    with pytest.raises(RunError, match=r"a: no weights yet; finish training with --resume"):
        open_run(path).load_model()


def test_final_weights_come_before_those_of_the_search(path: Path) -> None:
    run = open_run(path)
    weights(run, "v1", 1.0, trained_on=["v1"])
    model, facts = run.load_model()
    assert (model.linear.weight == 1).all()
    assert facts == {"trained_on": ["v1"]}
    assert not model.training
    weights(run, "final", 2.0, trained_on=["v1", "v2"])
    model, facts = run.load_model()
    assert (model.linear.weight == 2).all()
    assert facts == {"trained_on": ["v1", "v2"]}


def test_the_model_is_that_of_the_recipe(path: Path, corpus: Corpus) -> None:
    run = open_run(path)
    weights(run, "v1", 1.0)
    model, _ = run.load_model()
    assert model.linear.weight.shape == (len(corpus.classes), DATASET.width)
    assert type(model).__name__ == "SegmentLogistic"
    for recipe in ({}, {"model": None}, {"model": {"family": "x"}}):
        change(path, recipe=recipe)
        with pytest.raises(RunError, match=r"recipe\.json: model: no model family"):
            open_run(path).load_model()


# ---- does a corpus fit ---------------------------------------------------------------------------


def test_its_own_corpus_fits(path: Path, corpus: Corpus) -> None:
    open_run(path).check_fits(corpus)
    renamed = replace(DATASET, name="other", id_keys=("key",))
    open_run(path).check_fits(replace(corpus, dataset=renamed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (FeatureList("rgb", 32), FeatureList("audio", 9))}, r"audio \(9 bytes\)"),
        ({"features": (FeatureList("rgb", 32), FeatureList("sound", 8))}, r"sound \(8 bytes\)"),
        ({"features": DATASET.features[::-1]}, r"audio \(8 bytes\), rgb \(32 bytes\) in"),
        ({"features": DATASET.features[:1]}, r"features rgb \(32 bytes\) in"),
        ({"segment_s": 10}, "segments of 10 s"),
        ({"frames_per_s": 2}, "5 s x 2 frames"),
        ({"high": 1.0}, r"in \[-2, 1\]"),
        ({"low": 0.0}, r"in \[0, 2\]"),
    ],
)
def test_other_features_do_not_fit(
    changes: dict[str, Any], message: str, path: Path, corpus: Corpus
) -> None:
    other = replace(corpus, dataset=replace(DATASET, **changes))
    expected = rf"the corpus has .*{message}.*; the run was trained on .*rgb \(32 bytes\)"
    with pytest.raises(RunError, match=expected):
        open_run(path).check_fits(other)


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (1 << 34, r"'.*' is .*missing.* in the model; weights fit the recipe"),
        (1 << 62, "recipe.json: no model can be made of it"),
        (1 << 70, "recipe.json: no model can be made of it"),
    ],
)
def test_sizes_of_a_stranger_take_no_memory(path: Path, width: int, message: str) -> None:
    """Terabytes of weights in the recipe, and a few bytes in the file."""
    weights(open_run(path), "v1", 1.0)
    model = to_dict(recipe_named("att2", "tiny").model)
    model["embedding"]["width"] = width
    change(path, recipe={**to_dict(s_logi()), "model": model})
    with pytest.raises(RunError, match=message):
        open_run(path).load_model()


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        ("made-by.json", "Scores are here, in made-by.json; choose another --out"),
        ("plan.json", "a search is here"),
        ("bundle.json", "a bundle is here"),
    ],
)
def test_a_run_is_not_made_in_another_artefact(
    sign: str, told: str, tmp_path: Path, corpus: Corpus
) -> None:
    """Scores have a classes.csv, too, which would be replaced."""
    (tmp_path / sign).touch()
    with pytest.raises(UsageError, match=told):
        create_run(tmp_path, s_logi(), corpus, resume=False)
    with pytest.raises(UsageError, match=f"{sign}: it is a file, not a folder; choose another"):
        create_run(tmp_path / sign, s_logi(), corpus, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == [sign]


def test_a_run_is_made_beside_a_log(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "log.txt").write_text("mine")
    create_run(tmp_path, s_logi(), corpus, resume=False)
    assert open_run(tmp_path).classes == corpus.classes
    assert (tmp_path / "log.txt").read_text() == "mine"


def test_a_run_is_made_where_an_attempt_was_killed_before_its_recipe(
    path: Path, corpus: Corpus
) -> None:
    (path / "recipe.json").unlink()
    (path / ".recipe.json.partial-1").touch()
    create_run(path, s_logi(), corpus, resume=False)
    assert open_run(path).classes == corpus.classes
