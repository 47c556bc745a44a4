"""The loop: batch, loss, backward, step; now and then an evaluation and a checkpoint.

A strategy says what a batch, the loss and the evaluation are and calls `fit`; it never subclasses
it. The order of batches is a function of the step, and a checkpoint holds everything else, so a run
that was killed and resumed ends with the same bytes as one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from whenabouts.core.errors import InterruptedRunError, RunError
from whenabouts.core.progress import Progress, progress
from whenabouts.metrics.watched import MEASURES, Measure
from whenabouts.train.ahead import gathered_ahead
from whenabouts.train.average import Average
from whenabouts.train.checkpoint import Position, load_checkpoint, save_checkpoint, save_weights
from whenabouts.train.clock import Clock
from whenabouts.train.distributed import Team
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser
from whenabouts.train.stop import stop_on_signal

Batch = TypeVar("Batch")
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Work(Generic[Batch]):
    """What a strategy hands to `fit`.

    batch: step -> this process's share of the batch. loss: summed over the share, divided by the
    size of the whole batch. evaluate: model -> what to watch on V2, more being better, or None to
    train for max_steps. num_examples: examples of an epoch. measure: what is watched. facts: more
    to be kept with the weights.
    """

    phase: str
    batch: Callable[[int], Batch]
    loss: Loss[Batch]
    evaluate: Callable[[nn.Module], float] | None
    num_examples: int
    trained_on: tuple[str, ...]
    measure: Measure = "mean_ap"
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Folder:
    """Where a phase keeps its files."""

    run: Path
    phase: str

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoints" / f"{self.phase}.safetensors"

    @property
    def weights(self) -> Path:
        return self.run / f"{self.phase}.safetensors"


def fit(
    model: nn.Module,
    work: Work[Batch],
    optimiser_settings: Optimiser,
    loop: Loop,
    run: Path,
    log: MetricsLog,
    team: Team,
) -> Position:
    """Train until the plateau or `loop.max_steps`; goes on from the phase's checkpoint if there.

    Writes the best weights (the last ones, where nothing is watched) to `run/PHASE.safetensors`.
    """
    phase = _begin(model, work, optimiser_settings, loop, Folder(run, work.phase), log, team)
    position, clock = phase.position, phase.clock
    is_ahead = team.device.type == "cuda"
    with (
        stop_on_signal() as stop,
        _bar(phase) as bar,
        gathered_ahead(work.batch, is_wanted=is_ahead) as batch,
    ):
        bar.done = position.step
        while position.step < loop.max_steps and not position.is_done:
            rate = learning_rate(optimiser_settings, position.step, loop.batch_size)
            loss = phase.step(batch(position.step), rate)
            position.step += 1
            if position.step % loop.evaluate_every == 0 or position.step == loop.max_steps:
                phase.log_training(loss, rate)
                phase.look()
                clock.rate(position.step)  # the time of looking is not time of training
            bar.advance(1, _note(phase))
            is_stopping = team.any(stop.is_asked)
            if clock.is_due or is_stopping or position.is_done:
                phase.save()
            if is_stopping and not position.is_done:
                raise InterruptedRunError(
                    f"stopped at step {position.step}", where=run, remedy="go on with --resume"
                )
    if position.step >= loop.max_steps and not position.is_done:
        position.is_done = True
        phase.save()
    return position


def _begin(
    model: nn.Module,
    work: Work[Batch],
    settings: Optimiser,
    loop: Loop,
    folder: Folder,
    log: MetricsLog,
    team: Team,
) -> _Phase[Batch]:
    """Where the phase stands; the log is cut to what it held then.

    A phase begins with a checkpoint, so that lines of an attempt killed before the next one are
    cut too. The log of a phase that is done is left alone: later phases have written behind it.
    """
    optimiser = build_optimiser(model, settings)
    average = Average(model, loop.average_half_life) if loop.average_half_life else None
    is_new = not folder.checkpoint.exists()
    position = Position(folder.phase)
    if not is_new:
        position = load_checkpoint(folder.checkpoint, model, optimiser, average)
        if team.is_main and not position.is_done:
            log.rewind(position.log_position)
    clock = Clock(position.step, position.elapsed_s, loop.checkpoint_every_s)
    phase = _Phase(
        model, optimiser, average, position, work, settings, loop, folder, log, clock, team
    )
    if is_new:
        phase.write_checkpoint()
    return phase


@dataclass
class _Phase(Generic[Batch]):
    """A phase under way: what training changes (the first four), and what it works with."""

    model: nn.Module
    optimiser: Optimizer
    average: Average | None
    position: Position
    work: Work[Batch]
    settings: Optimiser
    loop: Loop
    folder: Folder
    log: MetricsLog
    clock: Clock
    team: Team

    def __post_init__(self) -> None:
        loss = self.work.loss
        # Segments of a batch differ in number: dynamic shapes, or each would be compiled anew.
        self._loss: Loss[Batch] = torch.compile(loss, dynamic=True) if self.loop.compile else loss
        self._is_half = reduced_precision(self.loop, self.team.device)

    def step(self, batch: Batch, rate: float) -> Tensor:
        """One step of gradient descent; returns this process's part of the loss."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        self.team.seed_noise(self.loop.seed, self.position.step)
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self._is_half):
            loss = self._loss(self.model, batch)
        loss.backward()
        self.team.sum_gradients(self.model)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.take(self.model, self.position.step + 1)
        return loss.detach()

    # ---- looking, logging, saving ----------------------------------------------------------------

    def look(self) -> None:
        """Look at V2; keep the best weights; declare the plateau."""
        position = self.position
        if self.work.evaluate is None and position.step < self.loop.max_steps:
            return
        averaged = nullcontext() if self.average is None else self.average.in_place_of(self.model)
        with averaged:
            value = self._watch()
            if value is None or position.note(value):
                self._save_weights()
        if value is None:
            return
        position.is_done = position.evaluations_since_best >= self.loop.patience
        time_s = round(self.clock.elapsed_s, 3)
        self._log("evaluate", split="v2", **{self.work.measure: value}, time_s=time_s)

    def _watch(self) -> float | None:
        if self.work.evaluate is None:
            return None
        self.model.eval()
        with torch.inference_mode():
            return self.work.evaluate(self.model)

    def log_training(self, loss: Tensor, rate: float) -> None:
        whole_loss = float(self.team.sum(loss.clone()))
        if not math.isfinite(whole_loss):
            raise RunError(
                f"the loss is {whole_loss} at step {self.position.step} of {self.work.phase}",
                where=self.folder.run,
                rule="a training that has diverged does not come back",
                remedy=f"lower --optimiser.learning-rate (it was {rate:g} then), or set "
                "--optimiser.clip-norm, and train into another --out",
            )
        segments_per_s = self.clock.rate(self.position.step) * self.loop.batch_size
        self._log(
            "train", loss=whole_loss, learning_rate=rate, time_s=round(self.clock.elapsed_s, 3),
            segments_per_s=round(segments_per_s, 1),
        )  # fmt: skip

    def _log(self, kind: str, **values: object) -> None:
        if self.team.is_main:
            step = self.position.step
            epoch = step * self.loop.batch_size / self.work.num_examples
            self.log.write(kind, step, phase=self.work.phase, epoch=round(epoch, 4), **values)

    def _save_weights(self) -> None:
        if self.team.is_main:
            step, trained_on = self.position.step, self.work.trained_on
            facts = {"phase": self.work.phase, "step": step, "trained_on": trained_on}
            save_weights(self.folder.weights, self.model, {**facts, **self.work.facts})

    def save(self) -> None:
        self.position.elapsed_s = self.clock.elapsed_s
        self.write_checkpoint()
        self.clock.saved()

    def write_checkpoint(self) -> None:
        if self.team.is_main:
            self.position.log_position = self.log.position()
            path = self.folder.checkpoint
            save_checkpoint(path, self.model, self.optimiser, self.position, self.average)


