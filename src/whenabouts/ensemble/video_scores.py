"""Video scores beside segment scores: which row and column belong to which segment.

Video scores are Scores with one row a video, whose start is WHOLE_VIDEO. Videos are matched by id
and classes by class id, so that both may stand in any order and the video scores may have more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import BUDGET_BYTES, let_go, refuse_repeated_segments, row_chunks
from whenabouts.core.scores import Scores
from whenabouts.core.segments import WHOLE_VIDEO


@dataclass(frozen=True)
class VideoScores:
    """Video scores seen from V videos and C classes of segment scores.

    row: of each video in `scores` [V]; column: of each class [C]; -1 where they have no score.
    id_ranks: place of each video in the order of the ids [V]: how equal scores are ordered.
    """

    scores: Scores
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    id_ranks: NDArray[np.uint32]

    def of(self, videos: NDArray[np.int64]) -> NDArray[np.floating]:
        """[n, C] of the given videos, as stored; NaN where there is no score."""
        values, row = self.scores.values, self.row[videos]
        found = np.full((len(videos), len(self.column)), np.nan, values.dtype)
        rows, columns = np.flatnonzero(row >= 0), np.flatnonzero(self.column >= 0)
        found[np.ix_(rows, columns)] = values[row[rows]][:, self.column[columns]]
        let_go(values)
        return found

    @cached_property
    def scored(self) -> NDArray[np.int64]:
        """The videos that have scores."""
        return np.flatnonzero(self.row >= 0)


def match_videos(segments: Scores, videos: Scores, *, keep_unscored: bool = False) -> VideoScores:
    """The video scores of each video and class of the segment scores.

    Raises ScoresError if either is of the wrong kind or has a row twice, if a video score is not in
    [0, 1], or if a video or a class has no video score, unless `keep_unscored`.
    """
    segments.refuse_whole_videos(
        rule="segment scores have rows that start at 0 s or later",
        remedy="segment scores come first, then video scores",
    )
    refuse_repeated_segments(segments.segments)
    _refuse_segments(videos)
    for first, rows in row_chunks(videos.values, BUDGET_BYTES // 16):
        refuse_out_of_range(videos, first, rows)
    table, of_videos = segments.segments, videos.segments
    row_of_id = np.full(len(of_videos.video_ids), -1)
    row_of_id[of_videos.video] = np.arange(len(of_videos))
    place = of_videos.videos_of(table.video_ids)
    row = np.full(len(place), -1)
    row[place >= 0] = row_of_id[place[place >= 0]]
    has_segments = np.bincount(table.video, minlength=len(row)) > 0
    column = videos.classes.columns(np.array(segments.classes.ids, np.int64))
    if not keep_unscored:
        lacking = np.flatnonzero((row < 0) & has_segments)
        _refuse_unscored(videos, "video", [table.video_ids[v].decode() for v in lacking])
        lacking = np.flatnonzero(column < 0)
        _refuse_unscored(videos, "class", [f"{segments.classes.ids[c]}" for c in lacking])
    by_id = np.argsort(table.video_ids, kind="stable")
    id_ranks = np.empty(len(row), np.uint32)
    id_ranks[by_id] = np.arange(len(row))
    return VideoScores(videos, np.where(has_segments, row, -1), column, id_ranks)


def refuse_out_of_range(scores: Scores, first_row: int, rows: NDArray[np.floating]) -> None:
    """Raise ScoresError unless all of rows [n, C], which begin at `first_row`, are in [0, 1]."""
    wrong = ~((rows >= 0) & (rows <= 1))  # so is NaN
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ScoresError(
            f"the score of class {scores.classes.ids[column]} in row {first_row + row} is "
            f"{rows[row, column]}",
            where=scores.path,
            rule="what is fused, averaged or refined are probabilities, in [0, 1]",
            remedy="take scores as a model gave them; those that a candidate filter or a list has "
            "put last are negative",
        )


def _refuse_segments(videos: Scores) -> None:
    table = videos.segments
    wrong = table.starts_s != WHOLE_VIDEO
    if wrong.any():
        at = int(wrong.argmax())
        name = f"{table.video_ids[table.video[at]].decode()}:{table.starts_s[at]}"
        raise ScoresError(
            f"row {at} is segment {name}",
            where=videos.path,
            rule=f"video scores have one row a video, with start {WHOLE_VIDEO}",
            remedy="pass what 'whenabouts predict' gives for a run of a video classifier",
        )
    refuse_repeated_segments(table)


def _refuse_unscored(videos: Scores, what: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        more = f" and {len(names) - 1:,} more" if names[1:] else ""
        raise ScoresError(
            f"no score of {what} {names[0]}{more}",
            where=videos.path,
            rule=f"each {what} of the segment scores needs a video score",
            remedy=f"score the {what} too, or pass --keep-unscored to leave it as it is",
        )
