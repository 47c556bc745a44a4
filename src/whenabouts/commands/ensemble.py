"""`whenabouts ensemble`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

import tyro

from whenabouts.commands.arguments import (
    ListText,
    found_by,
    give,
    length_of_search,
    note_what_was_seen,
    parse,
    refuse_lists_of_videos,
    refuse_other_videos,
    refuse_twice,
)
from whenabouts.commands.evaluate import labelled_rows, load_truth
from whenabouts.core.errors import UsageError
from whenabouts.core.list_length import K, ListLength
from whenabouts.core.outputs import refuse_input_as_output
from whenabouts.core.progress import progress
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.ensemble.mean import EnsembleSettings, Kind, average
from whenabouts.ensemble.members import Member, match_members, shares
from whenabouts.ensemble.trials import Trials, segment_trials, video_trials
from whenabouts.ensemble.weights import NUM_DRAWS, WayName, WeightSearch, search_weights

WAYS_IN_WORDS: dict[WayName, str] = {
    "given": "the given weights",
    "equal": "equal weights",
    "single": "the best member alone",
    "draws": "random draws",
    "ascent": "coordinate ascent",
    "convex": "order of pairs, convex",
}


@dataclass(frozen=True)
class Ensemble:
    """One Scores out of several: their weighted mean; of segments, or of whole videos.

    With --search the weights are chosen on the rated segments (for Scores of videos: the labels) of
    an index, in several ways; used is the one that is best when it is chosen on one half of the
    videos and scored on the other.

    Example: whenabouts ensemble scores-a scores-b -o mean --weights 2 1
             whenabouts ensemble scores-a scores-b -o mean --search corpus.index --splits v2
    """

    scores: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SCORES [SCORES ...]")
    ]
    """The Scores folders of the members: the same rows and classes, in any order."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Scores folder to write, in the order of the first member."""
    weights: tuple[float, ...] = ()
    """One a member, divided by their sum; equal ones if not said. With --search they are one more
    way, to compare with."""
    kind: Kind = "mean"
    """mean: of probabilities; geometric: of odds; rank: of places in the class, which suits mAP of
    segments but not GAP of videos."""
    dtype: Literal["float32", "float16", "members"] = "float32"
    """Of the scores written; members: the widest of theirs."""
    search: Path | None = None
    """The index of a corpus to choose the weights on."""
    splits: tuple[str, ...] = ("v2",)
    """Splits of that index to choose on; no member may have been trained on them."""
    k: ListText = str(K)
    """Entries of each class's list that count in the search, or a share of the segments (4.85%)."""
    draws: int = NUM_DRAWS
    """Random draws of weights to try."""
    seed: int = 0
    """Of the random draws."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Ensemble, "ensemble", arguments)
    began_s = monotonic()
    _refuse_wrong_use(args)
    given = shares(args.weights, len(args.scores))
    length = length_of_search(args.k, is_search=args.search is not None)
    members = match_members(open_scores(path) for path in args.scores)
    search = _search(args, args.search, members, length) if args.search else None
    of_videos = members[0].scores.segments.has_whole_videos
    found = found_by(search, args.splits, None if of_videos else length)
    weights = search.best.weights if search else given
    table = members[0].scores
    with progress("ensemble", len(table.segments), "rows") as bar:
        settings = EnsembleSettings(args.kind, weights, args.dtype)
        average(members, args.out, settings, made_by=found, on_rows=bar.advance)
    result = {
        "scores": str(args.out),
        "kind": args.kind,
        "members": [{"scores": str(p), "weight": w} for p, w in zip(args.scores, weights)],
        "rows": len(table.segments),
        "classes": len(table.classes),
        "time_s": monotonic() - began_s,
        **found,
    }
    lines = [*(_search_table(search) if search else ()), *_member_table(result, search)]
    rows = "videos" if table.segments.has_whole_videos else "segments"
    give(result, [*lines, _line(result, rows)], as_json=args.json)


def _refuse_wrong_use(args: Ensemble) -> None:
    if not args.scores:
        raise UsageError("no Scores given", rule="an ensemble has a member at least")
    refuse_input_as_output(args.out, args.scores)
    if args.draws < 0:
        raise UsageError(f"--draws is {args.draws}", rule="it is 0 or more")
    refuse_twice(args.scores, "Scores")


def _search(
    args: Ensemble, index: Path, members: Sequence[Member], length: ListLength
) -> WeightSearch:
    corpus = open_corpus(index)
    of_videos = members[0].scores.segments.has_whole_videos
    if of_videos:
        refuse_lists_of_videos(members[0].scores, length)
        trials = _video_trials(args, corpus, members)
    else:
        trials = _segment_trials(args, corpus, members, length)
    for member in members:
        note_what_was_seen(member.scores, args.splits)
    given = shares(args.weights, len(members)) if args.weights else None
    num_drawn = 1 + len(members) + args.draws  # equal weights, each member alone
    with progress("drawn weights (half of the search)", num_drawn, "trials") as bar:
        return search_weights(trials, args.draws, args.seed, given, bar.advance)


def _segment_trials(
    args: Ensemble, corpus: Corpus, members: Sequence[Member], length: ListLength
) -> Trials:
    truth = load_truth(None, corpus, args.splits)
    refuse_other_videos(members[0].scores, corpus)
    return segment_trials(truth, members, args.kind, length)


def _video_trials(args: Ensemble, corpus: Corpus, members: Sequence[Member]) -> Trials:
    rows, wanted = labelled_rows(members[0].scores, corpus, args.splits)
    labels = corpus.labels.take(rows[wanted])
    ids = corpus.video_ids[rows[wanted]]
    return video_trials(ids, labels.values, labels.offsets, members, args.kind)


def _search_table(search: WeightSearch) -> Iterator[str]:
    """A line a way of choosing weights, and what the numbers are."""
    yield f"{search.metric:>8} {'halves':>8} {'tried':>6}  weights by"
    for way in search.ways:
        halves = "-" if way.across_halves is None else f"{way.across_halves:.4f}"
        used = " (used)" if way is search.best else ""
        yield f"{way.value:8.4f} {halves:>8} {way.num_trials:6,}  {WAYS_IN_WORDS[way.name]}{used}"
    yield (
        f"{search.metric}: chosen and scored on the same {search.judged_on}; halves: chosen on one "
        "half of the videos and scored on the other, both ways"
    )


def _member_table(result: dict[str, Any], search: WeightSearch | None) -> Iterator[str]:
    """A line a member: its weight, and its metric alone where that is known."""
    yield f"{'weight':>8}" + (f" {search.metric:>8}" if search else "") + "  member"
    for place, member in enumerate(result["members"]):
        alone = f" {search.alone[place]:8.4f}" if search else ""
        yield f"{member['weight']:8.4f}{alone}  {member['scores']}"


def _line(result: dict[str, Any], rows: str) -> str:
    means = {"mean": "mean", "geometric": "geometric mean", "rank": "mean rank"}
    return (
        f"{result['scores']}: {means[result['kind']]} of {len(result['members'])} Scores of "
        f"{result['rows']:,} {rows} x {result['classes']:,} classes, weights summing to 1, in "
        f"{result['time_s']:.1f} s"
    )
