"""`whenabouts fuse`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import tyro

from whenabouts.commands.arguments import (
    ListText,
    found_by,
    give,
    length_of_search,
    note_what_was_seen,
    parse,
    refuse_other_videos,
)
from whenabouts.commands.evaluate import load_truth
from whenabouts.core.errors import UsageError
from whenabouts.core.list_length import K, ListLength
from whenabouts.core.outputs import refuse_input_as_output
from whenabouts.core.progress import progress
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import open_corpus
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import Exponents, FusionSettings, fuse
from whenabouts.ensemble.grid import Trial
from whenabouts.ensemble.own_videos import own_video_scores
from whenabouts.ensemble.search import DEFAULT, FusionSearch, search_fusion

MOST_TRIALS = 10


@dataclass(frozen=True)
class Fuse:
    """Fuse segment scores with video scores: video^a x segment^b, a class at a time; writes Scores.

    Without VIDEO-SCORES the score of a video is that of the best of its segments. A filter puts the
    pairs that are no candidates below all others. With --search the exponents and the filter that
    rank the rated segments of an index best are found, and used if that pays across halves of the
    videos; else the segment scores stay as they are. made-by.json of the result lists every trial.

    Example: whenabouts fuse scores video-scores -o fused --segment-exponent 2 --top-topics 20
             whenabouts fuse scores video-scores -o fused --search corpus.index --splits v2
    """

    segment_scores: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SEGMENT-SCORES")]
    """The Scores folder of the segments."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Scores folder to write."""
    video_scores: Annotated[
        tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[VIDEO-SCORES]")
    ] = None
    """The Scores folder of the videos: a row a video, by a video classifier; in place of the best
    of their segments."""
    video_exponent: float = DEFAULT.exponents.video
    """a; 0 leaves the video scores to the filters."""
    segment_exponent: float = DEFAULT.exponents.segment
    """b; 0 ranks by the video scores alone."""
    top_topics: int | None = None
    """Only the N best topics of a video stay candidates."""
    top_videos: int | None = None
    """Only the N best videos of a class stay candidates."""
    min_video_score: float | None = None
    """Only where the video score is at least this."""
    keep_unscored: bool = False
    """What has no video score keeps its segment score; else it is an error."""
    search: Path | None = None
    """The index of a corpus with rated segments to search on."""
    splits: tuple[str, ...] = ("v2",)
    """Splits of that index to search on; neither model may have been trained on them."""
    k: ListText = str(K)
    """Entries of each class's list that count in the search, or a share of the segments (4.85%)."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Fuse, "fuse", arguments)
    began_s = monotonic()
    settings = _settings(args)
    length = length_of_search(args.k, is_search=args.search is not None)
    given = [path for path in (args.segment_scores, args.video_scores) if path is not None]
    refuse_input_as_output(args.out, given)
    segments = open_scores(args.segment_scores)
    videos = open_scores(args.video_scores) if args.video_scores else own_video_scores(segments)
    search = _search(args, args.search, segments, videos, length) if args.search else None
    if search is not None:
        settings = search.used.settings
    found = found_by(search, args.splits, length)
    with progress("fuse", len(segments.segments), "segments") as bar:
        num_candidates = fuse(
            segments,
            videos,
            args.out,
            settings,
            keep_unscored=args.keep_unscored,
            made_by=found,
            on_rows=bar.advance,
        )
    result = {
        "scores": str(args.out),
        "segments": len(segments.segments),
        "classes": len(segments.classes),
        "candidates": num_candidates,
        "settings": to_dict(settings),
        "time_s": monotonic() - began_s,
        **found,
    }
    table = _table(search) if search else ()
    own = "" if args.video_scores else " (the best of its segments)"
    give(result, [*table, _line(result, settings, own)], as_json=args.json)


def _settings(args: Fuse) -> FusionSettings:
    settings = FusionSettings(
        Exponents(args.video_exponent, args.segment_exponent),
        CandidateFilter(args.top_topics, args.top_videos, args.min_video_score),
    )
    if args.keep_unscored and args.video_scores is None:
        raise UsageError(
            "--keep-unscored is given, and no VIDEO-SCORES",
            rule="without them each video has the score of its best segment",
        )
    if args.search and settings != DEFAULT:
        raise UsageError(
            "exponents or a filter are given",
            rule="--search chooses them",
            remedy="leave them out, or --search",
        )
    return settings


def _search(
    args: Fuse, index: Path, segments: Scores, videos: Scores, length: ListLength
) -> FusionSearch:
    corpus = open_corpus(index)
    truth = load_truth(None, corpus, args.splits)
    refuse_other_videos(segments, corpus)
    for scores in (segments, videos) if args.video_scores else (segments,):
        note_what_was_seen(scores, args.splits)
    return search_fusion(truth, segments, videos, length=length, keep_unscored=args.keep_unscored)


def _table(search: FusionSearch) -> Iterator[str]:
    """The best trials, and how far to trust them."""
    yield f"{'mAP':>6} {'a':>5} {'b':>5} {'top topics':>11} {'top videos':>11} {'min score':>10}"
    for trial in search.trials[:MOST_TRIALS]:
        yield _row(trial)
    default, alone = search.default.mean_ap, search.segments_alone.mean_ap
    yield (
        f"{len(search.trials)} tried on {search.judged_on}: best "
        f"{search.best.mean_ap:.4f}, published default (1, 1) {default:.4f}, segments alone "
        f"{alone:.4f}"
    )
    cross = search.cross_validated
    if cross is None:
        yield (
            "too few rated videos to choose on one half of them and score on the other: the "
            "segment scores stay as they are"
        )
        return
    kept = "no gain: the segment scores stay as they are"
    verdict = "it pays: the best is used" if search.pays else kept
    yield (
        f"chosen on one half of the videos and scored on the other, both ways: mean "
        f"{cross.mean_ap:.4f}, default {cross.default_mean_ap:.4f}, segments alone "
        f"{cross.segments_alone_mean_ap:.4f}; {verdict}"
    )


def _row(trial: Trial[FusionSettings]) -> str:
    exponents, chosen = trial.settings.exponents, trial.settings.candidates
    topics, videos, least = (
        "-" if value is None else f"{value:g}"
        for value in (chosen.top_topics, chosen.top_videos, chosen.min_video_score)
    )
    return (
        f"{trial.mean_ap:6.4f} {exponents.video:5g} {exponents.segment:5g} {topics:>11} "
        f"{videos:>11} {least:>10}"
    )


def _line(result: dict[str, Any], settings: FusionSettings, own: str) -> str:
    pairs = result["segments"] * result["classes"]
    share = f", {result['candidates'] / pairs:.1%} candidates" if pairs else ""
    return (
        f"{result['scores']}: video{own}^{settings.exponents.video:g} x "
        f"segment^{settings.exponents.segment:g} of {result['segments']:,} segments x "
        f"{result['classes']:,} classes{share}, in {result['time_s']:.1f} s"
    )
