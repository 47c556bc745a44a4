"""Lists of one kind of scores in the order of another: two scores for the two parts of mAP@K.

mAP@K asks which segments reach a class's list of K, and in what order (see `core.list_length`).
What finds the segments of a topic among all videos is not what orders those found best: fusion with
the scores of whole videos helps the first and spoils the second, taking the mean of a video off
(see `context`) does the opposite. So the K best segments by `listed_by` stand above all others, and
each of the two parts is in the order of `order`.

A pair that is not listed gets a negative score, as one that is no candidate (see
`fusion.below_candidates`): what reads the result need not know of lists. It is meant for this K and
these segments; of a shorter list the order alone decides. Where a list holds all segments it is the
order's scores, as float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import ScoresError
from whenabouts.core.list_length import ListLength
from whenabouts.core.ranking import (
    BUDGET_BYTES,
    class_blocks,
    cut_key,
    let_go,
    order_keys,
    refuse_nan,
    row_chunks,
)
from whenabouts.core.scores import Scores, new_scores
from whenabouts.ensemble.fusion import CHUNK_BYTES, below_candidates, made_of
from whenabouts.ensemble.members import match_members
from whenabouts.ensemble.video_scores import refuse_out_of_range

MEANT_FOR = "a list is of segments"


def shortlist(
    order: Scores,
    listed_by: Scores,
    out: Path,
    length: ListLength,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    budget_bytes: int = BUDGET_BYTES,
    on_rows: Callable[[float], object] | None = None,
) -> int:
    """Write the Scores of the lists to `out`; returns K, or the number of segments if that is less.

    order: in [0, 1]; listed_by: any numbers, of the same segments and classes in any order. Memory:
    `budget_bytes`. on_rows(count) is called as the work goes on, of twice the rows. The folder
    appears when it is whole; an attempt that fails leaves nothing. Raises ScoresError where the two
    do not fit.
    """
    for scores in (order, listed_by):
        scores.refuse_whole_videos(MEANT_FOR)
    _, matched = match_members((order, listed_by), "what says the order and what is listed by it")
    entries = min(length.of(len(order.segments)), len(order.segments))
    cuts = _cuts(listed_by, entries, budget_bytes, on_rows or _ignore)
    if matched.column is not None:
        cuts = cuts[matched.column]
    tie_ranks = order.segments.tie_ranks[:, None]
    with new_scores(out, order.segments, order.classes) as writer:
        for first, rows in row_chunks(order.values, chunk_bytes):
            refuse_out_of_range(order, first, rows)
            which = slice(first, first + len(rows))
            listed = order_keys(matched.rows(which), tie_ranks[which]) <= cuts
            values = rows.astype(np.float32)
            writer.write(first, np.where(listed, values, below_candidates(values)))
            let_go(listed_by.values)
            if on_rows is not None:
                on_rows(len(rows))
        told = {"k": length.text, "entries": entries}
        writer.commit({"shortlisted": told, **made_of(order=order, listed_by=listed_by)})
    return entries


def _cuts(
    listed_by: Scores, entries: int, budget_bytes: int, on_rows: Callable[[float], object]
) -> NDArray[np.uint64]:
    """The key of the last segment in the list of each class [C]."""
    try:
        refuse_nan(listed_by.values, listed_by.classes)
    except ScoresError as error:
        raise ScoresError(
            error.fact, where=listed_by.path, rule=error.rule, remedy=error.remedy
        ) from error
    num_segments, num_classes = listed_by.values.shape
    cuts = np.full(num_classes, np.iinfo(np.uint64).max)
    if entries == num_segments:
        on_rows(num_segments)
        return cuts
    for columns, block in class_blocks(listed_by.values, budget_bytes):
        for column, scores in enumerate(block, columns.start):
            cuts[column] = cut_key(order_keys(scores, listed_by.segments.tie_ranks), entries)
        on_rows(num_segments * len(block) / num_classes)
    return cuts


def _ignore(_: float) -> None:
    pass
