from __future__ import annotations

import sys

import pytest

from whenabouts.core import progress as progress_module
from whenabouts.core.progress import LOG_EVERY_S, Progress, human, progress, say


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("amount", "unit", "shown"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (1000, "B", "1.0 kB"),
        (1_234_567, "B", "1.2 MB"),
        (2.5e9, "B", "2.5 GB"),
        (1.5e12, "B", "1.5 TB"),
        (2.5e15, "B", "2500.0 TB"),
        (1_234_567, "videos", "1,234,567 videos"),
        (2.6, "", "3"),
    ],
)
def test_amounts_for_people(amount, unit, shown):
    assert human(amount, unit) == shown


def test_line_tells_amount_rate_and_time_left(clock):
    bar = Progress("index", 2000, "B")
    clock.now_s += 2
    bar.advance(300)
    bar.advance(200, "7 videos")
    assert bar.line() == "index: 500 B of 2.0 kB (25%), 250 B/s, 6 s left, 7 videos"


def test_note_stays_until_the_next_one(clock):
    bar = Progress("x", 4, "")
    bar.advance(1, "old")
    bar.advance(1)
    assert bar.note == "old"
    bar.advance(1, "new")
    assert bar.note == "new"


def test_nothing_done_and_nothing_to_do(clock):
    assert Progress("x", 10, "steps").line() == (
        "x: 0 steps of 10 steps (0%), 0 steps/s, time left unknown"
    )
    assert Progress("x", 0, "B").line() == "x: 0 B of 0 B (0%), 0 B/s, time left unknown"


def test_log_gets_a_line_now_and_then(clock, capsys):
    with progress("index", 100, "videos") as bar:
        bar.advance(1)
        clock.now_s += LOG_EVERY_S - 0.1
        bar.advance(1)
        assert capsys.readouterr().err == ""
        clock.now_s += 0.1
        bar.advance(3)
        assert capsys.readouterr().err == (
            "index: 5 videos of 100 videos (5%), 0 videos/s, 190 s left\n"
        )
        clock.now_s += LOG_EVERY_S - 0.1
        bar.advance(1)
        clock.now_s += 0.1
        bar.advance(1)
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == "", "standard output is for results"


def test_interval_can_be_chosen(clock, capsys):
    bar = Progress("x", 4, "", every_s=0.5)
    clock.now_s += 0.5
    bar.advance(1)
    assert capsys.readouterr().err == "x: 1 of 4 (25%), 2/s, 2 s left\n"


def test_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("index", 100, "videos") as bar:
        assert type(bar) is not Progress
        bar.advance(30)
        bar.advance(20)
        [task] = bar._bar.tasks
        assert (task.completed, task.total) == (50, 100)
        assert task.fields["line"].startswith("index: 50 videos of 100 videos (50%)")
        assert bar._bar.console.stderr, "standard output is for results"
        assert bar._bar.live.transient, "the bar goes when the work is done"
    assert capsys.readouterr().out == ""


def test_terminal_without_rich_gets_lines(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress_module, "rich_progress", None)
    with progress("index", 100) as bar:
        assert type(bar) is Progress


def test_say_leaves_standard_output_to_results(capsys):
    say("a line")
    assert capsys.readouterr() == ("", "a line\n")
