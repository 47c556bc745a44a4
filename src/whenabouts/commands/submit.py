"""`whenabouts submit`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.core.errors import UsageError
from whenabouts.core.progress import human, progress
from whenabouts.core.scores import Scores, open_scores
from whenabouts.submission import K, write_submission


@dataclass(frozen=True)
class Submit:
    """Write the submission file: for each class its best K segments, best first.

    Example: whenabouts submit scores -o submission.csv
    """

    scores: tyro.conf.Positional[Path]
    """The Scores folder."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("submission.csv")
    """The file to write."""
    k: int = K
    """Segments a class."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Submit, "submit", arguments)
    if args.k < 1:
        raise UsageError(f"--k is {args.k}", rule="at least one segment a class")
    began_s = monotonic()
    scores = open_scores(args.scores)
    submit(scores, args.out, args.k)
    size, time_s = args.out.stat().st_size, monotonic() - began_s
    result = {"submission": str(args.out), "bytes": size, "time_s": time_s}
    line = (
        f"{args.out}: {len(scores.classes):,} classes, up to {args.k:,} segments each, "
        f"{human(size, 'B')} in {time_s:.1f} s"
    )
    give(result, [line], as_json=args.json)


def submit(scores: Scores, out: Path, k: int = K) -> None:
    with progress("submit", len(scores.classes), "classes") as bar:
        write_submission(
            out,
            scores.segments,
            scores.classes,
            scores.values,
            k,
            on_class=lambda _: bar.advance(1),
        )
