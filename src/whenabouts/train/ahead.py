"""The next batch is gathered while the device computes with this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Batch = TypeVar("Batch")


@contextmanager
def gathered_ahead(
    batch: Callable[[int], Batch], *, is_wanted: bool
) -> Iterator[Callable[[int], Batch]]:
    """`batch`, computed one step ahead in a thread of its own; the same batches, in order.

    On a CPU it is not wanted: feed and model would share the cores, and a batch's buffer.
    """
    if not is_wanted:
        yield batch
        return
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
    coming: dict[int, Future[Batch]] = {}

    def take(step: int) -> Batch:
        this = coming.pop(step, None) or pool.submit(batch, step)
        coming.clear()
        coming[step + 1] = pool.submit(batch, step + 1)
        return this.result()

    try:
        yield take
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
