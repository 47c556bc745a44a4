"""Ranks of segments in their class, for a rank average.

    rank = 1 - place / S        place 0..S-1 in the order of `core.ranking`

so that the best of S segments has 1 and the last 1 / S. Only the order of a member's scores counts:
its scale does not, and neither does that of one class beside another. Equal scores have different
ranks, those of the order (video, start), as they have in a submission.

Ranks are of columns and Scores are stored by rows. So some classes are ranked at once, as many as
the memory allows, and put as rows of a file beside the Scores, which is then read by its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from whenabouts.core.array_file import ArrayFile
from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import (
    BUDGET_BYTES,
    class_blocks,
    order_keys,
    refuse_nan,
    tie_ranks_of,
    turned,
)
from whenabouts.core.scores import ScoresWriter
from whenabouts.ensemble.members import Finish, Member

BYTES_OF_SCORE = 8 + 4  # a sum in float64, and the score of one member


def write_mean_ranks(
    members: Sequence[tuple[Member, float]],
    writer: ScoresWriter,
    on_rows: Callable[[float], object] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    finish: Finish | None = None,
) -> None:
    """Write the weighted mean of the ranks of each class. on_rows is called after some classes,
    with their share of the rows; finish as of `mean.write_means`. Raises ScoresError on NaN."""
    for member, _ in members:
        _refuse_nan(member)
    path, shape = writer.partial / "ranks.npy", (len(writer.classes), len(writer.segments))
    with closing(ArrayFile(path, shape, "float32")) as by_class:
        by_class.claim()
        for columns in _column_slices(*shape, budget_bytes):
            ranks = _mean_ranks(members, columns)
            by_class.write(columns.start, ranks[:, writer.segments.tie_ranks])
            if on_rows is not None:
                on_rows(shape[1] * len(ranks) / shape[0])
    for rows, block in class_blocks(npy_format.open_memmap(path, mode="r"), budget_bytes):
        writer.write(rows.start, block if finish is None else finish(rows, block))


def ranks_at(
    member: Member,
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    budget_bytes: int = BUDGET_BYTES,
) -> NDArray[np.float64]:
    """Ranks of pairs [P] of rows and columns of the first member. Raises ScoresError on NaN."""
    _refuse_nan(member)
    num_rows, num_columns = member.scores.values.shape
    row = row if member.row is None else member.row[row]
    by_column = np.argsort(column, kind="stable")
    bounds = np.searchsorted(column[by_column], np.arange(num_columns + 1))
    ranks = np.empty(len(row))
    for columns in _column_slices(num_columns, num_rows, budget_bytes):
        for at, keys in enumerate(_class_keys(member, columns), columns.start):
            pairs = by_column[bounds[at] : bounds[at + 1]]
            ranks[pairs] = 1 - np.searchsorted(np.sort(keys), keys[row[pairs]]) / num_rows
    return ranks


def _column_slices(num_columns: int, num_rows: int, budget_bytes: int) -> Iterator[slice]:
    width = max(1, budget_bytes // (BYTES_OF_SCORE * max(1, num_rows)))
    for first in range(0, num_columns, width):
        yield slice(first, min(first + width, num_columns))


def _mean_ranks(members: Sequence[tuple[Member, float]], columns: slice) -> NDArray[np.float64]:
    """[c, S], the segments in the order (video, start)."""
    num_rows = len(members[0][0].scores.segments)
    ranks = 1 - np.arange(num_rows) / max(1, num_rows)
    total = np.zeros((columns.stop - columns.start, num_rows))
    for member, weight in members:
        weighted = weight * ranks
        for of_class, keys in zip(total, _class_keys(member, columns)):
            of_class[tie_ranks_of(np.sort(keys))] += weighted
    return total


def _class_keys(member: Member, columns: slice) -> Iterator[NDArray[np.uint64]]:
    """Order keys [S] of the member's rows for each of these columns of the first member."""
    of_member = columns if member.column is None else member.column[columns]
    tie_ranks = member.scores.segments.tie_ranks
    for scores in turned(member.scores.values, of_member):
        yield order_keys(scores, tie_ranks)


def _refuse_nan(member: Member) -> None:
    try:
        refuse_nan(member.scores.values, member.scores.classes)
    except ScoresError as error:
        raise ScoresError(
            error.fact, where=member.scores.path, rule=error.rule, remedy=error.remedy
        ) from error
