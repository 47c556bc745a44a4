"""Real positions of a padded batch as rows of one matrix, and back.

Layers that look at one position at a time run on the rows: one large product, nothing computed for
padding, and no padding in the statistics of a batch normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


LITTLE_PADDING = 0.25  # below this share of padding, computing it costs less than leaving it out


class RealRows:
    """Where the N real positions of a batch [B, T] lie. Without padding nothing is copied.

    keep_little: where padding among the rows does no harm, and the caller masks it later, a little
    of it may stay; then `put` leaves there what was computed instead of 0.
    """

    def __init__(self, mask: Bool[Tensor, "B T"], *, keep_little: bool = False) -> None:
        self._shape = mask.shape
        num_padded = mask.numel() - int(mask.sum())
        kept = LITTLE_PADDING * mask.numel() if keep_little else 0
        self._index = None if num_padded <= kept else mask.flatten().nonzero().squeeze(-1)

    def take(self, values: Float[Tensor, "B T E"]) -> Float[Tensor, "N E"]:
        rows = values.flatten(0, 1)
        return rows if self._index is None else rows.index_select(0, self._index)

    def put(self, rows: Float[Tensor, "N E"]) -> Float[Tensor, "B T E"]:
        """The rows at their positions, 0 at padding."""
        if self._index is not None:
            padded = rows.new_zeros(self._shape.numel(), rows.shape[1])
            rows = padded.index_copy_(0, self._index, rows)
        return rows.view(*self._shape, rows.shape[1])
