"""The study: what is given out, taken up again, pruned; the same however often it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from whenabouts.core.errors import RunError, UsageError
from whenabouts.search import study as study_module
from whenabouts.search.space import Choice, Interval, Space
from whenabouts.search.study import PrunedError, Study, Trial

SPACE: Space = {"x": Interval(0.0, 1.0), "n": Interval(1, 8), "rate": Interval(1e-4, 1.0, log=True),
                "kind": Choice(("a", "b"))}  # fmt: skip
BASELINE = {"x": 0.25, "n": 3, "rate": 0.01, "kind": "b", "other": 7}


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle of a trial."""


def new_study(folder: Path, **more: object) -> Study:
    return Study(folder, SPACE, BASELINE, **more)


def value_of(settings: dict) -> float:
    return 1 - abs(settings["x"] - 0.7) - 0.05 * settings["n"] - 0.1 * (settings["kind"] == "b")


def run_all(study: Study, num_trials: int, stop_at: int | None = None) -> None:
    while True:
        with study.next_trial(num_trials) as trial:
            if trial is None:
                return
            if trial.number == stop_at:
                raise StoppedError
            trial.complete(value_of(trial.settings))


def test_the_first_trial_is_the_recipe(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    run_all(study, 4)
    tried = study.tried()
    assert [t.number for t in tried] == [0, 1, 2, 3]
    assert tried[0].settings == {name: BASELINE[name] for name in SPACE}
    for t in tried:
        assert all(span.holds(t.settings[name]) for name, span in SPACE.items())
        assert type(t.settings["n"]) is int
        assert (t.state, t.value) == ("complete", value_of(t.settings))
    assert len({t.settings["x"] for t in tried}) == 4


def test_a_recipe_outside_the_space_is_not_tried(tmp_path: Path) -> None:
    study = Study(tmp_path, SPACE, {**BASELINE, "x": 2.0})
    run_all(study, 1)
    assert study.tried()[0].settings["n"] != 3 or study.tried()[0].settings["x"] <= 1


def test_stopped_and_begun_again_it_tries_the_same(tmp_path: Path) -> None:
    """The interrupted trial is taken up with its settings; nothing is tried twice or left out."""
    run_all(new_study(tmp_path / "whole"), 14)
    for stop_at in (0, 3, 12):
        with pytest.raises(StoppedError):
            run_all(new_study(tmp_path / "parts"), 14, stop_at)
        stopped = new_study(tmp_path / "parts").tried()[-1]
        assert (stopped.number, stopped.state, stopped.value) == (stop_at, "running", None)
    run_all(new_study(tmp_path / "parts"), 14)
    whole, parts = (new_study(tmp_path / name).tried() for name in ("whole", "parts"))
    assert [(t.number, t.settings, t.value) for t in parts] == [
        (t.number, t.settings, t.value) for t in whole
    ]


def test_more_trials_go_on(tmp_path: Path) -> None:
    run_all(new_study(tmp_path), 2)
    run_all(new_study(tmp_path), 2)
    run_all(new_study(tmp_path), 5)
    assert len(new_study(tmp_path).tried()) == 5


def test_another_seed_is_another_search(tmp_path: Path) -> None:
    for seed in (0, 1):
        run_all(new_study(tmp_path / str(seed), seed=seed), 3)
    first, second = (new_study(tmp_path / str(seed)).tried() for seed in (0, 1))
    assert first[0].settings == second[0].settings
    assert first[1].settings != second[1].settings


def test_it_finds_the_best(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    run_all(study, 40)
    best = max(study.tried(), key=lambda t: t.value)
    assert best.value > 0.8 > value_of(BASELINE)
    assert (best.settings["n"], best.settings["kind"]) == (1, "a")


HOLD = """
import sys, time
from pathlib import Path
from whenabouts.search.space import Interval
from whenabouts.search.study import Study

study = Study(Path(sys.argv[1]), {"x": Interval(0.0, 1.0)}, {"x": 0.5})
with study.next_trial(9) as trial:
    trial.report("v1", 10, 0.25)
    print(trial.number, flush=True)
    time.sleep(60)
"""


def test_a_trial_belongs_to_a_living_process(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with held, Study(tmp_path, {"x": Interval(0.0, 1.0)}, {"x": 0.5}).next_trial(1) as early:
        # Whoever comes first has trial 0; here nobody holds it before the other process says so.
        assert early is None or early.number == 0
        if early is not None:
            early.complete(0.1)
        assert held.stdout is not None
        number = int(held.stdout.readline())
        study = Study(tmp_path, {"x": Interval(0.0, 1.0)}, {"x": 0.5})
        with study.next_trial(9) as trial:
            assert trial is not None
            assert trial.number == number + 1
            trial.complete(0.5)
        held.send_signal(signal.SIGKILL)
        held.wait()
        with study.next_trial(9) as trial:
            assert trial is not None
            assert trial.number == number
            trial.report("v1", 10, 0.99)  # it was reported before the kill: not again
            trial.report("v1", 20, 0.5)
            trial.pruned()
    assert study.tried()[number].value == 0.5
    assert study.tried()[number].looks == 2


# ---- pruning -------------------------------------------------------------------------------------


def looks(trial: Trial, values: list[float], phase: str = "v1") -> None:
    for place, value in enumerate(values, 1):
        trial.report(phase, 20 * place, value)


def finished(study: Study, num: int, level: float = 0.5, length: int = 20) -> None:
    for _ in range(num):
        with study.next_trial(100) as trial:
            assert trial is not None
            looks(trial, [level] * length)
            trial.complete(level)


def test_who_is_behind_the_median_is_pruned(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    finished(study, study_module.STARTUP_TRIALS)
    with study.next_trial(100) as trial, pytest.raises(PrunedError):
        looks(trial, [0.1, 0.4, *[0.3] * 18])
    assert study.tried()[-1].looks == study_module.MIN_LOOKS
    trial.pruned()
    assert (study.tried()[-1].state, study.tried()[-1].value) == ("pruned", 0.4)


def test_who_is_not_behind_is_not_pruned(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    finished(study, study_module.STARTUP_TRIALS)
    for values in ([0.1] * 8 + [0.5] * 12, [0.6] + [0.1] * 19):  # the best so far counts
        with study.next_trial(100) as trial:
            looks(trial, values)
            trial.complete(0.5)


def test_nothing_is_pruned_before_there_is_something_to_compare_with(tmp_path: Path) -> None:
    study = new_study(tmp_path / "a")
    finished(study, study_module.STARTUP_TRIALS - 1)
    with study.next_trial(100) as trial:
        looks(trial, [0.1] * 20)
    study = new_study(tmp_path / "b")
    finished(study, study_module.STARTUP_TRIALS, length=5)  # none came this far
    with study.next_trial(100) as trial:
        looks(trial, [0.1] * 20)
    study = new_study(tmp_path / "c", prune=False)
    finished(study, study_module.STARTUP_TRIALS)
    with study.next_trial(100) as trial:
        looks(trial, [0.1] * 20)


def test_phases_are_compared_each_with_itself(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    for _ in range(study_module.STARTUP_TRIALS):
        with study.next_trial(100) as trial:
            looks(trial, [0.2] * 12, "pretrain")
            looks(trial, [0.8] * 12)
            trial.complete(0.8)
    with study.next_trial(100) as trial:
        looks(trial, [0.3] * 12, "pretrain")
        with pytest.raises(PrunedError):
            looks(trial, [0.5] * 12)
    assert study.tried()[-1].looks == 13


# ---- failures ------------------------------------------------------------------------------------


def test_a_failed_trial_is_kept_with_its_reason(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    with study.next_trial(2) as trial:
        trial.failed("no memory")
    with study.next_trial(2) as trial:
        trial.complete(0.5, (0.4, 0.6))
    with study.next_trial(2) as trial:
        assert trial is None
    failed, done = study.tried()
    assert (failed.state, failed.value, failed.reason) == ("failed", None, "no memory")
    assert (done.value, done.halves) == (0.5, (0.4, 0.6))


@pytest.mark.parametrize(
    "damage",
    [
        lambda journal: b"\xff" + journal,
        lambda journal: journal.replace(b'"trial_id"', b'"triol_id"'),
        lambda journal: journal.replace(b"{", b"[", 1),
        lambda journal: journal.replace(b"FloatDistribution", b"FlootDistribution"),
        lambda journal: journal.replace(b'\\"low\\"', b'\\"law\\"'),
    ],
)
def test_a_damaged_journal_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    study = new_study(tmp_path)
    run_all(study, 2)
    path = tmp_path / "study.journal"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    for call in (study.tried, lambda: run_all(study, 3)):
        with pytest.raises(RunError, match=r"study\.journal: not a journal of trials"):
            call()
    assert path.read_bytes() == damaged


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "optuna", None)
    with pytest.raises(UsageError, match="not installed; pip install optuna"):
        new_study(tmp_path)
