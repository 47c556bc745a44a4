"""The order in which examples are seen: a pure function of (seed, step).

The stream of examples is one seeded permutation after another; batch k is a slice of it. Nothing is
carried from step to step, so that a resumed run, or one cut among several processes, sees the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class ShuffledOrder:
    """Batches of `batch_size` out of `num_examples`, shuffled anew each epoch."""

    num_examples: int
    batch_size: int
    seed: int
    _kept: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        assert self.num_examples > 0
        assert self.batch_size > 0

    def batch(self, step: int) -> NDArray[np.int64]:
        """The examples of batch `step` (from 0); it may reach over the end of an epoch."""
        place = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, within = np.divmod(place, self.num_examples)
        parts = [self._permutation(int(e))[within[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(parts)

    def epoch(self, step: int) -> float:
        """Epochs seen before batch `step`."""
        return step * self.batch_size / self.num_examples

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._kept:
            self._kept = {e: p for e, p in self._kept.items() if e == epoch - 1}
            rng = np.random.default_rng([self.seed, epoch])
            self._kept[epoch] = rng.permutation(self.num_examples)
        return self._kept[epoch]
