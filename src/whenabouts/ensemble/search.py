"""Search of a fusion: every combination of exponents and candidate filter, tried on rated pairs.

The best of N trials looks better on the pairs it was chosen on than it is. So the report says how
many were tried, what the published default gives, and a cross-validated estimate: the videos are
cut in two halves by a hash of their ids, the best trial is chosen on one half and scored on the
other, both ways, and the mean is beside that of the default on the same halves.
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
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import PUBLISHED, Exponents, FusionSettings
from whenabouts.ensemble.halves import choose_across
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
class Trial:
    settings: FusionSettings
    mean_ap: float

    def to_dict(self) -> dict[str, Any]:
        return {**to_dict(self.settings), "mean_ap": self.mean_ap}


@dataclass(frozen=True)
class CrossValidated:
    """Means over the two halves of the videos, each scored with what is best on the other.

    chosen: on the first half and on the second; mean_ap: of the chosen; default_mean_ap: of the
    published default on the same halves. A half has fewer pairs a class than the whole, so these
    compare with each other, not with the mAP of a trial.
    """

    chosen: tuple[FusionSettings, FusionSettings]
    mean_ap: float
    default_mean_ap: float

    def to_dict(self) -> dict[str, Any]:
        return to_dict(self)


@dataclass(frozen=True)
class FusionSearch:
    """trials: best first, of equals the one tried first; default: exponents (1, 1), no filter;
    segments_alone: exponents (0, 1), no filter; cross_validated: None if a half has no positive."""

    trials: tuple[Trial, ...]
    default: Trial
    segments_alone: Trial
    cross_validated: CrossValidated | None
    num_pairs: int

    @property
    def best(self) -> Trial:
        return self.trials[0]

    def to_dict(self) -> dict[str, Any]:
        cross = self.cross_validated
        return {
            "num_trials": len(self.trials),
            "num_pairs": self.num_pairs,
            "best": self.best.to_dict(),
            "default": self.default.to_dict(),
            "segments_alone": self.segments_alone.to_dict(),
            "cross_validated": cross.to_dict() if cross else None,
            "trials": [trial.to_dict() for trial in self.trials],
        }


def search_fusion(
    truth: SegmentLabels,
    segments: Scores,
    videos: Scores,
    grid: Iterable[FusionSettings] = GRID,
    *,
    keep_unscored: bool = False,
) -> FusionSearch:
    """Try the default, the segment scores alone and all of the grid on the rated pairs.

    Raises ScoresError as `fuse` does, or if no rated segment is scored; LabelsError if no rated
    pair is positive.
    """
    matched = match_videos(segments, videos, keep_unscored=keep_unscored)
    pairs = rated_pairs(truth, segments, matched)
    tried = tuple(dict.fromkeys((DEFAULT, SEGMENTS_ALONE, *grid)))
    mean_aps = np.array([pairs.mean_aps(settings) for settings in tried])
    trials = [Trial(s, m) for s, m in zip(tried, mean_aps[:, 0].tolist())]
    best_first = np.argsort(-mean_aps[:, 0], kind="stable").tolist()
    return FusionSearch(
        trials=tuple(trials[t] for t in best_first),
        default=trials[0],
        segments_alone=trials[1],
        cross_validated=_cross_validated(tried, mean_aps[:, 1:]),
        num_pairs=len(pairs.video),
    )


def _cross_validated(
    tried: tuple[FusionSettings, ...], mean_aps: NDArray[np.float64]
) -> CrossValidated | None:
    """mean_aps: [N, 2], of each trial on the first half and on the second; the default is first."""
    across = choose_across(mean_aps)
    if across is None:
        return None
    on_first, on_second = across.chosen
    return CrossValidated(
        chosen=(tried[on_first], tried[on_second]),
        mean_ap=across.estimate,
        default_mean_ap=float(mean_aps[0].mean()),
    )
