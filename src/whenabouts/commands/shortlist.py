"""`whenabouts shortlist`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import ListText, give, parse
from whenabouts.core.list_length import K, list_length
from whenabouts.core.outputs import refuse_input_as_output
from whenabouts.core.progress import progress
from whenabouts.core.scores import open_scores
from whenabouts.ensemble.shortlist import shortlist


@dataclass(frozen=True)
class Shortlist:
    """Put the K best segments of each class by one kind of scores first, in the order of another.

    For lists that cannot hold every segment. What finds segments among all videos, scores fused
    with those of their videos, is not what orders them best, scores that 'refine' has centred. The
    result is meant for this K: evaluate and submit it with the same.

    Example: whenabouts shortlist refined found -o lists --k 4.85%

    Here 'found' may be what 'whenabouts fuse scores -o found' gives, and 'refined' what
    'whenabouts refine scores -o refined --search corpus.index --k 100%' does.
    """

    order: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES")]
    """The Scores folder that says the order."""
    listed_by: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LISTED-BY")]
    """The Scores folder that says which segments are listed: the same segments and classes."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Scores folder to write."""
    k: ListText = str(K)
    """Segments a class, or a share of them all: 4.85% is about that of the challenge."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Shortlist, "shortlist", arguments)
    began_s = monotonic()
    length = list_length(args.k)
    refuse_input_as_output(args.out, (args.order, args.listed_by))
    order, listed_by = open_scores(args.order), open_scores(args.listed_by)
    with progress("shortlist", 2 * len(order.segments), "segments") as bar:
        entries = shortlist(order, listed_by, args.out, length, on_rows=bar.advance)
    num_segments, num_classes = len(order.segments), len(order.classes)
    result = {
        "scores": str(args.out),
        "segments": num_segments,
        "classes": num_classes,
        "k": entries,
        "time_s": monotonic() - began_s,
    }
    listed = f"{entries:,} of" if entries < num_segments else "all"
    line = (
        f"{args.out}: {listed} {num_segments:,} segments listed in each of {num_classes:,} "
        f"classes, in {result['time_s']:.1f} s"
    )
    give(result, [line], as_json=args.json)
