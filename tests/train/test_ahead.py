"""Batches gathered ahead are the same batches, in order, also after a jump or an error."""

from __future__ import annotations

import threading

import pytest

from toy_work import CrashError
from whenabouts.train.ahead import gathered_ahead


@pytest.mark.parametrize("is_wanted", [False, True])
def test_the_same_batches(is_wanted: bool) -> None:
    with gathered_ahead(lambda step: step * 10, is_wanted=is_wanted) as batch:
        assert [batch(step) for step in (0, 1, 2, 7, 8, 3)] == [0, 10, 20, 70, 80, 30]


def test_the_next_batch_is_gathered_meanwhile() -> None:
    """The third batch is asked for only once the second is there already."""
    gathered = [threading.Event() for _ in range(4)]

    def slow(step: int) -> int:
        gathered[step].set()
        return step

    with gathered_ahead(slow, is_wanted=True) as batch:
        assert batch(0) == 0
        assert gathered[1].wait(timeout=10)
        assert not gathered[2].is_set()
        assert batch(1) == 1
        assert gathered[2].wait(timeout=10)


def test_without_it_nothing_is_gathered_that_was_not_asked_for() -> None:
    asked = []
    with gathered_ahead(asked.append, is_wanted=False) as batch:
        batch(0)
    assert asked == [0]


def test_each_batch_is_gathered_once() -> None:
    asked = []
    with gathered_ahead(asked.append, is_wanted=True) as batch:
        for step in range(5):
            batch(step)
    assert asked[:5] == [0, 1, 2, 3, 4]
    assert asked[5:] in ([], [5])


def test_an_error_of_the_feed_reaches_the_loop_at_its_step() -> None:
    def breaks(step: int) -> int:
        if step == 2:
            raise CrashError("shard is gone")
        return step

    with gathered_ahead(breaks, is_wanted=True) as batch:
        assert [batch(0), batch(1)] == [0, 1]
        with pytest.raises(CrashError, match="shard is gone"):
            batch(2)
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]
