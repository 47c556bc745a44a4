"""Segment scores refined by those around them. In each class, for a segment of a video:

    z' = (1 - S) u + S n - C m,    p' = sigmoid(z')         0 <= S <= 1, 0 <= C

    z    logit p of the segment, a stored 0 or 1 a quarter step away (see `mean.entered`)
    u    mean of z over the segments of its video that are like it, by L (see `alike`); L = 0: z
    n    mean of u over the segment before and the one after in its video, by start: of the one
         there is at an end of the video, u itself where it is alone
    m    mean of u over all scored segments of its video, itself among them

L and S smooth: a topic lasts longer than a segment, and a segment's noise is its own. L does so
over what looks alike, S over what is near in time.

C centres. The rated segments of a class lie in videos that have it; what makes all of a video score
high or low for it, how easily it is told there, is then noise in their order. It costs what makes
scores of different videos comparable: at C = 1 a segment is measured by its own video alone, and in
a video without the class, too, some segments stand above its mean. So recall among all segments (a
long list over many videos), the order of classes within a video (GAP) and calibration get worse,
and a mAP of rated pairs sees none of it. Smoothing costs none of this.

L = S = C = 0 leaves the scores bit for bit. Logits are float64 and what is written is rounded once,
to the type of the scores: a z' above 17 (float16: 8) is 1, where scores tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import SettingsError
from whenabouts.core.ranking import BUDGET_BYTES, let_go
from whenabouts.core.scores import Scores, ScoresWriter, new_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.core.settings import to_dict
from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.alike import alike_means
from whenabouts.ensemble.mean import STRIP_SCORES, entered, left
from whenabouts.ensemble.members import Member, match_members

SCATTERED_ROWS = 8  # read at once: with each of them the system may map 2 MB of the file
WORKING_BYTES = 64  # of a score: its logits, their means, and what is on the way


@dataclass(frozen=True)
class Context:
    """smooth: S, the share of the neighbours; centre: C, the part of the video's mean taken off;
    alike: L, in how many classes segments may differ and still share their scores."""

    smooth: float = 0.0
    centre: float = 0.0
    alike: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smooth <= 1:
            raise SettingsError(
                f"smooth is {self.smooth}", rule="it is a share of the neighbours, in [0, 1]"
            )
        if not 0 <= self.centre < inf:
            raise SettingsError(
                f"centre is {self.centre}",
                rule="it is a part of the video's mean: at least 0, and finite",
            )
        if not 0 <= self.alike < inf:
            raise SettingsError(
                f"alike is {self.alike}", rule="it is a number of classes: at least 0, and finite"
            )

    def refined(
        self,
        own: NDArray[np.float64],
        neighbours: NDArray[np.float64],
        video: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """p' of u, n and m, which have one shape."""
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
            logits = (1 - self.smooth) * own
            logits += self.smooth * neighbours
            logits -= self.centre * video
            return left("geometric", logits)


AS_IT_IS = Context()


@dataclass(frozen=True)
class VideoRows:
    """Rows of a table [S], video by video (by their first row), by start within a video.

    Video k has row[first[k] : first[k + 1]]; first [V + 1] rises: what has no row is left out.
    """

    row: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, table: SegmentTable) -> Self:
        num_rows = len(table)
        first_row = np.full(len(table.video_ids), num_rows)
        first_row[table.video[::-1]] = np.arange(num_rows)[::-1]  # of equal places the last stays
        of_row = first_row[table.video]
        row = np.lexsort((table.starts_s, of_row))
        begins = np.flatnonzero(np.diff(of_row[row], prepend=-1))
        return cls(row, np.append(begins, num_rows))

    @property
    def is_as_stored(self) -> bool:
        return bool((self.row == np.arange(len(self.row))).all())


