"""Checks of the settings of models."""

from __future__ import annotations

from typing import Any

from whenabouts.core.errors import SettingsError


def refuse_sizes_below_one(settings: Any, *names: str) -> None:
    """Raise SettingsError unless each named field is at least 1."""
    for name in names:
        value = getattr(settings, name)
        if value < 1:
            raise SettingsError(f"the value is {value}", where=name, rule="it must be at least 1")


def refuse_not_above_zero(settings: Any, *names: str) -> None:
    """Raise SettingsError unless each named field is above 0 (NaN is not)."""
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise SettingsError(f"the value is {value}", where=name, rule="it must be above 0")
