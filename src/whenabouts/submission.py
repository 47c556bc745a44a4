"""Submission files: a row a class, the `videoid:start` tokens of its best segments, best first.

The format and its reader are in `core.submission_rows`; the order is that of `core.ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import SubmissionError
from whenabouts.core.list_length import K
from whenabouts.core.ranking import (
    BUDGET_BYTES,
    best_keys,
    class_blocks,
    order_keys,
    refuse_misfit,
    tie_ranks_of,
)
from whenabouts.core.segments import SegmentTable
from whenabouts.core.submission_rows import HEADER, submission_rows
from whenabouts.core.submission_tokens import (
    COLON,
    MAX_DIGITS,
    MAX_TOKEN_BYTES,
    NOT_IN_IDS,
    SPACE,
    ZERO,
)
from whenabouts.core.threads import map_in_order

FORBIDDEN = np.array([byte in NOT_IN_IDS for byte in range(256)])


def write_submission(
    path: str | Path,
    segments: SegmentTable,
    classes: ClassOrder,
    values: NDArray[np.floating],
    k: int = K,
    budget_bytes: int = BUDGET_BYTES,
    on_class: Callable[[int], object] | None = None,
) -> None:
    """Write the best k segments of each class, in class order, from the scores values [S, C].

    The file appears when it is complete. Memory: `budget_bytes`, and about 100 bytes a segment; of
    a class being ranked, which a few are at a time, some 50 bytes a segment more.
    on_class(column) is called after each row. Raises ScoresError on NaN, a wrong shape or repeated
    segments; SubmissionError if a video id or a start cannot stand in the file.
    """
    assert k >= 1
    refuse_misfit(segments, classes, values)
    tokens = _tokens(segments)

    def listed(scores: NDArray[np.floating]) -> bytes:
        best = tie_ranks_of(best_keys(order_keys(scores, segments.tie_ranks), k))
        return _joined(tokens, best)

    with atomic_path(path) as partial, partial.open("wb") as file:
        file.write(b",".join(HEADER) + b"\n")
        for columns, block in class_blocks(values, budget_bytes):
            for column, segments_listed in enumerate(map_in_order(listed, block), columns.start):
                file.write(b"%d,%b\n" % (classes.ids[column], segments_listed))
                if on_class is not None:
                    on_class(column)


def read_submission(path: str | Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (class id, tokens best first) of each row. Raises SubmissionError on a broken file."""
    for row in submission_rows(path):
        yield row.class_id, list(row.tokens)


def _tokens(segments: SegmentTable) -> NDArray[np.void]:
    """`videoid:start ` of each segment, by tie rank [S]; zero bytes make them equally wide."""
    in_order = np.argsort(segments.tie_ranks)
    ids = _id_bytes(segments.video_ids)
    starts = _start_bytes(segments.starts_s[in_order])
    num, id_width, width = len(in_order), ids.shape[1], ids.shape[1] + starts.shape[1] + 2
    tokens = np.zeros((num, width), np.uint8)
    tokens[:, :id_width] = ids[segments.video[in_order]]
    tokens[:, id_width] = COLON
    tokens[:, id_width + 1 : -1] = starts
    tokens[:, -1] = SPACE
    return tokens.view(f"V{width}").reshape(num)


def _joined(tokens: NDArray[np.void], ranks: NDArray[np.int64]) -> bytes:
    return tokens.take(ranks).tobytes().translate(None, b"\0").rstrip(b" ")


def _id_bytes(video_ids: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """The ids as bytes [V, width], zero after each id's end."""
    width = max(1, video_ids.dtype.itemsize)
    ids = video_ids.astype(f"S{width}").view(np.uint8).reshape(len(video_ids), width)
    lengths = np.char.str_len(video_ids)
    longest = MAX_TOKEN_BYTES - MAX_DIGITS - 1
    wrong = (FORBIDDEN[ids] & (np.arange(width) < lengths[:, None])).any(axis=1)
    wrong |= (lengths < 1) | (lengths > longest)
    if wrong.any():
        raise SubmissionError(
            f"video id {bytes(video_ids[wrong.argmax()])!r} cannot stand in a submission",
            rule=f"an id has 1 to {longest} bytes, none of them a space, comma, quote or control",
        )
    return ids


def _start_bytes(starts_s: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The starts in decimal [S, width], zero bytes before the first digit."""
    highest = 10**MAX_DIGITS - 1
    wrong = (starts_s < 0) | (starts_s > highest)
    if wrong.any():
        raise SubmissionError(
            f"a segment starts at {starts_s[wrong.argmax()]} s", rule=f"starts are 0..{highest}"
        )
    width = len(str(starts_s.max(initial=0)))
    powers = 10 ** np.arange(width - 1, -1, -1)
    digits = np.empty((len(starts_s), width), np.uint8)
    for place, power in enumerate(powers.tolist()):
        shown = (starts_s >= power) | (power == 1)
        digits[:, place] = np.where(shown, ZERO + starts_s // power % 10, 0)
    return digits
