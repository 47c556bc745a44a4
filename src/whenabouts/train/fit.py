"""The loop: batch, loss, backward, step; now and then an evaluation and a checkpoint.

A strategy says what a batch, the loss and the evaluation are and calls `fit`; it never subclasses
it. The order of batches is a function of the step, and a checkpoint holds everything else, so a run
that was killed and resumed ends with the same bytes as one that never stopped.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from whenabouts.core.errors import WhenaboutsError
from whenabouts.core.progress import Progress, progress
from whenabouts.train.checkpoint import Position, load_checkpoint, save_checkpoint, save_weights
from whenabouts.train.distributed import Team
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser

Batch = TypeVar("Batch")


class InterruptedRunError(WhenaboutsError):
    """Training was stopped by a signal, after a checkpoint."""


@dataclass(frozen=True)
class Work(Generic[Batch]):
    """What a strategy hands to `fit`.

    batch: step -> this process's share of the batch. loss: summed over the share, divided by the
    size of the whole batch. evaluate: model -> mAP to watch, or None to train for max_steps.
    num_examples: examples of an epoch.
    """

    phase: str
    batch: Callable[[int], Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module], float] | None
    num_examples: int
    trained_on: tuple[str, ...]


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
    folder = Folder(run, work.phase)
    optimiser = build_optimiser(model, optimiser_settings)
    position = _begin(folder, model, optimiser, log, team)
    clock = _Clock(position, loop.checkpoint_every_s)
    with stop_on_signal() as stop, _bar(work, loop, team) as bar:
        bar.done = position.step
        while position.step < loop.max_steps and not position.is_done:
            rate = learning_rate(optimiser_settings, position.step, loop.batch_size)
            loss = _step(model, optimiser, work, position.step, rate, optimiser_settings, team)
            position.step += 1
            if position.step % loop.evaluate_every == 0 or position.step == loop.max_steps:
                _log_training(log, work, loop, position, loss, rate, clock, team)
                _evaluate(model, work, loop, position, folder, log, clock, team)
                clock.rate(position.step)  # the time of looking is not time of training
            bar.advance(1, _note(position))
            if clock.is_due or stop.is_asked or position.is_done:
                _save(folder, model, optimiser, position, log, clock, team)
            if stop.is_asked and not position.is_done:
                raise InterruptedRunError(
                    f"stopped at step {position.step}", where=run, remedy="go on with --resume"
                )
    if position.step >= loop.max_steps and not position.is_done:
        position.is_done = True
        _save(folder, model, optimiser, position, log, clock, team)
    return position


def _begin(
    folder: Folder, model: nn.Module, optimiser: Optimizer, log: MetricsLog, team: Team
) -> Position:
    """Where the phase stands; the log is cut to what it held then.

    A phase begins with a checkpoint, so that lines of an attempt killed before the next one are
    cut too. The log of a phase that is done is left alone: later phases have written behind it.
    """
    if not folder.checkpoint.exists():
        position = Position(folder.phase)
        _write_checkpoint(folder, model, optimiser, position, log, team)
        return position
    position = load_checkpoint(folder.checkpoint, model, optimiser)
    if team.is_main and not position.is_done:
        log.rewind(position.log_position)
    return position


def _step(
    model: nn.Module,
    optimiser: Optimizer,
    work: Work[Batch],
    step: int,
    rate: float,
    settings: Optimiser,
    team: Team,
) -> Tensor:
    """One step of gradient descent; returns this process's part of the loss."""
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss = work.loss(model, work.batch(step))
    loss.backward()
    team.sum_gradients(model)
    if settings.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimiser.step()
    return loss.detach()


