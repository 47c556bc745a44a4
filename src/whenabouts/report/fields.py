"""A JSON file of somebody else, read field by field: each reading checks what it reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import WhenaboutsError

MOST = 1 << 53  # whole numbers up to here are exact in every reader of JSON


@dataclass(frozen=True)
class Source:
    """The file, the error that it gives, who writes its fields, and how to get a good one."""

    path: Path
    error: type[WhenaboutsError]
    writer: str
    remedy: str


def read_fields(path: Path, error: type[WhenaboutsError], writer: str, remedy: str) -> Field:
    """The whole file as a field. Raises `error` if it cannot be read or is not JSON."""
    source = Source(path, error, writer, remedy)
    try:
        return Field(json.loads(path.read_bytes()), source, "")
    except OSError as reason:
        fact = f"cannot be read ({reason.strerror})"
        raise error(fact, where=path, remedy=remedy) from reason
    except (ValueError, RecursionError) as reason:
        rule = "it is a JSON object"
        raise error("not JSON", where=path, rule=rule, remedy=remedy) from reason


@dataclass(frozen=True)
class Field:
    """A value of the file and its name there. All readings raise the source's error."""

    value: Any
    source: Source
    name: str

    def has(self, key: str) -> bool:
        return key in self.entries()

    def gives(self, key: str) -> bool:
        """Whether the table has the key, and another value than null."""
        return self.entries().get(key) is not None

    def at(self, key: str) -> Field:
        entries, name = self.entries(), f"{self.name}.{key}" if self.name else key
        if key not in entries:
            source = self.source
            raise source.error(
                f"no {name}", where=source.path, rule=source.writer, remedy=source.remedy
            )
        return Field(entries[key], self.source, name)

    def table(self, key: str) -> Field:
        field = self.at(key)
        field.entries()
        return field

    def column(self, key: str, count: int) -> Field:
        return self.at(key).of_length(count)

    def entries(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("a table")
        return self.value

    def items(self, at_most: int = MOST) -> list[Field]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        if len(self.value) > at_most:
            raise self.wrong(f"a list of at most {at_most:,}")
        return [Field(v, self.source, f"{self.name}[{i}]") for i, v in enumerate(self.value)]

    def of_length(self, count: int) -> Field:
        if not isinstance(self.value, list) or len(self.value) != count:
            raise self.wrong(f"a list of {count:,}")
        return self

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def whole(self, at_most: int = MOST) -> int:
        if type(self.value) is not int or not 0 <= self.value <= at_most:
            raise self.wrong(f"a whole number from 0 to {at_most:,}")
        return self.value

    def number(self) -> float:
        if type(self.value) not in (int, float) or not abs(self.value) <= MOST:  # NaN is not
            raise self.wrong("a number")
        return float(self.value)

    def share(self) -> float:
        if type(self.value) not in (int, float) or not 0 <= self.value <= 1:  # NaN is neither
            raise self.wrong("a number from 0 to 1")
        return float(self.value)

    def share_or_none(self) -> float | None:
        return None if self.value is None else self.share()

    def wholes(self) -> NDArray[np.int64]:
        return np.array([each.whole() for each in self.items()], np.int64)

    def shares(self) -> NDArray[np.float64]:
        return np.array([each.share() for each in self.items()], np.float64)

    def shares_or_nan(self) -> NDArray[np.float64]:
        """The shares of a list, NaN where it has null."""
        found = [each.share_or_none() for each in self.items()]
        return np.array([np.nan if share is None else share for share in found], np.float64)

    def wrong(self, rule: str) -> WhenaboutsError:
        name, source = self.name or "the file", self.source
        return source.error(
            f"{name} has another value",
            where=source.path,
            rule=f"{name} is {rule}",
            remedy=source.remedy,
        )
