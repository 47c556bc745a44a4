"""`whenabouts make-corpus`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.core.processes import default_processes
from whenabouts.corpus.made import MadeCorpus, make_corpus


@dataclass(frozen=True)
class MakeCorpus:
    """Write a corpus of planted topics in the YouTube-8M wire format, with the truth beside it.

    Example: whenabouts make-corpus made --num-train 1000 --seed 1
    """

    out: tyro.conf.Positional[Path]
    """The new folder."""
    made: Annotated[MadeCorpus, tyro.conf.arg(name="")] = field(default_factory=MadeCorpus)
    processes: int = default_processes()
    """Processes that make shards; the bytes do not depend on it."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(MakeCorpus, "make-corpus", arguments)
    make_corpus(args.out, args.made, args.processes)
    made = args.made
    counts = {"train": made.num_train, "validate": made.num_validate, "test": made.num_test}
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    give({"corpus": str(args.out), "videos": counts}, [f"{args.out}: {told}"], as_json=args.json)
