"""What may be replaced: a file of the same kind, never anything else that happens to lie there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from whenabouts.core.errors import UsageError

HEAD_BYTES = 1024
REMEDY = "choose another --out"


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
    raise UsageError(
        f"something else than {kind} is here", where=out, remedy="choose another --out"
    )


def refuse_other_folder(out: Path, kind: str, sign: str, may_be_there: Iterable[str] = ()) -> None:
    """Raise UsageError if `out` is a file, or a folder with files but not the one called `sign`.

    may_be_there: what an attempt that was killed may have left before it wrote that one.
    """
    if not out.exists() or (out / sign).is_file():
        return
    allowed = set(may_be_there)
    if out.is_dir() and all(p.name in allowed or p.name.startswith(".") for p in out.iterdir()):
        return
    raise UsageError(
        f"something else than {kind} is here", where=out, remedy="choose another --out"
    )
