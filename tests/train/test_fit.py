"""The loop against a plain one written out, and when it looks, keeps, stops and saves."""

from __future__ import annotations

import gc
import signal
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from toy_work import (
    BATCH,
    CrashError,
    Toy,
    crash_at,
    log_lines,
    scripted,
    signal_at,
    toy_batch,
    toy_loss,
    toy_model,
)
from whenabouts.core.errors import InterruptedRunError
from whenabouts.train.checkpoint import load_checkpoint, load_weights
from whenabouts.train.fit import build_optimiser, reduced_precision
from whenabouts.train.settings import Loop, Optimiser
from whenabouts.train.stop import stop_on_signal

CALM = Loop(batch_size=BATCH, max_steps=12, evaluate_every=2, patience=100, checkpoint_every_s=1e9)
NO_DROPOUT = 0.0


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


# ---- the steps themselves ------------------------------------------------------------------------


class ByHand(NamedTuple):
    model: nn.Module
    losses: list[float]
    norms: list[float]


def by_hand(rates: list[float], clip_norm: float = float("inf")) -> ByHand:
    """Adam as Kingma and Ba write it, gradients clipped by their whole norm."""
    found = ByHand(toy_model(NO_DROPOUT), [], [])
    parameters = list(found.model.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    for step, rate in enumerate(rates):
        loss = toy_loss(found.model, toy_batch(step))
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in gradients)).item()
        found.losses.append(loss.item())
        found.norms.append(norm)
        scale = min(1.0, clip_norm / norm)
        for p, g, m, v in zip(parameters, gradients, first, second):
            m.mul_(0.9).add_(0.1 * scale * g)
            v.mul_(0.999).add_(0.001 * (scale * g) ** 2)
            m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            p.data -= rate * m_hat / (v_hat.sqrt() + 1e-8)
    return found


@pytest.mark.parametrize("is_clipped", [False, True])
def test_steps_against_a_loop_by_hand(
    is_clipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate falls by half every 16 examples: two steps of 8.

    Adam does not feel a factor on all gradients, so that the norm clipped to lies between them.
    """
    rates = [0.1 * 0.5 ** (step / 2) for step in range(8)]
    clip_norm = sorted(by_hand(rates).norms)[4] if is_clipped else 0.0
    expected = by_hand(rates, clip_norm or float("inf"))
    settings = Optimiser(learning_rate=0.1, decay=0.5, decay_examples=16, clip_norm=clip_norm)
    loop = replace(CALM, max_steps=8, evaluate_every=1)
    toy = Toy(tmp_path, loop, settings, model=toy_model(NO_DROPOUT))
    toy.fit(monkeypatch)
    assert_same(state(toy.model), state(expected.model))
    told = [line for line in log_lines(tmp_path) if line["kind"] == "train"]
    assert [line["loss"] for line in told] == pytest.approx(expected.losses, rel=1e-4)
    assert [line["learning_rate"] for line in told] == pytest.approx(rates)
    if is_clipped:
        assert min(expected.norms) < 0.9 * clip_norm < 1.1 * clip_norm < max(expected.norms)


def test_training_mode_for_steps_evaluation_mode_for_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool, bool]] = []
    toy = Toy(tmp_path, replace(CALM, max_steps=4))

    def evaluate(model: nn.Module) -> float:
        seen.append(("look", model.training, torch.is_inference_mode_enabled()))
        return 0.5

    def watch(module: nn.Module, inputs: object) -> None:
        if torch.is_grad_enabled():
            seen.append(("step", module.training, torch.is_inference_mode_enabled()))

    toy.evaluate = evaluate
    toy.model.register_forward_pre_hook(watch)
    toy.fit(monkeypatch)
    step, look = ("step", True, False), ("look", False, True)
    assert seen == [step, step, look, step, step, look]


# ---- when to look, what to keep, when to stop ----------------------------------------------------


def test_the_plateau_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Best at step 4 (an equal value is no better); patience 3: done at the look of step 10."""
    values = [0.1, 0.3, 0.3, 0.2, 0.1, 0.9]
    toy = Toy(tmp_path, replace(CALM, max_steps=100, patience=3), evaluate=scripted(values))
    position = toy.fit(monkeypatch)
    assert (position.step, position.best_step, position.best) == (10, 4, 0.3)
    assert position.history == (0.1, 0.3, 0.3, 0.2, 0.1)
    assert position.is_done
    looks = [line for line in log_lines(tmp_path) if line["kind"] == "evaluate"]
    assert [line["step"] for line in looks] == [2, 4, 6, 8, 10]
    assert [line["mean_ap"] for line in looks] == values[:5]


def test_a_better_look_starts_the_patience_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [0.5, 0.4, 0.6, 0.1, 0.61, 0.2, 0.3, 0.9]
    toy = Toy(tmp_path, replace(CALM, max_steps=100, patience=2), evaluate=scripted(values))
    position = toy.fit(monkeypatch)
    assert (position.step, position.best_step) == (14, 10)


def test_patience_1_stops_at_the_first_look_that_is_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tmp_path, replace(CALM, patience=1), evaluate=scripted([0.0, 0.0, 1.0]))
    assert toy.fit(monkeypatch).step == 4


