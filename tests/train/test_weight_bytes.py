"""Weights as bytes: by hand, within half a step, there and back; scales that do not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shapes import checked
from whenabouts.core.errors import RunError
from whenabouts.train import weight_bytes
from whenabouts.train.weight_bytes import (
    LEVELS,
    MOST_KEPT,
    Scale,
    dequantize,
    dequantize_all,
    quantize,
    quantize_large,
)

FLOAT32_MAX = torch.finfo(torch.float32).max
there, back = checked(quantize), checked(dequantize)


def test_by_hand() -> None:
    """A step is 2 / 255: 0 lies half-way between 127 and 128, and goes to the even one."""
    levels, scale = there(torch.tensor([[-1.0, 1.0, 0.0], [0.01, -0.99, 0.5]]))
    assert levels.tolist() == [[0, 255, 128], [129, 1, 191]]
    assert scale == Scale(-1.0, 1.0)
    assert scale.step == 2 / 255
    values = back(levels, scale)
    expected = [[-1.0, 1.0, 1 / 255], [3 / 255, -253 / 255, 127 / 255]]
    torch.testing.assert_close(values, torch.tensor(expected), rtol=0, atol=1e-7)


def test_each_byte_by_hand() -> None:
    weights = torch.arange(-100.0, 156.0)
    levels, scale = there(weights)
    assert scale == Scale(-100.0, 155.0)
    assert scale.step == 1.0
    assert levels.tolist() == list(range(256))
    assert torch.equal(back(levels, scale), weights)
    assert there(weights + (torch.arange(256.0) == 7) * 0.4)[0].tolist() == list(range(256))


@pytest.mark.parametrize("value", [0.0, -2.5, 1e-45, FLOAT32_MAX])
def test_equal_weights_come_back_exactly(value: float) -> None:
    weights = torch.full((2, 3), value)
    levels, scale = there(weights)
    assert scale.step == 0.0
    assert torch.equal(back(levels, scale), weights)


def test_one_weight_and_no_axis() -> None:
    levels, scale = there(torch.tensor(3.25))
    assert back(levels, scale) == 3.25


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_no_weight_is_moved_by_more_than_half_a_step(values: list[float]) -> None:
    weights = torch.tensor(values)
    levels, scale = quantize(weights)
    restored = dequantize(levels, scale)
    rounding = max(abs(v) for v in values) * 2**-24 + 2**-150  # half the last place of a float32
    moved = (restored.double() - weights.double()).abs().max()
    assert float(moved) <= scale.step / 2 * (1 + 1e-12) + rounding
    assert scale.step == (max(values) - min(values)) / LEVELS
    for end in (min(values), max(values)):
        assert (restored[weights == end] == end).all(), "the ends are not moved at all"


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_again_gives_the_same_scale(values: list[float]) -> None:
    levels, scale = quantize(torch.tensor(values))
    again, same = quantize(dequantize(levels, scale))
    assert same == scale
    if scale.step > max(map(abs, values)) * 2**-20:  # else float32 has too few places for 256 steps
        assert torch.equal(again, levels)


def test_the_largest_range_does_not_overflow() -> None:
    weights = torch.tensor([-FLOAT32_MAX, 0.0, FLOAT32_MAX])
    levels, scale = there(weights)
    assert levels.tolist() == [0, 128, 255]
    assert torch.equal(back(levels, scale)[::2], weights[::2])
    assert back(levels, scale).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(RunError, match="a weight is NaN or infinite; only numbers have a byte"):
        quantize(torch.tensor([0.0, value, 1.0]))


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_parts_make_no_difference(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(9, 11)
    levels, scale = quantize(weights)
    restored = dequantize(levels, scale)
    monkeypatch.setattr(weight_bytes, "AT_ONCE", at_once)
    assert torch.equal(quantize(weights)[0], levels)
    assert torch.equal(dequantize(levels, scale), restored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_weights_themselves_are_left_alone(dtype: torch.dtype) -> None:
    weights = torch.randn(6, 4, dtype=dtype).t()  # not contiguous
    before = weights.clone()
    levels, scale = quantize(weights)
    assert torch.equal(weights, before)
    assert levels.shape == (4, 6)
    assert float((dequantize(levels, scale) - weights).abs().max()) <= scale.step * 0.5001
    kept = levels.clone()
    dequantize(levels, scale)
    assert torch.equal(levels, kept)


# ---- the tensors of a model ----------------------------------------------------------------------


def test_only_large_tensors_of_floats() -> None:
    assert MOST_KEPT == 17_000
    tensors = {
        "at the limit": torch.randn(170, 100),
        "above it": torch.randn(17_001),
        "wide": torch.randn(2, 3, 4000),
        "counts": torch.arange(20_000),
        "marks": torch.ones(20_000, dtype=torch.bool),
    }
    stored, scales = quantize_large(tensors)
    assert list(stored) == list(tensors)
    assert sorted(scales) == ["above it", "wide"]
    for name, tensor in tensors.items():
        assert stored[name].dtype == (torch.uint8 if name in scales else tensor.dtype)
        assert stored[name].shape == tensor.shape
        assert name in scales or stored[name] is tensor
    restored = dequantize_all(stored, scales, "here")
    for name, tensor in tensors.items():
        assert restored[name].dtype == tensor.dtype
        step = Scale(**scales[name]).step if name in scales else 0.0
        assert float((restored[name].double() - tensor.double()).abs().max()) <= step * 0.5001


BYTES = torch.zeros(3, dtype=torch.uint8)
SOUND = {"lowest": -1.0, "highest": 0.5}


@pytest.mark.parametrize(
    ("tensors", "scales", "message"),
    [
        ({"a": BYTES}, [], "here: 'quantised' is no JSON object"),
        ({"a": BYTES}, None, "here: 'quantised' is no JSON object"),
        ({"a": BYTES}, {"b": SOUND}, "here: 'b' has a scale and is not there"),
        ({"a": BYTES.float()}, {"a": SOUND}, "'a' has a scale and is torch.float32; scales are of"),
        ({"a": BYTES.to(torch.int8)}, {"a": SOUND}, "'a' has a scale and is torch.int8"),
    ],
)
def test_scales_of_what_is_not_bytes(tensors: dict[str, Tensor], scales: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        dequantize_all(tensors, scales, "here")


@pytest.mark.parametrize(
    "scale",
    [
        None,
        0.5,
        [],
        {},
        {"lowest": -1.0},
        {"highest": 1.0},
        {**SOUND, "more": 1.0},
        {**SOUND, "highest": "0.5"},
        {**SOUND, "lowest": True},
        {**SOUND, "lowest": 10**400},
        {**SOUND, "highest": None},
    ],
)
def test_what_is_no_scale(scale: Any) -> None:
    message = "here: the scale of 'a' is .*; a scale has two floats, lowest and highest"
    with pytest.raises(RunError, match=message):
        dequantize_all({"a": BYTES}, {"a": scale}, "here")


@pytest.mark.parametrize(
    ("lowest", "highest"),
    [
        (math.nan, 0.5),
        (math.inf, math.inf),
        (-math.inf, 0.5),
        (0.0, math.nan),
        (0.0, math.inf),
        (0.5, 0.25),
        (0.0, 1e39),
        (-1e39, 0.0),
    ],
)
def test_a_scale_that_makes_no_finite_weights(lowest: float, highest: float) -> None:
    scales = {"a": {"lowest": lowest, "highest": highest}}
    message = "here: the scale of 'a' is .*; the ends are finite, and in order"
    with pytest.raises(RunError, match=message):
        dequantize_all({"a": BYTES}, scales, "here")