def build_optimiser(model: nn.Module, settings: Optimiser) -> Optimizer:
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        [p for p in model.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(settings: Optimiser, step: int, batch_size: int) -> float:
    """The rate of step `step` (from 0)."""
    fallen: float = settings.decay ** (step * batch_size / settings.decay_examples)
    risen = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return settings.learning_rate * fallen * risen


# ---- looking, logging, saving --------------------------------------------------------------------


def _evaluate(
    model: nn.Module,
    work: Work[Batch],
    loop: Loop,
    position: Position,
    folder: Folder,
    log: MetricsLog,
    clock: _Clock,
    team: Team,
) -> None:
    """Look at the watched mAP; keep the best weights; declare the plateau."""
    if work.evaluate is None:
        if position.step == loop.max_steps:
            _save_weights(folder, model, work, position, team)
        return
    model.eval()
    with torch.inference_mode():
        mean_ap = work.evaluate(model)
    if position.note(mean_ap):
        _save_weights(folder, model, work, position, team)
    position.is_done = position.evaluations_since_best >= loop.patience
    if team.is_main:
        epoch = position.step * loop.batch_size / work.num_examples
        log.write(
            "evaluate", position.step, phase=work.phase, epoch=round(epoch, 4), split="v2",
            mean_ap=mean_ap, time_s=round(clock.elapsed_s, 3),
        )  # fmt: skip


def _log_training(
    log: MetricsLog,
    work: Work[Batch],
    loop: Loop,
    position: Position,
    loss: Tensor,
    rate: float,
    clock: _Clock,
    team: Team,
) -> None:
    whole_loss = float(team.sum(loss.clone()))
    if team.is_main:
        epoch = position.step * loop.batch_size / work.num_examples
        log.write(
            "train", position.step, phase=work.phase, epoch=round(epoch, 4), loss=whole_loss,
            learning_rate=rate, time_s=round(clock.elapsed_s, 3),
            segments_per_s=round(clock.rate(position.step) * loop.batch_size, 1),
        )  # fmt: skip


def _save_weights(
    folder: Folder, model: nn.Module, work: Work[Batch], position: Position, team: Team
) -> None:
    if team.is_main:
        facts = {"phase": work.phase, "step": position.step, "trained_on": work.trained_on}
        save_weights(folder.weights, model, facts)


def _save(
    folder: Folder,
    model: nn.Module,
    optimiser: Optimizer,
    position: Position,
    log: MetricsLog,
    clock: _Clock,
    team: Team,
) -> None:
    position.elapsed_s = clock.elapsed_s
    _write_checkpoint(folder, model, optimiser, position, log, team)
    clock.saved()


def _write_checkpoint(
    folder: Folder,
    model: nn.Module,
    optimiser: Optimizer,
    position: Position,
    log: MetricsLog,
    team: Team,
) -> None:
    if team.is_main:
        position.log_position = log.position()
        save_checkpoint(folder.checkpoint, model, optimiser, position)


def _note(position: Position) -> str:
    if position.best_mean_ap < 0:
        return ""
    return f"best V2 mAP {position.best_mean_ap:.4f} at step {position.best_step}"


@contextmanager
def _bar(work: Work[Batch], loop: Loop, team: Team) -> Iterator[Progress]:
    if not team.is_main:
        yield Progress(work.phase, loop.max_steps, "steps", every_s=float("inf"))
        return
    stops = ", ends sooner at the plateau" if work.evaluate is not None else ""
    with progress(f"train ({work.phase}{stops})", loop.max_steps, "steps") as bar:
        yield bar


class _Clock:
    """Seconds of training over all sittings, and when the next checkpoint is due."""

    def __init__(self, position: Position, checkpoint_every_s: float) -> None:
        self._before_s, self._every_s = position.elapsed_s, checkpoint_every_s
        self._began_s = self._saved_s = time.monotonic()
        self._rated = (position.step, self._began_s)

    @property
    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._began_s

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved_s >= self._every_s

    def saved(self) -> None:
        self._saved_s = time.monotonic()

    def rate(self, step: int) -> float:
        """Steps a second since the last call."""
        now_s = time.monotonic()
        (last_step, last_s), self._rated = self._rated, (step, now_s)
        return (step - last_step) / max(now_s - last_s, 1e-9)


class _Stop:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        self.is_asked = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        if self.is_asked:  # a second Ctrl-C does not wait for the step to end
            raise KeyboardInterrupt
        self.is_asked = True


@contextmanager
def stop_on_signal() -> Iterator[_Stop]:
    """SIGINT and SIGTERM set a mark that the loop reads between steps."""
    stop = _Stop()
    kept = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
