"""What a call would do, and how far earlier ones came, without running anything."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whenabouts.core.errors import WhenaboutsError
from whenabouts.workflow.engine import Work
from whenabouts.workflow.fingerprint import Fingerprints
from whenabouts.workflow.lock import is_locked
from whenabouts.workflow.record import Record, parts_of, read_record, why_run
from whenabouts.workflow.stage import Graph, Stage

Standing = Literal["done", "running", "interrupted", "failed", "to do"]


@dataclass(frozen=True)
class Outlook:
    """Of one stage. why: it would run; empty if it is up to date. seconds, size_bytes: measured
    where it was done before, else estimated. spent_s: what it has taken so far."""

    stage: Stage
    why: str
    standing: Standing
    seconds: float
    size_bytes: float
    spent_s: float


def outlook(
    graph: Graph, work: Work, chosen: frozenset[str], anew: frozenset[str] = frozenset()
) -> list[Outlook]:
    """Of each chosen stage, in order. It takes what earlier stages would change into account."""
    prints, is_at_work = work.fingerprints(), is_locked(work.root)
    found: list[Outlook] = []
    will_run: set[str] = set()
    for stage in (stage for stage in graph.stages if stage.name in chosen):
        record = read_record(work.root, stage)
        why = "asked for anew" if stage.name in anew else ""
        why = why or _why(graph, work, stage, record, will_run, prints)
        if why:
            will_run.add(stage.name)
        found.append(_of(work.root, stage, why, record, is_at_work=is_at_work))
    return found


def _why(
    graph: Graph,
    work: Work,
    stage: Stage,
    record: Record | None,
    will_run: set[str],
    prints: Fingerprints,
) -> str:
    if record is None:
        return "not done yet"
    if before := sorted(graph.waits_for(stage) & will_run):
        return f"{before[0]} runs before it"
    try:
        there = graph.there(work.root, stage, ())
        commands = stage.commands_in(work.root, there)
        parts = parts_of(stage, commands, there, work.version, prints)
    except (WhenaboutsError, OSError) as error:  # also of a call that is at work in the folder
        return str(error)
    return why_run(work.root, stage, record, parts)


def _of(root: Path, stage: Stage, why: str, record: Record | None, *, is_at_work: bool) -> Outlook:
    is_known = record is not None and record.state == "done"
    size = sum(size_of(root / path) for path in stage.outputs) if is_known else stage.size_bytes
    seconds = record.seconds if record and is_known else stage.seconds
    spent_s = record.seconds if record else 0.0
    return Outlook(
        stage, why, _standing(why, record, is_at_work=is_at_work), seconds, size, spent_s
    )


def _standing(why: str, record: Record | None, *, is_at_work: bool) -> Standing:
    if not why:
        return "done"
    if record is None or record.state == "done":
        return "to do"
    if record.state == "failed":
        return "failed"
    return "running" if is_at_work else "interrupted"


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder; 0 where there is nothing."""
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with suppress(FileNotFoundError):  # a call at work in the folder may replace it
            total += file.stat().st_size if file.is_file() else 0
    return total
