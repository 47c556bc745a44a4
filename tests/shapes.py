"""Calls checked against their jaxtyping annotations, which the package itself never evaluates."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch
from beartype import beartype

NAMES = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Int", "UInt8")}
NAMES["Tensor"] = torch.Tensor


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of `function` that refuses tensors of another shape or type than it declares."""
    hints = typing.get_type_hints(function, {**function.__globals__, **NAMES})
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__annotations__ = hints
    copy.__kwdefaults__ = function.__kwdefaults__
    return jaxtyping.jaxtyped(copy, typechecker=beartype)
