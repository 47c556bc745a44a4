"""Features as bytes <-> features as floats.

YouTube-8M stores a feature in [low, high] as one byte and reads it back with a bias of half a step
(`Dequantize` in the data set's own reader): x = q * (high - low) / 255 + (high - low) / 512 + low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whenabouts.core.errors import RecordError, SettingsError


@dataclass(frozen=True, slots=True)
class QuantizeRange:
    """The floats that bytes stand for: x = q * scale + bias."""

    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise SettingsError(
                f"the range is [{self.low}, {self.high}]", rule="low < high, both finite"
            )

    @property
    def scale(self) -> float:
        return (self.high - self.low) / 255

    @property
    def bias(self) -> float:
        return (self.high - self.low) / 512 + self.low

    @property
    def zero_byte(self) -> int:
        """The byte nearest to 0.0: what padding is before dequantising."""
        return int(np.clip(np.rint(-self.bias / self.scale), 0, 255))


YOUTUBE_8M = QuantizeRange()
ZERO_BYTE = YOUTUBE_8M.zero_byte


def dequantize(q: NDArray[np.uint8], limits: QuantizeRange = YOUTUBE_8M) -> NDArray[np.float32]:
    """The floats of bytes, of the same shape."""
    return q.astype(np.float32) * np.float32(limits.scale) + np.float32(limits.bias)


def quantize(x: ArrayLike, limits: QuantizeRange = YOUTUBE_8M) -> NDArray[np.uint8]:
    """The nearest byte of each float, of the same shape; values outside the range are clipped.

    Inverse of `dequantize` on all 256 bytes. Raises RecordError on NaN, which no byte stands for.
    """
    steps = (np.asarray(x, np.float64) - limits.bias) / limits.scale
    if np.isnan(steps).any():
        raise RecordError("a feature is NaN", rule="only numbers have a byte")
    return np.clip(np.rint(steps), 0, 255).astype(np.uint8)
