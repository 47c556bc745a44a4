from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from whenabouts.core import processes
from whenabouts.core.errors import RecordError
from whenabouts.core.processes import default_processes, map_unordered


def square_and_process(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise RecordError("three", where="item")
    return number


def test_pool_gives_each_item_with_its_result():
    found = dict(map_unordered(square_and_process, [3, 1, 2], 2))
    assert {item: square for item, (square, _) in found.items()} == {1: 1, 2: 4, 3: 9}
    assert os.getpid() not in {process for _, process in found.values()}


def test_two_items_are_work_for_a_pool():
    found = dict(map_unordered(square_and_process, [3, 1], 2))
    assert os.getpid() not in {process for _, process in found.values()}


@pytest.mark.parametrize(("items", "num_processes"), [([3, 1], 1), ([3, 1], 0), ([3], 2), ([], 2)])
def test_little_work_stays_in_this_process(items, num_processes):
    expected = [(i, (i * i, os.getpid())) for i in items]
    assert list(map_unordered(square_and_process, items, num_processes)) == expected


def test_results_come_as_they_are_done():
    done = []
    results = map_unordered(done.append, [1, 2, 3], 1)
    assert next(results) == (1, None)
    assert done == [1]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_error_of_one_item_ends_the_work(num_processes):
    with pytest.raises(RecordError, match="item: three"):
        list(map_unordered(refuse_three, [3, 4, 5], num_processes))


def test_work_that_is_left_is_cancelled_after_an_error(monkeypatch):
    """Not waited for: a shard takes minutes, and there may be thousands in the queue."""
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int, context: object) -> None:
            super().__init__(max_workers)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            asked.append((self._max_workers, wait, cancel_futures))
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    with pytest.raises(RecordError, match="three"):
        list(map_unordered(refuse_three, [3, 4, 5], 2))
    assert asked[0] == (2, False, True)
    asked.clear()
    assert len(list(map_unordered(refuse_three, [1, 2], 7))) == 2
    assert asked == [(2, True, False)], "no more processes than items"


def test_default_is_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 9} if pid == 0 else set())
    assert default_processes() == 3
