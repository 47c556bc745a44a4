"""The engine on stages that take a moment: what runs, in which order, and what is left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from toy_child import LAUNCHER
from whenabouts.core.errors import StageError
from whenabouts.workflow.engine import Ended, Work, run_stages
from whenabouts.workflow.lock import locked
from whenabouts.workflow.stage import Commands, Stage, graph_of

Words = tuple[str, ...]


def stage(name: str, *commands: Words, reads: Words = (), makes: Words = (), **more) -> Stage:
    outputs = tuple(Path(path) for path in makes or (name,))
    return Stage(name, commands, outputs, tuple(map(Path, reads)), **more)


def writes(name: str, text: str = "", **more) -> Stage:
    """A stage that writes its name to a file, and to the list of what ran."""
    return stage(name, ("append", "ran", f"{name} "), ("write", name, text or name), **more)


def joins(name: str, *reads: str) -> Stage:
    return stage(name, ("append", "ran", f"{name} "), ("cat", name, *reads), reads=reads)


class World:
    """A folder of work, and runs in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, Work(root, LAUNCHER, "1")

    def run(self, *stages: Stage, only: Words = ("*",), anew: Words = ()) -> dict[str, str]:
        """How each stage ended."""
        return {
            name: ended.how for name, ended in self.ended(*stages, only=only, anew=anew).items()
        }

    def ended(self, *stages: Stage, only: Words = ("*",), anew: Words = ()) -> dict[str, Ended]:
        graph = graph_of(stages)
        return run_stages(graph, self.work, graph.chosen(only), graph.chosen(anew))

    def ran(self) -> list[str]:
        """What has run since the last look."""
        path = self.root / "ran"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def text(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "work")


CHAIN = (writes("a"), joins("b", "a"), writes("c"), joins("d", "b", "c"))


def test_each_runs_behind_what_it_needs(world):
    assert set(world.run(*CHAIN).values()) == {"done"}
    assert world.ran() == ["a", "b", "c", "d"]
    assert world.text("d") == "ac"


def test_what_is_up_to_date_is_skipped(world):
    first = world.ended(*CHAIN)
    world.ran()
    again = world.ended(*CHAIN)
    assert {e.how for e in again.values()} == {"up to date"}
    assert world.ran() == []
    assert {n: e.seconds for n, e in again.items()} == {n: e.seconds for n, e in first.items()}
    assert all(e.seconds > 0 for e in first.values())


def test_other_words_run_again_and_so_does_what_reads_the_change(world):
    world.run(*CHAIN)
    world.ran()
    changed = (writes("a", "A"), *CHAIN[1:])
    assert world.run(*changed) == {"a": "done", "b": "done", "c": "up to date", "d": "done"}
    assert world.text("d") == "Ac"


def test_the_same_bytes_again_end_there(world):
    world.run(*CHAIN)
    world.ran()
    same = (stage("a", ("append", "ran", "a2 "), ("write", "a", "a")), *CHAIN[1:])
    assert list(world.run(*same).values()) == ["done", *["up to date"] * 3]
    assert world.ran() == ["a2"]


def test_other_bytes_of_a_given_file_are_noticed(world):
    world.root.mkdir()
    (world.root / "given").write_text("1")
    reads = joins("a", "given")
    assert world.run(reads) == {"a": "done"}
    assert world.run(reads) == {"a": "up to date"}
    (world.root / "given").write_text("2")
    assert world.run(reads) == {"a": "done"}
    assert world.text("a") == "2"


def test_what_a_killed_attempt_left_beside_goes_where_inputs_have_changed(world):
    """Half a prediction of the features of before must not be gone on with."""
    world.root.mkdir()
    (world.root / "given").write_text("1")
    reads, half = joins("a", "given"), world.root / ".a.partial"
    assert world.run(reads) == {"a": "done"}
    half.mkdir()
    (half / "rows").write_text("of 1")
    (world.root / "given").write_text("2")
    (world.root / ".b.partial").mkdir()
    assert world.run(reads) == {"a": "done"}
    assert not half.exists()
    assert (world.root / ".b.partial").exists(), "of another stage"