def build_optimiser(model: nn.Module, settings: Optimiser) -> Optimizer:
    """Weight decay pulls on matrices alone: biases and scales of norms need not be small."""
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = (
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    )
    return kind([g for g in groups if g["params"]], lr=settings.learning_rate, fused=True)


def learning_rate(settings: Optimiser, step: int, batch_size: int) -> float:
    """The rate of step `step` (from 0)."""
    fallen: float = settings.decay ** (step * batch_size / settings.decay_examples)
    risen = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return settings.learning_rate * fallen * risen


def reduced_precision(loop: Loop, device: torch.device) -> bool:
    """Whether products run in bfloat16; weights, losses and what is looked at stay float32."""
    return loop.precision == "bfloat16" or (loop.precision == "auto" and device.type == "cuda")


def _note(phase: _Phase[Batch]) -> str:
    position = phase.position
    if position.best < 0:
        return ""
    name = MEASURES[phase.work.measure]
    return f"best V2 {name} {position.best:.4f} at step {position.best_step}"


@contextmanager
def _bar(phase: _Phase[Batch]) -> Iterator[Progress]:
    max_steps, name = phase.loop.max_steps, phase.work.phase
    if not phase.team.is_main:
        yield Progress(name, max_steps, "steps", every_s=float("inf"))
        return
    stops = ", ends sooner at the plateau" if phase.work.evaluate is not None else ""
    with progress(f"train ({name}{stops})", max_steps, "steps") as bar:
        yield bar
