from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from whenabouts.core.errors import RunError, ScoresError
from whenabouts.core.lock import FolderLock, alone_in

HOLD = """
import sys
from pathlib import Path
from whenabouts.core.errors import RunError
from whenabouts.core.lock import FolderLock

lock = FolderLock(Path(sys.argv[1]), RunError)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_held_by_one_and_free_again_behind_it(tmp_path: Path) -> None:
    with alone_in(tmp_path, RunError):
        with pytest.raises(ScoresError, match=f"{tmp_path}: another process is at work here; wait"):
            FolderLock(tmp_path, ScoresError)
        assert list(tmp_path.iterdir()) == []
    lock = FolderLock(tmp_path, ScoresError)
    lock.release()
    lock.release()
    FolderLock(tmp_path, ScoresError).release()


def test_it_is_free_where_its_holder_was_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="another process"):
            FolderLock(tmp_path, RunError)
        child.kill()
    FolderLock(tmp_path, RunError).release()


def test_a_block_that_fails_frees_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone_in(tmp_path, RunError):
        raise KeyError
    FolderLock(tmp_path, RunError).release()
