"""`whenabouts pseudo-label`: one method a word, each in a module of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from whenabouts.core.errors import UsageError, suggest

METHODS = {
    "teacher": "scores of a trained model, cleaned by the labels of the videos",
    "cluster": "votes of rated frames in clusters of all frames",
}


def main(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        _tell(is_asked="-h" in arguments or "--help" in arguments)
    method, *rest = arguments
    if method not in METHODS:
        raise UsageError(f"no method '{method}'", remedy=suggest(method, METHODS))
    # Late, as in the command line: one method need not load what another computes with.
    module = importlib.import_module(f"whenabouts.commands.pseudo_{method}")
    module.main(rest)


def _tell(*, is_asked: bool) -> None:
    listing = "\n".join(f"  {name:<8} {what}" for name, what in METHODS.items())
    print(
        "usage: whenabouts pseudo-label METHOD ...\n\n"
        "Label segments that nobody rated, to train on beside rated ones; writes Labels.\n\n"
        f"methods:\n{listing}\n\n"
        "Example: whenabouts pseudo-label teacher scores corpus.index -o labels.parquet\n\n"
        "'whenabouts pseudo-label METHOD --help' lists every setting.",
        file=sys.stdout if is_asked else sys.stderr,
    )
    raise SystemExit(0 if is_asked else 2)
