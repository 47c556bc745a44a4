"""`whenabouts refine`"""

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
from whenabouts.core.progress import progress, say
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import open_corpus
from whenabouts.ensemble.context import AS_IT_IS, Context, refine
from whenabouts.ensemble.context_search import ContextSearch, search_context

MOST_TRIALS = 10


@dataclass(frozen=True)
class Refine:
    """Refine segment scores by those of their video: smooth over what is alike and in time; centre.

    In each class the logit of a segment becomes (1 - S) u + S n - C m. u is its mean over the
    segments of the video that look like it, by their scores in all classes; n is the mean of u over
    its neighbours in time, m over its whole video. Centring tells the segments of a video apart
    better and videos from each other worse: it suits mAP of rated segments, neither GAP nor lists
    over many videos. With --search L, S and C are chosen on the rated segments of an index, and
    used only if that pays across halves of the videos; made-by.json of the result lists every
    trial.

    Example: whenabouts refine scores -o refined --alike 0.06 --smooth 0.2 --centre 0.7
             whenabouts refine scores -o refined --search corpus.index --splits v2
    """

    scores: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES")]
    """The Scores folder of the segments."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Scores folder to write."""
    alike: float = AS_IT_IS.alike
    """L: segments of a video share their scores where they differ in less than about L classes; 0
    shares nothing."""
    smooth: float = AS_IT_IS.smooth
    """S, the share of the segments before and after; 0 leaves them out, 1 is the most."""
    centre: float = AS_IT_IS.centre
    """C, the part of the mean of the video that is taken off; 0 takes nothing."""
    search: Path | None = None
    """The index of a corpus with rated segments to search on."""
    splits: tuple[str, ...] = ("v2",)
    """Splits of that index to search on; the model may not have been trained on them."""
    k: ListText = str(K)
    """Entries of each class's list that count in the search, or a share of the segments; 100% to
    choose the order alone, for 'shortlist'."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Refine, "refine", arguments)
    began_s = monotonic()
    settings = _settings(args)
    length = length_of_search(args.k, is_search=args.search is not None)
    refuse_input_as_output(args.out, [args.scores])
    scores = open_scores(args.scores)
    search = _search(args, args.search, scores, length) if args.search else None
    if search is not None:
        settings = search.used.settings
    elif settings == AS_IT_IS:
        say("note: --alike, --smooth and --centre are 0: the scores stay as they are")
    found = found_by(search, args.splits, length)
    with progress("refine", len(scores.segments), "segments") as bar:
        refine(scores, args.out, settings, made_by=found, on_rows=bar.advance)
    result = {
        "scores": str(args.out),
        "segments": len(scores.segments),
        "classes": len(scores.classes),
        "settings": to_dict(settings),
        "time_s": monotonic() - began_s,
        **found,
    }
    table = _table(search) if search else ()
    give(result, [*table, _line(result, settings)], as_json=args.json)


def _settings(args: Refine) -> Context:
    settings = Context(args.smooth, args.centre, args.alike)
    if args.search and settings != AS_IT_IS:
        raise UsageError(
            "--alike, --smooth or --centre is given",
            rule="--search chooses them",
            remedy="leave them out, or --search",
        )
    return settings


def _search(args: Refine, index: Path, scores: Scores, length: ListLength) -> ContextSearch:
    corpus = open_corpus(index)
    truth = load_truth(None, corpus, args.splits)
    refuse_other_videos(scores, corpus)
    note_what_was_seen(scores, args.splits)
    return search_context(truth, scores, length=length)


def _table(search: ContextSearch) -> Iterator[str]:
    """The best trials, how far to trust them, and what is made of it."""
    yield f"{'mAP':>6} {'alike':>9} {'smooth':>7} {'centre':>7}"
    for trial in search.trials[:MOST_TRIALS]:
        each = trial.settings
        yield f"{trial.mean_ap:6.4f} {each.alike:9.4g} {each.smooth:7g} {each.centre:7g}"
    yield (
        f"{len(search.trials)} tried on {search.judged_on}: best "
        f"{search.best.mean_ap:.4f}, as it is {search.as_it_is.mean_ap:.4f}"
    )
    cross = search.cross_validated
    if cross is None:
        yield (
            "too few rated videos to choose on one half of them and score on the other: the scores "
            "stay as they are"
        )
        return
    verdict = "it pays: the best is used" if search.pays else "no gain: the scores stay as they are"
    yield (
        f"chosen on one half of the videos and scored on the other, both ways: mean "
        f"{cross.mean_ap:.4f}, as it is {cross.as_it_is_mean_ap:.4f}; {verdict}"
    )


def _line(result: dict[str, Any], settings: Context) -> str:
    return (
        f"{result['scores']}: alike {settings.alike:.4g}, smooth {settings.smooth:g}, centre "
        f"{settings.centre:g}, of {result['segments']:,} segments x {result['classes']:,} classes, "
        f"in {result['time_s']:.1f} s"
    )
