"""Children: their words, their logs, their codes, and how they are stopped."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from toy_child import LAUNCHER
from whenabouts.workflow.children import Children, last_lines
from workflow_call import wait_for


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(LAUNCHER, tmp_path)


def test_output_and_errors_go_to_the_log_behind_what_is_there(tmp_path, children):
    log = tmp_path / "logs" / "a.log"
    assert children.run((("say", "one"),), log, {}) == 0
    assert children.run((("say", "two"), ("no such verb",)), log, {}) == 1
    told = log.read_text()
    assert told.startswith("one\ntwo\n")
    assert "KeyError: 'no such verb'" in told


def test_words_of_any_kind_arrive(tmp_path, children):
    words = 'ö "quoted" \n $HOME \udcff' + "x" * 100_000
    children.run(
        (("say", "before"), ("write", "f", words.replace("\udcff", ""))), tmp_path / "l", {}
    )
    assert (tmp_path / "f").read_text() == words.replace("\udcff", "")


def test_a_child_that_does_not_read_its_words(tmp_path):
    deaf = Children(("/bin/sh", "-c", "exec <&-; exit 5"), tmp_path)
    assert deaf.run((("x" * 200_000,),), tmp_path / "l", {}) == 5


def test_stop_ends_what_runs_and_starts_no_more(tmp_path, children):
    codes: list[int] = []
    running = threading.Thread(
        target=lambda: codes.append(
            children.run((("write", "begun", "x"), ("sleep", "60")), tmp_path / "l", {})
        )
    )
    running.start()
    wait_for(tmp_path / "begun", "x")
    children.stop()
    running.join(30)
    assert codes == [-signal.SIGTERM]
    assert children.run((("write", "late", ""),), tmp_path / "l", {}) == -signal.SIGTERM
    assert not (tmp_path / "late").exists()


def test_stop_reaches_what_a_child_has_started(tmp_path):
    command = "sh -c 'echo $$ > inner; exec sleep 60' & wait"
    children = Children(("/bin/sh", "-c", command), tmp_path)
    running = threading.Thread(target=children.run, args=((), tmp_path / "l", {}))
    running.start()
    wait_for(tmp_path / "inner", "\n")
    inner = Path("/proc", (tmp_path / "inner").read_text().strip(), "stat")
    children.stop()
    running.join(30)
    until_s = time.monotonic() + 30
    while inner.exists() and inner.read_text().split()[2] != "Z":
        assert time.monotonic() < until_s, "it is still there"
        time.sleep(0.01)


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert last_lines(log, 3) == []
    log.write_bytes(b"\n".join(b"line %d" % k for k in range(100_000)) + b"\n\xff")
    assert last_lines(log, 3) == ["line 99998", "line 99999", "�"]
