"""How every command reads its arguments and gives its result."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from whenabouts.core.errors import CorpusError, UsageError
from whenabouts.core.scores import Scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS, Split

Arguments = TypeVar("Arguments")


def parse(
    kind: type[Arguments], name: str, arguments: Sequence[str], default: Arguments | None = None
) -> Arguments:
    """The dataclass `kind` from the command line; exits with 2 on wrong use, 0 after --help."""
    return tyro.cli(
        kind,
        prog=f"whenabouts {name}",
        args=arguments,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.AvoidSubcommands,),
    )


def shard_files(patterns: Iterable[str]) -> list[Path]:
    """The files that paths, folders and globs name, sorted, each once.

    A folder stands for every *.tfrecord in it, at any depth. Raises CorpusError for a pattern that
    names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [Path(m) for m in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns too
        files = [file for match in matches for file in _files(match)]
        if not files:
            raise CorpusError(
                "no TFRecord file here",
                where=pattern,
                rule="shards are files, folders with *.tfrecord in them, or globs",
            )
        found |= dict.fromkeys(files)
    return list(found)


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.tfrecord")) if path.is_dir() else [path]


def chosen_splits(names: Sequence[str]) -> list[Split]:
    for name in names:
        if name not in SPLITS:
            raise UsageError(f"no split '{name}'", rule=f"splits are {', '.join(SPLITS)}")
    return [split for split in SPLITS if split in names]


def refuse_other_videos(scores: Scores, corpus: Corpus) -> None:
    """Raise CorpusError unless some of the scored videos are in the corpus."""
    if len(scores.segments.video_ids) and (corpus.rows_of(scores.segments.video_ids) < 0).all():
        raise CorpusError(
            "it has none of the videos that were scored",
            where=corpus.path,
            remedy=f"pass the index that {scores.path} was predicted from",
        )


def give(result: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """The result on standard output: lines for people, or one JSON object for programs."""
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for line in lines:
        print(line)
