"""Frozen dataclasses <-> plain dictionaries; a misspelt name is an error with a suggestion."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from whenabouts.core.errors import SettingsError, WhenaboutsError, suggest

T = TypeVar("T")


def to_dict(settings: Any) -> dict[str, Any]:
    """Nested plain dictionary of a settings dataclass, ready for JSON."""
    return dataclasses.asdict(settings)


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `kind` from a (nested) dictionary.

    Fields left out keep their defaults. Raises SettingsError on an unknown name, a value of the
    wrong type or a missing one that has no default, naming the field by its dotted path.
    """
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise SettingsError(
                f"no setting '{name}'", where=where or kind.__name__, remedy=suggest(name, fields)
            )
    missing = [name for name, field in fields.items() if name not in values and _is_needed(field)]
    if missing:
        raise SettingsError(f"no {', '.join(missing)}", where=where or kind.__name__)
    prefix = f"{where}." if where else ""
    return kind(**{n: _convert(hints[n], v, f"{prefix}{n}") for n, v in values.items()})


@contextmanager
def kept_settings(error: type[WhenaboutsError]) -> Iterator[None]:
    """Settings that a file kept are not what somebody has typed: what is wrong with them is wrong
    with the file, an `error` in place of a SettingsError."""
    try:
        yield
    except SettingsError as wrong:
        raise error(wrong.fact, where=wrong.where, rule=wrong.rule, remedy=wrong.remedy) from wrong


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a table of settings")
        return from_dict(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise _wrong(where, value, f"one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise _wrong(where, value, f"of type {getattr(hint, '__name__', hint)}")
    return value


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    for arg in args:
        if value is None and arg is type(None):
            return None
        try:
            return _convert(arg, value, where)
        except SettingsError:
            continue
    raise _wrong(where, value, f"one of {', '.join(str(a) for a in args)}")


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise _wrong(where, value, f"a list of {len(args)}")
    return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value)))


def _wrong(where: str, value: Any, rule: str) -> SettingsError:
    return SettingsError(f"the value is {value!r}", where=where, rule=f"it must be {rule}")


def leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every setting that is not itself a table of settings."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        is_table = dataclasses.is_dataclass(value) and not isinstance(value, type)
        found |= leaves(value, f"{name}.") if is_table else {name: value}
    return found


def with_setting(settings: T, name: str, value: Any) -> T:
    """The settings with the one of this dotted name changed.

    Raises SettingsError, naming it, where there is none of the name or the value is not for it.
    """
    return _changed(settings, name.split("."), value, name, leaves(settings))


def _changed(settings: T, path: list[str], value: Any, name: str, known: Mapping[str, Any]) -> T:
    hints = typing.get_type_hints(type(settings))
    inner = getattr(settings, path[0], None)
    if path[0] not in hints or dataclasses.is_dataclass(inner) != bool(path[1:]):
        raise SettingsError(f"no setting '{name}'", remedy=suggest(name, known))
    if path[1:]:
        value = _changed(inner, path[1:], value, name, known)
    else:
        value = _convert(hints[path[0]], value, name)
    try:
        changed: T = dataclasses.replace(settings, **{path[0]: value})  # type: ignore[type-var]
    except SettingsError as error:
        raise SettingsError(error.fact, where=name, rule=error.rule, remedy=error.remedy) from error
    return changed
