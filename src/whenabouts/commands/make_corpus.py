"""`whenabouts make-corpus`"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.core.processes import default_processes
from whenabouts.corpus.dataset import PRESETS
from whenabouts.corpus.made import MadeCorpus, dataset_of, make_corpus


@dataclass(frozen=True)
class MakeCorpus:
    """Write a corpus of planted topics in the YouTube-8M wire format, with the truth beside it.

    Says how to index it. With --features of its own the index needs the dataset.json beside it.

    Example: whenabouts make-corpus made --num-train 1000 --seed 1
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
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
    index = shlex.join(index_words(args.out, made))
    result = {"corpus": str(args.out), "videos": counts, "index": index}
    give(result, [f"{args.out}: {told}", f"next: {index}"], as_json=args.json)


def index_words(folder: Path, made: MadeCorpus) -> list[str]:
    """The command that indexes the corpus of the folder."""
    at = str(folder)
    shards = {
        "--train": (made.num_train, f"{at}/train"),
        "--v1": (made.num_validate, f"{at}/validate/v1-*"),
        "--v2": (made.num_validate // 2, f"{at}/validate/v2-*"),
        "--test": (made.num_test, f"{at}/test"),
    }
    parts = [word for role, (count, where) in shards.items() if count for word in (role, where)]
    other = ["--dataset", f"{at}/dataset.json"] if dataset_of(made).name not in PRESETS else []
    return [
        "whenabouts", "index", *parts, "--classes", f"{at}/segment_label_ids.csv",
        "--vocabulary", f"{at}/vocabulary.csv", *other, "-o", f"{at}.index",
    ]  # fmt: skip
