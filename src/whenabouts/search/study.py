"""The study: which settings each trial gets, which are pruned. The one module that knows Optuna.

    DIR/study.journal      every trial, as Optuna's JournalStorage keeps it: appended to, never
                           rewritten, so that several processes share it and a kill loses nothing
    DIR/study.lock         held for the moment in which a trial is given out
    DIR/trials/.N.lock     held by the process that runs trial N, as long as it lives

A trial whose lock is free while it is said to run was interrupted; the next process takes it up,
with the settings it had, before any new one. The first trial is the recipe as it is, where that
lies in the space. Settings are drawn by TPE, seeded by the number of the trial: what a trial is
given depends on those before it, not on how often the search was stopped.

A trial is pruned when the best it has reached is below the median of what finished trials had at
the same step of the same phase (Optuna's MedianPruner).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal

from whenabouts.core.errors import RunError, UsageError
from whenabouts.core.lock import try_lock
from whenabouts.search.space import Choice, Interval, Space, Span, Value

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState
except ImportError:  # an optional extra
    optuna = None  # type: ignore[assignment]

State = Literal["complete", "pruned", "failed", "running"]
PHASE_STEPS = 1_000_000_000  # between the steps of two phases, as the study numbers them
STARTUP_TRIALS = 5  # finished before any is pruned
MIN_AT_STEP = 3  # of those that finished, at a step, for a median
MIN_LOOKS = 10  # before a trial can be pruned


class PrunedError(Exception):
    """Training ends here: the trial is not worth going on with."""


@dataclass(frozen=True)
class Tried:
    """A trial so far. value: best V2 metric; None while it runs or where it failed. looks: the
    evaluations reported. reason: why it failed."""

    number: int
    state: State
    settings: dict[str, Value]
    value: float | None
    looks: int
    time_s: float
    halves: tuple[float, float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """folder: DIR. baseline: the recipe's own values of what is searched."""

    folder: Path
    space: Space
    baseline: Mapping[str, Any]
    seed: int = 0
    prune: bool = True

    def __post_init__(self) -> None:
        if optuna is None:
            raise UsageError("Optuna is not installed", remedy="pip install optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        (self.folder / "trials").mkdir(parents=True, exist_ok=True)

    @contextmanager
    def next_trial(self, num_trials: int) -> Iterator[Trial | None]:
        """A trial to run, locked while the block lasts: an interrupted one, else a new one; None
        where there are `num_trials`."""
        with _locked(self.folder / "study.lock"):
            found = self._interrupted() or self._new(num_trials)
        try:
            yield found[0] if found else None
        finally:
            if found:
                found[1].close()

    def tried(self) -> tuple[Tried, ...]:
        """All trials so far, by number."""
        return tuple(_tried(t) for t in self._study().trials if t.state != TrialState.WAITING)

    def _study(self) -> Any:
        """Raises RunError where the journal is damaged."""
        path = self.folder / "study.journal"
        median = optuna.pruners.MedianPruner(STARTUP_TRIALS, n_min_trials=MIN_AT_STEP)
        try:
            return optuna.create_study(
                study_name="search",
                direction="maximize",
                storage=JournalStorage(JournalFileBackend(str(path))),
                pruner=median if self.prune else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError) as error:  # as Optuna lets them through
            raise RunError(
                f"not a journal of trials ({type(error).__name__}: {error})",
                where=path,
                remedy="restore the file, or search anew into another folder",
            ) from error

    def _interrupted(self) -> tuple[Trial, TextIOWrapper] | None:
        study = self._study()
        for kept in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = _try_lock(self._lock_path(kept.number))
            if lock is not None:
                # Settings it was not given before the kill are drawn now.
                return self._trial(study, optuna.Trial(study, kept._trial_id)), lock
        return None

    def _new(self, num_trials: int) -> tuple[Trial, TextIOWrapper] | None:
        study = self._study()
        given_out = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
        if len(given_out) >= num_trials:
            return None
        if not study.get_trials(deepcopy=False) and self._has_baseline:
            study.enqueue_trial({name: self.baseline[name] for name in self.space})
        asked = study.ask()
        lock = _try_lock(self._lock_path(asked.number))
        assert lock is not None, "the study's lock is held"
        return self._trial(study, asked), lock

    def _trial(self, study: Any, asked: Any) -> Trial:
        study.sampler = optuna.samplers.TPESampler(seed=self.seed * 1_000_003 + asked.number)
        settings = {name: _suggested(asked, name, span) for name, span in self.space.items()}
        return Trial(asked.number, settings, study, asked)

    @property
    def _has_baseline(self) -> bool:
        return all(span.holds(self.baseline.get(name)) for name, span in self.space.items())

    def _lock_path(self, number: int) -> Path:
        return self.folder / "trials" / f".{number}.lock"


@dataclass(frozen=True)
class Trial:
    """A trial that this process runs."""

    number: int
    settings: dict[str, Value]
    _study: Any
    _trial: Any

    def report(self, phase: str, step: int, value: float) -> None:
        """An evaluation. Raises PrunedError where the study has seen enough.

        What was reported before an interruption is not reported again.
        """
        phases = list(self._trial.user_attrs.get("phases", ()))
        if phase not in phases:
            phases.append(phase)
            self._trial.set_user_attr("phases", phases)
        at = phases.index(phase) * PHASE_STEPS + step
        reported = self._kept.intermediate_values
        if at in reported:
            return
        self._trial.report(value, at)
        if len(reported) + 1 >= MIN_LOOKS and self._trial.should_prune():
            raise PrunedError

    def complete(self, value: float, halves: tuple[float, float] | None = None) -> None:
        """halves: the metric on the two halves of the watched videos."""
        if halves is not None:
            self._trial.set_user_attr("halves", list(halves))
        self._study.tell(self._trial, value)

    def pruned(self) -> None:
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def failed(self, reason: str) -> None:
        self._trial.set_user_attr("reason", reason)
        self._study.tell(self._trial, state=TrialState.FAIL)

    @property
    def _kept(self) -> Any:
        return self._trial.storage.get_trial(self._trial._trial_id)


def _suggested(asked: Any, name: str, span: Span) -> Value:
    match span:
        case Choice(values):
            value: Value = asked.suggest_categorical(name, values)
        case Interval(low, high, log) if span.is_whole:
            value = asked.suggest_int(name, low, high, log=log)
        case Interval(low, high, log):
            value = asked.suggest_float(name, low, high, log=log)
    return value


def _tried(kept: Any) -> Tried:
    states: dict[Any, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    state, looks = states[kept.state], kept.intermediate_values
    best_look = max(looks.values(), default=None)
    halves = kept.user_attrs.get("halves")
    return Tried(
        number=kept.number,
        state=state,
        settings=dict(kept.params),
        value={"complete": kept.value, "pruned": best_look}.get(state),
        looks=len(looks),
        time_s=kept.duration.total_seconds() if kept.duration else 0.0,
        halves=(halves[0], halves[1]) if halves else None,
        reason=kept.user_attrs.get("reason", ""),
    )


# ---- locks that end with their process -----------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(path: Path) -> TextIOWrapper | None:
    """The open file that holds the lock; None where another process does."""
    file = path.open("a")
    if try_lock(file.fileno()):
        return file
    file.close()
    return None
