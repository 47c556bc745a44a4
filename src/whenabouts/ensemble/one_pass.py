"""Members in, submission out: mean, fusion and ranking with one reading of the members.

    members --mean--> scores [S, C] --fuse with video scores--> spool --rank--> submission.csv

The same file, byte for byte, as `average`, `fuse` and `write_submission` one after another give,
without their Scores in between. Members are read by rows and ranked by classes, so what is ranked
lies in between all the same: a file beside the submission, 4 bytes a score, which is never waited
for to reach the disk and is gone at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.list_length import K
from whenabouts.core.ranking import BUDGET_BYTES
from whenabouts.core.scores import Scores, new_scores
from whenabouts.ensemble.candidates import Candidates
from whenabouts.ensemble.fusion import FusionSettings, fused_rows
from whenabouts.ensemble.mean import EnsembleSettings, write_means
from whenabouts.ensemble.members import Finish, Member, by_path, shares
from whenabouts.ensemble.ranks import write_mean_ranks
from whenabouts.ensemble.video_scores import match_videos
from whenabouts.submission import write_submission


@dataclass(frozen=True)
class WithVideos:
    """Fusion with the scores of whole videos. keep_unscored: see `fusion.fuse`."""

    scores: Scores
    settings: FusionSettings = field(default_factory=FusionSettings)
    keep_unscored: bool = False

    def finish(self, segments: Scores) -> Finish:
        """What fuses rows of these segment scores."""
        matched = match_videos(segments, self.scores, keep_unscored=self.keep_unscored)
        candidates, of_row = Candidates(self.settings.candidates, matched), segments.segments.video

        def fuse_rows(rows: slice, scores: NDArray[np.float32]) -> NDArray[np.float32]:
            return fused_rows(self.settings.exponents, candidates, of_row[rows], scores)

        return fuse_rows


def submit_ensemble(
    members: Sequence[Member],
    out: Path,
    settings: EnsembleSettings | None = None,
    videos: WithVideos | None = None,
    k: int = K,
    *,
    budget_bytes: int = BUDGET_BYTES,
    on_rows: Callable[[float], object] | None = None,
    on_class: Callable[[int], object] | None = None,
) -> None:
    """Write the submission of the mean of the members, fused with video scores if there are any.

    settings.dtype is not asked: the spool is float32. Memory as of `average` and
    `write_submission`; on the disk the spool, 4 bytes a score. The file appears when it is
    complete; an attempt that fails leaves nothing. Raises as the three do.
    """
    settings = settings or EnsembleSettings()
    pairs = by_path(members, shares(settings.weights, len(members)))
    first = members[0].scores
    finish = None if videos is None else videos.finish(first)
    with new_scores(out.with_name(f"{out.name}.scores"), first.segments, first.classes) as spool:
        if settings.kind == "rank":
            write_mean_ranks(pairs, spool, on_rows, budget_bytes, finish)
        else:
            write_means(settings.kind, pairs, spool, on_rows, budget_bytes, finish)
        values = spool.read_back()
        write_submission(out, first.segments, first.classes, values, k, budget_bytes, on_class)
        spool.discard()
