"""Search of a context: each L with each share of smoothing and part of centring, on rated pairs.

The best of N trials looks better on the pairs it was chosen on than it is. It is used only if the
same choice pays across halves of the videos: made on one half and scored on the other, both ways,
its mean must be above that of the scores as they are on the same halves. Else they stay.

What a trial needs of a pair is its u, n and m (see `context`), gathered once, from the videos that
have a rated pair. L is tried in parts of the distance that two segments of such a video typically
have, which differs between models and data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.core.ranking import let_go
from whenabouts.core.scores import Scores
from whenabouts.core.settings import to_dict
from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.alike import distances, roots
from whenabouts.ensemble.context import (
    AS_IT_IS,
    Context,
    VideoRows,
    in_context,
    read_rows,
    segments_alone,
)
from whenabouts.ensemble.grid import Trial, try_each
from whenabouts.ensemble.members import Member
from whenabouts.ensemble.rated_pairs import JudgedPairs, judged_pairs

SMOOTH = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CENTRE = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
ALIKE = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3)  # of the typical distance of a video's segments
VIDEOS_HELD = 512  # whose pages of the file may stay mapped
MOST_SAMPLED = 256  # videos, and
MOST_SEGMENTS = 256  # segments of a video, that say what is typical


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
    """trials: best first, of equals the one tried first; as_it_is: the untouched scores;
    cross_validated: None if a half has no positive; judged_on: what, in words."""

    trials: tuple[Trial[Context], ...]
    as_it_is: Trial[Context]
    cross_validated: CrossValidated | None
    num_pairs: int
    judged_on: str

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
            "judged_on": self.judged_on,
            "best": self.best.to_dict(),
            "as_it_is": self.as_it_is.to_dict(),
            "cross_validated": cross.to_dict() if cross else None,
            "used": self.used.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
        }


@dataclass(frozen=True)
class PairsInContext:
    """P scored rated pairs, then their rivals. score: as stored; around: u, n and m of each
    [3, P], by L."""

    score: NDArray[np.floating]
    around: dict[float, NDArray[np.float64]]
    judged: JudgedPairs

    def mean_aps(self, settings: Context) -> tuple[float, float, float]:
        """mAP over all videos, over the first half, over the second; NaN without positives."""
        return self.judged.mean_aps(self.scores(settings).astype(np.float32))

    def scores(self, settings: Context) -> NDArray[np.floating]:
        """As `refine` would store them [P]."""
        if settings == AS_IT_IS:
            return self.score
        return settings.refined(*self.around[settings.alike]).astype(self.score.dtype)


def search_context(
    truth: SegmentLabels,
    scores: Scores,
    grid: Iterable[Context] | None = None,
    length: ListLength = OF_CHALLENGE,
) -> ContextSearch:
    """Try the scores as they are and all of the grid on the rated pairs; None: that of `grid_of`.

    length: of the lists, where it is below the number of segments (see `rated_pairs`).

    Raises ScoresError as `refine` does, or if no rated segment is scored; LabelsError if no rated
    pair is positive.
    """
    rated = RatedInVideos.of(truth, scores, length)
    settings = tuple(grid_of(rated.typical_distance()) if grid is None else grid)
    pairs = rated.in_context(each.alike for each in (AS_IT_IS, *settings))
    tried = try_each((AS_IT_IS, *settings), pairs.mean_aps)
    across = tried.across
    return ContextSearch(
        trials=tried.best_first,
        as_it_is=tried.in_order[0],
        cross_validated=None
        if across is None
        else CrossValidated(across.chosen, across.mean_ap, across.of_each[0]),
        num_pairs=len(pairs.judged),
        judged_on=pairs.judged.in_words,
    )


def grid_of(typical_distance: float) -> tuple[Context, ...]:
    """What is tried where two segments of a video are typically so far apart; at 0 they are equal,
    or each is alone in its video, and there is nothing to share."""
    shares = ALIKE if typical_distance > 0 else (0.0,)
    return tuple(
        Context(smooth, centre, share * typical_distance)
        for share, smooth, centre in product(shares, SMOOTH, CENTRE)
    )


@dataclass(frozen=True)
class RatedInVideos:
    """The P scored rated pairs, then their rivals, and the videos around them.

    row, column [P]; video, place: which of `videos` it is, and the place of the row in it [P].
    """

    member: Member
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    judged: JudgedPairs
    videos: VideoRows
    video: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, truth: SegmentLabels, scores: Scores, length: ListLength = OF_CHALLENGE) -> Self:
        """Raises errors as `search_context`."""
        member = segments_alone(scores)
        row, column, judged = judged_pairs(truth, member.scores, length)
        videos = VideoRows.of(member.scores.segments)
        place_of_row = np.empty_like(videos.row)
        place_of_row[videos.row] = np.arange(len(videos.row))
        place = place_of_row[row]
        video = np.searchsorted(videos.first, place, side="right") - 1
        return cls(member, row, column, judged, videos, video, place - videos.first[video])

    def typical_distance(self) -> float:
        """The median distance of two segments of one of the rated videos; of many videos, of some,
        evenly chosen. 0 where none has two segments."""
        rated = np.unique(self.video[: len(self.judged)])
        some = rated[:: -(-len(rated) // MOST_SAMPLED)]
        found = map_in_order(self._apart, some.tolist())
        apart = np.concatenate(list(found))
        return float(np.median(apart)) if len(apart) else 0.0

    def in_context(self, alike: Iterable[float]) -> PairsInContext:
        """What a trial with any of these L needs."""
        widths = tuple(dict.fromkeys(alike))
        around = np.empty((len(widths), 3, len(self.row)))
        by_video = np.argsort(self.video, kind="stable")
        begins = np.flatnonzero(np.diff(self.video[by_video], prepend=-1))
        groups = np.split(by_video, begins[1:])
        found = map_in_order(lambda pairs: self._around(pairs, widths), groups)
        for number, (pairs, of_pairs) in enumerate(zip(groups, found), 1):
            around[:, :, pairs] = of_pairs
            if number % VIDEOS_HELD == 0:
                let_go(self.member.scores.values)
        score = self.member.at(self.row, self.column)
        return PairsInContext(score, dict(zip(widths, around)), self.judged)

    def _around(self, pairs: NDArray[np.int64], widths: Sequence[float]) -> NDArray[np.float64]:
        """u, n and m of the pairs of one video [W, 3, p], for each L."""
        scores = self._scores(int(self.video[pairs[0]]))
        whole, at = np.array([0, len(scores)]), (self.place[pairs], self.column[pairs])
        of_each = in_context(self.member, scores, whole, widths)
        return np.array([[values[at] for values in around] for around in of_each])

    def _scores(self, video: int) -> NDArray[np.floating]:
        first, stop = self.videos.first[video : video + 2]
        return read_rows(self.member, self.videos.row[first:stop])

    def _apart(self, video: int) -> NDArray[np.float64]:
        """The distance of each two of its segments; of many, of some that follow each other."""
        scores = self._scores(video)
        self.member.refuse_out_of_range(scores)
        of = roots(scores[:MOST_SEGMENTS])
        return distances(of, of)[np.triu_indices(len(of), 1)]
