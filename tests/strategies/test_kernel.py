"""S2 whose second half is similarity to rated segments: fitted on what, and resumed."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from commandline import run as command
from toy_work import ALONE, CrashError, log_lines
from whenabouts.core.errors import SettingsError
from whenabouts.corpus.corpus import Corpus, Ragged
from whenabouts.corpus.splits import SPLITS, Split
from whenabouts.feed.rated import RatedSegments
from whenabouts.models.hierarchical import LSE, Hierarchical, SegmentWindows, scaled
from whenabouts.models.rated_kernel import KernelSettings
from whenabouts.strategies import kernel as kernel_module
from whenabouts.strategies.kernel import rated_pairs
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.s2 import S2, Pretrain, train_s2
from whenabouts.strategies.setup import Negatives, Setup, build_seeded, watched_map
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

RATE = Optimiser(name="adamw", learning_rate=1e-3)
PRETRAIN = Pretrain(optimiser=RATE, batch_size=8, max_steps=4, evaluate_every=2, patience=9)
ONE_LOOK = replace(PRETRAIN, evaluate_every=4)
KERNEL = KernelSettings(prior=0.5, penalty=0.1, bandwidth=2.0)
LOOP = Loop(batch_size=16)
PHASES = ("pretrain", "v1", "pretrain-final", "final")


def strategy_of(pretrain: Pretrain = PRETRAIN, kernel: KernelSettings = KERNEL) -> S2:
    return S2(pretrain=pretrain, fine_tuning="kernel", kernel=kernel)


def build(corpus: Corpus) -> Hierarchical:
    settings = scaled(LSE(), "tiny")
    built = build_for(settings, corpus.dataset, corpus.classes, corpus.video_classes)
    assert isinstance(built, Hierarchical)
    return built


def train(
    corpus: Corpus, run: Path, strategy: S2, *, final: bool = False, on_line: Any = None
) -> tuple[Position, Setup]:
    """One sitting, as a new process would begin it."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(12345)
    with closing(MetricsLog(run, on_line=on_line)) as log:
        setup = Setup(corpus, run, log, ALONE)
        found = train_s2(lambda: build(corpus), strategy, RATE, LOOP, setup, final=final)
    return found, setup


def loaded(corpus: Corpus, run: Path, phase: str) -> tuple[Hierarchical, dict[str, Any]]:
    model = build(corpus)
    facts = load_weights(run / f"{phase}.safetensors", model)
    return model.eval(), facts


def rated_of(corpus: Corpus, splits: list[Split], run: Path, model: Hierarchical) -> RatedSegments:
    with closing(MetricsLog(run)) as log:
        return Setup(corpus, run, log, ALONE).rated(splits, model)


def with_other_v2(corpus: Corpus) -> Corpus:
    """Each rating of V2 says the opposite."""
    score = corpus.rated_score
    is_v2 = corpus.split[score.rows] == SPLITS.index("v2")
    values = np.where(is_v2, 1 - score.values, score.values).astype(score.values.dtype)
    return replace(corpus, rated_score=Ragged(values, score.offsets))


@dataclass(frozen=True)
class Whole:
    """A training with its final phases that nothing stopped."""

    run: Path
    found: Position
    setup: Setup


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    run = tmp_path_factory.mktemp("whole")
    return Whole(run, *train(corpus, run, strategy_of(), final=True))


# ---- what is fitted on what ----------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("pretrain", "v1"), ("pretrain-final", "final")])
def test_the_network_stays_as_pre_training_left_it(
    before: str, after: str, whole: Whole, corpus: Corpus
) -> None:
    """But for the head of a phase that watched nothing, which is filled from the video head."""
    pretrained, _ = loaded(corpus, whole.run, before)
    fitted, _ = loaded(corpus, whole.run, after)
    assert not pretrained.rated_kernel.is_fitted
    then, now = pretrained.state_dict(), fitted.state_dict()
    others = [name for name in then if not name.startswith("segment_head.")]
    assert all(torch.equal(now[name], then[name]) for name in others)
    for column, class_id in enumerate(corpus.classes.ids):
        row = corpus.video_classes.ids.index(class_id)
        for part in ("weight", "bias"):
            ours, theirs = now[f"segment_head.linear.{part}"], now[f"video_head.linear.{part}"]
            assert torch.equal(ours[column], theirs[row])
    added = {name for name in now if name not in then}
    assert added == {f"rated_kernel.{name}" for name in fitted.rated_kernel.state_dict()}
    assert len(added) == 9


