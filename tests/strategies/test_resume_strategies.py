"""S2 and S3, killed or stopped in every phase, end with the bytes of a run that never was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from tiny_training import LOOP, PHASES, Training
from toy_work import Clock, CrashError, log_lines
from whenabouts.core.errors import InterruptedRunError
from whenabouts.corpus.corpus import Corpus
from whenabouts.train import clock as clock_module
from whenabouts.train.settings import Loop

Results = dict[str, object]
LAST = LOOP.max_steps - 1
AVERAGED = replace(LOOP, average_half_life=2, checkpoint_every_s=2)


@dataclass
class Sittings:
    """Sittings in front of one run's folder. Every batch takes a second, so that a checkpoint is
    due after every third step of a sitting, and steps are run again."""

    corpus: Corpus
    run: Path
    strategy: str
    loop: Loop = LOOP
    clock: Clock = field(default_factory=Clock)

    def sit(self, at: tuple[str, int] | None = None, end: Callable[[], object] = int) -> None:
        """Train until the end, or until `end` is called in front of batch (phase, step)."""

        def hook(phase: str, step: int) -> None:
            self.clock.now_s += 1
            if (phase, step) == at:
                end()

        torch.manual_seed(12345)  # as a new process, in any random state
        Training(self.corpus, self.run, self.strategy, 0.5, self.loop, hook=hook).train()

    def results(self) -> Results:
        """Weights, what checkpoints keep, and the log, without the time of day in any of them."""
        weights = {path.name: path.read_bytes() for path in self.run.glob("*.safetensors")}
        kept = {path.name: path.read_bytes() for path in self.run.glob("checkpoints/*")}
        lines = log_lines(self.run, without_times=True)
        return {
            "weights": weights,
            "kept": {n: b[8 + int.from_bytes(b[:8], "little") :] for n, b in kept.items()},
            "lines": lines,
        }


def crash() -> None:
    raise CrashError


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def expected(
    corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Loop], Results]:
    """What a strategy leaves if nothing stops it."""
    found: dict[tuple[str, Loop], Results] = {}

    def of(strategy: str, loop: Loop) -> Results:
        if (strategy, loop) not in found:
            whole = Sittings(corpus, tmp_path_factory.mktemp("whole"), strategy, loop)
            whole.sit()
            found[strategy, loop] = whole.results()
        return found[strategy, loop]

    return of


@pytest.fixture
def sittings(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Loop], Sittings]:
    def of(strategy: str, loop: Loop = LOOP) -> Sittings:
        found = Sittings(corpus, tmp_path / "run", strategy, loop)
        monkeypatch.setattr(clock_module, "time", found.clock)
        return found

    return of


def assert_same(found: Sittings, expected: Results) -> None:
    results = found.results()
    assert results["lines"] == expected["lines"]
    for kind in ("weights", "kept"):
        assert set(results[kind]) == {f"{p}.safetensors" for p in PHASES[found.strategy]}
        different = [name for name, value in expected[kind].items() if results[kind][name] != value]
        assert not different, f"{kind}: {different}"


@pytest.mark.parametrize("strategy", PHASES)
@pytest.mark.parametrize("step", range(LAST + 1))
def test_killed_at_a_step_of_every_phase(
    step: int, strategy: str, sittings: Callable, expected: Callable
) -> None:
    """One sitting after another ends in one phase after another."""
    run = sittings(strategy)
    for phase in PHASES[strategy]:
        with pytest.raises(CrashError):
            run.sit((phase, step), crash)
    run.sit()
    assert_same(run, expected(strategy, LOOP))


@pytest.mark.parametrize("strategy", PHASES)
@pytest.mark.parametrize("step", [0, LAST])
def test_stopped_by_a_signal_in_every_phase(
    step: int, strategy: str, sittings: Callable, expected: Callable
) -> None:
    run = sittings(strategy)
    for phase in PHASES[strategy]:
        with pytest.raises(InterruptedRunError, match=f"stopped at step {step + 1}"):
            run.sit((phase, step), ask_to_stop)
    run.sit()
    assert_same(run, expected(strategy, LOOP))


@pytest.mark.parametrize(("strategy", "num_builds"), [("s2", 5), ("s3", 2)])
def test_killed_between_phases(
    strategy: str, num_builds: int, sittings: Callable, expected: Callable
) -> None:
    """A model is built in front of each phase: the one before is done, this one has no file yet."""
    run = sittings(strategy)
    for number in range(num_builds):
        with pytest.raises(CrashError):
            run.sit(("build", number), crash)
    run.sit()
    assert_same(run, expected(strategy, LOOP))


@pytest.mark.parametrize("strategy", PHASES)
def test_an_average_of_the_weights_goes_on(
    strategy: str, sittings: Callable, expected: Callable
) -> None:
    run = sittings(strategy, AVERAGED)
    for phase in PHASES[strategy]:
        with pytest.raises(CrashError):
            run.sit((phase, 3), crash)
    run.sit()
    assert_same(run, expected(strategy, AVERAGED))
    assert run.results()["weights"] != expected(strategy, LOOP)["weights"]


@pytest.mark.parametrize("strategy", PHASES)
def test_a_done_run_is_left_as_it_is(strategy: str, sittings: Callable) -> None:
    run = sittings(strategy)
    run.sit()
    before = run.results()
    run.sit((PHASES[strategy][0], 0), crash)
    assert run.results() == before
