from __future__ import annotations

import os

import pytest

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


@pytest.mark.parametrize(("items", "processes"), [([3, 1], 1), ([3, 1], 0), ([3], 2), ([], 2)])
def test_little_work_stays_in_this_process(items, processes):
    expected = [(i, (i * i, os.getpid())) for i in items]
    assert list(map_unordered(square_and_process, items, processes)) == expected


def test_results_come_as_they_are_done():
    done = []
    results = map_unordered(done.append, [1, 2, 3], 1)
    assert next(results) == (1, None)
    assert done == [1]


@pytest.mark.parametrize("processes", [1, 2])
def test_error_of_one_item_ends_the_work(processes):
    with pytest.raises(RecordError, match="item: three"):
        list(map_unordered(refuse_three, [3, 4, 5], processes))


def test_default_is_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 9} if pid == 0 else set())
    assert default_processes() == 3