@pytest.mark.parametrize(("phase", "splits"), [("v1", ["v1"]), ("final", ["v1", "v2"])])
def test_it_is_fitted_on_the_rated_segments_of_its_splits(
    phase: str, splits: list[Split], whole: Whole, corpus: Corpus
) -> None:
    model, facts = loaded(corpus, whole.run, phase)
    assert facts["trained_on"] == ["train", *splits]
    assert facts["phase"] == phase
    rated = rated_of(corpus, splits, whole.run, model)
    batch = rated.batch(np.arange(len(rated)))
    with torch.no_grad():
        features, _ = model.encode_segments(batch.features, batch.mask)
    kernel = model.rated_kernel
    torch.testing.assert_close(kernel.supports, features)
    # Optimal for these pairs: the sum of a is 0 a class, and penalty a = y - p.
    answers = model.pair_logits_of(features, batch.pair_segment, batch.pair_class).detach()
    a = torch.zeros(len(rated), len(corpus.classes))
    a[kernel.pair_support, kernel.pair_class] = kernel.coefficient
    pairs = batch.pair_segment, batch.pair_class
    is_positive = (batch.pair_label >= 0.5).float()
    has_both = a.abs().sum(dim=0) > 0
    assert has_both.sum() >= 3
    expected = torch.where(has_both[pairs[1]], is_positive - answers.sigmoid(), 0)
    torch.testing.assert_close(KERNEL.penalty * a[pairs], expected, atol=1e-4, rtol=0)
    assert (kernel.prior == torch.where(has_both, KERNEL.prior, 1.0)).all()


def test_of_a_segment_with_windows_it_is_fitted_on_their_mean(
    corpus: Corpus, tmp_path: Path
) -> None:
    settings = replace(scaled(LSE(), "tiny"), windows=SegmentWindows(2))
    model = build_for(settings, corpus.dataset, corpus.classes, corpus.video_classes)
    assert isinstance(model, Hierarchical)
    rated = rated_of(corpus, ["v1"], tmp_path, model.eval())
    found, batch = rated_pairs(model, rated), rated.batch(np.arange(len(rated)))
    with torch.no_grad():
        encoded, _ = model.encode_segments(batch.features, batch.mask)
        means = encoded.view(len(rated), 4, 64).mean(dim=1)
        torch.testing.assert_close(found.features, means)
        torch.testing.assert_close(found.logits, model.segment_head(means))


def test_where_it_ends(whole: Whole, corpus: Corpus) -> None:
    """Best is the mAP on V2 of the fitted model; the step is that of the pre-training."""
    found, setup = whole.found, whole.setup
    model, facts = loaded(corpus, whole.run, "v1")
    rated = rated_of(corpus, ["v2"], whole.run, model)
    with torch.inference_mode():
        value = watched_map(model, rated, corpus.classes, ALONE)
    assert found.best == pytest.approx(value)
    best = setup.ended["pretrain"].position.best_step
    assert (found.phase, found.step, found.best_step, facts["step"]) == ("v1", best, best, best)
    assert found.is_done
    assert [setup.ended[p].trained_on for p in PHASES] == [
        ("train", "v1"), ("train", "v1"), ("train", "v1", "v2"), ("train", "v1", "v2"),
    ]  # fmt: skip
    assert setup.ended["pretrain-final"].position.step == 2 * best
    assert loaded(corpus, whole.run, "final")[1]["step"] == 2 * best


def test_the_step_is_the_one_whose_weights_were_kept(
    whole: Whole, corpus: Corpus, tmp_path: Path
) -> None:
    """Also where the pre-training went on behind its best step."""
    model, _ = loaded(corpus, whole.run, "pretrain")
    pretrained = Position("pretrain", step=4, best_step=2)
    with closing(MetricsLog(tmp_path)) as log:
        setup = Setup(corpus, tmp_path, log, ALONE)
        found = kernel_module.fit_kernel("v1", pretrained, model, KERNEL, (), ("v1",), None, setup)
    assert (found.step, loaded(corpus, tmp_path, "v1")[1]["step"]) == (2, 2)


