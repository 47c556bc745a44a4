"""Threads: results in order, few at a time, the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from whenabouts.core.threads import map_in_order


def slow_square(number: int) -> int:
    time.sleep(0.002 * (number % 3))
    return number * number


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_results_are_in_the_order_of_the_items(threads: int | None) -> None:
    assert list(map_in_order(slow_square, range(20), threads)) == [n * n for n in range(20)]
    assert list(map_in_order(slow_square, [], threads)) == []


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for count, _ in enumerate(map_in_order(slow_square, items(), 2), 1):
        assert len(taken) <= count + 4


def test_several_threads_work_at_once() -> None:
    both = threading.Barrier(2, timeout=10)  # passed by two threads, or never
    assert len(list(map_in_order(lambda _: both.wait(), range(4), 2))) == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_ends_it(threads: int) -> None:
    done: list[int] = []

    def fail_at_five(number: int) -> int:
        done.append(number)
        if number >= 5:
            raise ZeroDivisionError(f"at {number}")
        return number

    results = []
    with pytest.raises(ZeroDivisionError, match="at 5"):
        results += map_in_order(fail_at_five, range(1000), threads)
    assert len(done) < 20


def test_who_stops_taking_stops_the_work() -> None:
    done: list[int] = []
    results = map_in_order(done.append, range(1000), 2)
    next(results)
    results.close()
    assert len(done) < 20
