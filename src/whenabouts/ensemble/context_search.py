"""Search of a context: every share of smoothing with every part of centring, on rated pairs.

The best of N trials looks better on the pairs it was chosen on than it is. It is used only if the
same choice pays across halves of the videos: made on one half and scored on the other, both ways,
its mean must be above that of the scores as they are on the same halves. Else they stay.

What a trial needs of a pair is its z, n and m (see `context`), gathered once: of each video only
the classes that are rated in it are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.scores import Scores
from whenabouts.core.settings import to_dict
from whenabouts.ensemble.context import (
    AS_IT_IS,
    Context,
    VideoRows,
    cuts,
    neighbour_means,
    segments_alone,
    video_means,
)
from whenabouts.ensemble.grid import Trial, try_each
from whenabouts.ensemble.mean import entered_at
from whenabouts.ensemble.members import Member
from whenabouts.ensemble.rated_pairs import JudgedPairs, judged_pairs

SMOOTH = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CENTRE = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
GRID = tuple(Context(*each) for each in product(SMOOTH, CENTRE))
SCORES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class CrossValidated:
    """Across halves of the videos, as `grid.Across`; as_it_is_mean_ap: of the untouched scores."""

    chosen: tuple[Context, Context]
    mean_ap: float
    as_it_is_mean_ap: float

    def to_dict(self) -> dict[str, Any]:
        return to_dict(self)


@dataclass(frozen=True)
class ContextSearch:
    """trials: best first, of equals the one tried first; as_it_is: smooth 0, centre 0;
    cross_validated: None if a half has no positive."""

    trials: tuple[Trial[Context], ...]
    as_it_is: Trial[Context]
    cross_validated: CrossValidated | None
    num_pairs: int

    @property
    def best(self) -> Trial[Context]:
        return self.trials[0]

    @property
    def pays(self) -> bool:
        """Whether choosing is ahead of the scores as they are, across halves."""
        cross = self.cross_validated
        return cross is not None and cross.mean_ap > cross.as_it_is_mean_ap

    @property
    def used(self) -> Trial[Context]:
        return self.best if self.pays else self.as_it_is

    def to_dict(self) -> dict[str, Any]:
        cross = self.cross_validated
        return {
            "num_trials": len(self.trials),
            "num_pairs": self.num_pairs,
            "best": self.best.to_dict(),
            "as_it_is": self.as_it_is.to_dict(),
            "cross_validated": cross.to_dict() if cross else None,
            "used": self.used.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
        }


@dataclass(frozen=True)
class PairsInContext:
    """P scored rated pairs: score, as stored; own, neighbours, video: z, n and m of each."""

    score: NDArray[np.floating]
    own: NDArray[np.float64]
    neighbours: NDArray[np.float64]
    video: NDArray[np.float64]
    judged: JudgedPairs

    def mean_aps(self, settings: Context) -> tuple[float, float, float]:
        """mAP over all videos, over the first half, over the second; NaN without positives."""
        return self.judged.mean_aps(self.scores(settings).astype(np.float32))

    def scores(self, settings: Context) -> NDArray[np.floating]:
        """As `refine` would store them [P]."""
        if settings == AS_IT_IS:
            return self.score
        refined = settings.refined(self.own, self.neighbours, self.video)
        return refined.astype(self.score.dtype)


def search_context(
    truth: SegmentLabels, scores: Scores, grid: Iterable[Context] = GRID
) -> ContextSearch:
    """Try the scores as they are and all of the grid on the rated pairs.

    Raises ScoresError as `refine` does, or if no rated segment is scored; LabelsError if no rated
    pair is positive.
    """
    pairs = pairs_in_context(truth, scores)
    tried = try_each((AS_IT_IS, *grid), pairs.mean_aps)
    across = tried.across
    return ContextSearch(
        trials=tried.best_first,
        as_it_is=tried.in_order[0],
        cross_validated=None
        if across is None
        else CrossValidated(across.chosen, across.mean_ap, across.first_mean_ap),
        num_pairs=len(pairs.score),
    )


def pairs_in_context(truth: SegmentLabels, scores: Scores) -> PairsInContext:
    """Gather the rated pairs. Raises errors as `search_context`.

    A score that is in no rated pair and in no mean of one is not looked at.
    """
    member = segments_alone(scores)
    row, column, judged = judged_pairs(truth, scores)
    own, neighbours, video = _gathered(member, row, column)
    return PairsInContext(member.at(row, column), own, neighbours, video, judged)


def _gathered(
    member: Member, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """z, n and m [3, P] of pairs of rows and columns.

    The scores of a video in a class that is rated in it are a sequence. Sequences lie one after
    another, video by video, as their rows do, and some of them are read at once.
    """
    videos, num_columns = VideoRows.of(member.scores.segments), len(member.scores.classes)
    place = np.empty_like(videos.row)
    place[videos.row] = np.arange(len(place))
    video = np.searchsorted(videos.first, place[row], side="right") - 1
    sequence, of_pair = np.unique(video * num_columns + column, return_inverse=True)
    video_of, column_of = np.divmod(sequence, num_columns)
    first = np.append(0, np.cumsum(np.diff(videos.first)[video_of]))
    at = first[of_pair] + place[row] - videos.first[video]
    found = np.empty((3, len(row)))
    for some in cuts(first, SCORES_AT_ONCE):
        pairs = (of_pair >= some.start) & (of_pair < some.stop)
        around = _around(member, videos, video_of[some], column_of[some])
        found[:, pairs] = around[:, at[pairs] - first[some.start]]
    return found


def _around(
    member: Member, videos: VideoRows, video: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """z, n and m [3, N] of all scores of these videos, each in its column, one after another."""
    num = np.diff(videos.first)[video]
    first = np.append(0, np.cumsum(num))
    step = np.arange(first[-1]) - np.repeat(first[:-1], num)
    rows = videos.row[np.repeat(videos.first[video], num) + step]
    own = entered_at("geometric", member, rows, np.repeat(column, num))[:, None]
    return np.hstack([own, neighbour_means(own, first), video_means(own, first)]).T
