"""`whenabouts pseudo-label teacher`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import chosen_splits, give, parse, refuse_other_videos
from whenabouts.core.progress import progress
from whenabouts.core.scores import open_scores
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import open_corpus
from whenabouts.strategies.pseudo_teacher import Cleaned, Cleaning, label_by_teacher, num_readings


@dataclass(frozen=True)
class PseudoTeacher:
    """Label segments that nobody rated by a model's scores, cleaned by the labels of the videos.

    Positive: a label of the video, and a high score; negative: no label of the video, or, if asked
    for, a low score; all else stays unknown. Rated segments and V2 are left alone. What has seen V2
    is refused. For the mean of several models make their Scores one with 'whenabouts ensemble'.

    Example: whenabouts pseudo-label teacher scores corpus.index -o labels.parquet
             whenabouts pseudo-label teacher scores corpus.index -o labels.parquet --soft
    """

    scores: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES")]
    """The Scores folder of the teacher: of segments."""
    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Labels file to write, Parquet."""
    cleaning: Annotated[Cleaning, tyro.conf.arg(name="")] = field(default_factory=Cleaning)
    splits: tuple[str, ...] = ("train", "v1")
    """Splits to label; never v2."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(PseudoTeacher, "pseudo-label teacher", arguments)
    began_s = monotonic()
    scores, corpus = open_scores(args.scores), open_corpus(args.index)
    refuse_other_videos(scores, corpus)
    splits, total = chosen_splits(args.splits), len(scores.segments) * num_readings(args.cleaning)
    with progress("pseudo-label", total, "segments") as bar:
        cleaned = label_by_teacher(
            scores, corpus, args.out, args.cleaning, splits, on_rows=bar.advance
        )
    result = {
        "labels": str(args.out),
        **cleaned.to_dict(),
        "splits": splits,
        "settings": to_dict(args.cleaning),
        "time_s": monotonic() - began_s,
    }
    give(result, _lines(args.out, cleaned, monotonic() - began_s), as_json=args.json)


def _lines(out: Path, cleaned: Cleaned, time_s: float) -> Iterator[str]:
    totals = cleaned.to_dict()
    yield (
        f"{totals['positives']:,} positives in {totals['classes']} of {len(cleaned.classes)} "
        f"classes, {totals['negatives']:,} negatives within the labels of the videos and "
        f"{totals['outside']:,} outside"
    )
    yield (
        f"{out}: {totals['positives'] + totals['negatives'] + totals['outside']:,} pairs of "
        f"{totals['segments']:,} segments, in {time_s:.1f} s"
    )
