from __future__ import annotations

import numpy as np
import pytest

from whenabouts.core.errors import RecordError, SettingsError
from whenabouts.records.quantize import ZERO_BYTE, QuantizeRange, dequantize, quantize

ALL_BYTES = np.arange(256, dtype=np.uint8)


def test_dequantize_by_hand():
    # low + 4/512 = -2 + 0.0078125; 51/255 of the range is 0.8
    x = dequantize(np.array([[0, 51], [204, 255]], np.uint8))
    assert x.dtype == np.float32
    np.testing.assert_allclose(
        x, [[-1.9921875, -1.1921875], [1.2078125, 2.0078125]], rtol=0, atol=5e-7
    )
    assert x[0, 0] == np.float32(-1.9921875)


def test_another_range_by_hand():
    limits = QuantizeRange(low=0.0, high=512.0)
    assert dequantize(np.array([0, 255], np.uint8), limits).tolist() == [1.0, 513.0]
    assert quantize([1.0, 513.0], limits).tolist() == [0, 255]
    assert limits.zero_byte == 0


@pytest.mark.parametrize("limits", [QuantizeRange(), QuantizeRange(-0.5, 7.0)])
def test_every_byte_comes_back(limits):
    np.testing.assert_array_equal(quantize(dequantize(ALL_BYTES, limits), limits), ALL_BYTES)


def test_quantize_takes_the_nearest_byte_and_clips():
    step = 4 / 255
    at = -1.9921875 + 10 * step
    near = [at - 0.51 * step, at - 0.49 * step, at, at + 0.49 * step, at + 0.51 * step]
    assert quantize(near).tolist() == [9, 10, 10, 10, 11]
    assert quantize([-np.inf, -3.0, -2.0, 2.02, 3.0, np.inf]).tolist() == [0, 0, 0, 255, 255, 255]


def test_zero_byte_is_the_nearest_to_zero():
    assert ZERO_BYTE == 127
    assert np.abs(dequantize(ALL_BYTES)).argmin() == ZERO_BYTE
    assert quantize(np.zeros((2, 3), np.float32)).tolist() == [[127] * 3] * 2


def test_nan_has_no_byte():
    with pytest.raises(RecordError, match="a feature is NaN"):
        quantize([0.0, np.nan])


def test_zero_byte_of_a_range_without_zero_is_the_nearer_end():
    assert QuantizeRange(1.0, 2.0).zero_byte == 0
    assert QuantizeRange(-3.0, -1.0).zero_byte == 255


@pytest.mark.parametrize(("low", "high"), [(2.0, -2.0), (1.0, 1.0), (-np.inf, 0.0), (0.0, np.nan)])
def test_an_impossible_range_is_refused(low, high):
    with pytest.raises(SettingsError, match="low < high, both finite"):
        QuantizeRange(low, high)
