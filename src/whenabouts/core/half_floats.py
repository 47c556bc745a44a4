"""Weighted sums of float16 scores, without numpy's own conversion, which goes value by value.

The bits of a half in [0, 1], moved up by 42, are those of a double: exponent and fraction stand in
their places, and only the bias of the exponent differs, 15 against 1023. So

    half = double * 2^1008

exactly, also for halves below 2^-14 (subnormal, as the double then is), and with the factor taken
into the weight, w * half costs one product and is rounded once, as float64(half) * w is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOVED_BY = np.uint64(42)
BIAS = 2.0**1008
ONE = 0x3C00  # the bits of 1.0; those of all numbers below it, and above -0.0, are smaller


def are_shares(halves: NDArray[np.float16]) -> bool:
    """Whether all of the halves are in [0, 1]. A -0.0 counts as outside: see `weighted`."""
    return not halves.size or int(halves.view(np.uint16).max()) <= ONE


def weighted(
    halves: NDArray[np.float16], weight: float, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """float64(halves) * weight, bit for bit, for halves in [0, 1] and a weight in [0, 1].

    out: where to put it, of the shape of the halves.
    """
    values = np.empty(halves.shape) if out is None else out
    bits = values.view(np.uint64)
    bits[...] = halves.view(np.uint16)
    bits <<= MOVED_BY
    values *= weight * BIAS
    return values
