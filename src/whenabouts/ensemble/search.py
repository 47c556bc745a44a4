"""Search of a fusion: every combination of exponents and candidate filter, tried on rated pairs.

The best of N trials looks better on the pairs it was chosen on than it is. So the report says how
many were tried, what the published default gives, and a cross-validated estimate: the videos are
cut in two halves by a hash of their ids, the best trial is chosen on one half and scored on the
other, both ways, and the mean is beside that of the default and of the segment scores alone on the
same halves. The best is used only if choosing it is ahead of the segment scores alone there; else
they stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.core.scores import Scores
from whenabouts.core.settings import to_dict
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import PUBLISHED, Exponents, FusionSettings
from whenabouts.ensemble.grid import Trial, try_each
from whenabouts.ensemble.rated_pairs import rated_pairs
from whenabouts.ensemble.video_scores import match_videos

DEFAULT = FusionSettings(PUBLISHED[0])
SEGMENTS_ALONE = FusionSettings(Exponents(0, 1))
EXPONENTS = (*PUBLISHED, Exponents(1, 4), Exponents(4, 1), Exponents(0, 1))
FILTERS = (
    *(
        CandidateFilter(top_topics=topics, top_videos=videos)
        for videos, topics in product((None, 1000, 100), (None, 50, 20, 10, 5))
    ),
    CandidateFilter(min_video_score=0.01),
    CandidateFilter(min_video_score=0.1),
)
GRID = tuple(FusionSettings(*each) for each in product(EXPONENTS, FILTERS))


@dataclass(frozen=True)
class CrossValidated:
    """Across halves of the videos, as `grid.Across`; default_mean_ap: of the published default;
    segments_alone_mean_ap: of the segment scores as they are."""

    chosen: tuple[FusionSettings, FusionSettings]
    mean_ap: float
    default_mean_ap: float
    segments_alone_mean_ap: float

    def to_dict(self) -> dict[str, Any]:
        return to_dict(self)


@dataclass(frozen=True)
class FusionSearch:
    """trials: best first, of equals the one tried first; default: exponents (1, 1), no filter;
    segments_alone: exponents (0, 1), no filter; cross_validated: None if a half has no positive;
    judged_on: what, in words."""

    trials: tuple[Trial[FusionSettings], ...]
    default: Trial[FusionSettings]
    segments_alone: Trial[FusionSettings]
    cross_validated: CrossValidated | None
    num_pairs: int
    judged_on: str

    @property
    def best(self) -> Trial[FusionSettings]:
        return self.trials[0]

    @property
    def pays(self) -> bool:
        """Whether choosing is ahead of the segment scores alone, across halves."""
        cross = self.cross_validated
        return cross is not None and cross.mean_ap > cross.segments_alone_mean_ap

    @property
    def used(self) -> Trial[FusionSettings]:
        return self.best if self.pays else self.segments_alone

    def to_dict(self) -> dict[str, Any]:
        cross = self.cross_validated
        return {
            "num_trials": len(self.trials),
            "num_pairs": self.num_pairs,
            "judged_on": self.judged_on,
            "best": self.best.to_dict(),
            "default": self.default.to_dict(),
            "segments_alone": self.segments_alone.to_dict(),
            "cross_validated": cross.to_dict() if cross else None,
            "used": self.used.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
        }


def search_fusion(
    truth: SegmentLabels,
    segments: Scores,
    videos: Scores,
    grid: Iterable[FusionSettings] = GRID,
    *,
    length: ListLength = OF_CHALLENGE,
    keep_unscored: bool = False,
) -> FusionSearch:
    """Try the default, the segment scores alone and all of the grid on the rated pairs.

    length: of the lists, where it is below the number of segments (see `rated_pairs`).

    Raises ScoresError as `fuse` does, or if no rated segment is scored; LabelsError if no rated
    pair is positive.
    """
    matched = match_videos(segments, videos, keep_unscored=keep_unscored)
    pairs = rated_pairs(truth, segments, matched, length)
    tried = try_each((DEFAULT, SEGMENTS_ALONE, *grid), pairs.mean_aps)
    default, segments_alone, *_ = tried.in_order
    across = tried.across
    return FusionSearch(
        trials=tried.best_first,
        default=default,
        segments_alone=segments_alone,
        cross_validated=None
        if across is None
        else CrossValidated(across.chosen, across.mean_ap, *across.of_each[:2]),
        num_pairs=len(pairs.judged),
        judged_on=pairs.judged.in_words,
    )
