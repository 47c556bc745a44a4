"""Run what is not up to date of a graph of stages, side by side where one does not need another.

A stage that fails stops those that need it; the others go on. SIGINT or SIGTERM stops the children,
which save what they can, and leaves a folder in which the same call goes on; a second one ends them
at once.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Literal

from whenabouts.core.atomic import remove_leftovers
from whenabouts.core.errors import WhenaboutsError
from whenabouts.core.progress import say
from whenabouts.workflow.children import Children, last_lines
from whenabouts.workflow.fingerprint import Fingerprints
from whenabouts.workflow.lock import locked
from whenabouts.workflow.record import (
    FOLDER,
    Record,
    changed_part,
    parts_of,
    read_record,
    record_path,
    why_run,
    write_record,
)
from whenabouts.workflow.stage import Graph, Stage

Ending = Literal["done", "up to date", "failed", "blocked", "interrupted"]
TOLD_LINES = 15


@dataclass(frozen=True)
class Work:
    """How stages are run: in which folder, by which program.

    launcher: the child's command line. version: of the program; with another one all is done anew.
    environments: one a job; so many stages run at once.
    """

    root: Path
    launcher: tuple[str, ...]
    version: str
    environments: tuple[Mapping[str, str], ...] = ({},)

    def fingerprints(self) -> Fingerprints:
        return Fingerprints(self.root, self.root / FOLDER / ".fingerprints")

    def log(self, stage: Stage) -> Path:
        return self.root / "logs" / f"{stage.name}.log"


@dataclass(frozen=True)
class Ended:
    """How a stage ended, and why so; seconds: what it took in all attempts that counted."""

    stage: Stage
    how: Ending
    why: str = ""
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return self.how in ("done", "up to date")


def run_stages(
    graph: Graph,
    work: Work,
    chosen: frozenset[str],
    anew: frozenset[str] = frozenset(),
    on_begin: Callable[[], object] = lambda: None,
) -> dict[str, Ended]:
    """Run the chosen stages that are not up to date; how each ended, by name, in that order.

    anew: those that are run from nothing even if they are up to date. on_begin is called once the
    folder is this call's alone. Must be called in the main thread. Raises StageError where another
    call is at work in the folder.
    """
    work.root.mkdir(parents=True, exist_ok=True)
    with locked(work.root) as lock:
        on_begin()
        children = Children(work.launcher, work.root, (lock,))
        runner = _Runner(graph, work, chosen, anew, children)
        with _stopping(children):
            return runner.run()


class _Runner:
    def __init__(
        self,
        graph: Graph,
        work: Work,
        chosen: frozenset[str],
        anew: frozenset[str],
        children: Children,
    ) -> None:
        self._graph, self._work, self._anew, self._children = graph, work, anew, children
        self._left = [stage for stage in graph.stages if stage.name in chosen]
        self._chosen, self._ended = chosen, dict[str, Ended]()
        self._prints = work.fingerprints()
        self._environments: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for environment in work.environments:
            self._environments.put(environment)

    def run(self) -> dict[str, Ended]:
        jobs = len(self._work.environments)
        running: set[Future[Ended]] = set()
        with ThreadPoolExecutor(jobs) as pool:
            while True:
                while len(running) < jobs and (stage := self._next()):
                    running.add(pool.submit(self._attempt, stage))
                if not running:
                    return self._ended
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._note(future.result())

    def _next(self) -> Stage | None:
        """The first stage whose turn it is; stages that cannot run any more are noted."""
        for stage in list(self._left):
            if self._children.is_stopping:
                self._left.remove(stage)
                self._note(Ended(stage, "interrupted", "it had not begun"))
            elif lost := self._lost(stage):
                self._left.remove(stage)
                self._note(Ended(stage, "blocked", f"it needs {lost}"))
            elif self._graph.waits_for(stage) & self._chosen <= self._ended.keys():
                self._left.remove(stage)
                return stage
        return None

    def _lost(self, stage: Stage) -> str | None:
        needed = sorted(self._graph.needs(stage) & self._ended.keys())
        return next((name for name in needed if not self._ended[name].is_well), None)

    def _note(self, ended: Ended) -> None:
        self._ended[ended.stage.name] = ended
        if ended.how in ("done", "failed"):
            self._prints.save()
        if ended.how != "up to date":
            place = f"[{len(self._ended)}/{len(self._chosen)}]"
            told = f" in {ended.seconds:.0f} s" if ended.how == "done" else f": {ended.why}"
            say(f"{place} {ended.stage.name} {ended.how}{told}")
        if ended.how == "failed":
            log = self._work.log(ended.stage)
            for line in last_lines(log, TOLD_LINES):
                say(f"    {line}")

    # ---- one stage, in a thread ------------------------------------------------------------------

    def _attempt(self, stage: Stage) -> Ended:
        try:
            return self._run_if_due(stage)
        except (WhenaboutsError, OSError) as error:
            return Ended(stage, "failed", str(error))
        except Exception as error:  # a fault of ours must not lose how the others ended
            return Ended(stage, "failed", f"{type(error).__name__}: {error}")

    def _run_if_due(self, stage: Stage) -> Ended:
        root = self._work.root
        if missing := self._missing_input(stage):
            return Ended(stage, "failed", missing)
        lost = [name for name, ended in list(self._ended.items()) if not ended.is_well]
        there = self._graph.there(root, stage, lost)
        commands = stage.commands_in(root, there)
        parts = parts_of(stage, commands, there, self._work.version, self._prints)
        record = read_record(root, stage)
        why = why_run(root, stage, record, parts)
        if stage.name in self._anew:
            record, why = None, "asked for anew"
        if not why:
            return Ended(stage, "up to date", seconds=record.seconds if record else 0.0)
        say(f"{stage.name} begins ({why})")
        spent = self._make_room(stage, record, parts)
        write_record(root, stage, Record("running", parts, spent))
        for path in stage.outputs:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
        environment = self._environments.get()
        began_s = time.monotonic()
        try:
            code = self._children.run(commands, self._work.log(stage), environment)
        finally:
            self._environments.put(environment)
        return self._judge(stage, code, parts, spent + time.monotonic() - began_s)

    def _missing_input(self, stage: Stage) -> str:
        for path in (*stage.inputs, *stage.stamped):
            if not (self._work.root / path).exists():
                maker = self._graph.maker(path)
                return f"{path} is not there" + (f": {maker} makes it" if maker else "")
        return ""

    def _make_room(self, stage: Stage, record: Record | None, parts: dict[str, str]) -> float:
        """Remove what is not to be gone on with; returns the seconds that took."""
        root = self._work.root
        if record and record.state != "done" and not changed_part(record.parts, parts):
            return record.seconds if record.state == "running" else 0.0
        # The record goes first: what it told of must not be taken for what is about to begin.
        for path in (record_path(root, stage), self._work.log(stage)):
            path.unlink(missing_ok=True)
        for path in stage.outputs:
            _remove(root / path)
            remove_leftovers(root / path)  # half a prediction of other inputs, say
        return 0.0

    def _judge(self, stage: Stage, code: int, parts: dict[str, str], seconds: float) -> Ended:
        root = self._work.root
        if code and self._children.is_stopping:
            write_record(root, stage, Record("running", parts, seconds))
            return Ended(stage, "interrupted", "the same call goes on with it")
        missing = next((path for path in stage.outputs if not (root / path).exists()), None)
        fault = _told_code(code) if code else f"it made no {missing}" if missing else ""
        if not fault:
            for path in stage.outputs:
                remove_leftovers(root / path)
        write_record(root, stage, Record("failed" if fault else "done", parts, seconds))
        return Ended(stage, "failed" if fault else "done", fault, seconds)


def _told_code(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _stopping(children: Children) -> Iterator[None]:
    """While the block runs, a signal stops the children, and a second one ends them."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if not children.is_stopping:
            say("stopping: what runs saves what it can; a second signal ends it at once")
        children.stop(signal.SIGKILL if children.is_stopping else signal.SIGTERM)

    kept = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        children.stop()
        raise
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
