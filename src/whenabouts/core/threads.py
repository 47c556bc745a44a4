"""Work on arrays in several threads of one process: numpy computes without Python's lock.

Results come in the order of the items, and few of them wait at a time, so that memory does not grow
with the items and a file can be written from them as they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from whenabouts.core.processes import default_processes

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_THREADS = 8  # beyond that such work waits for the memory


def default_threads() -> int:
    return min(default_processes(), MOST_THREADS)


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Yield work(item) of each item, in order; at most two results a thread wait to be taken.

    threads: 1 works in the caller's thread, one item at a time; None: one a core. The first error,
    in the order of the items, is raised; what has begun is finished, the rest is not begun.
    """
    threads = default_threads() if threads is None else threads
    if threads <= 1:
        yield from map(work, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in islice(left, 2 * threads)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(left, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
