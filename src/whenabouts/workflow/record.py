"""What is kept of a stage in `stages/NAME.json`, and whether it is up to date.

A record says how the last attempt ended, how long it took, and what it depended on, part by part:
the version of the program, the commands, and a fingerprint of each input. A stage is up to date if
it was done, no part has changed since, and what it makes is there. An attempt that did not end well
is gone on with where no part has changed; else what it left is removed first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from whenabouts.core.atomic import write_json
from whenabouts.workflow.fingerprint import ABSENT, Fingerprints
from whenabouts.workflow.stage import Commands, Stage

State = Literal["running", "done", "failed"]
STATES: tuple[State, ...] = get_args(State)
FORMAT = 1
FOLDER = "stages"


@dataclass(frozen=True)
class Record:
    """parts: what the attempt depended on, by name; seconds: how long it took, with what earlier
    attempts took that it went on from."""

    state: State
    parts: dict[str, str]
    seconds: float = 0.0


def record_path(root: Path, stage: Stage) -> Path:
    return root / FOLDER / f"{stage.name}.json"


def write_record(root: Path, stage: Stage, record: Record) -> None:
    write_json(record_path(root, stage), {"format": FORMAT, **asdict(record)})


def read_record(root: Path, stage: Stage) -> Record | None:
    """None where there is none, or where it is damaged: the stage is then run anew."""
    try:
        kept = json.loads(record_path(root, stage).read_text(encoding="utf-8"))
        state, parts, seconds = kept["state"], dict(kept["parts"]), float(kept["seconds"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    is_sound = kept.get("format") == FORMAT and state in STATES
    return Record(state, parts, seconds) if is_sound else None


def parts_of(
    stage: Stage,
    commands: Commands,
    there: frozenset[Path],
    version: str,
    prints: Fingerprints,
) -> dict[str, str]:
    """What the stage depends on, as it is now; there: those of `wanted` that count."""
    wanted = {path: prints.of(path) if path in there else ABSENT for path in stage.wanted}
    inputs = {path: prints.of(path) for path in stage.inputs}
    stamps = {path: prints.stamp(path) for path in stage.stamped}
    return {
        "version": version,
        "settings": json.dumps(commands),
        **{f"input {path}": found for path, found in {**inputs, **wanted, **stamps}.items()},
    }


def why_run(root: Path, stage: Stage, record: Record | None, parts: Mapping[str, str]) -> str:
    """Why the stage has to run, in a few words; empty if it is up to date."""
    if record is None:
        return "not done yet"
    if changed := changed_part(record.parts, parts):
        return changed
    if record.state != "done":
        return "it failed" if record.state == "failed" else "it was interrupted"
    missing = next((path for path in stage.outputs if not (root / path).exists()), None)
    return f"{missing} is missing" if missing else ""


def changed_part(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first part that differs, in words; empty if none does."""
    for name in {**now, **then}:
        was, is_now = then.get(name, ABSENT), now.get(name, ABSENT)
        if was != is_now:
            return f"{name} {_change(was, is_now)}"
    return ""


def _change(was: str, is_now: str) -> str:
    if ABSENT in (was, is_now):
        return "is gone" if is_now == ABSENT else "is new"
    return "changed"
