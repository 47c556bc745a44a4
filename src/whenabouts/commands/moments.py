"""`whenabouts moments`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.core.errors import UsageError
from whenabouts.core.outputs import refuse_other_file
from whenabouts.core.progress import progress
from whenabouts.core.scores import open_scores
from whenabouts.moments import HEADER, Moments, segment_length, write_moments


@dataclass(frozen=True)
class FindMoments:
    """Where each topic begins and ends in each video: a table video,start,end,class,topic,score.

    A moment is a run of segments next to each other that all score at least --min-score; it has the
    best score among them. The moments of a video stand best first.

    Example: whenabouts moments scores -o moments.csv --min-score 0.8 --per-video 5
    """

    scores: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES")]
    """The Scores folder, of segments."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("moments.csv")
    """The file to write."""
    min_score: float = 0.5
    """The score that every segment of a moment has at least."""
    per_video: int = 20
    """Moments of a video at most."""
    segment_s: int | None = None
    """Seconds a segment. Default: the smallest step between segments of a video."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(FindMoments, "moments", arguments)
    for flag, value in (("per-video", args.per_video), ("segment-s", args.segment_s)):
        if value is not None and value < 1:
            raise UsageError(f"--{flag} is {value}", rule="it is at least 1")
    if not 0 <= args.min_score <= 1:
        raise UsageError(f"--min-score is {args.min_score}", rule="scores are 0 to 1")
    refuse_other_file(args.out, "a table of moments", ",".join(HEADER).encode())
    began_s, scores = monotonic(), open_scores(args.scores)
    length_s = args.segment_s or segment_length(scores.segments)
    with_moments: set[int] = set()
    with progress("moments", len(scores.segments.video_ids), "videos") as bar:

        def count(found: Moments) -> None:
            with_moments.update(found.video.tolist())
            bar.advance(max(found.video, default=0) + 1 - bar.done)

        num_moments = write_moments(
            args.out, scores, args.min_score, args.per_video, length_s, count
        )
    result = {
        "moments": str(args.out),
        "count": num_moments,
        "videos": len(with_moments),
        "segment_s": length_s,
        "time_s": monotonic() - began_s,
    }
    line = (
        f"{args.out}: {num_moments:,} moments in {len(with_moments):,} of "
        f"{len(scores.segments.video_ids):,} videos, segments of {length_s} s, "
        f"in {result['time_s']:.1f} s"
    )
    give(result, [line], as_json=args.json)
