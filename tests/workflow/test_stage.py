"""Stages and their graph: who needs whom, and what a plan must keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from whenabouts.core.errors import UsageError
from whenabouts.workflow.stage import Graph, Stage, graph_of


def stage(name: str, *outputs: str, reads: tuple[str, ...] = (), **more: object) -> Stage:
    paths = tuple(Path(path) for path in reads)
    return Stage(name, (), tuple(map(Path, outputs)), paths, **more)  # type: ignore[arg-type]


@pytest.fixture
def diamond() -> Graph:
    """a -> b, c -> d; b reads a file inside a's folder; d only wants what c makes."""
    return graph_of(
        [
            stage("a", "made/a", reads=("given",)),
            stage("b", "b", reads=("made/a/deep/file",)),
            stage("c", "c1", "c2", reads=("made/a",)),
            stage("d", "d", reads=("b",), wanted=(Path("c2"),)),
        ]
    )


def test_who_needs_whom(diamond):
    a, b, c, d = diamond.stages
    assert [diamond.needs(s) for s in (a, b, c, d)] == [set(), {"a"}, {"a"}, {"b"}]
    assert diamond.waits_for(d) == {"b", "c"}
    assert diamond.maker(Path("made/a/x/y")) == "a"
    assert diamond.maker(Path("made")) is None
    assert diamond.maker(Path("given")) is None


def test_a_stamped_input_is_needed_too():
    graph = graph_of([stage("a", "a"), stage("b", "b", stamped=(Path("a"),))])
    assert graph.needs(graph.stages[1]) == {"a"}


def test_all_behind_some(diamond):
    assert diamond.behind(frozenset({"c"})) == {"c", "d"}
    assert diamond.behind(frozenset({"a"})) == {"a", "b", "c", "d"}
    assert diamond.behind(frozenset({"d"})) == {"d"}
    assert diamond.behind(frozenset()) == set()


def test_stages_are_chosen_by_name_and_by_glob():
    graph = graph_of([stage(name, name) for name in ("train.nl", "train.se", "v2.nl")])
    assert graph.chosen(["*.nl"]) == {"train.nl", "v2.nl"}
    assert graph.chosen(["train.se", "v2.*"]) == {"train.se", "v2.nl"}
    assert graph.chosen([]) == set()
    with pytest.raises(UsageError, match=r"no stage 'train\.see'; did you mean 'train\.se'"):
        graph.chosen(["v2.*", "train.see"])


def test_what_is_there_of_what_is_wanted(tmp_path, diamond):
    d = diamond.stages[-1]
    assert diamond.there(tmp_path, d, ()) == set()
    (tmp_path / "c2").touch()
    assert diamond.there(tmp_path, d, ("b",)) == {Path("c2")}
    assert diamond.there(tmp_path, d, ("c",)) == set(), "what c made before is out of date"


def test_commands_may_come_late(tmp_path):
    def late(root: Path, there: frozenset[Path]) -> tuple[tuple[str, ...], ...]:
        return ((str(root), *map(str, there)),)

    known = Stage("a", (("x",),), (Path("a"),))
    told = Stage("b", late, (Path("b"),))
    assert known.commands_in(tmp_path, frozenset()) == (("x",),)
    assert told.commands_in(tmp_path, frozenset({Path("y")})) == ((str(tmp_path), "y"),)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a", "x"), stage("a", "y")], "one name"),
        ([stage("a", "x"), stage("b", "x")], "two stages make x"),
        ([stage("a", "x"), stage("b", "x/y")], "made inside"),
        ([stage("b", "x/y/z"), stage("a", "x")], "made inside"),
        ([stage("b", "b", reads=("a",)), stage("a", "a")], "b stands before a"),
        ([stage("b", "b", wanted=(Path("a"),)), stage("a", "a")], "b stands before a"),
        ([stage("a", "a", reads=("a",))], "a stands before a"),
        ([stage("a", "/etc/x")], "not in the folder"),
        ([stage("a", "../x")], "not in the folder"),
        ([stage("a", "x/../../y")], "not in the folder"),
        ([stage("a", ".")], "not in the folder"),
        ([stage("../a", "x")], "is no name"),
        ([stage("a/b", "x")], "is no name"),
        ([stage("", "x")], "is no name"),
        ([stage(".a", "x")], "is no name"),
    ],
)
def test_a_plan_that_cannot_be(stages, message):
    with pytest.raises(AssertionError, match=message):
        graph_of(stages)
