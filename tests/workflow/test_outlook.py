"""What a call would do and how far earlier ones came, told without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from toy_child import LAUNCHER
from whenabouts.core.errors import StageError
from whenabouts.workflow.engine import Work, run_stages
from whenabouts.workflow.lock import locked
from whenabouts.workflow.outlook import Outlook, outlook, size_of
from whenabouts.workflow.stage import Graph, Stage, graph_of


def writes(name: str, text: str = "", reads: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name, (("write", name, text or name),), (Path(name),), tuple(map(Path, reads)),
        seconds=100.0, size_bytes=1e6,
    )  # fmt: skip


CHAIN = graph_of([writes("a"), writes("b", reads=("a",)), writes("c", reads=("b",)), writes("d")])


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path, LAUNCHER, "1")


def look(work: Work, graph: Graph = CHAIN, anew: tuple[str, ...] = ()) -> dict[str, Outlook]:
    chosen = graph.chosen(["*"])
    return {each.stage.name: each for each in outlook(graph, work, chosen, graph.chosen(anew))}


def whys(work: Work, graph: Graph = CHAIN, anew: tuple[str, ...] = ()) -> list[str]:
    return [each.why for each in look(work, graph, anew).values()]


def test_before_anything(work):
    found = look(work)
    assert {each.why for each in found.values()} == {"not done yet"}
    assert {each.standing for each in found.values()} == {"to do"}
    assert (found["a"].seconds, found["a"].size_bytes, found["a"].spent_s) == (100.0, 1e6, 0.0)
    assert list(work.root.iterdir()) == [], "to look leaves no trace"


def test_when_all_is_done_it_is_measured(work):
    run_stages(CHAIN, work, CHAIN.chosen(["*"]))
    found = look(work)
    assert {(each.why, each.standing) for each in found.values()} == {("", "done")}
    assert found["a"].size_bytes == 1
    assert 0 < found["a"].seconds == found["a"].spent_s < 60


def test_what_earlier_stages_would_change_runs_too(work):
    run_stages(CHAIN, work, CHAIN.chosen(["*"]))
    changed = graph_of([writes("a", "A"), *CHAIN.stages[1:]])
    assert whys(work, changed) == ["settings changed", "a runs before it", "b runs before it", ""]
    assert whys(work, anew=("b",)) == ["", "asked for anew", "b runs before it", ""]
    assert whys(replace(work, version="2"))[::3] == ["version changed"] * 2


def test_it_says_what_then_happens(work):
    run_stages(CHAIN, work, CHAIN.chosen(["*"]))
    (work.root / "b").write_text("other")
    told = {name for name, each in look(work).items() if each.why}
    ended = run_stages(CHAIN, work, CHAIN.chosen(["*"]))
    assert told == {name for name, each in ended.items() if each.how == "done"} == {"c"}


@pytest.mark.parametrize(("state", "standing"), [("running", "interrupted"), ("failed", "failed")])
def test_how_a_stage_stands(work, state, standing):
    run_stages(CHAIN, work, CHAIN.chosen(["*"]))
    path = work.root / "stages" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": state}))
    assert look(work)["a"].standing == standing
    with locked(work.root):
        assert look(work)["a"].standing == ("running" if state == "running" else "failed")


def test_commands_that_cannot_be_made_yet(work):
    def late(root: Path, there: frozenset[Path]) -> tuple[tuple[str, ...], ...]:
        if there:
            return (("cat", "e", *map(str, there)),)
        raise StageError("nothing there")

    graph = graph_of([writes("a"), Stage("e", late, (Path("e"),), wanted=(Path("a"),))])
    assert whys(work, graph) == ["not done yet", "not done yet"]
    run_stages(graph, work, graph.chosen(["*"]))
    assert whys(work, graph) == ["", ""]
    (work.root / "a").unlink()
    assert whys(work, graph) == ["a is missing", "a runs before it"]
    only = outlook(graph, work, frozenset({"e"}))
    assert [each.why for each in only] == ["nothing there"]


def test_size_of_files_and_folders(tmp_path):
    (tmp_path / "f" / "deep").mkdir(parents=True)
    (tmp_path / "f" / "x").write_bytes(b"123")
    (tmp_path / "f" / "deep" / "y").write_bytes(b"4567")
    assert size_of(tmp_path / "f") == 7
    assert size_of(tmp_path / "f" / "x") == 3
    assert size_of(tmp_path / "gone") == 0
