"""Where values stand in an array that need not be sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Lookup:
    """Answers for many values at once; memory is that of the array, however large its values."""

    def __init__(self, values: NDArray[Any]) -> None:
        """values: [N], unique."""
        self._places = np.argsort(values, kind="stable")
        self._sorted = values[self._places]

    def places(self, wanted: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each of `wanted` in the array; -1 where it is not there."""
        if not len(self._sorted):
            return np.full(len(wanted), -1, np.int64)
        near = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[near] == wanted, self._places[near], -1)
