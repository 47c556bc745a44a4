"""A call that runs a small graph in a process of its own, so that it can be stopped and killed.

workflow_call.py ROOT JOBS STEPS
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from toy_child import LAUNCHER
from whenabouts.workflow.engine import Work, run_stages
from whenabouts.workflow.stage import Stage, graph_of

COUNTERS = ("a", "b", "c")


def start_call(root: Path, jobs: int = 2, steps: int = 10) -> subprocess.Popen[str]:
    """The call, with a session of its own: a signal to it reaches nobody else."""
    words = [sys.executable, __file__, str(root), str(jobs), str(steps)]
    return subprocess.Popen(
        words, start_new_session=True, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def wait_for(path: Path, text: str = "") -> None:
    """Until there is a file, and the text in it."""
    until_s = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until_s, f"{path} never came"
        time.sleep(0.005)


def made(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in (*COUNTERS, "all")}


def kill(call: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    os.kill(call.pid, number)
    code = call.wait(60)
    for stream in (call.stdout, call.stderr):
        assert stream is not None
        stream.close()
    return code


def main(root: Path, jobs: int, steps: int) -> int:
    """Two counters, then a third, then all of them together."""
    counters = [
        Stage(
            name,
            (*[("stubborn",)] * (steps > 1000), ("steps", name, str(steps))),
            (Path(name),),
            (Path("a"),) if name == "c" else (),
        )
        for name in COUNTERS
    ]
    together = Stage(
        "all", (("cat", "all", *COUNTERS),), (Path("all"),), tuple(map(Path, COUNTERS))
    )
    graph = graph_of([*counters, together])
    work = Work(root, LAUNCHER, "1", ({},) * jobs)
    ended = run_stages(graph, work, graph.chosen(["*"]))
    print({name: each.how for name, each in ended.items()}, flush=True)
    return 0 if all(each.is_well for each in ended.values()) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
