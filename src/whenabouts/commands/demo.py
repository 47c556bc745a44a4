"""`whenabouts demo`"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import parse
from whenabouts.commands.make_corpus import index_words
from whenabouts.core.errors import UsageError
from whenabouts.corpus.made import MadeCorpus


@dataclass(frozen=True)
class Demo:
    """The main job end to end on a made corpus: index, train, predict, evaluate, submit, report.

    Each step is a command, shown as you would type it.

    Example: whenabouts demo -o demo
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo")
    """A new folder for everything the demo makes."""
    num_train: int = 200
    """Made videos with video labels alone."""
    num_validate: int = 600
    """Made videos with rated segments: half V1, half V2."""
    seed: int = 0
    """Seed of the made corpus and of the training."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Demo, "demo", arguments)
    if args.out.exists():
        raise UsageError("it is there already", where=args.out, remedy="remove it, or pass --out")
    began_s = monotonic()
    for words in steps(args):
        print(f"\n$ whenabouts {shlex.join(words)}", flush=True)
        module = importlib.import_module(f"whenabouts.commands.{words[0].replace('-', '_')}")
        module.main(words[1:])
    print(f"\nDone in {monotonic() - began_s:.0f} s, on made data: no result of YouTube-8M.")
    for name, path in (
        ("numbers", "numbers/evaluation.json"),
        ("submission", "submission.csv"),
        ("report", "report.html"),
    ):
        print(f"{name + ':':<12}{args.out / path}")


def steps(args: Demo) -> list[list[str]]:
    """The commands of the demo, in order."""
    at = {name: str(args.out / name) for name in NAMES}
    made = at["corpus"]
    sizes = MadeCorpus(num_train=args.num_train, num_validate=args.num_validate, num_test=0)
    return [
        ["make-corpus", made, "--seed", str(args.seed), "--num-train", str(sizes.num_train),
         "--num-validate", str(sizes.num_validate), "--num-test", str(sizes.num_test)],
        index_words(args.out / "corpus", sizes)[1:],
        ["train", "s-logi", at["corpus.index"], "-o", at["s-logi"],
         "--loop.seed", str(args.seed), "--loop.patience", "8"],
        ["train", "f-logi", at["corpus.index"], "-o", at["f-logi"],
         "--loop.seed", str(args.seed), "--loop.patience", "8"],
        ["predict", at["f-logi"], at["corpus.index"], "-o", at["scores"], "--splits", "v2"],
        ["submit", at["scores"], "-o", at["submission.csv"]],
        ["report", at["scores"], at["corpus.index"], "--run", at["f-logi"],
         "--vocabulary", f"{made}/vocabulary.csv", "-o", at["report.html"],
         "--title", "whenabouts demo: F-Logi on a made corpus"],
        ["evaluate", at["scores"], at["corpus.index"], "--out", at["numbers"]],
    ]  # fmt: skip


NAMES = (
    "corpus",
    "corpus.index",
    "s-logi",
    "f-logi",
    "scores",
    "submission.csv",
    "report.html",
    "numbers",
)
