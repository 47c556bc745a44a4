"""A bundle opened: what it scores, what made its Scores, members that disagree, hostile files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bundled_runs import (
    OTHER_SEGMENT,
    SMALL_SEGMENT,
    SMALL_VIDEO,
    WIDE_SEGMENT,
    WIDE_VIDEO,
    content,
    make_run,
    scores_of,
)
from small_corpus import DATASET
from toy_work import ALONE, CrashError
from whenabouts.core.classes import ClassOrder, write_classes
from whenabouts.core.errors import RunError, UsageError, WhenaboutsError
from whenabouts.core.scores import open_scores
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import FeatureList
from whenabouts.train import predict as predict_module
from whenabouts.train.bundle import Bundle, check_agree, open_bundle, open_scorer
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.distributed import Team
from whenabouts.train.export import export
from whenabouts.train.predict import PredictSettings, predict
from whenabouts.train.run import Run, open_run

WEIGHTS = (0.75, 0.25)


@pytest.fixture
def runs(corpus: Corpus, tmp_path: Path) -> list[Run]:
    return [
        make_run(tmp_path / "a", corpus, SMALL_SEGMENT, 1, ("v2", "v1")),
        make_run(tmp_path / "b", corpus, OTHER_SEGMENT, 2, ("train", "v1")),
    ]


@pytest.fixture
def path(runs: list[Run], tmp_path: Path) -> Path:
    export(runs, tmp_path / "bundle", WEIGHTS)
    return tmp_path / "bundle"


def change(path: Path, **values: Any) -> None:
    kept = json.loads((path / "bundle.json").read_text())
    (path / "bundle.json").write_text(json.dumps({**kept, **values}))


def change_members(path: Path, **values: Any) -> None:
    """The first member with other values; None removes one."""
    first, *others = json.loads((path / "bundle.json").read_text())["members"]
    first = {k: v for k, v in {**first, **values}.items() if v is not None}
    change(path, members=[first, *others])


# ---- opening and scoring -------------------------------------------------------------------------


def test_a_bundle_opened(path: Path, corpus: Corpus) -> None:
    bundle = open_bundle(path)
    assert [run.path for run in bundle.members] == [path / "1-s-logi", path / "2-f-logi"]
    assert bundle.weights == WEIGHTS
    assert not bundle.scores_videos
    assert bundle.scored_classes == corpus.classes
    model, facts = bundle.load_model()
    assert not any(module.training for module in model.modules())
    assert facts == {
        "members": [
            {"run": "1-s-logi", "weight": 0.75, "phase": "v1", "step": 11,
             "trained_on": ["v2", "v1"]},
            {"run": "2-f-logi", "weight": 0.25, "phase": "v1", "step": 12,
             "trained_on": ["train", "v1"]},
        ],
        "trained_on": ["train", "v1", "v2"],
    }  # fmt: skip


def test_a_bundle_of_video_classifiers(corpus: Corpus, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", corpus, SMALL_VIDEO)
    export([run], tmp_path / "bundle", [1.0])
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.scores_videos
    assert bundle.scored_classes == corpus.video_classes
    assert len(scores_of(bundle, corpus, tmp_path / "s")) == 24


def test_what_made_its_scores(path: Path, corpus: Corpus, tmp_path: Path) -> None:
    scores_of(open_bundle(path), corpus, tmp_path / "s", splits=["v1", "v2"])
    made_by = open_scores(tmp_path / "s").made_by
    assert made_by.pop("members") == open_bundle(path).load_model()[1]["members"]
    assert made_by == {
        "format": 1,
        "bundle": str(path),
        "corpus": str(corpus.path),
        "trained_on": ["train", "v1", "v2"],
        "splits": ["v1", "v2"],
    }


def test_a_bundle_moved_elsewhere_scores_as_before(
    path: Path, corpus: Corpus, tmp_path: Path
) -> None:
    expected = scores_of(open_bundle(path), corpus, tmp_path / "s")
    moved = path.rename(tmp_path / "moved")
    assert np.array_equal(scores_of(open_bundle(moved), corpus, tmp_path / "t"), expected)


def test_another_corpus_does_not_fit(path: Path, corpus: Corpus, tmp_path: Path) -> None:
    other = replace(corpus, dataset=replace(DATASET, segment_s=6))
    with pytest.raises(RunError, match="the run was trained on features"):
        scores_of(open_bundle(path), other, tmp_path / "s")


def test_attention_is_of_one_model(corpus: Corpus, tmp_path: Path) -> None:
    """Not of a bundle, of one run even; but of the run in it."""
    export([make_run(tmp_path / "a", corpus, WIDE_SEGMENT)], tmp_path / "bundle", [1.0])
    bundle, rows = open_bundle(tmp_path / "bundle"), corpus.rows(["v2"])[:2]
    settings = PredictSettings(attention=True)
    told = r"bundle: a bundle has no attention to keep; .*; predict with a run in it, .*/1-att2$"
    with pytest.raises(UsageError, match=told):
        predict(bundle, corpus, rows, tmp_path / "s", settings, ALONE, {})
    assert not (tmp_path / "s").exists()
    predict(bundle.members[0], corpus, rows, tmp_path / "s", settings, ALONE, {})
    assert open_scores(tmp_path / "s").attention is not None


# ---- streaming -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrashingBundle(Bundle):
    """Crashes before the third chunk."""

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        model, facts = super().load_model()
        asked = []

        def note(module: nn.Module, inputs: object) -> None:
            if len(asked) == 2:
                raise CrashError("before the next chunk")
            asked.append(inputs)

        model.register_forward_pre_hook(note)
        return model, facts


def crash(path: Path, corpus: Corpus, out: Path) -> Path:
    """Interrupt a prediction after two chunks of ten; returns the folder it leaves."""
    bundle = open_bundle(path)
    with pytest.raises(CrashError):
        scores_of(CrashingBundle(bundle.path, bundle.members, bundle.weights), corpus, out)
    partial = out.with_name(f".{out.name}.partial")
    (mark,) = partial.glob("done-*.json")
    assert json.loads(mark.read_text())["next"] == 20
    return partial


def test_it_goes_on_where_it_was(
    path: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    expected = scores_of(open_bundle(path), corpus, tmp_path / "s")
    partial = crash(path, corpus, tmp_path / "t")
    marked = np.load(partial / "scores.npy", mmap_mode="r+")
    marked[:20] = 0.5  # so that rows computed again would show
    marked.flush()
    found = scores_of(open_bundle(path), corpus, tmp_path / "t")
    assert (found[:20] == 0.5).all()
    assert np.array_equal(found[20:], expected[20:])


def other_weights(path: Path, runs: list[Run]) -> None:
    export(runs, path, [0.5, 0.5])


def other_order(path: Path, runs: list[Run]) -> None:
    export(runs[::-1], path, WEIGHTS)


def other_member(path: Path, runs: list[Run]) -> None:
    model, facts = runs[1].load_model()
    nn.init.zeros_(model.linear.bias)
    save_weights(runs[1].weights_path, model, facts)
    export(runs, path, WEIGHTS)


@pytest.mark.parametrize("change_bundle", [other_weights, other_order, other_member])
def test_rows_of_another_bundle_are_not_used(
    change_bundle: Callable[[Path, list[Run]], None], path: Path, runs: list[Run], corpus: Corpus,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    crash(path, corpus, tmp_path / "s")
    change_bundle(path, runs)
    found = scores_of(open_bundle(path), corpus, tmp_path / "s")
    assert np.array_equal(found, scores_of(open_bundle(path), corpus, tmp_path / "t"))


class Pretend(Team):
    """One of several processes, without the others: does not wait for them."""

    def wait(self) -> None:
        pass


def test_processes_share_the_rows(path: Path, corpus: Corpus, tmp_path: Path) -> None:
    expected = scores_of(open_bundle(path), corpus, tmp_path / "s")
    rows = corpus.rows(["v1", "v2"])
    for rank in (1, 0):
        team = Pretend(rank, 2, ALONE.device)
        predict(open_bundle(path), corpus, rows, tmp_path / "t", PredictSettings(10), team, {})
    np.testing.assert_allclose(open_scores(tmp_path / "t").values, expected, atol=1e-6)


# ---- members that disagree -----------------------------------------------------------------------


def test_videos_and_segments(runs: list[Run], corpus: Corpus, tmp_path: Path) -> None:
    videos = make_run(tmp_path / "c", corpus, SMALL_VIDEO)
    told = (
        r"c: it scores whole videos, not segments; members of a bundle agree with the first of "
        r"them, .*/a; export them apart"
    )
    with pytest.raises(RunError, match=told):
        check_agree([*runs, videos])
    with pytest.raises(RunError, match=r"a: it scores segments, not whole videos"):
        check_agree([videos, *runs])
    check_agree(runs)
    check_agree(runs[:1])


@pytest.mark.parametrize(
    ("model", "file", "num_classes"),
    [(SMALL_SEGMENT, "classes.csv", 4), (SMALL_VIDEO, "video-classes.csv", 6)],
)
def test_other_classes(
    model: Any, file: str, num_classes: int, corpus: Corpus, tmp_path: Path
) -> None:
    """Those that are scored; the names of classes do not matter, nor other classes."""
    first, other = (make_run(tmp_path / name, corpus, model) for name in "ab")
    ids = first.scored_classes.ids
    assert len(ids) == num_classes
    unused = "classes.csv" if file == "video-classes.csv" else "video-classes.csv"
    write_classes(other.path / unused, ClassOrder.of([5000]))
    write_classes(other.path / file, ClassOrder.of(ids, {ids[0]: "renamed"}))
    check_agree([first, open_run(other.path)])
    write_classes(other.path / file, ClassOrder.of(ids[::-1]))
    told = rf"b: its {num_classes} classes stand in another order"
    with pytest.raises(RunError, match=told):
        check_agree([first, open_run(other.path)])
    write_classes(other.path / file, ClassOrder.of(ids[:-1]))
    told = rf"b: its {num_classes - 1} classes are not those {num_classes}"
    with pytest.raises(RunError, match=told):
        check_agree([first, open_run(other.path)])


@pytest.mark.parametrize(
    "changes",
    [
        {"features": (FeatureList("rgb", 40),)},
        {"features": DATASET.features[::-1]},
        {"high": 1.0},
        {"segment_s": 10},
    ],
)
def test_other_features(changes: dict[str, Any], runs: list[Run]) -> None:
    recipe_path = runs[1].path / "recipe.json"
    kept = json.loads(recipe_path.read_text())
    renamed = replace(DATASET, name="other")
    recipe_path.write_text(json.dumps({**kept, "dataset": to_dict(renamed)}))
    check_agree([runs[0], open_run(runs[1].path)])
    recipe_path.write_text(json.dumps({**kept, "dataset": to_dict(replace(DATASET, **changes))}))
    told = r"b: it was trained on features .*, not on features rgb \(32 bytes\)"
    with pytest.raises(RunError, match=told):
        check_agree([runs[0], open_run(runs[1].path)])


def test_members_that_came_to_disagree(path: Path) -> None:
    write_classes(path / "2-f-logi" / "classes.csv", ClassOrder.of([1, 2]))
    with pytest.raises(RunError, match="2-f-logi: its 2 classes are not those 4"):
        open_bundle(path)


# ---- wrong paths ---------------------------------------------------------------------------------


def test_a_run_a_bundle_and_neither(path: Path, runs: list[Run], tmp_path: Path) -> None:
    assert open_scorer(path) == open_bundle(path)
    assert open_scorer(runs[0].path) == runs[0]
    assert open_scorer(path / "1-s-logi") == open_run(path / "1-s-logi")
    remedy = "a run and a bundle are folders; make one with 'whenabouts train' or 'whenabouts exp"
    with pytest.raises(RunError, match=rf"no recipe\.json here, and no bundle\.json; {remedy}"):
        open_scorer(tmp_path)
    for none in (tmp_path / "gone", path / "bundle.json"):
        with pytest.raises(RunError, match=rf"{none}: no folder here; {remedy}"):
            open_scorer(none)
    with pytest.raises(RunError, match=r"a: no bundle\.json here; a bundle is a folder; make one"):
        open_bundle(runs[0].path)


# ---- hostile files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"bundle\.json: not JSON"),
        ("\udcff", r"bundle\.json: not JSON"),
        ("[" * 100_000, r"bundle\.json: not JSON"),
        ("[1, 2]", r"bundle\.json: not a JSON object"),
        ("{}", r"bundle\.json: format is None; it must be 1"),
        ('{"format": 2}', r"bundle\.json: format is 2; it must be 1"),
        ('{"format": 1}', r"bundle\.json: no members, bits, whenabouts"),
    ],
)
def test_a_broken_bundle_file(path: Path, text: str, message: str) -> None:
    (path / "bundle.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WhenaboutsError, match=message):
        open_scorer(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run": None}, r"bundle\.json\.members\[0\]: no run"),
        ({"weight": None}, r"members\[0\]: no weight"),
        ({"trained_on": None}, r"members\[0\]: no trained_on"),
        ({"run": 3}, r"members\[0\]\.run: the value is 3; it must be of type str"),
        ({"weight": "1"}, r"members\[0\]\.weight: the value is '1'; it must be of type float"),
        ({"trained_on": "v1"}, r"members\[0\]\.trained_on: the value is 'v1'; it must be a list"),
        ({"wieght": 1.0}, r"members\[0\]: no setting 'wieght'; did you mean 'weight'"),
    ],
)
def test_a_broken_member(path: Path, values: dict[str, Any], message: str) -> None:
    change_members(path, **values)
    with pytest.raises(RunError, match=message):
        open_bundle(path)


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [0.75, 0.26],
        [0.75, 0.2],
        [1.0, 0.0],
        [1.5, -0.5],
        [float("nan"), 0.25],
        [float("inf"), 0.25],
    ],
)
def test_weights_that_make_no_mean(path: Path, weights: list[float]) -> None:
    kept = json.loads((path / "bundle.json").read_text())["members"]
    change(path, members=[{**member, "weight": w} for member, w in zip(kept, weights)])
    told = r"bundle\.json: its weights are .*; there is a member at least, and their weights are a"
    with pytest.raises(RunError, match=told):
        open_bundle(path)


def test_weights_may_be_rounded(path: Path) -> None:
    change_members(path, weight=0.75 - 5e-7)
    assert open_bundle(path).weights == (0.75 - 5e-7, 0.25)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/", "1-s-logi/", "x/../1-s-logi"])
def test_a_member_outside_the_bundle(path: Path, name: str) -> None:
    change_members(path, run=name)
    told = r"bundle\.json: a member's folder is '.*'; it is a name of a folder in the bundle"
    with pytest.raises(RunError, match=told):
        open_bundle(path)


def test_a_member_that_is_gone(path: Path) -> None:
    change_members(path, run="3-netvlad")
    with pytest.raises(RunError, match=r"3-netvlad: no recipe\.json here"):
        open_bundle(path)
    change_members(path, run="1-s-logi")
    (path / "1-s-logi" / "v1.safetensors").unlink()
    with pytest.raises(RunError, match="1-s-logi: no weights yet"):
        open_bundle(path).load_model()


def test_a_member_that_does_not_say_what_it_was_trained_on(path: Path) -> None:
    weights_path = path / "1-s-logi" / "v1.safetensors"
    with safe_open(weights_path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, weights_path, {"whenabouts": '{"format": 1, "facts": {"step": 3}}'})
    with pytest.raises(RunError, match=r"v1\.safetensors: it was trained on None; weights say"):
        open_bundle(path).load_model()


def test_bytes_that_have_lost_their_scale(corpus: Corpus, tmp_path: Path) -> None:
    """They must not pass for weights between 0 and 255."""
    export([make_run(tmp_path / "a", corpus, WIDE_VIDEO)], tmp_path / "bundle", [1.0])
    weights_path = tmp_path / "bundle" / "1-video-mlp" / "v1.safetensors"
    before = content(tmp_path / "bundle")
    with safe_open(weights_path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = json.loads(file.metadata()["whenabouts"])
    name, *_ = kept["quantised"]
    assert (kept["format"], tensors[name].dtype) == (2, torch.uint8)
    del kept["quantised"][name]
    save_file(tensors, weights_path, {"whenabouts": json.dumps(kept)})
    told = rf"v1\.safetensors: '{name}' is torch\.uint8, and torch\.float32 in the model"
    with pytest.raises(RunError, match=told):
        open_scorer(tmp_path / "bundle").load_model()
    assert content(tmp_path / "bundle").keys() == before.keys()
