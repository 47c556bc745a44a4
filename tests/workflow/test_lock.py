"""One call at a time: the lock of a folder, who holds it, and how long one waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from whenabouts.core.errors import StageError
from whenabouts.workflow import lock
from whenabouts.workflow.lock import is_locked, locked

GONE = 2**22 + 1  # above the largest number of a process on Linux


def test_it_is_held_for_the_block(tmp_path):
    assert not is_locked(tmp_path), "where there is no file yet"
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path), "and again"


def test_a_call_that_lives_is_not_waited_for(tmp_path):
    message = "another call is at work here"
    with (
        locked(tmp_path),
        pytest.raises(StageError, match=message),
        locked(tmp_path, patience_s=1000),
    ):
        pass


def test_a_child_holds_it_on(tmp_path, capsys):
    """What a call that is gone has started: waited for, and told of."""
    with locked(tmp_path) as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", "import sys; sys.stdin.read()"],
            pass_fds=(descriptor,), stdin=subprocess.PIPE,
        )  # fmt: skip
    (tmp_path / lock.NAME).write_text(f"{GONE}\n")
    assert is_locked(tmp_path)
    with pytest.raises(StageError, match="another call"), locked(tmp_path, patience_s=0.01):
        pass
    assert "waiting for what an earlier call has left running" in capsys.readouterr().err
    child.communicate(timeout=60)
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("kept", ["", "no number", f"{GONE}\n", "\x00"])
def test_what_the_file_says_does_not_matter_where_it_is_free(tmp_path, kept):
    (tmp_path / lock.NAME).write_text(kept)
    with locked(tmp_path):
        assert is_locked(tmp_path)