def test_a_fault_in_a_stages_own_commands_ends_that_stage_alone(world):
    def broken(root: Path, there: frozenset[Path]) -> Commands:
        raise KeyError("members")

    ended = world.ended(Stage("late", broken, (Path("late"),)), writes("a"))
    assert {name: each.how for name, each in ended.items()} == {"late": "failed", "a": "done"}
    assert ended["late"].why == "KeyError: 'members'"


def test_a_folder_is_begun_only_by_the_call_that_holds_it(world):
    begun = []
    graph = graph_of([writes("a")])
    world.root.mkdir()
    with locked(world.root), pytest.raises(StageError, match="another call is at work here"):
        run_stages(graph, world.work, graph.chosen(["*"]), on_begin=lambda: begun.append(1))
    assert begun == []
    run_stages(graph, world.work, graph.chosen(["*"]), on_begin=lambda: begun.append(2))
    assert begun == [2]


def test_a_stamped_file_is_known_by_size_and_time(world):
    world.root.mkdir()
    given = world.root / "given"
    given.write_text("1")
    reads = writes("a", stamped=(Path("given"),))
    world.run(reads)
    status = given.stat()
    given.write_text("2")
    os.utime(given, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert world.run(reads) == {"a": "up to date"}
    given.touch()
    assert world.run(reads) == {"a": "done"}


def test_another_version_does_all_anew(world):
    world.run(*CHAIN)
    world.work = replace(world.work, version="2")
    world.ran()
    assert set(world.run(*CHAIN).values()) == {"done"}


def test_what_is_missing_is_made_again_from_nothing(world):
    two = stage("a", ("append", "x", "x"), ("append", "y", "y"), makes=("x", "y"))
    world.run(two)
    (world.root / "y").unlink()
    assert world.run(two) == {"a": "done"}
    assert (world.text("x"), world.text("y")) == ("x", "y")


# ---- choices -------------------------------------------------------------------------------------


def test_only_some(world):
    assert world.run(*CHAIN, only=("a", "c")) == {"a": "done", "c": "done"}
    assert world.run(*CHAIN, only=("b",)) == {"b": "done"}
    assert sorted(world.ran()) == ["a", "b", "c"]


def test_only_some_that_lack_their_inputs(world, capsys):
    ended = world.ended(*CHAIN, only=("b", "c"))
    assert (ended["b"].how, ended["c"].how) == ("failed", "done")
    assert ended["b"].why == "a is not there: a makes it"
    assert "b failed: a is not there: a makes it" in capsys.readouterr().err


def test_what_nobody_makes_must_be_there(world):
    assert world.ended(joins("a", "given"))["a"].why == "given is not there"
    assert world.ended(writes("a", stamped=(Path("x"),)))["a"].why == "x is not there"


def test_asked_for_anew_begins_from_nothing(world):
    counts = stage("a", ("append", "a", "x"))
    world.run(counts)
    assert world.run(counts, anew=("a",)) == {"a": "done"}
    assert world.text("a") == "x", "what was there is removed first"


def test_asked_for_anew_forgets_a_failed_attempt_too(world):
    world.run(stage("a", ("append", "a", "x"), ("fail", "1")))
    again = stage("a", ("append", "a", "x"), ("fail", "1"))
    assert world.run(again, anew=("a",)) == {"a": "failed"}
    assert world.text("a") == "x"


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_failed_stage_stops_those_that_need_it_and_no_others(world, capsys):
    fails = stage("b", ("say", "the reason"), ("fail", "3"), reads=("a",))
    stages = (CHAIN[0], fails, CHAIN[2], CHAIN[3], joins("e", "d"))
    ended = world.ended(*stages)
    endings = {name: each.how for name, each in ended.items()}
    assert endings == {"a": "done", "b": "failed", "c": "done", "d": "blocked", "e": "blocked"}
    assert (ended["b"].why, ended["d"].why, ended["e"].why) == (
        "exit code 3", "it needs b", "it needs d",
    )  # fmt: skip
    told = capsys.readouterr().err
    assert "b failed: exit code 3\n    the reason\n" in told
    assert world.run(*CHAIN) == {"a": "up to date", "b": "done", "c": "up to date", "d": "done"}


def test_a_failed_stage_is_tried_again_on_what_it_left(world):
    fails = stage("a", ("append", "a", "x"), ("fail", "1"))
    assert world.run(fails) == {"a": "failed"}
    assert world.run(fails) == {"a": "failed"}
    assert world.text("a") == "xx"
    assert world.run(stage("a", ("append", "a", "y"))) == {"a": "done"}
    assert world.text("a") == "y", "with other words it begins from nothing"


def test_a_child_that_is_killed(world):
    assert world.ended(stage("a", ("die",)))["a"].why == "ended by SIGKILL"


def test_a_stage_that_makes_nothing_has_failed(world):
    assert world.ended(stage("a", ("say", "x")))["a"].why == "it made no a"
    assert world.run(writes("a")) == {"a": "done"}


def test_the_first_command_that_fails_is_the_last(world):
    ended = world.ended(stage("a", ("write", "a", ""), ("fail", "2"), ("write", "b", "")))
    assert ended["a"].why == "exit code 2"
    assert not (world.root / "b").exists()


def test_a_child_that_cannot_be_started(world):
    world.work = replace(world.work, launcher=("/no/such/program",))
    assert "No such file" in world.ended(writes("a"))["a"].why


@pytest.mark.parametrize("hostile", ["", "{}", "no json", '{"format": 1, "state": "done"}'])
def test_a_damaged_record_means_to_begin_from_nothing(world, hostile):
    counts = stage("a", ("append", "a", "x"))
    world.run(counts)
    (world.root / "stages" / "a.json").write_text(hostile)
    assert world.run(counts) == {"a": "done"}
    assert world.text("a") == "x"


def test_a_record_of_another_stage_does_not_count(world):
    world.run(writes("a"), writes("b"))
    kept = world.root / "stages"
    (kept / "a.json").write_bytes((kept / "b.json").read_bytes())
    assert world.run(writes("a"), writes("b")) == {"a": "done", "b": "up to date"}


def test_outputs_that_are_links_are_removed_not_followed(world, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("p")
    world.root.mkdir()
    (world.root / "a").symlink_to(tmp_path / "precious")
    assert world.run(writes("a")) == {"a": "done"}
    assert (tmp_path / "precious" / "file").read_text() == "p"


def test_a_killed_stage_is_gone_on_with(world):
    counts = stage("a", ("append", "a", "x"), ("append", "log", "l"))
    world.run(counts)
    path = world.root / "stages" / "a.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "state": "running", "seconds": 100.0}))
    ended = world.ended(counts)["a"]
    assert ended.how == "done"
    assert world.text("a") == "xx", "what it left is still there"
    assert ended.seconds > 100, "and the time it took counts"


def test_the_time_of_an_attempt_that_failed_does_not_count(world):
    counts = stage("a", ("append", "a", "x"))
    world.run(counts)
    path = world.root / "stages" / "a.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "state": "failed", "seconds": 100.0}))
    ended = world.ended(counts)["a"]
    assert (ended.how, world.text("a")) == ("done", "xx")
    assert ended.seconds < 100


def test_what_killed_attempts_left_half_written_is_gone_in_the_end(world):
    leftovers = (("write", ".a.partial-1", ""), ("write", ".b.partial-1", ""))
    assert world.run(stage("a", *leftovers, ("write", "a", ""))) == {"a": "done"}
    assert not (world.root / ".a.partial-1").exists()
    assert (world.root / ".b.partial-1").exists(), "another stage may be writing it"


def test_stale_leftovers_are_gone_before_the_new_attempt_is_noted(world):
    """Killed between the two, the next call must not take the old attempt's files for its own."""
    world.run(stage("a", ("append", "a", "old")))
    world.work = replace(world.work, launcher=("/no/such/program",))
    world.run(stage("a", ("append", "a", "new")))
    world.work = replace(world.work, launcher=LAUNCHER)
    world.run(stage("a", ("append", "a", "new")))
    assert world.text("a") == "new"


# ---- what is wanted, and commands that come late -------------------------------------------------


def late(root: Path, there: frozenset[Path]) -> Commands:
    names = sorted(map(str, there))
    if not names:
        raise StageError("nothing to join", where=root.name)
    return (("cat", "all", *names),)


def joined(*members: Stage) -> tuple[Stage, ...]:
    wanted = tuple(Path(m.name) for m in members)
    return (*members, Stage("all", late, (Path("all"),), wanted=wanted))


def test_what_is_wanted_may_be_missing(world):
    members = (writes("a"), stage("b", ("fail", "1")), writes("c"))
    assert world.run(*joined(*members)) == {"a": "done", "b": "failed", "c": "done", "all": "done"}
    assert world.text("all") == "ac"
    members = (writes("a"), writes("b"), writes("c"))
    assert world.run(*joined(*members))["all"] == "done"
    assert world.text("all") == "abc"
    assert world.run(*joined(*members))["all"] == "up to date"


def test_what_a_lost_stage_made_before_is_not_used(world):
    world.run(*joined(writes("a"), writes("b")))
    fails = stage("b", ("write", "b", "half"), ("fail", "1"))
    assert world.run(*joined(writes("a"), fails))["all"] == "done"
    assert world.text("all") == "a"


def test_what_is_not_chosen_and_there_is_used(world):
    stages = joined(writes("a"), writes("b"), writes("c"))
    world.run(*stages, only=("a", "b"))
    assert world.run(*stages, only=("all",)) == {"all": "done"}
    assert world.text("all") == "ab"


def test_commands_that_cannot_be_made_fail_the_stage(world):
    stages = joined(stage("a", ("fail", "1")))
    ended = world.ended(*stages)["all"]
    assert (ended.how, ended.why) == ("failed", "work: nothing to join")


# ---- side by side --------------------------------------------------------------------------------


def test_independent_stages_run_side_by_side(world):
    pair = (
        stage("a", ("meet", "a", "b")),
        stage("b", ("meet", "b", "a")),
    )
    world.work = replace(world.work, environments=({}, {}))
    assert set(world.run(*pair).values()) == {"done"}


def test_no_more_than_so_many_at_once(world):
    """Each of three notes how many are at work with it."""
    names = ("a", "b", "c")
    busy = (("append", "busy", "+"), ("sleep", "0.1"), ("append", "busy", "-"))
    stages = [stage(name, *busy, ("write", name, "")) for name in names]
    world.work = replace(world.work, environments=({}, {}))
    world.run(*stages)
    depth = [0]
    for sign in world.text("busy"):
        depth.append(depth[-1] + (1 if sign == "+" else -1))
    assert max(depth) == 2


def test_each_job_has_its_environment(world, monkeypatch):
    monkeypatch.setenv("SHARED", "s")
    stages = [
        stage(n, ("env", f"{n}.slot", "SLOT"), ("env", f"{n}.shared", "SHARED"), ("meet", n, other),
              makes=(n, f"{n}.slot", f"{n}.shared"))
        for n, other in (("a", "b"), ("b", "a"))
    ]  # fmt: skip
    world.work = replace(world.work, environments=({"SLOT": "1"}, {"SLOT": "2"}))
    assert set(world.run(*stages).values()) == {"done"}
    assert {world.text("a.slot"), world.text("b.slot")} == {"1", "2"}
    assert world.text("a.shared") == "s"


def test_logs_are_kept_a_stage(world):
    world.run(stage("a", ("say", "hello"), ("write", "a", "")))
    log = world.root / "logs" / "a.log"
    assert log.read_text() == "hello\n"
    world.run(stage("a", ("say", "again"), ("write", "a", "")))
    assert log.read_text() == "again\n", "begun from nothing, so is the log"


def test_progress_is_told(world, capsys):
    world.run(*CHAIN[:2])
    told = capsys.readouterr().err
    assert "a begins (not done yet)\n" in told
    assert "[1/2] a done in 0 s\n" in told
    assert "[2/2] b done in 0 s\n" in told
    world.run(*CHAIN[:2])
    assert capsys.readouterr().err == "", "nothing to do, nothing to say"


# ---- one call at a time --------------------------------------------------------------------------


@pytest.fixture
def other_call(world: World) -> Iterator[None]:
    world.root.mkdir()
    with locked(world.root):
        yield


@pytest.mark.usefixtures("other_call")
def test_two_calls_in_one_folder(world):
    with pytest.raises(StageError, match="another call is at work here; wait for it"):
        world.run(*CHAIN)
    assert world.ran() == []
