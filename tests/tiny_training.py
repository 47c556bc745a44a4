"""S2 and S3 at a tiny scale on the small corpus, in one process or in a team of them.

torchrun ... tiny_training.py INDEX OUT     what `in_a_team` does
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from toy_work import ALONE
from whenabouts.core.ending import end_process
from whenabouts.core.errors import InterruptedRunError
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.models.embedding import Embedding, EmbeddingSettings
from whenabouts.models.hierarchical import NL, scaled
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.s1 import S1
from whenabouts.strategies.s2 import S2, Pretrain
from whenabouts.strategies.s3 import S3
from whenabouts.strategies.setup import Setup
from whenabouts.strategies.table import train_strategy
from whenabouts.train.checkpoint import Position, save_weights
from whenabouts.train.distributed import Team, join_team, share_statistics
from whenabouts.train.fit import Batch, Work
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

# Batches of odd sizes: two processes have unequal shares of each.
RATE = Optimiser(name="adamw", learning_rate=1e-3, clip_norm=1.0)
PRETRAIN = Pretrain(optimiser=RATE, batch_size=7, max_steps=4, evaluate_every=2, patience=9)
LOOP = Loop(batch_size=9, max_steps=4, evaluate_every=2, patience=9, checkpoint_every_s=3)
STRATEGIES: dict[str, S1 | S2 | S3] = {
    "s2": S2(pretrain=PRETRAIN),
    "s3": S3(),
    "kernel": S2(pretrain=PRETRAIN, fine_tuning="kernel"),
}
# Of the strategies whose phases all go step by step.
PHASES = {"s2": ("pretrain", "v1", "pretrain-final", "final"), "s3": ("v1", "final")}

Hook = Callable[[str, int], object]


@dataclass(frozen=True)
class HookedSetup(Setup):
    """Calls hook(phase, step) before each batch."""

    hook: Hook = lambda phase, step: None

    def fit(
        self, model: nn.Module, work: Work[Batch], optimiser: Optimiser, loop: Loop
    ) -> Position:
        def batch(step: int) -> Batch:
            self.hook(work.phase, step)
            return work.batch(step)

        return super().fit(model, replace(work, batch=batch), optimiser, loop)


@dataclass
class Training:
    """One sitting in front of a run's folder, with the final phases.

    NL is the model with the most batch norms. `models` are those that `train` has built.
    """

    corpus: Corpus
    run: Path
    strategy: str
    dropout: float = 0.0
    loop: Loop = LOOP
    team: Team = ALONE
    hook: Hook = lambda phase, step: None
    pseudo: Pseudo = field(default_factory=Pseudo)

    def __post_init__(self) -> None:
        self.models: list[nn.Module] = []

    def train(self) -> Position:
        (self.run / "checkpoints").mkdir(parents=True, exist_ok=True)
        with closing(MetricsLog(self.run)) as log:
            setup = HookedSetup(self.corpus, self.run, log, self.team, hook=self.hook)
            strategy = replace(STRATEGIES[self.strategy], pseudo=self.pseudo)
            return train_strategy(self._build, strategy, RATE, self.loop, setup, final=True)

    def _build(self) -> nn.Module:
        self.hook("build", len(self.models))
        settings = scaled(NL(embedding=EmbeddingSettings(dropout=self.dropout)), "tiny")
        corpus = self.corpus
        model = build_for(settings, corpus.dataset, corpus.classes, corpus.video_classes)
        self.models.append(model)
        return model


# ---- in a team -----------------------------------------------------------------------------------

STOPS = (("pretrain", 2), ("v1", 1), ("final", 2))


def in_a_team(corpus: Corpus, out: Path, team: Team) -> None:
    """Train with each strategy; then S2 with dropout, whole and stopped; then one odd step.

    Every process leaves its models as they ended, `model-N-of-RANK.safetensors`.
    """
    for name in STRATEGIES:
        training = Training(corpus, out / name, name, team=team)
        training.train()
        for number, model in enumerate(training.models):
            path = training.run / f"model-{number}-of-{team.rank}.safetensors"
            save_weights(path, model, {})
    Training(corpus, out / "noisy", "s2", 0.5, team=team).train()
    for stop in STOPS:
        hook = signal_one(team, stop)
        stopped = Training(corpus, out / "stopped", "s2", 0.5, team=team, hook=hook)
        with pytest.raises(InterruptedRunError, match=f"stopped at step {stop[1] + 1}"):
            stopped.train()
        team.wait()  # the first process may still be saving
    Training(corpus, out / "stopped", "s2", 0.5, team=team).train()
    save_step(odd_step(team), out / f"step-of-{team.rank}.safetensors")


def signal_one(team: Team, stop: tuple[str, int]) -> Hook:
    """The last process alone is asked to stop, in the middle of a step."""

    def hook(phase: str, step: int) -> None:
        if (phase, step) == stop and team.rank == team.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return hook


def odd_step(team: Team) -> nn.ModuleDict:
    """One step of a batch of which only the first process has a share, and only it has pairs.

    `pairs` learns from pairs, `unused` from nothing.
    """
    torch.manual_seed(0)
    parts = {
        "embedding": Embedding(EmbeddingSettings(width=5, dropout=0.0), 4),
        "head": nn.Linear(5, 2),
        "pairs": nn.Linear(5, 1),
        "unused": nn.Linear(1, 1),
    }
    model = nn.ModuleDict(parts)
    rows = torch.randn(6, 4)
    share_statistics(model, team)
    embedded = model["embedding"](rows if team.is_main else rows[:0])
    loss = model["head"](embedded).square().sum() / len(rows)
    if team.is_main:
        loss = loss + model["pairs"](embedded).square().sum() / len(rows)
    loss.backward()
    team.sum_gradients(model)
    return model


def save_step(model: nn.ModuleDict, path: Path) -> None:
    """The state and, in place of the weights, their gradients; none is not zero: it is left out."""
    gradients = nn.ParameterDict()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradients[name.replace(".", "/")] = nn.Parameter(parameter.grad)
    for name, buffer in model.named_buffers():
        gradients[name.replace(".", "/")] = nn.Parameter(buffer)
    save_weights(path, gradients, {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join_team("cpu") as this:
        in_a_team(open_corpus(sys.argv[1]), Path(sys.argv[2]), this)
    end_process(0)
