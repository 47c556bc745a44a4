"""Export: what a bundle holds, that it scores as its runs do, and that it is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

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
from toy_work import CrashError
from whenabouts import __version__
from whenabouts.core.errors import RunError, UsageError
from whenabouts.corpus.corpus import Corpus
from whenabouts.train import export as export_module
from whenabouts.train.bundle import open_bundle
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.export import export, open_members, shares
from whenabouts.train.run import Run, open_run

WITHOUT_RUN_JSON = {"recipe.json", "classes.csv", "video-classes.csv", "v1.safetensors"}


@pytest.fixture
def wide(corpus: Corpus, tmp_path: Path) -> Run:
    return make_run(tmp_path / "wide", corpus, WIDE_VIDEO)


@pytest.fixture
def small(corpus: Corpus, tmp_path: Path) -> Run:
    return make_run(tmp_path / "small", corpus, SMALL_VIDEO, 1, ("train", "v1"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def state(run: Run) -> dict[str, torch.Tensor]:
    return run.load_model()[0].state_dict()


# ---- what is written -----------------------------------------------------------------------------


def test_what_a_bundle_holds(wide: Run, small: Run, out: Path) -> None:
    (small.path / "run.json").write_text('{"recipe": "video-logistic", "time_s": 1.5}')
    bundle = export([wide, small], out, [0.75, 0.25])
    found = content(out)
    assert set(found) == {
        "bundle.json",
        *(f"1-video-mlp/{name}" for name in WITHOUT_RUN_JSON),
        *(f"2-video-logistic/{name}" for name in WITHOUT_RUN_JSON | {"run.json"}),
    }
    assert json.loads(found["bundle.json"]) == {
        "members": [
            {"run": "1-video-mlp", "weight": 0.75, "trained_on": ["v1"]},
            {"run": "2-video-logistic", "weight": 0.25, "trained_on": ["train", "v1"]},
        ],
        "bits": 8,
        "format": 1,
        "whenabouts": __version__,
    }
    assert json.loads(found["2-video-logistic/run.json"])["time_s"] == 1.5
    assert bundle.size == sum(map(len, found.values()))
    first = {name: len(v) for name, v in found.items() if name.startswith("1-")}
    assert bundle.members[0].folder_size == sum(first.values())
    assert bundle.members[0].weights_after == first["1-video-mlp/v1.safetensors"]
    assert bundle.members[0].weights_before == wide.weights_path.stat().st_size


def test_a_member_is_a_run_that_tells_nothing_of_where_it_was(
    wide: Run, out: Path, corpus: Corpus
) -> None:
    export([wide], out, [1.0])
    member = open_run(out / "1-video-mlp")
    assert (member.recipe, member.dataset) == (wide.recipe, wide.dataset)
    assert (member.classes, member.video_classes) == (wide.classes, wide.video_classes)
    assert member.load_model()[1] == wide.load_model()[1]
    for text in content(out).values():
        assert str(corpus.path.parent).encode() not in text
        assert str(wide.path).encode() not in text


def test_files_that_it_learned_from_are_names(small: Run, out: Path) -> None:
    recipe = json.loads((small.path / "recipe.json").read_text())
    recipe["recipe"]["strategy"]["teacher"] = "/home/somebody/secret/teacher-scores"
    (small.path / "recipe.json").write_text(json.dumps(recipe))
    told = {"pseudo_labels": {"labels": "/home/somebody/secret/l.parquet", "made_by": ["/a/b"]}}
    (small.path / "run.json").write_text(json.dumps(told))
    model, facts = small.load_model()
    save_weights(small.weights_path, model, {**facts, **told})
    export([open_run(small.path)], out, [1.0])
    member = open_run(out / "1-video-logistic")
    assert member.recipe["strategy"]["teacher"] == "teacher-scores"
    assert member.load_model()[1]["pseudo_labels"] == {"labels": "l.parquet", "made_by": ["b"]}
    for path in out.rglob("*"):
        assert path.is_dir() or b"somebody" not in path.read_bytes()


def test_the_final_weights_are_taken(small: Run, out: Path) -> None:
    model, _ = small.load_model()
    torch.nn.init.constant_(next(model.parameters()), 2.0)
    facts = {"phase": "final", "step": 7, "trained_on": ["v1", "v2"]}
    save_weights(small.path / "final.safetensors", model, facts)
    export([small], out, [1.0])
    member = open_run(out / "1-video-logistic")
    assert member.weights_path.name == "final.safetensors"
    assert not (member.path / "v1.safetensors").exists()
    assert member.load_model()[1] == facts


def test_large_tensors_become_bytes(wide: Run, out: Path) -> None:
    bundle = export([wide], out, [1.0], bits=8)
    with safe_open(out / "1-video-mlp" / "v1.safetensors", framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    before, after = state(wide), state(open_run(out / "1-video-mlp"))
    large = {name for name, tensor in before.items() if tensor.numel() > 17_000}
    assert large == {
        "layers.0.linear.weight", "layers.1.inner.linear.linear.weight", "layers.1.out.weight",
    }  # fmt: skip
    for name, tensor in before.items():
        assert kept[name].dtype == (torch.uint8 if name in large else torch.float32)
        assert after[name].dtype == torch.float32
        step = float(tensor.max() - tensor.min()) / 255 if name in large else 0
        assert float((after[name] - tensor).abs().max()) <= step * 0.5001
    assert 3.5 < bundle.ratio < 4


def test_32_bits_are_the_weights_byte_for_byte(wide: Run, out: Path) -> None:
    bundle = export([wide], out, [1.0], bits=32)
    kept = (out / "1-video-mlp" / "v1.safetensors").read_bytes()
    assert kept == wide.weights_path.read_bytes()
    assert bundle.ratio == 1
    assert json.loads((out / "bundle.json").read_text())["bits"] == 32


def test_small_tensors_are_written_as_ever(small: Run, out: Path) -> None:
    export([small], out, [1.0])
    kept = (out / "1-video-logistic" / "v1.safetensors").read_bytes()
    assert kept == small.weights_path.read_bytes()


def test_a_member_exported_again_is_the_same(wide: Run, out: Path, tmp_path: Path) -> None:
    export([wide], out, [1.0])
    export([open_run(out / "1-video-mlp")], tmp_path / "again", [1.0])
    assert content(tmp_path / "again") == content(out)


# ---- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [WIDE_VIDEO, WIDE_SEGMENT], ids=["video", "segment"])
def test_a_bundle_of_one_scores_as_its_run(
    model: Any, corpus: Corpus, tmp_path: Path, out: Path
) -> None:
    run = make_run(tmp_path / "run", corpus, model)
    expected = scores_of(run, corpus, tmp_path / "s")
    export([run], out, [1.0], bits=32)
    exact = scores_of(open_bundle(out), corpus, tmp_path / "exact")
    assert np.array_equal(exact, expected)
    export([run], out, [1.0], bits=8)
    found = scores_of(open_bundle(out), corpus, tmp_path / "found")
    assert 0 < np.abs(found - expected).max() < 0.03
    assert expected.std() > 0.1
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_several_score_as_their_weighted_mean(corpus: Corpus, tmp_path: Path, out: Path) -> None:
    models = SMALL_SEGMENT, OTHER_SEGMENT, SMALL_SEGMENT
    runs = [make_run(tmp_path / f"{k}", corpus, model, k) for k, model in enumerate(models)]
    weights = [0.5, 0.3, 0.2]
    export(runs, out, weights)
    apart = [scores_of(run, corpus, tmp_path / f"s{k}") for k, run in enumerate(runs)]
    found = scores_of(open_bundle(out), corpus, tmp_path / "s")
    mean = sum(w * scores.astype(np.float64) for w, scores in zip(weights, apart))
    np.testing.assert_allclose(found, mean, atol=1e-6)
    assert np.abs(found - apart[0]).max() > 0.1


# ---- weights -------------------------------------------------------------------------------------


def test_shares() -> None:
    assert shares([], 4) == (0.25,) * 4
    assert shares([3], 1) == (1.0,)
    assert shares([1, 3], 2) == (0.25, 0.75)
    assert shares([0.5, 0.3, 0.2], 3) == pytest.approx((0.5, 0.3, 0.2))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "1 weights for 2 runs; --weights has one a run"),
        ([1.0, 2.0, 3.0], "3 weights for 2 runs"),
        ([1.0, 0.0], "--weights are 1, 0; they are finite and above 0; leave out the run"),
        ([1.0, -1.0], "--weights are 1, -1"),
        ([1.0, float("nan")], "--weights are 1, nan"),
        ([1.0, float("inf")], "--weights are 1, inf"),
    ],
)
def test_weights_that_make_no_mean(weights: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shares(weights, 2)


# ---- whole, or not there -------------------------------------------------------------------------


def test_a_size_that_fits_and_one_that_does_not(
    wide: Run, small: Run, out: Path, tmp_path: Path
) -> None:
    size = export([wide, small], tmp_path / "b", [0.5, 0.5]).size
    assert export([wide, small], out, [0.5, 0.5], max_size=size).size == size
    before = content(tmp_path)
    told = (
        rf"bundle: it would have {size:,} bytes \(1-video-mlp 4\d\d\.\d kB, 2-video-logistic "
        rf"\d\.\d kB\); --max-size is {size - 1:,} bytes; leave runs out, train smaller ones or "
        "raise --max-size"
    )
    with pytest.raises(RunError, match=told):
        export([wide, small], out, [0.5, 0.5], max_size=size - 1)
    assert content(tmp_path) == before
    with pytest.raises(RunError, match="train smaller ones, pass --bits 8 or raise --max-size"):
        export([wide, small], tmp_path / "new", [0.5, 0.5], bits=32, max_size=size)
    assert content(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "bundle", "small", "wide"]


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("error", [CrashError, KeyboardInterrupt, OSError])
def test_what_fails_midway_changes_nothing(
    error: type[BaseException], is_there: bool, wide: Run, small: Run, out: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if is_there:
        export([small], out, [1.0])
    before, written = content(tmp_path), []

    def fail_at_the_second(path: Path, *rest: Any) -> None:
        if written:
            raise error("stop")
        written.append(path)
        save_weights(path, *rest)

    monkeypatch.setattr(export_module, "save_weights", fail_at_the_second)
    with pytest.raises(error, match="stop"):
        export([wide, small], out, [0.5, 0.5])
    assert len(written) == 1
    assert content(tmp_path) == before
    there = {"wide", "small", *(["bundle"] if is_there else [])}
    assert {path.name for path in tmp_path.iterdir()} == there


def test_a_bundle_replaces_a_bundle_wholly(wide: Run, small: Run, out: Path) -> None:
    export([wide, small], out, [0.5, 0.5])
    export([small], out, [1.0])
    assert {path.name for path in out.iterdir()} == {"bundle.json", "1-video-logistic"}


def file_there(out: Path) -> None:
    out.write_text("kept")


def folder_there(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("kept")


@pytest.mark.parametrize("make", [file_there, folder_there])
def test_anything_else_is_never_replaced(
    make: Callable[[Path], None], small: Run, out: Path, tmp_path: Path
) -> None:
    make(out)
    before = content(tmp_path)
    with pytest.raises(RunError, match="bundle: something else than a bundle is here; choose anot"):
        export([small], out, [1.0])
    with pytest.raises(RunError, match="small: something else than a bundle is here"):
        export([small], small.path, [1.0])
    assert content(tmp_path) == before


def test_an_empty_folder_and_one_that_is_not_there(small: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export([small], tmp_path / "empty", [1.0])
    export([small], tmp_path / "not" / "there", [1.0])
    assert content(tmp_path / "empty") == content(tmp_path / "not" / "there")


def test_a_bundle_does_not_replace_the_run_it_is_made_of(small: Run, out: Path) -> None:
    export([small], out, [1.0])
    before = content(out)
    with pytest.raises(UsageError, match=r"bundle: the run .*1-video-logistic lies in it"):
        export([open_run(out / "1-video-logistic")], out, [1.0])
    assert content(out) == before


# ---- runs that cannot be exported ----------------------------------------------------------------


def test_no_run_a_bundle_and_no_weights(small: Run, out: Path) -> None:
    with pytest.raises(UsageError, match="no run is given; a bundle has a member at least"):
        open_members([])
    with pytest.raises(RunError, match=r"no recipe\.json here; a run is a folder"):
        open_members([small.path, out])
    export([small], out, [1.0])
    with pytest.raises(RunError, match=r"bundle: a bundle is here; what is exported are runs"):
        open_members([small.path, out])
    assert open_members([small.path]) == (small,)
    small.weights_path.unlink()
    before = content(out)
    with pytest.raises(RunError, match="no weights yet; finish training with --resume"):
        export([small], out, [1.0])
    assert content(out) == before


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    value: float, bits: Any, wide: Run, small: Run, out: Path
) -> None:
    for run, name in ((wide, "layers.1.out.weight"), (small, None)):
        model, facts = run.load_model()
        parameters = dict(model.named_parameters())
        name = name or next(iter(parameters))
        with torch.no_grad():
            parameters[name].view(-1)[3] = value
        save_weights(run.weights_path, model, facts)
        told = rf"{run.path.name}/v1.safetensors: '{name}' has a value that is NaN or infinite"
        with pytest.raises(RunError, match=told):
            export([run], out, [1.0], bits=bits)
        assert not out.exists()


@pytest.mark.parametrize("splits", [None, "v1", [1], {"v1": 1}])
def test_weights_that_do_not_say_what_they_were_trained_on(
    splits: Any, small: Run, out: Path
) -> None:
    model, facts = small.load_model()
    save_weights(small.weights_path, model, {**facts, "trained_on": splits})
    with pytest.raises(RunError, match=r"v1\.safetensors: it was trained on .*; weights say whi"):
        export([small], out, [1.0])
    assert not out.exists()
