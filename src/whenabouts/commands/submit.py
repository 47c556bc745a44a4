"""`whenabouts submit`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import tyro

from whenabouts.commands.arguments import ListText, give, parse, refuse_twice
from whenabouts.core.errors import UsageError
from whenabouts.core.list_length import K, ListLength, list_length
from whenabouts.core.outputs import refuse_other_file
from whenabouts.core.progress import human, progress
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.submission_rows import HEADER
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import Exponents, FusionSettings
from whenabouts.ensemble.mean import EnsembleSettings, Kind
from whenabouts.ensemble.members import match_members, shares
from whenabouts.ensemble.one_pass import WithVideos, submit_ensemble
from whenabouts.submission import write_submission

LISTED = "a submission lists segments"


@dataclass(frozen=True)
class Submit:
    """Write the submission file: for each class its best K segments, best first.

    Of several Scores it is that of their weighted mean; with --videos, fused with video scores:
    the file that 'ensemble', 'fuse' and 'submit' give one after another, with one reading of the
    Scores and none written.

    Example: whenabouts submit scores -o submission.csv
             whenabouts submit scores-a scores-b --weights 2 1 --videos video-scores
    """

    scores: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SCORES [SCORES ...]")
    ]
    """The Scores folder; or several, of the same rows and classes."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("submission.csv")
    """The file to write."""
    k: ListText = str(K)
    """Segments a class, or a share of them all; the challenge itself takes 100000."""
    weights: tuple[float, ...] = ()
    """Of several Scores: one each, divided by their sum; equal ones if not said."""
    kind: Kind = "mean"
    """Of several Scores: mean, geometric or rank, as for 'ensemble'."""
    videos: Path | None = None
    """The Scores folder of the videos, to fuse with."""
    video_exponent: float = 1.0
    """a of video^a x segment^b, as for 'fuse'."""
    segment_exponent: float = 1.0
    """b."""
    top_topics: int | None = None
    """Only the N best topics of a video stay candidates."""
    top_videos: int | None = None
    """Only the N best videos of a class stay candidates."""
    min_video_score: float | None = None
    """Only where the video score is at least this."""
    keep_unscored: bool = False
    """What has no video score keeps its segment score; else it is an error."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Submit, "submit", arguments)
    length = list_length(args.k)
    fusion = _fusion(args)
    refuse_other_file(args.out, "a submission", b",".join(HEADER))
    began_s = monotonic()
    if len(args.scores) == 1 and args.videos is None:
        first = open_scores(args.scores[0])
        first.refuse_whole_videos(LISTED)
        submit(first, args.out, length)
    else:
        first = _submit_ensemble(args, fusion, length)
    size, time_s = args.out.stat().st_size, monotonic() - began_s
    result: dict[str, Any] = {"submission": str(args.out), "bytes": size, "time_s": time_s}
    most = length.of(len(first.segments))
    line = (
        f"{args.out}: {len(first.classes):,} classes, up to {most:,} segments each, "
        f"{human(size, 'B')} in {time_s:.1f} s"
    )
    give(result, [line], as_json=args.json)


def _fusion(args: Submit) -> FusionSettings:
    """Raises UsageError for what has nothing to work on."""
    fusion = FusionSettings(
        Exponents(args.video_exponent, args.segment_exponent),
        CandidateFilter(args.top_topics, args.top_videos, args.min_video_score),
    )
    if not args.scores:
        raise UsageError("no Scores given", rule="a submission is made from Scores")
    if args.videos is None and (fusion != FusionSettings() or args.keep_unscored):
        raise UsageError(
            "exponents or a filter are given",
            rule="they are of video scores",
            remedy="add --videos",
        )
    if len(args.scores) == 1 and (args.weights or args.kind != "mean"):
        raise UsageError("weights or a kind of mean for one Scores", remedy="name more Scores")
    shares(args.weights, len(args.scores))
    refuse_twice(args.scores, "Scores")
    return fusion


def submit(scores: Scores, out: Path, length: ListLength) -> None:
    with progress("submit", len(scores.classes), "classes") as bar:
        write_submission(
            out,
            scores.segments,
            scores.classes,
            scores.values,
            length.of(len(scores.segments)),
            on_class=lambda _: bar.advance(1),
        )


def _submit_ensemble(args: Submit, fusion: FusionSettings, length: ListLength) -> Scores:
    """Returns the first member."""
    members = match_members(open_scores(path) for path in args.scores)
    first = members[0].scores
    first.refuse_whole_videos(LISTED)
    videos = None
    if args.videos is not None:
        videos = WithVideos(open_scores(args.videos), fusion, args.keep_unscored)
    num_rows, num_classes = len(first.segments), max(1, len(first.classes))
    # Reading the members and ranking the classes take about as long.
    with progress("submit", 2 * num_rows, "segments") as bar:
        submit_ensemble(
            members,
            args.out,
            EnsembleSettings(args.kind, args.weights),
            videos,
            length.of(num_rows),
            on_rows=bar.advance,
            on_class=lambda _: bar.advance(num_rows / num_classes),
        )
    return first
