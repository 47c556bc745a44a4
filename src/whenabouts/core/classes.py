"""Classes and topics: which column of an array is which class, and what the class is called.

A *class* is an integer of the data set's vocabulary (YouTube-8M: 0..3861); its *topic* is its name.
The order of the evaluated classes is the order of their file (`segment_label_ids.csv`, which is not
sorted) and is stored with every artefact.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.errors import LabelsError
from whenabouts.core.lookup import Lookup

MAX_CLASS = 2**31 - 1  # an index stores classes as int32


def are_class_ids(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of the integers can be the id of a class."""
    return (ids >= 0) & (ids <= MAX_CLASS)


@dataclass(frozen=True)
class ClassOrder:
    """Column k of every score array is class `ids[k]`, called `names[k]` ("" where unnamed).

    Raises LabelsError where that is no order: an id twice or out of range, not one name a class.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            fact = f"{len(self.ids)} classes have {len(self.names)} names"
            raise LabelsError(fact, rule='each has one, "" where it has none')
        if len(set(self.ids)) != len(self.ids):
            raise LabelsError("a class id stands twice in the class order", rule="ids are unique")
        wrong = [i for i in self.ids if not 0 <= i <= MAX_CLASS]
        if wrong:
            raise LabelsError(f"class {wrong[0]}", rule=f"class ids are 0 to {MAX_CLASS}")

    @classmethod
    def of(cls, ids: Iterable[int], vocabulary: dict[int, str] | None = None) -> ClassOrder:
        ids = tuple(int(i) for i in ids)
        return cls(ids, tuple((vocabulary or {}).get(i, "") for i in ids))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(np.array(self.ids, np.int64))

    def columns(self, class_ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """The column of each class id; -1 where the id is not in this order."""
        return self._lookup.places(class_ids)

    def topic(self, column: int) -> str:
        """The topic's name for people: never empty."""
        return self.names[column] or f"class {self.ids[column]}"


def read_class_ids(path: str | Path) -> tuple[int, ...]:
    """The ids of a `segment_label_ids.csv` (header `Index`), in the file's order."""
    rows = _rows(path, "Index")
    return tuple(_class_id(path, line, row["Index"]) for line, row in rows)


def read_vocabulary(path: str | Path) -> dict[int, str]:
    """Names by class id from a `vocabulary.csv` (columns `Index`, `Name`; rows in any order)."""
    found: dict[int, str] = {}
    for line, row in _rows(path, "Name"):
        class_id = _class_id(path, line, row["Index"])
        if found.setdefault(class_id, row["Name"]) != row["Name"]:
            raise LabelsError(
                f"class {class_id} has two names", where=f"{path}, line {line}", rule="it has one"
            )
    return found


def write_classes(path: str | Path, classes: ClassOrder) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("Index", "Name"), *zip(classes.ids, classes.names)])


def read_classes(path: str | Path) -> ClassOrder:
    order = ClassOrder.of(read_class_ids(path))
    return ClassOrder.of(order.ids, read_vocabulary(path))


def _rows(path: str | Path, column: str) -> list[tuple[int, dict[str, str]]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = reader.fieldnames or (), [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"no CSV file in UTF-8 ({error})", where=path) from error
    wanted = dict.fromkeys(("Index", column))
    if not wanted.keys() <= set(columns):
        raise LabelsError(
            f"columns are {list(columns)}",
            where=path,
            rule=f"a class file has a header with {' and '.join(map(repr, wanted))}",
            remedy="pass the data set's own segment_label_ids.csv or vocabulary.csv",
        )
    return rows


def _class_id(path: str | Path, line: int, text: str) -> int:
    if re.fullmatch("[0-9]{1,10}", text) and int(text) <= MAX_CLASS:
        return int(text)
    raise LabelsError(
        f"'{text}' is no class id",
        where=f"{path}, line {line}",
        rule=f"ids are integers from 0 to {MAX_CLASS}",
    )
