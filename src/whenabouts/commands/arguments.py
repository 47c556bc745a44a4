"""How every command reads its arguments and gives its result."""

from __future__ import annotations

import glob
import json
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from whenabouts.core.errors import CorpusError, UsageError
from whenabouts.core.list_length import OF_CHALLENGE, ListLength, list_length
from whenabouts.core.progress import say
from whenabouts.core.scores import Scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS, Split

Arguments = TypeVar("Arguments")
# See `core.list_length`, which reads it.
ListText = Annotated[str, tyro.conf.arg(metavar="INT|SHARE%")]
SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


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


def recipe_first(arguments: Sequence[str], usage: str) -> tuple[str, Sequence[str]]:
    """The recipe's name, which comes first, and the other arguments, whose flags depend on it.

    Where there is none, prints the usage and exits: with 0 if help is asked for, else with 2.
    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    is_asked = "-h" in arguments or "--help" in arguments
    print(usage, file=sys.stdout if is_asked else sys.stderr)
    raise SystemExit(0 if is_asked else 2)


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


def byte_size(text: str, name: str) -> int:
    """The bytes of '1GB', '1.5 MB', '800 kB' or '1000': powers of 10, as disks have them.

    Raises UsageError, naming the argument `name`, where it is no size.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGT]?B|)", text.strip().upper())
    if not found:
        raise UsageError(
            f"'{text}' is no size",
            where=name,
            rule="sizes are bytes, or a number with kB, MB, GB or TB (powers of 10)",
        )
    return round(Decimal(found[1]) * SIZES[found[2]])


def note_what_was_seen(scores: Scores, splits: Sequence[str]) -> None:
    """Say so if what is searched on was seen by a model in its training."""
    seen = sorted(set(scores.made_by.get("trained_on", ())) & set(splits))
    if seen:
        say(
            f"note: the model of {scores.path} was trained on {', '.join(seen)}: the search "
            "trusts it too much"
        )


def length_of_search(text: str, *, is_search: bool) -> ListLength:
    """Of the lists that a search judges by. Raises UsageError where there is no search."""
    length = list_length(text)
    if length != OF_CHALLENGE and not is_search:
        raise UsageError(
            f"--k is {length.text}",
            rule="it is of the lists that --search judges by",
            remedy="add --search, or leave it out",
        )
    return length


def refuse_lists_of_videos(scores: Scores, length: ListLength) -> None:
    """Raise UsageError where a length is asked for of Scores that are of whole videos."""
    if length != OF_CHALLENGE:
        raise UsageError(
            f"--k is {length.text}, and these Scores are of whole videos",
            where=scores.path,
            rule="lists are of segments",
            remedy="leave it out",
        )


class Search(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def found_by(
    search: Search | None, splits: Sequence[str], length: ListLength | None
) -> dict[str, Any]:
    """What is told and kept of a search: on which splits, by lists of which length, if by any."""
    if search is None:
        return {}
    k = {} if length is None else {"k": length.text}
    return {"search": {"splits": list(splits), **k, **search.to_dict()}}


def refuse_other_videos(scores: Scores, corpus: Corpus) -> None:
    """Raise CorpusError unless some of the scored videos are in the corpus."""
    if len(scores.segments.video_ids) and (corpus.rows_of(scores.segments.video_ids) < 0).all():
        raise CorpusError(
            "it has none of the videos that were scored",
            where=corpus.path,
            remedy=f"pass the index that {scores.path} was predicted from",
        )


def refuse_twice(paths: Sequence[Path], what: str) -> None:
    """Raise UsageError where a member of a mean is named twice."""
    resolved = [path.resolve() for path in paths]
    for place, path in enumerate(paths):
        if resolved[place] in resolved[:place]:
            raise UsageError(
                f"these {what} stand twice among the members",
                where=path,
                remedy="name them once; --weights makes them count more",
            )


def give(result: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """The result on standard output: lines for people, or one JSON object for programs."""
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for line in lines:
        print(line)
