"""Halves through their bits: every half in [0, 1], against numpy's own conversion."""

from __future__ import annotations

import numpy as np
import pytest

from whenabouts.core.half_floats import are_shares, weighted

ALL = np.arange(0x3C00 + 1, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("weight", [1.0, 0.5, 1 / 3, 0.09, 1e-9, 1 - 2**-53, 2.0**-1000, 0.0])
def test_every_half_bit_for_bit(weight: float) -> None:
    assert (ALL[0], ALL[-1]) == (0, 1)
    np.testing.assert_array_equal(weighted(ALL, weight), ALL.astype(np.float64) * weight)


def test_rows_that_do_not_lie_side_by_side() -> None:
    halves = ALL[:15_360].reshape(160, 96)[::3, ::-2]
    expected = halves.astype(np.float64) * 0.3
    np.testing.assert_array_equal(weighted(halves, 0.3), expected)
    assert weighted(halves, 0.3).shape == halves.shape


@pytest.mark.parametrize("value", [1 + 2**-10, -(2**-24), -0.0, 2, np.inf, -np.inf, np.nan])
def test_what_is_no_share(value: float) -> None:
    halves = ALL.copy()
    assert are_shares(halves)
    halves[77] = value
    assert not are_shares(halves)


def test_nothing_is_all_shares() -> None:
    assert are_shares(ALL[:0])
    assert weighted(ALL[:0], 0.5).shape == (0,)
