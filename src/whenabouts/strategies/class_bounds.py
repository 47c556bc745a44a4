"""The k best pairs of each class in a stream of (class, key) pairs, exactly, in bounded memory.

Keys are those of `core.ranking`: unique, the smaller the better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PENDING = 1 << 22  # pairs that wait until they are worth a sort
NO_BOUND = np.uint64(2**64 - 1)


class ClassBounds:
    """Takes pairs in any order; then says below which key the k best of each class lie.

    limits: the largest k of each class that will be asked for [C]. Memory is that of sum(limits)
    pairs and of those that wait.
    """

    def __init__(self, limits: NDArray[np.int64], pending: int = PENDING) -> None:
        self._limits, self._most_pending = limits, pending
        self._column = np.zeros(0, np.int64)
        self._key = np.zeros(0, np.uint64)
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []
        self._num_waiting = 0

    def take(self, column: NDArray[np.int64], key: NDArray[np.uint64]) -> None:
        """column, key: [P]."""
        self._waiting.append((column, key))
        self._num_waiting += len(column)
        if self._num_waiting > max(self._most_pending, len(self._key)):
            self._settle()

    def bounds(self, counts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """For each class the bound below which its counts[c] best keys lie [C]: 0 where none is
        asked for, NO_BOUND where there are fewer."""
        assert (counts <= self._limits).all()
        self._settle()
        classes = np.arange(len(counts))
        first, end = (np.searchsorted(self._column, classes, side) for side in ("left", "right"))
        found = np.full(len(counts), NO_BOUND)
        is_full = (counts > 0) & (counts <= end - first)
        found[is_full] = self._key[(first + counts - 1)[is_full]] + np.uint64(1)
        found[counts == 0] = 0
        return found

    def _settle(self) -> None:
        """Keep the best keys, sorted by class and key."""
        column = np.concatenate([self._column, *(column for column, _ in self._waiting)])
        key = np.concatenate([self._key, *(key for _, key in self._waiting)])
        self._waiting, self._num_waiting = [], 0
        order = np.lexsort((key, column))
        column, key = column[order], key[order]
        place = np.arange(len(column)) - np.searchsorted(column, column)
        kept = place < self._limits[column]
        self._column, self._key = column[kept], key[kept]
