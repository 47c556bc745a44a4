"""The moving average of the weights: its formula, and what the loop does with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from toy_work import BATCH, CrashError, Toy, crash_at, scripted, toy_model
from whenabouts.core.errors import RunError, SettingsError
from whenabouts.train.average import Average
from whenabouts.train.checkpoint import load_weights
from whenabouts.train.settings import Loop

LOOP = Loop(
    batch_size=BATCH, max_steps=6, evaluate_every=2, patience=9, checkpoint_every_s=0,
    average_half_life=3,
)  # fmt: skip


def floats(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: v.clone() for name, v in state.items() if v.is_floating_point()}


def test_the_average_by_hand() -> None:
    """A weight that is 1 at the start, then 2, 4, 8; d = 2/11, 3/12, 0.5 (half-life 1)."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average, expected = Average(model, half_life=1), 1.0
    for step, decay in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        nn.init.constant_(model.weight, 2.0**step)
        average.take(model, step)
        expected = decay * expected + (1 - decay) * 2.0**step
        assert float(average.tensors["weight"]) == pytest.approx(expected)
    average.take(model, 1000)
    assert float(average.tensors["weight"]) == pytest.approx((expected + 8) / 2)


def test_an_old_weight_counts_half_after_the_half_life() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average = Average(model, half_life=50)
    nn.init.zeros_(model.weight)
    for _ in range(50):
        average.take(model, 100_000)
    assert float(average.tensors["weight"]) == pytest.approx(0.5)


def test_buffers_are_averaged_and_counters_are_not() -> None:
    average = Average(toy_model(), 5)
    assert "1.running_mean" in average.tensors
    assert "1.num_batches_tracked" not in average.tensors


def test_the_average_stands_in_for_the_weights_and_goes_again() -> None:
    model = toy_model()
    average, raw = Average(model, 5), floats(model)
    kept = {name: value.clone() for name, value in average.tensors.items()}
    with torch.no_grad():
        model[0].weight.add_(1)
    with average.in_place_of(model):
        assert torch.equal(model[0].weight, raw["0.weight"])
        with torch.no_grad():
            model[4].bias.fill_(7)  # written to the average, as S2's watch does with its head
    assert torch.equal(model[0].weight, raw["0.weight"] + 1)
    assert torch.equal(model[4].bias, raw["4.bias"])
    assert float(average.tensors["4.bias"]) == 7
    assert torch.equal(average.tensors["0.weight"], kept["0.weight"])


def test_raw_weights_come_back_after_an_error() -> None:
    model = toy_model()
    average = Average(model, 5)
    with torch.no_grad():
        model[0].weight.add_(1)
    raw = floats(model)
    with pytest.raises(CrashError), average.in_place_of(model):
        raise CrashError
    assert torch.equal(model[0].weight, raw["0.weight"])


def test_the_loop_looks_at_the_average_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw weights of every step, averaged by hand, are what is seen and what is on the disk."""
    raw, seen = [floats(toy_model())], []
    values = scripted([0.1, 0.2, 0.3])

    def evaluate(model: nn.Module) -> float:
        seen.append(floats(model))
        return values(model)

    toy = Toy(tmp_path, LOOP, evaluate=evaluate)
    toy.hook = lambda step: raw.append(floats(toy.model)) if step else None
    toy.fit(monkeypatch)
    raw.append(floats(toy.model))
    expected = raw[0]
    for step in range(1, 7):
        decay = min(0.5 ** (1 / 3), (1 + step) / (10 + step))
        expected = {n: decay * v + (1 - decay) * raw[step][n] for n, v in expected.items()}
        if step % 2 == 0:
            for name, value in expected.items():
                torch.testing.assert_close(seen[step // 2 - 1][name], value, rtol=1e-4, atol=1e-6)
    kept = toy_model()
    load_weights(tmp_path / "v1.safetensors", kept)
    for name, value in floats(kept).items():
        assert torch.equal(value, seen[-1][name])
    assert not torch.equal(toy.model[0].weight, kept[0].weight)


def test_without_a_watch_the_average_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tmp_path, LOOP, evaluate=None, phase="final")
    toy.fit(monkeypatch)
    kept = toy_model()
    load_weights(tmp_path / "final.safetensors", kept)
    assert not torch.equal(toy.model[0].weight, kept[0].weight)


def test_a_resumed_run_has_the_average_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Toy(tmp_path / "whole", LOOP).fit(monkeypatch)
    with pytest.raises(CrashError):
        Toy(tmp_path / "cut", LOOP, hook=crash_at(3)).fit(monkeypatch)
    Toy(tmp_path / "cut", LOOP).fit(monkeypatch)
    whole, cut = (tmp_path / name / "v1.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_a_checkpoint_without_an_average_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = replace(LOOP, average_half_life=0)
    with pytest.raises(CrashError):
        Toy(tmp_path, without, hook=crash_at(2)).fit(monkeypatch)
    with pytest.raises(RunError, match=r"v1\.safetensors: the average of the weights is missing"):
        Toy(tmp_path, LOOP).fit(monkeypatch)


def test_a_negative_half_life_is_refused() -> None:
    with pytest.raises(SettingsError, match="average_half_life: the value is -1"):
        Loop(average_half_life=-1)
