"""What may be replaced: what is of the same kind, never anything else that happens to lie there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from whenabouts.core.errors import UsageError

HEAD_BYTES = 1024
REMEDY = "choose another --out"
# What an artefact that is a folder is known by; files of two of them may have one name.
SIGNS = {
    "recipe.json": "a run is",
    "made-by.json": "Scores are",
    "bundle.json": "a bundle is",
    "evaluation.json": "an evaluation is",
    "plan.json": "a search is",
    "reproduce.json": "what 'reproduce' does is",
}


def refuse_input_as_output(
    out: Path, inputs: Iterable[Path], what: str = "these Scores are"
) -> None:
    """Raise UsageError if `out` is one of the files or folders that are read."""
    if any(out.resolve() == path.resolve() for path in inputs):
        raise UsageError(f"{what} read, and would be replaced", where=out, remedy=REMEDY)


def refuse_other_file(out: Path, kind: str, *signs: bytes) -> None:
    """Raise UsageError if there is something at `out` that is no file of this kind.

    signs: a file of the kind begins with the first, and has the others in its first HEAD_BYTES. An
    empty file may be replaced, as /dev/null and /dev/stdout may be written to.
    """
    if not out.exists() or out.is_char_device() or out.is_fifo():
        return
    head = b""
    if not out.is_dir():
        with out.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if not head or (head.startswith(signs[0]) and all(sign in head for sign in signs)):
            return
    raise UsageError(f"something else than {kind} is here", where=out, remedy=REMEDY)


def refuse_what_is_there(out: Path) -> None:
    """Raise UsageError if there is something at `out`, other than an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "there is something already",
            where=out,
            rule="a corpus is made in a new or empty folder",
            remedy="name another folder, or remove this one first",
        )


def refuse_other_folder(out: Path, sign: str) -> None:
    """Raise UsageError if `out` is a file, or a folder that is an artefact of another kind.

    sign: the file that tells what is to be written from the others, one of SIGNS. Other files, such
    as notes or a log, may lie there: nothing that is written has their names.
    """
    if out.exists() and not out.is_dir():
        raise UsageError("it is a file, not a folder", where=out, remedy=REMEDY)
    if (out / sign).exists():
        return
    for other, what in SIGNS.items():
        if (out / other).exists():
            raise UsageError(f"{what} here, in {other}", where=out, remedy=REMEDY)
