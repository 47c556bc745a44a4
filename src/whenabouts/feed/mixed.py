"""Batches of rated and of pseudo-labelled segments side by side, each kind in an order of its own.

A batch of B segments has B_p = round(share B) pseudo-labelled ones, at least one, and B - B_p rated
ones, at least one: however many segments have pseudo-labels, they do not drown the rated ones. Both
orders are functions of (seed, step), as `ShuffledOrder` is.
"""

from __future__ import annotations

from dataclasses import dataclass

from whenabouts.core.errors import SettingsError
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedBatch, RatedSegments

OTHER_SHUFFLE = 1_000_003  # added to the seed of the rated segments


@dataclass(frozen=True)
class MixedBatch:
    """The rated segments of a batch and its pseudo-labelled ones; each counts its own segments."""

    rated: RatedBatch
    pseudo: RatedBatch


class MixedSegments:
    """Shuffled batches out of two sets of segments: a function of the step."""

    def __init__(
        self, rated: RatedSegments, pseudo: RatedSegments, batch_size: int, share: float, seed: int
    ) -> None:
        self._rated, self._pseudo = rated, pseudo
        num_pseudo = pseudo_count(batch_size, share)
        num_rated = batch_size - num_pseudo
        self._rated_order = ShuffledOrder(len(rated), num_rated, seed)
        self._pseudo_order = ShuffledOrder(len(pseudo), num_pseudo, seed + OTHER_SHUFFLE)
        self.num_examples = len(rated) * batch_size // num_rated
        """Segments of both kinds that go by while each rated segment is seen once."""

    def batch(self, step: int, rank: int = 0, size: int = 1) -> MixedBatch:
        """This process's share (of `size`) of both kinds of batch `step`."""
        rated, pseudo = self._rated_order.batch(step), self._pseudo_order.batch(step)
        return MixedBatch(
            self._rated.batch(rated[rank::size], num_segments=len(rated)),
            self._pseudo.batch(pseudo[rank::size], num_segments=len(pseudo)),
        )


def pseudo_count(batch_size: int, share: float) -> int:
    """Pseudo-labelled segments of a batch. Raises SettingsError if both kinds have no room."""
    if batch_size < 2:
        raise SettingsError(
            f"the value is {batch_size}",
            where="batch_size",
            rule="a batch has a rated and a pseudo-labelled segment at least",
        )
    return min(max(1, round(share * batch_size)), batch_size - 1)