def test_the_best_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the best step, buffers too; not the last ones, nor the first."""
    seen = []
    values = scripted([0.2, 0.7, 0.6, 0.7])

    def evaluate(model: nn.Module) -> float:
        seen.append(state(model))
        return values(model)

    toy = Toy(tmp_path, replace(CALM, max_steps=8), evaluate=evaluate)
    toy.fit(monkeypatch)
    kept = toy_model()
    facts = load_weights(tmp_path / "v1.safetensors", kept)
    assert facts == {"phase": "v1", "step": 4, "trained_on": ["v1"]}
    for name, value in kept.state_dict().items():
        assert torch.equal(value, seen[1][name]), name
    assert not torch.equal(kept[0].weight, seen[0]["0.weight"])
    assert not torch.equal(kept[0].weight, toy.model[0].weight)


def test_the_last_step_is_looked_at_even_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tmp_path, replace(CALM, max_steps=7, evaluate_every=3))
    assert toy.fit(monkeypatch).step == 7
    assert [(line["kind"], line["step"]) for line in log_lines(tmp_path)] == [
        (kind, step) for step in (3, 6, 7) for kind in ("train", "evaluate")
    ]


def test_without_a_watched_split_the_last_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = replace(CALM, max_steps=5, patience=1)
    toy = Toy(
        tmp_path, loop, evaluate=None, phase="final", trained_on=("v1", "v2"), hook=crash_at(4)
    )
    with pytest.raises(CrashError):
        toy.fit(monkeypatch)
    assert not (tmp_path / "final.safetensors").exists()
    toy.hook = lambda step: None
    position = toy.fit(monkeypatch)
    assert (position.step, position.is_done, position.history) == (5, True, ())
    kept = toy_model()
    facts = load_weights(tmp_path / "final.safetensors", kept)
    assert facts == {"phase": "final", "step": 5, "trained_on": ["v1", "v2"]}
    assert all(torch.equal(v, toy.model.state_dict()[k]) for k, v in kept.state_dict().items())
    assert {(line["kind"], line["phase"]) for line in log_lines(tmp_path)} == {("train", "final")}


def test_what_a_line_of_the_log_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 examples an epoch, batches of 8, a batch a second."""
    toy = Toy(tmp_path, replace(CALM, max_steps=4), evaluate=scripted([0.25, 0.5]))
    toy.fit(monkeypatch)
    lines = log_lines(tmp_path)
    assert [line.pop("loss") > 0 for line in lines if line["kind"] == "train"] == [True, True]
    rates = [0.05 * 0.95 ** (step * 8 / 64) for step in (1, 3)]
    common = {"phase": "v1"}
    assert lines == [
        {"kind": "train", "step": 2, "epoch": 0.4, "learning_rate": pytest.approx(rates[0]),
         "time_s": 2.0, "segments_per_s": 8.0, **common},
        {"kind": "evaluate", "step": 2, "epoch": 0.4, "split": "v2", "mean_ap": 0.25,
         "time_s": 2.0, **common},
        {"kind": "train", "step": 4, "epoch": 0.8, "learning_rate": pytest.approx(rates[1]),
         "time_s": 4.0, "segments_per_s": 8.0, **common},
        {"kind": "evaluate", "step": 4, "epoch": 0.8, "split": "v2", "mean_ap": 0.5,
         "time_s": 4.0, **common},
    ]  # fmt: skip


# ---- checkpoints ---------------------------------------------------------------------------------


def step_on_disk(run: Path) -> int:
    """What the checkpoint says; looking does not touch the random state."""
    with torch.random.fork_rng():
        model = toy_model()
        optimiser = build_optimiser(model, Optimiser())
        return load_checkpoint(run / "checkpoints" / "v1.safetensors", model, optimiser).step