@pytest.mark.parametrize("before", [0.0, 2.0])
def test_a_kernel_that_is_worse_than_the_pre_training_is_told(
    before: float, corpus: Corpus, whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = loaded(corpus, whole.run, "pretrain")
    pretrained = Position("pretrain", step=4, best_step=2, best=before)
    with closing(MetricsLog(tmp_path)) as log:
        setup = Setup(corpus, tmp_path, log, ALONE)
        watched = setup.watched(model)
        fit = ("v1", pretrained, model, KERNEL, (), ("v1",), watched, setup)
        found = kernel_module.fit_kernel(*fit)
    told = capsys.readouterr().err
    is_worse = f"note: V2 mAP is {found.best:.4f} with the kernel and was {before:.4f} without it"
    assert (is_worse in told) == (before > found.best)


def test_the_log_has_one_line_of_the_fit(whole: Whole) -> None:
    lines = log_lines(whole.run)
    assert [line["phase"] for line in lines if line["kind"] == "evaluate"] == [
        "pretrain", "pretrain", "v1",
    ]  # fmt: skip
    (line,) = (line for line in lines if line["phase"] == "v1")
    assert (line["split"], line["step"]) == ("v2", 1)
    assert line["mean_ap"] == whole.found.best


def test_the_fit_changes_what_is_found(whole: Whole, corpus: Corpus) -> None:
    model, _ = loaded(corpus, whole.run, "v1")
    features = torch.randn(20, 64).relu()
    with torch.no_grad():
        assert not torch.allclose(model.segment_logits(features), model.segment_head(features))


def with_halves(scores: Ragged) -> Ragged:
    """Every third score says that it may be."""
    at = np.arange(len(scores.values)) % 3
    return Ragged(np.where(at, scores.values, 0.5).astype(np.float32), scores.offsets)


def test_rated_pairs_as_the_model_sees_them(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In evaluation, whatever it was in; a part at a time as all at once. Half is positive."""
    model = build_seeded(lambda: build(corpus), 0, ALONE)
    assert isinstance(model, Hierarchical)
    corpus = replace(corpus, rated_score=with_halves(corpus.rated_score))
    rated = rated_of(corpus, ["v1", "v2"], tmp_path, model)
    found = rated_pairs(model.train(), rated)
    batch = rated.batch(np.arange(len(rated)))
    with torch.no_grad():
        logits = model.eval()(batch.features, batch.mask)
    torch.testing.assert_close(found.logits, logits)
    assert torch.equal(found.segment, batch.pair_segment)
    assert torch.equal(found.column, batch.pair_class)
    assert found.label.tolist() == [float(s >= 0.5) for s in batch.pair_label.tolist()]
    assert (batch.pair_label == 0.5).any()
    assert 0 < found.label.mean() < 1
    monkeypatch.setattr(kernel_module, "AT_ONCE", 7)
    assert len(rated) % 7
    parts = rated_pairs(model, rated)
    for name in ("features", "segment", "column", "label", "logits"):
        torch.testing.assert_close(getattr(parts, name), getattr(found, name))


# ---- nothing of V2 -------------------------------------------------------------------------------


def test_ratings_of_v2_do_not_reach_the_fit(corpus: Corpus, tmp_path: Path) -> None:
    """With one look in the pre-training there is nothing that they choose."""
    found = [
        train(each, tmp_path / name, strategy_of(ONE_LOOK), final=True)[0]
        for name, each in (("one", corpus), ("other", with_other_v2(corpus)))
    ]
    assert found[0].best != found[1].best
    one, other = (contents(tmp_path / name) for name in ("one", "other"))
    assert one["v1.safetensors"] == other["v1.safetensors"]
    assert one["final.safetensors"] != other["final.safetensors"]


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def test_settings_reach_the_fit(whole: Whole, corpus: Corpus, tmp_path: Path) -> None:
    wanted = load_file(whole.run / "v1.safetensors")
    for name, value in (("prior", 0.1), ("penalty", 1.0), ("bandwidth", 0.5), ("answers", 0.5)):
        train(corpus, tmp_path / name, strategy_of(kernel=replace(KERNEL, **{name: value})))
        found = load_file(tmp_path / name / "v1.safetensors")
        assert torch.equal(found["rated_kernel.supports"], wanted["rated_kernel.supports"])
        assert not same(found, wanted, "rated_kernel.coefficient")
        width = "rated_kernel.width"
        assert same(found, wanted, width) == (name not in ("bandwidth", "answers"))


def same(one: dict[str, Tensor], other: dict[str, Tensor], name: str) -> bool:
    return one[name].shape == other[name].shape and torch.allclose(one[name], other[name])


# ---- again, and resumed --------------------------------------------------------------------------


def assert_same(run: Path, whole: Whole) -> None:
    assert contents(run) == contents(whole.run)
    assert log_lines(run, without_times=True) == log_lines(whole.run, without_times=True)


def test_same_seed_same_bytes(whole: Whole, corpus: Corpus, tmp_path: Path) -> None:
    train(corpus, tmp_path, strategy_of(), final=True)
    assert_same(tmp_path, whole)


def crash_in(name: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of the function in kernel.py for this phase ends the process."""
    real, seen = getattr(kernel_module, name), {"phase": ""}
    folder = kernel_module.Folder

    def noted(run: Path, phase: str) -> Any:
        seen["phase"] = phase
        return folder(run, phase)

    def called(*args: Any, **kwargs: Any) -> Any:
        if seen["phase"] == phase:
            raise CrashError(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(kernel_module, "Folder", noted)
    monkeypatch.setattr(kernel_module, name, called)


@pytest.mark.parametrize(
    ("name", "phase", "has_weights"),
    [
        ("rated_pairs", "v1", False),
        ("save_weights", "v1", False),
        ("load_weights", "v1", True),
        ("watched_map", "v1", True),
        ("save_weights", "final", False),
        ("load_weights", "final", True),
    ],
)
def test_killed_anywhere_in_the_fit(
    name: str, phase: str, has_weights: bool, whole: Whole, corpus: Corpus, tmp_path: Path
) -> None:
    """Twice, and each time a line of another process is behind what it had logged."""
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            crash_in(name, phase, patch)
            with pytest.raises(CrashError):
                train(corpus, tmp_path, strategy_of(), final=True)
        assert (tmp_path / f"{phase}.safetensors").exists() == has_weights
    found, _ = train(corpus, tmp_path, strategy_of(), final=True)
    assert_same(tmp_path, whole)
    assert (found.best, found.best_step) == (whole.found.best, whole.found.best_step)


def test_killed_behind_the_line_of_the_fit(whole: Whole, corpus: Corpus, tmp_path: Path) -> None:
    def end(line: dict[str, Any]) -> None:
        if line["phase"] == "v1":
            raise CrashError

    with pytest.raises(CrashError):
        train(corpus, tmp_path, strategy_of(), final=True, on_line=end)
    assert log_lines(tmp_path)[-1]["phase"] == "v1"
    train(corpus, tmp_path, strategy_of(), final=True)
    assert_same(tmp_path, whole)


def test_a_line_whose_weights_were_not_written_is_cut(
    whole: Whole, corpus: Corpus, tmp_path: Path
) -> None:
    """As of a run whose weights were removed: it is fitted and logged anew."""
    train(corpus, tmp_path, strategy_of())
    (tmp_path / "v1.safetensors").unlink()
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"kind": "evaluate", "phase": "v1", "step": 4, "mean_ap": 0}) + "\n")
    train(corpus, tmp_path, strategy_of(), final=True)
    assert_same(tmp_path, whole)


