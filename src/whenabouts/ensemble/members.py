"""Members of an ensemble: Scores of the same rows and classes, each in an order of its own.

Rows are matched by (video, start), columns by class id. The first member says the order of what is
made of them. All of them have the same rows and classes: what only some have scored has no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.ranking import let_go, read_ahead, refuse_repeated_segments, row_chunks
from whenabouts.core.scores import Scores
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.ensemble.video_scores import refuse_out_of_range

SCAN_BYTES = 16 << 20
MEMBERS = "members of an ensemble"
# (rows of the first member, their scores) -> what is written of them.
Finish = Callable[[slice, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Member:
    """row: where each row of the first member stands in `scores` [S]; column: where each of its
    classes does [C]; None where they stand in the same order."""

    scores: Scores
    row: NDArray[np.int64] | None = None
    column: NDArray[np.int64] | None = None

    def rows(self, of_first: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """These rows of the first member, and its columns, as stored [n, C]."""
        values = self.scores.values[self._row(of_first)]
        return values if self.column is None else values[:, self.column]

    def at(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.floating]:
        """The scores of pairs [P] of rows and columns of the first member, as stored."""
        if self.column is not None:
            column = self.column[column]
        found = np.asarray(self.scores.values[self._row(row), column])
        let_go(self.scores.values)
        return found

    def read_ahead(self, of_first: slice) -> None:
        """Have these rows of the first member read from the disk, if they are in a row here too."""
        if self.row is None:
            read_ahead(self.scores.values, of_first)

    def _row(self, of_first: slice | NDArray[np.int64]) -> slice | NDArray[np.int64]:
        return of_first if self.row is None else self.row[of_first]

    def refuse_out_of_range(self, rows: NDArray[np.floating]) -> None:
        """Raise ScoresError, naming the place of a score, unless all of `rows` are in [0, 1]."""
        if rows.size and not (rows.min() >= 0 and rows.max() <= 1):  # nor is NaN
            for first, of_scores in row_chunks(self.scores.values, SCAN_BYTES):
                refuse_out_of_range(self.scores, first, of_scores)


def match_members(all_scores: Iterable[Scores], what: str = MEMBERS) -> tuple[Member, ...]:
    """Raises ScoresError, naming a member and its first difference, where one has other rows or
    classes than the first; SettingsError if there is none. what: they are, in the message.

    Scores are taken one by one, and a table of rows that is like the first one is not kept again.
    """
    members: list[Member] = []
    for scores in all_scores:
        if not members:
            _refuse_repeated_rows(scores)
        members.append(_matched(members[0].scores, scores, what) if members else Member(scores))
    if not members:
        raise SettingsError("an ensemble of no scores", rule="an ensemble has a member at least")
    return tuple(members)


def shares(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """The weights of `count` members divided by their sum; equal ones where none are given.

    Raises SettingsError unless there is one a member, none negative, and a finite sum above 0.
    """
    weights = tuple(weights) or (1.0,) * count
    if len(weights) != count:
        raise SettingsError(
            f"{len(weights)} weights for {count} members", rule="each member has a weight"
        )
    if not all(0 <= weight < inf for weight in weights) or not 0 < _sum(weights) < inf:
        raise SettingsError(
            f"the weights are {', '.join(f'{weight:g}' for weight in weights)}",
            rule="weights are at least 0, finite, and one of them above 0",
        )
    total = _sum(weights)
    return tuple(weight / total for weight in weights)


def _sum(weights: Sequence[float]) -> float:
    """The exact sum, rounded: in any order the same. inf where it is too large."""
    try:
        return fsum(weights)
    except OverflowError:
        return inf


def by_path(members: Sequence[Member], weights: Sequence[float]) -> list[tuple[Member, float]]:
    """The members that count, with their weights, in an order that does not depend on the given
    one: sums of floats do."""
    pairs = [(m, w) for m, w in zip(members, weights, strict=True) if w > 0]
    return sorted(pairs, key=lambda pair: str(pair[0].scores.path))


def _matched(first: Scores, other: Scores, what: str) -> Member:
    same_rows = _is_same(first.segments, other.segments)
    row = None if same_rows else _matched_rows(first, other, what)
    same_classes = first.classes.ids == other.classes.ids
    column = None if same_classes else _matched_columns(first, other, what)
    return Member(replace(other, segments=first.segments) if same_rows else other, row, column)


def _is_same(first: SegmentTable, other: SegmentTable) -> bool:
    return (
        np.array_equal(first.video_ids, other.video_ids)
        and np.array_equal(first.video, other.video)
        and np.array_equal(first.starts_s, other.starts_s)
    )


def _matched_rows(first: Scores, other: Scores, what: str) -> NDArray[np.int64]:
    _refuse_repeated_rows(other)
    row, row_back = _rows_in(first, other), _rows_in(other, first)
    _refuse_difference(first, other, row, row_back, _row_name, what)
    return row


def _rows_in(wanted: Scores, scores: Scores) -> NDArray[np.int64]:
    """The row of `scores` that is each row of `wanted`; -1 where none is."""
    table = wanted.segments
    return scores.segments.rows_of(table.video_ids[table.video], table.starts_s)


def _matched_columns(first: Scores, other: Scores, what: str) -> NDArray[np.int64]:
    column, column_back = _columns_in(first, other), _columns_in(other, first)
    _refuse_difference(first, other, column, column_back, _class_name, what)
    return column


def _columns_in(wanted: Scores, scores: Scores) -> NDArray[np.int64]:
    return scores.classes.columns(np.array(wanted.classes.ids, np.int64))


def _refuse_difference(
    first: Scores,
    other: Scores,
    places: NDArray[np.int64],
    places_back: NDArray[np.int64],
    name: Callable[[Scores, int], str],
    what: str,
) -> None:
    """places: in `other` of what `first` has; places_back: the other way round."""
    lacking, more = np.flatnonzero(places < 0), np.flatnonzero(places_back < 0)
    if len(lacking):
        fact = f"no score of {name(first, lacking[0])}{_others(lacking)}, which {first.path} has"
    elif len(more):
        fact = f"a score of {name(other, more[0])}{_others(more)}, which {first.path} has not"
    else:
        return
    raise ScoresError(
        fact,
        where=other.path,
        rule=f"{what} score the same rows and classes, in any order",
        remedy="predict the same splits of one corpus with each run",
    )


def _row_name(scores: Scores, row: int) -> str:
    table = scores.segments
    video = table.video_ids[table.video[row]].decode(errors="replace")
    start_s = int(table.starts_s[row])
    return f"video {video}" if start_s == WHOLE_VIDEO else f"segment {video}:{start_s}"


def _class_name(scores: Scores, column: int) -> str:
    return f"class {scores.classes.ids[column]}"


def _others(places: NDArray[np.int64]) -> str:
    return f" and {len(places) - 1:,} more" if len(places) > 1 else ""


def _refuse_repeated_rows(scores: Scores) -> None:
    try:
        refuse_repeated_segments(scores.segments)
    except ScoresError as error:
        raise ScoresError(error.fact, where=scores.path, rule=error.rule) from error
