"""The order of segments in a class, defined once: score falling, then (video id, start) rising.

A score and the rank of its segment in the order (video id, start) are packed in one 64-bit key:

    bits 63..32   the bits of the score, turned so that a higher score is a smaller integer
    bits 31..0    the tie rank (`SegmentTable.tie_ranks`)

Sorting the keys sorts the segments, no two keys are equal, and the low half says which segment each
key was. Integers sort several times faster than floats sort stably, and a partition finds the best
K without ordering the rest.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.segments import SegmentTable

BUDGET_BYTES = 256 << 20
ROWS_AT_ONCE = 512  # so that a strip of rows being turned into columns stays in the cache
SORT_ALL_FROM = 3  # from a third of the keys up, to sort all is faster than to cut first
LOW_HALF = np.uint64(0xFFFFFFFF)


def order_keys(
    scores: NDArray[np.floating], tie_ranks: NDArray[np.unsignedinteger]
) -> NDArray[np.uint64]:
    """Keys [..., S] of scores [..., S]: the smaller, the better. -0.0 ranks as 0.0.

    Scores are float32 or float16 without NaN (see `refuse_nan`); tie_ranks [S] are below 2**32.
    """
    bits = _bits(scores)
    magnitude = _magnitude(bits.dtype)
    bits = bits * (bits != magnitude + 1)  # -0.0 is the sign bit alone
    # All bits but the sign are turned where the sign is 0: 0 - 1 wraps to all ones, 1 - 1 is none.
    bits ^= ((bits >> (8 * bits.itemsize - 1)) - 1) & magnitude
    keys: NDArray[np.uint64] = bits.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= tie_ranks
    return keys


def tie_ranks_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The tie ranks packed in the keys."""
    return (keys & LOW_HALF).astype(np.int64)


def best_keys(keys: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """The min(k, S) smallest of the keys [..., S], ascending along the last axis."""
    if k < keys.shape[-1] // SORT_ALL_FROM:
        keys = np.partition(keys, k - 1, axis=-1)[..., :k]
    return np.sort(keys, axis=-1)[..., :k]


def cut_key(keys: NDArray[np.uint64], k: int) -> np.uint64:
    """The k-th best of the keys [S], S >= k >= 1: a segment is in the list if its key is <= it."""
    return np.uint64(np.partition(keys, k - 1)[k - 1])


def top_k(
    scores: NDArray[np.floating], tie_ranks: NDArray[np.unsignedinteger], k: int
) -> NDArray[np.int64]:
    """Rows [min(k, S)] of the best scores [S], best first. tie_ranks: a permutation of 0..S-1."""
    row_of_rank = np.empty(len(tie_ranks), np.int64)
    row_of_rank[tie_ranks] = np.arange(len(tie_ranks))
    return row_of_rank[tie_ranks_of(best_keys(order_keys(scores, tie_ranks), k))]


def class_blocks(
    values: NDArray[np.floating], budget_bytes: int = BUDGET_BYTES
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield (columns, block): the columns of values [S, C] in turn, each a contiguous row of block.

    A block is a copy [c, S] of at most half the budget (the caller may still hold the one before)
    and at least one column, so memory does not grow with C.
    """
    num_rows, num_columns = values.shape
    width = max(1, budget_bytes // 2 // max(1, num_rows * values.itemsize))
    for first in range(0, num_columns, width):
        columns = slice(first, min(first + width, num_columns))
        yield columns, turned(values, columns)


def refuse_nan(values: NDArray[np.floating], classes: ClassOrder) -> None:
    """Raise ScoresError, naming class and row, if a score of values [S, C] is NaN."""
    for first, rows in row_chunks(values, BUDGET_BYTES // 16):
        bits = _bits(rows)
        nan = (bits & _magnitude(bits.dtype)) > _bits(np.array(np.inf, rows.dtype))
        if nan.any():
            row, column = np.argwhere(nan)[0].tolist()
            raise ScoresError(
                f"the score of class {classes.ids[column]} in row {first + row} is NaN",
                rule="scores are numbers",
                remedy="find out which model made it; a NaN has no place in a ranking",
            )


def refuse_misfit(
    segments: SegmentTable, classes: ClassOrder, values: NDArray[np.floating]
) -> None:
    """Raise ScoresError unless values [S, C] can be be ranked: shape, type, repeats, NaN."""
    if values.shape != (len(segments), len(classes)):
        raise ScoresError(
            f"the scores are {values.shape}",
            rule=f"one row a segment and one column a class: {(len(segments), len(classes))}",
        )
    _bits(values[:0])
    refuse_repeated_segments(segments)
    refuse_nan(values, classes)


def refuse_repeated_segments(segments: SegmentTable) -> None:
    in_order = np.argsort(segments.tie_ranks)
    video, start = segments.video[in_order], segments.starts_s[in_order]
    same = (video[1:] == video[:-1]) & (start[1:] == start[:-1])
    if same.any():
        at = int(same.argmax())
        name = segments.video_ids[video[at]].decode(errors="replace")
        rows = sorted(in_order[at : at + 2].tolist())
        raise ScoresError(
            f"segment {name}:{start[at]} stands in row {rows[0]} and in row {rows[1]}",
            rule="a segment has one row",
        )


def row_chunks(
    values: NDArray[np.floating], chunk_bytes: int
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Yield (first row, rows) of values [S, C], at most `chunk_bytes` or one row at a time."""
    step = max(1, chunk_bytes // max(1, values.shape[1] * values.itemsize))
    for first in range(0, len(values), step):
        yield first, values[first : first + step]
        let_go(values)


def turned(
    values: NDArray[np.floating], columns: slice | NDArray[np.int64]
) -> NDArray[np.floating]:
    """A copy [c, S] of these columns of values [S, C]: each a contiguous row."""
    block = np.empty((values[:0, columns].shape[1], len(values)), values.dtype)
    for first in range(0, len(values), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        block[:, rows] = values[rows, columns].T
        let_go(values)
    return block


def let_go(values: NDArray[np.floating]) -> None:
    """Give the pages of a file mapped for reading back to the system, which keeps them cached.

    Otherwise a process that reads a mapped array once holds all of it.
    """
    base = _map_of(values)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def read_ahead(values: NDArray[np.floating], rows: slice) -> None:
    """Have the system begin to read these rows of a mapped array [S, C] from the disk."""
    base = _map_of(values)
    if base is None or not isinstance(values, np.memmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    row_bytes = values.shape[1] * values.itemsize
    first = values.offset % mmap.ALLOCATIONGRANULARITY + rows.start * row_bytes
    first -= first % mmap.PAGESIZE
    length = min((rows.stop - rows.start + 1) * row_bytes, len(base) - first)
    if length > 0:
        base.madvise(mmap.MADV_WILLNEED, first, length)


def _map_of(values: NDArray[np.floating]) -> mmap.mmap | None:
    """The map that an array opened for reading alone looks into."""
    base: Any = values
    read_only = isinstance(values, np.memmap) and values.mode == "r"
    while isinstance(base, np.ndarray):
        base = base.base
    return base if read_only and isinstance(base, mmap.mmap) else None


def _bits(scores: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    if scores.dtype == np.float32:
        return scores.view(np.uint32)
    if scores.dtype == np.float16:
        return scores.view(np.uint16)
    raise ScoresError(f"the scores are {scores.dtype}", rule="scores are float32 or float16")


def _magnitude(dtype: np.dtype[Any]) -> Any:
    return dtype.type((1 << (8 * dtype.itemsize - 1)) - 1)