@pytest.mark.parametrize(
    ("every_s", "expected"),
    [(0, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 0, 0, 3, 3, 3, 6]), (1e9, [0] * 7)],
)
def test_a_checkpoint_every_so_many_seconds(
    every_s: float, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes a second; what is on the disk before each of seven steps."""
    found = []
    loop = replace(CALM, max_steps=7, checkpoint_every_s=every_s)
    toy = Toy(tmp_path, loop, hook=lambda step: found.append(step_on_disk(tmp_path)))
    toy.fit(monkeypatch)
    assert found == expected
    assert step_on_disk(tmp_path) == 7


@pytest.mark.parametrize("values", [None, [0.5, 0.4, 0.3]])
def test_the_end_is_saved_and_not_run_again(
    values: list[float] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At max_steps, or at the plateau: whoever calls again gets the same position at once."""
    loop = replace(CALM, patience=2 if values else 100)
    toy = Toy(tmp_path, loop, evaluate=scripted(values) if values else None)
    position = toy.fit(monkeypatch)
    assert (position.is_done, position.step) == (True, 6 if values else 12)
    again = Toy(tmp_path, loop, evaluate=None, hook=crash_at(position.step))
    before = (tmp_path / "v1.safetensors").read_bytes(), log_lines(tmp_path)
    assert again.fit(monkeypatch) == position
    assert ((tmp_path / "v1.safetensors").read_bytes(), log_lines(tmp_path)) == before


def test_time_is_counted_over_all_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = replace(CALM, checkpoint_every_s=1)
    with pytest.raises(CrashError):
        Toy(tmp_path, loop, hook=crash_at(5)).fit(monkeypatch)
    toy = Toy(tmp_path, loop)
    toy.clock.now_s = 9e6
    assert toy.fit(monkeypatch).elapsed_s == 12
    assert [line["time_s"] for line in log_lines(tmp_path)] == [
        float(step) for step in range(2, 13, 2) for _ in range(2)
    ]


# ---- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    toy = Toy(tmp_path, CALM, hook=signal_at(4, number))
    with pytest.raises(InterruptedRunError, match=r"stopped at step 5; go on with --resume"):
        toy.fit(monkeypatch)
    assert step_on_disk(tmp_path) == 5
    assert signal.getsignal(number) is before
    assert [line["step"] for line in log_lines(tmp_path)] == [2, 2, 4, 4]


def test_a_second_signal_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path, CALM, hook=signal_at(4, signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        toy.fit(monkeypatch)
    assert step_on_disk(tmp_path) == 0


def test_a_signal_at_the_plateau_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = replace(CALM, patience=1)
    toy = Toy(tmp_path, loop, evaluate=scripted([0.5, 0.5]), hook=signal_at(3, signal.SIGINT))
    assert toy.fit(monkeypatch).is_done


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signal() as stop:
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == stop.ask
        assert not stop.is_asked
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(CrashError), stop_on_signal():
        raise CrashError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# ---- memory --------------------------------------------------------------------------------------


def test_nothing_piles_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tensors are alive after 100 steps as after 20."""
    alive = {}

    def count(step: int) -> None:
        if step in (20, 100):
            gc.collect()
            alive[step] = sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    loop = replace(CALM, max_steps=101, checkpoint_every_s=7)
    Toy(tmp_path, loop, hook=count).fit(monkeypatch)
    assert alive[100] == alive[20]


# ---- how a step is computed ----------------------------------------------------------------------


def test_weight_decay_is_of_matrices_alone() -> None:
    """Biases, and scales and shifts of norms, keep their size."""
    optimiser = build_optimiser(toy_model(), Optimiser(weight_decay=0.5))
    dims = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in optimiser.param_groups}
    assert dims == {0.5: {2}, 0.0: {1}}
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(
        list(toy_model().parameters())
    )


def test_frozen_parameters_are_not_the_optimisers() -> None:
    model = toy_model()
    model[1].requires_grad_(False)
    model[4].bias.requires_grad_(False)
    optimiser = build_optimiser(model, Optimiser())
    held = {id(p) for g in optimiser.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("float32", "cuda", False),
        ("bfloat16", "cpu", True),
    ],
)
def test_which_products_are_rounded(precision: str, device: str, expected: bool) -> None:
    assert reduced_precision(Loop(precision=precision), torch.device(device)) == expected


def test_looks_are_in_full_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    toy = Toy(tmp_path, replace(CALM, max_steps=2, precision="bfloat16"))

    def watch(module: nn.Module, inputs: object, output: Tensor) -> None:
        kinds.append((module.training, output.dtype))

    toy.model[0].register_forward_hook(watch)
    toy.fit(monkeypatch)
    assert kinds == [(True, torch.bfloat16)] * 2 + [(False, torch.float32)]


def test_the_loss_is_compiled_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile gets the loss, for shapes that change, and what it returns is used."""
    seen = []

    def stand_in(loss: object, **settings: object) -> object:
        def compiled(*arguments: object) -> object:
            seen.append(settings)
            return loss(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", stand_in)
    Toy(tmp_path / "as-is", replace(CALM, max_steps=2)).fit(monkeypatch)
    assert seen == []
    Toy(tmp_path / "compiled", replace(CALM, max_steps=2, compile=True)).fit(monkeypatch)
    assert seen == [{"dynamic": True}] * 2