def refine(
    scores: Scores,
    out: Path,
    settings: Context,
    *,
    made_by: dict[str, Any] | None = None,
    on_rows: Callable[[int], object] | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> None:
    """Write the refined Scores to `out`: the same rows, in any order, and the same type.

    made_by: more facts to keep. on_rows(count) is called after some rows. Videos are streamed:
    memory does not grow with rows but for their table; a video is held as a whole. Rows that lie
    video by video, by start, are read and written fastest. The folder appears when it is whole; an
    attempt that fails leaves nothing. Raises ScoresError where a row is no segment or stands twice,
    or a score is not in [0, 1].
    """
    member = segments_alone(scores)
    dtype = str(scores.values.dtype)
    with new_scores(out, scores.segments, scores.classes, dtype) as writer:
        _write_refined(member, settings, writer, on_rows, budget_bytes)
        writer.commit(_made_by(scores, settings) | (made_by or {}))


def segments_alone(scores: Scores) -> Member:
    """Raises ScoresError unless each row is a segment of its own."""
    scores.refuse_whole_videos(
        rule="what is refined are segments, by the segments around them",
        remedy="refine segment scores; 'whenabouts fuse' then fuses them with these",
    )
    return match_members([scores])[0]


def neighbour_means(logits: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """n of logits [N, C] of whole videos, by start; video k has rows first[k] : first[k + 1]."""
    before, after = np.ones((2, len(logits), 1), np.bool_)
    before[first[:-1]] = after[first[1:] - 1] = False
    sums = logits * ~(before | after)
    sums[1:] += logits[:-1] * before[1:]
    sums[:-1] += logits[1:] * after[:-1]
    sums[(before & after)[:, 0]] /= 2
    return sums


def video_means(logits: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """m of logits [N, C] of whole videos; video k has rows first[k] : first[k + 1]."""
    num_rows = np.diff(first)
    means = np.add.reduceat(logits, first[:-1], axis=0) / num_rows[:, None]
    return np.repeat(means, num_rows, axis=0)


def cuts(bounds: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Stretches of things of which thing k has the size bounds[k + 1] - bounds[k]: each of at most
    the size `most` together, or of one thing."""
    first = 0
    while first < len(bounds) - 1:
        stop = int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1
        stop = max(stop, first + 1)
        yield slice(first, stop)
        first = stop


def _write_refined(
    member: Member,
    settings: Context,
    writer: ScoresWriter,
    on_rows: Callable[[int], object] | None,
    budget_bytes: int,
) -> None:
    videos, values = VideoRows.of(writer.segments), member.scores.values
    num_columns = max(1, len(writer.classes))
    row_bytes = num_columns * values.itemsize
    most_rows = min(STRIP_SCORES, budget_bytes // WORKING_BYTES) // num_columns
    strips = list(cuts(videos.first, most_rows))
    held_bytes = 0
    refined = map_in_order(lambda strip: _refined_strip(member, settings, videos, strip), strips)
    for rows, scores in refined:
        _write_rows(writer, rows, scores)
        held_bytes += len(rows) * row_bytes
        if held_bytes >= budget_bytes:  # not each time: it takes longer for larger files
            let_go(values)
            held_bytes = 0
        if on_rows is not None:
            on_rows(len(rows))
    let_go(values)


def _refined_strip(
    member: Member, settings: Context, videos: VideoRows, strip: slice
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """(rows [n], their refined scores [n, C]) of these videos."""
    first = videos.first[strip.start : strip.stop + 1]
    rows = videos.row[first[0] : first[-1]]
    scores = read_rows(member, rows)
    if settings == AS_IT_IS:
        member.refuse_out_of_range(scores)
        return rows, scores
    around = next(in_context(member, scores, first - first[0], [settings.alike]))
    return rows, settings.refined(*around).astype(scores.dtype)


def in_context(
    member: Member,
    scores: NDArray[np.floating],
    first: NDArray[np.int64],
    alike: Sequence[float],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """u, n and m of scores [N, C] of whole videos, by start, for each L of `alike`; video k has
    rows first[k] : first[k + 1]."""
    logits = entered("geometric", member, scores)
    for own in alike_means(logits, scores, first, alike):
        yield own, neighbour_means(own, first), video_means(own, first)


def read_rows(member: Member, rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """These rows of its scores, in any order [n, C]."""
    places = _as_slice(rows)
    if isinstance(places, slice):
        return member.rows(places)
    values = member.scores.values
    scores = np.empty((len(rows), values.shape[1]), values.dtype)
    for first in range(0, len(rows), SCATTERED_ROWS):
        some = slice(first, first + SCATTERED_ROWS)
        scores[some] = member.rows(rows[some])
        let_go(values)
    return scores


def _write_rows(
    writer: ScoresWriter, rows: NDArray[np.int64], scores: NDArray[np.floating]
) -> None:
    """Write scores [n, C] of rows [n] in any order: rows that lie side by side at once."""
    if not isinstance(_as_slice(rows), slice):
        by_row = np.argsort(rows)
        rows, scores = rows[by_row], scores[by_row]
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1).tolist()
    for start, stop in zip(starts, [*starts[1:], len(rows)]):
        writer.write(int(rows[start]), scores[start:stop])


def _as_slice(rows: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The rows as a slice, which copies nothing, where they lie side by side and rise."""
    return slice(rows[0], rows[-1] + 1) if (np.diff(rows) == 1).all() else rows


def _made_by(scores: Scores, settings: Context) -> dict[str, Any]:
    """Where the scores come from; trained on is what their model was trained on."""
    return {
        "refined": to_dict(settings),
        "segments": {"scores": str(scores.path), **scores.made_by},
        "trained_on": sorted(scores.made_by.get("trained_on", ())),
    }
