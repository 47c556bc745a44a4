"""A toy for the training loop: a small network with dropout, batches that are a function of the
step, and a clock that ticks once a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whenabouts.train import clock as clock_module
from whenabouts.train.checkpoint import Position
from whenabouts.train.distributed import Team
from whenabouts.train.fit import Work, fit
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser

ALONE = Team(0, 1, torch.device("cpu"))
BATCH, WIDTH = 8, 4
OPTIMISER = Optimiser(learning_rate=0.05, decay_examples=64, clip_norm=1.0)
Batch = tuple[Tensor, Tensor]


class CrashError(Exception):
    """Stands for anything that ends a process where it does not expect it."""


def toy_model(dropout: float = 0.3) -> nn.Module:
    """Buffers that move (batch norm) and a forward that draws random numbers (dropout)."""
    torch.manual_seed(7)
    return nn.Sequential(
        # No bias before a norm: its gradient is rounding alone, which Adam would blow up.
        nn.Linear(WIDTH, 6, bias=False),
        nn.BatchNorm1d(6),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(6, 1),
    )


def toy_batch(step: int) -> Batch:
    rng = np.random.default_rng([11, step])
    x = rng.normal(size=(BATCH, WIDTH)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(2 * x.sum(axis=1, keepdims=True))


def toy_loss(model: nn.Module, batch: Batch) -> Tensor:
    x, y = batch
    return (model(x) - y).square().sum() / BATCH


def toy_evaluate(model: nn.Module) -> float:
    """Better the smaller the error on a fixed batch: moves up and down as the training goes."""
    return 1 / (1 + toy_loss(model, toy_batch(10_000)).item())


def scripted(values: Sequence[float]) -> Callable[[nn.Module], float]:
    """An evaluation that gives these values in turn."""
    left = iter(values)
    return lambda model: next(left)


@dataclass
class Clock:
    """Stands in for the `time` module of the loop."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class Toy:
    """One sitting in front of a run's folder: `fit` with the toy, as often as it is called.

    hook(step) is called before each batch.
    """

    run: Path
    loop: Loop
    optimiser: Optimiser = field(default_factory=lambda: OPTIMISER)
    evaluate: Callable[[nn.Module], float] | None = toy_evaluate
    hook: Callable[[int], object] = lambda step: None
    phase: str = "v1"
    trained_on: tuple[str, ...] = ("v1",)
    clock: Clock = field(default_factory=Clock)
    model: nn.Module = field(default_factory=toy_model)

    def fit(self, monkeypatch: pytest.MonkeyPatch) -> Position:
        monkeypatch.setattr(clock_module, "time", self.clock)
        (self.run / "checkpoints").mkdir(parents=True, exist_ok=True)
        with closing(MetricsLog(self.run)) as log:
            return fit(self.model, self.work(), self.optimiser, self.loop, self.run, log, ALONE)

    def work(self) -> Work[Batch]:
        return Work(
            phase=self.phase,
            batch=self._batch,
            loss=toy_loss,
            evaluate=self.evaluate,
            num_examples=40,
            trained_on=self.trained_on,
        )

    def _batch(self, step: int) -> Batch:
        self.clock.now_s += 1
        self.hook(step)
        return toy_batch(step)


def crash_at(step: int) -> Callable[[int], None]:
    def hook(now: int) -> None:
        if now == step:
            raise CrashError(f"before step {step}")

    return hook


def signal_at(step: int, *signals: int) -> Callable[[int], None]:
    def hook(now: int) -> None:
        if now == step:
            for number in signals:
                os.kill(os.getpid(), number)

    return hook


def log_lines(run: Path, *, without_times: bool = False) -> list[dict[str, Any]]:
    """What metrics.jsonl says, line by line."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if without_times:
        for line in lines:
            line.pop("time_s", None), line.pop("segments_per_s", None)
    return lines
