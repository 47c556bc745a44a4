"""Checks of the settings of models."""

from __future__ import annotations

from typing import Any

from whenabouts.core.errors import SettingsError

MOST_LAYERS = 256


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


def refuse_more_layers(settings: Any, *names: str) -> None:
    """Raise SettingsError where a named field says of more layers than any network here has use
    for: layers are made one by one, before their weights can be compared with those of a file."""
    for name in names:
        value = getattr(settings, name)
        if value > MOST_LAYERS:
            rule = f"it must be at most {MOST_LAYERS}"
            raise SettingsError(f"the value is {value}", where=name, rule=rule)
