"""The one seam for work that is independent a shard: in this process, or in a pool of processes.

A cluster engine can stand behind `map_unordered` without its callers knowing.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_processes() -> int:
    return len(os.sched_getaffinity(0))


def map_unordered(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) as each is done. `work` must be importable (a module's function)."""
    if processes <= 1 or len(items) <= 1:
        yield from ((item, work(item)) for item in items)
        return
    # Not fork: a forked child of a process with threads (torch, arrow) may deadlock.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "pyarrow.parquet", work.__module__])
    with ProcessPoolExecutor(min(processes, len(items)), context) as pool:
        try:
            futures = {pool.submit(work, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
