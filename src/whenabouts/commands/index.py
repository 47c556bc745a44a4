"""`whenabouts index`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse, shard_files
from whenabouts.core.classes import ClassOrder, read_class_ids, read_vocabulary
from whenabouts.core.errors import CorpusError
from whenabouts.core.processes import default_processes
from whenabouts.core.progress import human, say
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.dataset import dataset_settings
from whenabouts.corpus.index import IndexReport, build_index
from whenabouts.corpus.splits import SPLITS, Role

Patterns = tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """Index TFRecord shards where they lie: one Parquet file that says what is where.

    Checksums are verified. What cannot be read is left out, counted, and listed in
    INDEX.left-out.csv. An interrupted call goes on where it was.

    Example: whenabouts index --train 'train/*.tfrecord' --validate 'validate/*.tfrecord'
             --classes segment_label_ids.csv -o corpus.index
    """

    shards: Annotated[tyro.conf.Positional[Patterns], tyro.conf.arg(metavar="[SHARDS ...]")] = ()
    """Files, folders or globs; videos with rated segments go to V1 or V2 by a hash of their id, the
    others to train."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("corpus.index")
    """The index file to write."""
    train: Patterns = ()
    """Shards of the train split."""
    validate: Patterns = ()
    """Shards to cut in V1 and V2 by a hash of the video id."""
    v1: Patterns = ()
    """Shards of V1 as they are."""
    v2: Patterns = ()
    """Shards of V2 as they are."""
    test: Patterns = ()
    """Shards of the test split."""
    classes: Path | None = None
    """segment_label_ids.csv: the evaluated classes, in this order. Default: every rated class."""
    vocabulary: Path | None = None
    """vocabulary.csv: the names of the topics."""
    dataset: str = "auto"
    """yt8m, yt8m-video, audioset, a .json file of data set settings, or auto: what fits the first
    record."""
    processes: int = default_processes()
    """Processes that read shards."""
    strict: bool = False
    """Fail, and write no index, if anything has to be left out."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Index, "index", arguments)
    vocabulary = read_vocabulary(args.vocabulary) if args.vocabulary else {}
    classes = ClassOrder.of(read_class_ids(args.classes), vocabulary) if args.classes else None
    began_s = monotonic()
    report = build_index(
        _shards(args),
        args.out,
        None if args.dataset == "auto" else dataset_settings(args.dataset),
        classes,
        vocabulary,
        args.processes,
        strict=args.strict,
    )
    for line in report.lines():
        say(line)
    _give(args, report, monotonic() - began_s)


def _shards(args: Index) -> list[tuple[Role, Path]]:
    roles: dict[Role, Patterns] = {
        "auto": args.shards,
        "train": args.train,
        "validate": args.validate,
        "v1": args.v1,
        "v2": args.v2,
        "test": args.test,
    }
    shards = [(role, path) for role, given in roles.items() for path in shard_files(given)]
    paths = [path.resolve() for _, path in shards]
    repeated = next((p for k, p in enumerate(paths) if p in paths[:k]), None)
    if repeated:
        raise CorpusError("shard is given twice", where=repeated, rule="a shard has one role")
    return shards


def _give(args: Index, report: IndexReport, time_s: float) -> None:
    corpus = open_corpus(args.out)
    counts = {split: len(corpus.rows([split])) for split in SPLITS}
    result = {
        "index": str(args.out),
        "dataset": corpus.dataset.name,
        "videos": counts,
        "frames": int(corpus.num_frames.sum()),
        "rated_pairs": len(corpus.rated_class.values),
        "classes": len(corpus.classes),
        "left_out": len(report.left_out),
        "notices": dict(report.notices),
        "time_s": time_s,
    }
    splits = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    size = human(float(corpus.record_length.sum()), "B")
    lines = [
        f"{args.out}: {len(corpus):,} videos ({splits}), {result['frames']:,} frames, {size}, "
        f"in {time_s:.1f} s",
        f"{result['rated_pairs']:,} rated pairs in {len(corpus.classes):,} classes; "
        f"data set {corpus.dataset.name}; left out: {len(report.left_out):,} records",
    ]
    give(result, lines, as_json=args.json)
