"""What is searched: settings of a recipe by dotted name, each with an interval or with choices.

    optimiser.learning_rate=1e-4:1e-2:log     between the two, by its logarithm
    strategy.negatives.outside=0:0.5          between the two
    model.embedding.width=256,512             one of these

Whole numbers stay whole. A hyphen in a name is an underscore, as on the command line. What is not
searched is as the recipe has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from whenabouts.core.errors import SettingsError, UsageError, suggest
from whenabouts.core.settings import from_dict, leaves, to_dict, with_setting
from whenabouts.recipes.recipe import Recipe

Value = bool | int | float | str
EXAMPLE = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"


@dataclass(frozen=True)
class Interval:
    """low..high, both included; whole numbers if both are; log: drawn by the logarithm."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and not self.low > 0):
            rule = "the first is below the second" + (", and above 0 for log" if self.log else "")
            raise SettingsError(f"the interval is {self.low:g} to {self.high:g}", rule=rule)

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def holds(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    values: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 1 or len(set(self.values)) < len(self.values):
            raise SettingsError(f"the choices are {list(self.values)}", rule="some, each once")

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.values

    def holds(self, value: object) -> bool:
        return value in self.values


Span = Interval | Choice
Space = dict[str, Span]
S = TypeVar("S", bound=Span)


# ---- the defaults --------------------------------------------------------------------------------


def _around(factor: float) -> Callable[[Any], Span]:
    return lambda value: Interval(value / factor, value * factor, log=True)


def _sizes(value: Any) -> Span:
    return Choice((value // 2, value, value * 2))


def _same(span: Span) -> Callable[[Any], Span]:
    return lambda value: span


DROPOUT = Interval(0.0, 0.8)
# 0 is among the choices: it is what recipes have, and the first trial is the recipe itself.
DECAYS = {
    "adam": Choice((0.0, 1e-6, 1e-5, 1e-4, 2e-4, 1e-3)),
    "adamw": Choice((0.0, 1e-3, 1e-2, 1e-1, 0.3)),
}
# A row counts where the recipe has the setting. Under S2 `optimiser` is that of fine-tuning.
DEFAULTS: dict[str, Callable[[Any], Span]] = {
    "optimiser.learning_rate": _around(10),
    "strategy.pretrain.optimiser.learning_rate": _around(5),
    "strategy.negatives.outside": _same(Interval(0.0, 0.5)),
    "loop.average_half_life": _same(Choice((0, 20, 100, 500))),
    "model.embedding.dropout": _same(DROPOUT),
    "model.embedding.width": _sizes,
    "model.frame_mix.width": _sizes,
    "model.dropout": _same(DROPOUT),
    "model.width": _sizes,
    "model.hidden": _sizes,
    "model.head.hidden": _sizes,
    "model.num_clusters": _sizes,
    "model.member.dropout": _same(DROPOUT),
    "model.member.hidden": _sizes,
}
# Where a kernel stands in for fine-tuning: what is of no use there, and what is in its place.
UNUSED_BY_KERNEL = ("optimiser.", "strategy.negatives.")
OF_KERNEL: dict[str, Callable[[Any], Span]] = {
    "strategy.kernel.penalty": _around(10),
    "strategy.kernel.prior": _same(Interval(0.0, 1.0)),
    "strategy.kernel.bandwidth": _around(4),
    "strategy.kernel.answers": _same(Interval(0.0, 0.6)),
}
DECAYED = ("optimiser.weight_decay", "strategy.pretrain.optimiser.weight_decay")


def default_space(recipe: Recipe) -> Space:
    """The rows of the table for settings that the recipe has, at its own scale."""
    has = leaves(recipe)
    space = {name: span(has[name]) for name, span in DEFAULTS.items() if name in has}
    for name in DECAYED:
        kind = has.get(name.replace("weight_decay", "name"))
        choices = DECAYS.get(str(kind))
        if choices is not None:
            space[name] = choices
    if has.get("strategy.fine_tuning") != "kernel":
        return space
    space = {k: span for k, span in space.items() if not k.startswith(UNUSED_BY_KERNEL)}
    return space | {name: span(has[name]) for name, span in OF_KERNEL.items()}


# ---- the user's own ------------------------------------------------------------------------------


def parse_space(words: Iterable[str], recipe: Recipe) -> Space:
    """The space of these words: NAME=..., or a JSON file, {NAME: "LOW:HIGH:log"}, {NAME: [A, B]} or
    {NAME: {"low": LOW, "high": HIGH, "log": true}}; a later word counts more. Raises UsageError
    kin, naming the setting."""
    found: Space = {}
    for word in words:
        name, equals, text = word.partition("=")
        found |= {_plain(name): _parsed(text, _plain(name))} if equals else _read(Path(word))
    refuse_unfit(found, recipe)
    return found


def refuse_unfit(space: Mapping[str, Span], recipe: Recipe) -> None:
    """Raise SettingsError, naming the setting, unless the recipe takes all ends of all spans."""
    known = leaves(recipe)
    for name, span in space.items():
        if name not in known:
            raise SettingsError(f"no setting '{name}'", remedy=suggest(name, known))
        for end in span.ends:
            with_setting(recipe, name, end)


def apply(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    for name, value in values.items():
        recipe = with_setting(recipe, name, value)
    return recipe


def described(space: Mapping[str, Span]) -> dict[str, Any]:
    """As JSON; `parse_space` reads it."""
    return {
        name: list(span.values) if isinstance(span, Choice) else to_dict(span)
        for name, span in space.items()
    }


def _read(file: Path) -> Space:
    if not file.is_file():
        raise UsageError("no such file, nor a setting", where=file, rule=f"a setting is {EXAMPLE}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"not JSON ({error})", where=file) from error
    if not isinstance(values, dict):
        raise UsageError("not a JSON object", where=file, rule="names of settings: what to try")
    return {_plain(name): _of_json(value, f"{file}: {name}") for name, value in values.items()}


def _of_json(value: Any, where: str) -> Span:
    if isinstance(value, str):
        return _parsed(value, where)
    if isinstance(value, list):
        return _named(where, lambda: from_dict(Choice, {"values": value}, where))
    if isinstance(value, dict):
        return _named(where, lambda: from_dict(Interval, value, where))
    raise UsageError(f"the value is {value!r}", where=where, rule="a list, an object or text")


def _parsed(text: str, where: str) -> Span:
    if ":" not in text:
        return _named(where, lambda: Choice(tuple(_value(part) for part in text.split(","))))
    low, high, *kind = text.split(":")
    numbers = _value(low), _value(high)
    if kind not in ([], ["log"]) or any(isinstance(n, bool | str) for n in numbers):
        raise UsageError(f"'{text}' is no interval", where=where, rule=f"it is {EXAMPLE}")
    return _named(where, lambda: Interval(*numbers, log=bool(kind)))  # type: ignore[arg-type]


def _value(text: str) -> Value:
    try:
        value = json.loads(text.strip())
    except ValueError:
        return text.strip()
    return value if isinstance(value, bool | int | float) else text.strip()


def _named(where: str, make: Callable[[], S]) -> S:
    try:
        return make()
    except SettingsError as error:
        raise SettingsError(
            error.fact, where=where, rule=error.rule, remedy=error.remedy
        ) from error


def _plain(name: str) -> str:
    return name.strip().replace("-", "_")
