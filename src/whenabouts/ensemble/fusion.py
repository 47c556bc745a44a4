"""Fusion of segment scores with video scores, a (segment, class) pair at a time.

    p_final = p_video^a p_segment^b        published: (a, b) in {(1, 1), (1, 2), (2, 1)}

What is written is p_final^(1 / (a + b)), the weighted geometric mean of the two. In a class all
pairs are raised to the same power, which rises, so the ranking is that of p_final; and

- it never underflows: a mean is not below the smaller of the two, so two float32 scores above 0
  (the smallest is 1e-45) give one above 0, where their product would be 0 and tie;
- it stays a score in [0, 1] on the scale of the two, whatever the exponents; a = 0 gives the
  segment scores themselves, bit for bit.

It is computed from logarithms in float64 and rounded once, to float32. Pairs whose p_final differ
by less than (a + b) 1.2e-7 of it may tie (below 1e-38, where float32 is coarse, by more); none is
swapped but those that float64 cannot tell apart (1e-14). A score of 0 gives 0, as in p_final, and
zeros tie: write video scores as float32 where those below 6e-8 matter.

A pair that is not a candidate gets a negative score, below every candidate; `below_candidates` says
which. Put last rather than left out it can only raise average precision, and never takes a place
from a candidate in a list that is full. So `evaluate` and `submit` need not know of filters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import SettingsError
from whenabouts.core.ranking import row_chunks
from whenabouts.core.scores import Scores, new_scores
from whenabouts.core.settings import to_dict
from whenabouts.ensemble.candidates import CandidateFilter, Candidates
from whenabouts.ensemble.video_scores import match_videos, refuse_out_of_range

CHUNK_BYTES = 4 << 20
SIGN = np.uint32(1 << 31)
BITS_OF_TWO = np.uint32(0x40000000)


@dataclass(frozen=True)
class Exponents:
    """a, of the video score, and b, of the segment score. Only their ratio matters to a ranking."""

    video: float = 1.0
    segment: float = 1.0

    def __post_init__(self) -> None:
        if not (self.video >= 0 and self.segment >= 0 and 0 < self.video + self.segment < inf):
            raise SettingsError(
                f"the exponents are {self.video} and {self.segment}",
                rule="exponents are at least 0, finite, and one of them above 0",
            )


PUBLISHED = (Exponents(1, 1), Exponents(1, 2), Exponents(2, 1))


@dataclass(frozen=True)
class FusionSettings:
    exponents: Exponents = Exponents()
    candidates: CandidateFilter = field(default_factory=CandidateFilter)


def fused(
    exponents: Exponents, video: NDArray[np.floating], segment: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(video^a segment^b)^(1 / (a + b)) of arrays of one shape, in [0, 1].

    Where video is NaN (there is no video score) it is the segment score: as if both were equal.
    """
    if np.isnan(video).any():
        video = np.where(np.isnan(video), segment, video)
    total = exponents.video + exponents.segment
    with np.errstate(divide="ignore"):  # log 0 is -inf, and exp of that is 0 again
        logarithm = _weighted_log(exponents.segment / total, segment)
        logarithm += _weighted_log(exponents.video / total, video)
        return np.exp(logarithm, out=logarithm).astype(np.float32)


def _weighted_log(weight: float, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """log scores^weight; 0^0 is 1."""
    if weight == 0:
        return np.zeros(scores.shape)
    logarithm: NDArray[np.float64] = np.log(scores, dtype=np.float64)
    logarithm *= weight
    return logarithm


def below_candidates(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """A score below 0 for each of scores in [0, 1]: the same order, and no two become equal.

    Read as integers, the bits of floats above 0 are in the order of the floats. The bits of the
    result are those of 2.0 less those of the score, and the sign: 0 becomes -2, 1 becomes -2^-126,
    and what is above 1e-30 lies within 1e-7 of 0, so that in a sum or a plot it counts as 0.
    """
    return (SIGN | (BITS_OF_TWO - scores.view(np.uint32))).view(np.float32)


def fuse(
    segments: Scores,
    videos: Scores,
    out: Path,
    settings: FusionSettings,
    *,
    keep_unscored: bool = False,
    made_by: dict[str, Any] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    on_rows: Callable[[int], object] | None = None,
) -> int:
    """Write the fused Scores to `out`; returns how many (segment, class) pairs are candidates.

    keep_unscored: a video or a class without video scores keeps its segment scores, instead of an
    error. made_by: more facts to keep. on_rows(count) is called after each chunk of rows.
    Rows are streamed: memory does not grow with them. The folder appears when it is whole; an
    attempt that fails leaves nothing. Raises ScoresError where the two do not fit.
    """
    matched = match_videos(segments, videos, keep_unscored=keep_unscored)
    candidates = Candidates(settings.candidates, matched)
    num_candidates = 0
    with new_scores(out, segments.segments, segments.classes) as writer:
        for first, rows in row_chunks(segments.values, chunk_bytes):
            refuse_out_of_range(segments, first, rows)
            video = segments.segments.video[first : first + len(rows)]
            values = fused_rows(settings.exponents, candidates, video, rows)
            writer.write(first, values)
            num_candidates += int((values >= 0).sum())
            if on_rows is not None:
                on_rows(len(rows))
        writer.commit(_made_by(segments, videos, settings) | (made_by or {}))
    return num_candidates


def fused_rows(
    exponents: Exponents,
    candidates: Candidates,
    video: NDArray[np.int64],
    rows: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Fused scores of rows [n, C], segments of the given videos [n], as `fused` has them; pairs
    that are no candidates are put below.

    The logarithm of a video score is taken once, not for each segment of the video.
    """
    videos, of_row = np.unique(video, return_inverse=True)
    scores = candidates.videos.of(videos)
    if np.isnan(scores).any():
        values = fused(exponents, scores[of_row], rows)
    else:
        values = _fused_by_video(exponents, scores, of_row, rows)
    passed = candidates.of(videos, scores)
    return values if passed.all() else np.where(passed[of_row], values, below_candidates(values))


def _fused_by_video(
    exponents: Exponents,
    video: NDArray[np.floating],
    of_row: NDArray[np.int64],
    segment: NDArray[np.floating],
) -> NDArray[np.float32]:
    """`fused` of segments [n, C] whose videos' scores are video[of_row], none of them NaN."""
    total = exponents.video + exponents.segment
    with np.errstate(divide="ignore"):
        of_videos = _weighted_log(exponents.video / total, video)
        logarithm = _weighted_log(exponents.segment / total, segment)
        for row, place in enumerate(of_row.tolist()):
            logarithm[row] += of_videos[place]
        return np.exp(logarithm, out=logarithm).astype(np.float32)


def _made_by(segments: Scores, videos: Scores, settings: FusionSettings) -> dict[str, Any]:
    return {"fused": to_dict(settings), **made_of(segments=segments, videos=videos)}


def made_of(**sources: Scores) -> dict[str, Any]:
    """Where scores come from; trained on is what the model of any source was trained on."""
    trained_on = {split for s in sources.values() for split in s.made_by.get("trained_on", ())}
    return {
        **{name: {"scores": str(s.path), **s.made_by} for name, s in sources.items()},
        "trained_on": sorted(trained_on),
    }
