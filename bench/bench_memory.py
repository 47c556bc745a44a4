"""Training streams: a corpus ten times larger than the memory it may use trains at the same speed.

    python bench/bench_memory.py [--quick]

`whenabouts train att2` runs three times on a made corpus ten times larger than the budget: with
the budget as the limit of a control group, which counts what the process allocates and the page
cache it fills; without a limit; and without a limit with the whole corpus in the page cache
before. The first two begin with none of it there. Nothing is read twice: the steps are less than
an epoch.

The limit needs a writable cgroup v1 memory controller (root). Elsewhere two runs without a limit,
on the corpus and on a tenth of it, tell what the process allocates in each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from whenabouts.corpus.made import MadeCorpus, make_corpus

WHENABOUTS = [sys.executable, "-m", "whenabouts"]
TIMES = 10  # how many times larger than the budget the corpus is
STRETCH = 20  # steps between two lines of the log
POLL_S = 0.05
READ_AT_ONCE = 1 << 24
MADE = MadeCorpus(
    num_train=0,
    num_validate=200,
    num_test=0,
    num_classes=1200,
    num_rated_classes=1000,
    min_frames=300,
    max_frames=300,
    videos_per_shard=500,
)


@dataclass(frozen=True)
class Plan:
    """Budget, steps of the pre-training, and videos a step."""

    budget_bytes: int = 600_000_000
    num_steps: int = 120
    batch_size: int = 32
    scale: str = "small"

    @property
    def corpus(self) -> MadeCorpus:
        """The made corpus, with so many train videos that it is TIMES larger than the budget."""
        video_bytes = MADE.max_frames * MADE.width
        return replace(MADE, num_train=TIMES * self.budget_bytes // video_bytes)


QUICK = replace(Plan(), budget_bytes=450_000_000, num_steps=60, batch_size=8, scale="tiny")


@dataclass(frozen=True)
class Trained:
    """Seconds of a step (median over the stretches of the log), and peaks of resident memory."""

    step_s: float
    step_s_range: tuple[float, float]
    peak_anonymous_bytes: int
    peak_file_bytes: int


def streaming(folder: Path, plan: Plan) -> dict[str, Any]:
    """What the runs tell; see the head of this file."""
    corpus, index_path = folder / "large", folder / "large.index"
    make_corpus(corpus, plan.corpus, os.cpu_count() or 1)
    corpus_bytes = _index(sorted(corpus.rglob("*.tfrecord")), corpus, index_path)
    told: dict[str, Any] = {"corpus_bytes": corpus_bytes, "budget_bytes": plan.budget_bytes}
    with _memory_group(plan.budget_bytes) as group:
        if group is None:
            return told | _without_limit(corpus, index_path, folder, plan)
        _forget(corpus)
        capped = _train(index_path, folder / "capped", plan, group)
        told["capped_peak_bytes"] = int((group / "memory.max_usage_in_bytes").read_text())
    _forget(corpus)
    free = _train(index_path, folder / "free", plan)
    _read(corpus)
    cached = _train(index_path, folder / "cached", plan)
    return told | {
        "capped": vars(capped),
        "free": vars(free),
        "cached": vars(cached),
        "capped_over_free": capped.step_s / free.step_s,
        "capped_over_cached": capped.step_s / cached.step_s,
    }


def _without_limit(corpus: Path, index_path: Path, folder: Path, plan: Plan) -> dict[str, Any]:
    small_path, shards = folder / "small.index", sorted(corpus.rglob("train/*.tfrecord"))
    validate = sorted(corpus.rglob("validate/*.tfrecord"))
    _index([*shards[: len(shards) // TIMES], *validate], corpus, small_path)
    runs = {
        name: _train(path, folder / name, plan)
        for name, path in (("a_tenth", small_path), ("free", index_path))
    }
    peaks = [run.peak_anonymous_bytes for run in runs.values()]
    return {name: vars(run) for name, run in runs.items()} | {
        "anonymous_bytes_over_a_tenth": peaks[1] / peaks[0]
    }


def _index(shards: Sequence[Path], corpus: Path, index_path: Path) -> int:
    """Index the shards; returns their bytes."""
    flags = ["--classes", str(corpus / "segment_label_ids.csv"), "-o", str(index_path), "--json"]
    command = [*WHENABOUTS, "index", *(str(path) for path in shards), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sum(path.stat().st_size for path in shards)


# ---- one training, and what it holds -------------------------------------------------------------


def _train(index_path: Path, run: Path, plan: Plan, group: Path | None = None) -> Trained:
    """Pre-train for the plan's steps (and fine-tune for one), in the control group if given."""
    flags = {
        "--scale": plan.scale,
        "--strategy.pretrain.batch-size": plan.batch_size,
        "--strategy.pretrain.max-steps": plan.num_steps,
        "--strategy.pretrain.evaluate-every": STRETCH,
        "--strategy.pretrain.patience": plan.num_steps,
        "--loop.max-steps": 1,
        "--device": "cpu",
    }
    words = [word for flag in flags.items() for word in map(str, flag)]
    command = [*WHENABOUTS, "train", "att2", str(index_path), "-o", str(run), *words, "--json"]
    held = peaks(command if group is None else _inside(group, command))
    entries = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8")]
    stretches = [e for e in entries if e["kind"] == "train" and e["phase"] == "pretrain"]
    times = [plan.batch_size / e["segments_per_s"] for e in stretches[1:]]
    return Trained(median(times), (min(times), max(times)), *held)


def _inside(group: Path, command: Sequence[str]) -> list[str]:
    """The command, entering the control group before it begins."""
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    return ["/bin/sh", "-c", enter, str(group), *command]


def peaks(command: Sequence[str]) -> tuple[int, int]:
    """Run the command; largest (anonymous, file) resident bytes seen while it ran."""
    anonymous = file = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = _resident_bytes(process.pid)
            anonymous, file = max(anonymous, held[0]), max(file, held[1])
            time.sleep(POLL_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return anonymous, file


def _resident_bytes(pid: int) -> tuple[int, int]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    values = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return int(values.get("RssAnon", 0)) * 1024, int(values.get("RssFile", 0)) * 1024


@contextmanager
def _memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """A control group with this limit inside the one we are in; None where that cannot be."""
    try:
        group = _own_group() / f"whenabouts-bench-{os.getpid()}"
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes), encoding="ascii")
        yield group
    finally:
        group.rmdir()


def _own_group() -> Path:
    """Folder of our memory control group; raises OSError where there is no cgroup v1."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    raise FileNotFoundError("no memory controller of cgroup v1")


def _forget(corpus: Path) -> None:
    """Take the shards out of the page cache."""
    for path in corpus.rglob("*.tfrecord"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on the disk yet would stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(corpus: Path) -> None:
    """Fill the page cache with the shards, as far as they fit."""
    for path in corpus.rglob("*.tfrecord"):
        with path.open("rb") as file:
            while file.read(READ_AT_ONCE):
                pass


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = streaming(Path(folder), QUICK if "--quick" in sys.argv else Plan())
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