def test_a_done_run_is_left_as_it_is(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = train(corpus, tmp_path, strategy_of(), final=True)
    before = {**contents(tmp_path), "log": (tmp_path / "metrics.jsonl").read_bytes()}
    for name in ("save_weights", "rated_pairs"):
        monkeypatch.setattr(kernel_module, name, None)
    again, _ = train(corpus, tmp_path, strategy_of(), final=True)
    assert {**contents(tmp_path), "log": (tmp_path / "metrics.jsonl").read_bytes()} == before
    assert (again.best, again.best_step) == (found.best, found.best_step)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"negatives": Negatives(unrated=0.1)},
        {"negatives": Negatives(outside=0.1)},
        {"pseudo": Pseudo(labels="some.parquet")},
    ],
)
def test_what_it_does_not_learn_from(beside: dict[str, Any]) -> None:
    told = r"fine_tuning: it is 'kernel', with weak negatives or pseudo-labels beside it; kernel "
    with pytest.raises(SettingsError, match=told):
        S2(fine_tuning="kernel", **beside)
    assert S2(**beside).fine_tuning == "gradient"


def test_the_command_refuses_it_too(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train", "lse", corpus.path, "-o", tmp_path / "run", "--strategy.negatives.unrated", 0.1
    outcome = command(capsys, *words)
    assert outcome.code == 2
    assert "leave these out, or fine-tune by gradient" in outcome.err
    assert not (tmp_path / "run").exists()
