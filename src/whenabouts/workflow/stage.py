"""Stage: some commands, what they read and what they make; and a graph of stages.

Paths are relative to the folder of the work, or absolute. A stage needs those stages that make what
it reads. Stages stand in an order in which each comes behind what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from whenabouts.core.errors import UsageError, suggest

Commands = tuple[tuple[str, ...], ...]
LateCommands = Callable[[Path, frozenset[Path]], Commands]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Stage:
    """A step of the work.

    commands: run one after another in one child; or, where they depend on what earlier stages
    found, a function that gives them when these have ended, from the folder of the work and which
    of `wanted` there are. inputs: must be there. wanted: read if the stages that make them, or made
    them before, ended well. stamped: inputs too large to be read each time, known by size and time
    of change. seconds, size_bytes: estimates.
    """

    name: str
    commands: Commands | LateCommands
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()
    wanted: tuple[Path, ...] = ()
    stamped: tuple[Path, ...] = ()
    seconds: float = 0.0
    size_bytes: float = 0.0

    def commands_in(self, root: Path, there: frozenset[Path]) -> Commands:
        return self.commands(root, there) if callable(self.commands) else self.commands


@dataclass(frozen=True)
class Graph:
    """stages, each behind those it needs; makers: which stage makes a path."""

    stages: tuple[Stage, ...]
    makers: dict[Path, str]

    def maker(self, path: Path) -> str | None:
        """The stage that makes this path, or a folder it is in; None if it is given."""
        return next((self.makers[p] for p in (path, *path.parents) if p in self.makers), None)

    def there(self, root: Path, stage: Stage, lost: Collection[str]) -> frozenset[Path]:
        """What there is of what the stage wants, but for what the stages in `lost` made before."""
        return frozenset(
            path for path in stage.wanted if (root / path).exists() and self.maker(path) not in lost
        )

    def needs(self, stage: Stage) -> frozenset[str]:
        """The stages without which this one cannot run."""
        return self._makers_of((*stage.inputs, *stage.stamped))

    def waits_for(self, stage: Stage) -> frozenset[str]:
        """The stages that must have ended, well or not, before this one may run."""
        return self.needs(stage) | self._makers_of(stage.wanted)

    def behind(self, names: frozenset[str]) -> frozenset[str]:
        """These stages and all that read what they make, directly or not."""
        found = set(names)
        for stage in self.stages:
            if self.waits_for(stage) & found:
                found.add(stage.name)
        return frozenset(found)

    def chosen(self, patterns: Sequence[str]) -> frozenset[str]:
        """The stages that the names or globs name. Raises UsageError for one that names none."""
        names = [stage.name for stage in self.stages]
        found: set[str] = set()
        for pattern in patterns:
            matches = [name for name in names if fnmatchcase(name, pattern)]
            if not matches:
                raise UsageError(f"no stage '{pattern}'", remedy=suggest(pattern, names))
            found.update(matches)
        return frozenset(found)

    def _makers_of(self, paths: Sequence[Path]) -> frozenset[str]:
        return frozenset(maker for path in paths if (maker := self.maker(path)))


def graph_of(stages: Sequence[Stage]) -> Graph:
    """Asserts what a plan must keep: names and outputs are unique, outputs lie in the folder of the
    work and none in another, and each stage stands behind those it needs."""
    makers: dict[Path, str] = {}
    for stage in stages:
        assert NAME.fullmatch(stage.name), f"'{stage.name}' is no name of a stage"
        for path in stage.outputs:
            assert path not in makers, f"two stages make {path}"
            makers[path] = stage.name
    assert len({s.name for s in stages}) == len(stages), "two stages have one name"
    graph = Graph(tuple(stages), makers)
    for path in makers:
        assert _is_inside(path), f"{path} is not in the folder of the work"
        assert graph.maker(path.parent) is None, f"{path} is made inside what another stage makes"
    for stage, earlier in zip(stages, _earlier(stages)):
        late = graph.waits_for(stage) - earlier
        assert not late, f"{stage.name} stands before {', '.join(sorted(late))}, which it needs"
    return graph


def _is_inside(path: Path) -> bool:
    return not path.is_absolute() and path != Path() and ".." not in path.parts


def _earlier(stages: Sequence[Stage]) -> Iterator[set[str]]:
    names: set[str] = set()
    for stage in stages:
        yield names
        names.add(stage.name)
