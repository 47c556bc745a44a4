"""Stands in for the processes of a team: threads, each with a share of a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Outcome = TypeVar("Outcome")
SumOverShares = Callable[[Tensor], Tensor]


class Shares:
    """Threads that meet in every sum, or all fail: if one does not come, none waits for long."""

    def __init__(self, size: int) -> None:
        self._size, self._slots = size, [torch.zeros(0)] * size
        self._barrier = threading.Barrier(size, timeout=5)
        self.num_sums = 0

    def run(self, work: Callable[[int, SumOverShares], Outcome]) -> list[Outcome]:
        """work(rank, sum) of every rank."""
        with ThreadPoolExecutor(self._size) as pool:
            return list(pool.map(lambda rank: self._guarded(work, rank), range(self._size)))

    def _guarded(self, work: Callable[[int, SumOverShares], Outcome], rank: int) -> Outcome:
        try:
            return work(rank, lambda tensor: self._sum(rank, tensor))
        except BaseException:
            self._barrier.abort()
            raise

    def _sum(self, rank: int, tensor: Tensor) -> Tensor:
        self._slots[rank] = tensor.clone()
        if self._barrier.wait() == 0:
            self.num_sums += 1
        total = torch.stack(self._slots).sum(0)  # of one shape, or this raises
        self._barrier.wait()
        return tensor.copy_(total)
