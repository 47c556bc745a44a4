"""With pseudo-labels too, a run that was killed in every phase ends as one that never was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_training
from pseudo_world import write_random
from tiny_training import PHASES, Training
from toy_work import Clock, CrashError, log_lines
from whenabouts.corpus.corpus import Corpus
from whenabouts.strategies.pseudo import Pseudo
from whenabouts.strategies.s1 import S1
from whenabouts.train import clock as clock_module

OF = {"s1": ("v1", "final"), **PHASES}


@pytest.fixture(scope="module")
def pseudo(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Pseudo:
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    return Pseudo(str(write_random(path, corpus)), share=0.4)


def sit(
    corpus: Corpus, run: Path, strategy: str, pseudo: Pseudo, clock: Clock,
    crash_at: tuple[str, int] | None = None,
) -> None:  # fmt: skip
    """Train to the end, or to a crash in front of batch (phase, step). Batches take a second."""

    def hook(phase: str, step: int) -> None:
        clock.now_s += 1
        if (phase, step) == crash_at:
            raise CrashError

    torch.manual_seed(12345)
    Training(corpus, run, strategy, 0.5, hook=hook, pseudo=pseudo).train()


def results(run: Path) -> tuple[dict[str, bytes], list[dict[str, object]]]:
    weights = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    return weights, log_lines(run, without_times=True)


@pytest.mark.parametrize("strategy", OF)
def test_killed_in_every_phase(
    strategy: str, corpus: Corpus, pseudo: Pseudo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny_training.STRATEGIES, "s1", S1())
    clock = Clock()
    monkeypatch.setattr(clock_module, "time", clock)
    sit(corpus, tmp_path / "whole", strategy, pseudo, clock)
    for phase in OF[strategy]:
        with pytest.raises(CrashError):
            sit(corpus, tmp_path / "cut", strategy, pseudo, clock, (phase, 3))
    sit(corpus, tmp_path / "cut", strategy, pseudo, clock)
    (weights, lines), (cut_weights, cut_lines) = (results(tmp_path / n) for n in ("whole", "cut"))
    assert set(weights) == {f"{phase}.safetensors" for phase in OF[strategy]}
    assert cut_weights == weights
    assert cut_lines == lines
