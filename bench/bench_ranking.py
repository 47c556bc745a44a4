"""How fast rankings of the size of the YouTube-8M challenge are written and evaluated.

    python bench/bench_ranking.py

Everything is made up and lies in a temporary folder (up to 2 GB). What is measured runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import read_labels, segment_labels, write_labels
from whenabouts.core.segments import SegmentTable
from whenabouts.metrics.segment_map import evaluate_submission
from whenabouts.submission import write_submission

NUM_CLASSES, NUM_VIDEOS, NUM_RATED, LIST_LENGTH = 1000, 44_739, 237_788, 100_000
NUM_SCORED = 200_000
ROWS_AT_ONCE = 10_000


class Measured(NamedTuple):
    seconds: float
    peak_bytes: int


def evaluate_submission_seconds() -> Measured:
    """`evaluate_submission` of 1000 lists of 100,000 segments against 237,788 rated pairs."""
    return _measured("make_submission", "evaluate")


def submit_seconds() -> Measured:
    """`write_submission` of float32 scores of 200,000 segments in 1000 classes, mapped."""
    return _measured("make_scores", "submit")


def _measured(make: str, work: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        for step in (make, work):
            command = [sys.executable, __file__, step, folder]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Measured(*json.loads(output))


def segment_table(num_segments: int) -> SegmentTable:
    """Videos of four-letter ids, each with the starts 0, 5, .., 295 until there are enough."""
    ids = np.array([np.base_repr(46656 + v, 36).encode() for v in range(NUM_VIDEOS)])
    video, start = np.divmod(np.arange(num_segments), 60)
    return SegmentTable(ids, video, start * 5)


def make_submission(folder: Path) -> None:
    rng = np.random.default_rng(0)
    segments = segment_table(NUM_VIDEOS * 46)
    names = np.char.add(segments.video_ids[segments.video], b":")
    tokens = np.char.add(names, segments.starts_s.astype("S3"))
    rated = rng.choice(len(segments) * NUM_CLASSES, NUM_RATED, replace=False)
    rows, class_ids = np.divmod(rated, NUM_CLASSES)
    truth = segment_labels(
        segments.video_ids[segments.video[rows]],
        segments.starts_s[rows],
        class_ids,
        (rng.random(NUM_RATED) < 0.56).astype(np.float32),
    )
    write_labels(folder / "truth.parquet", truth)
    with (folder / "submission.csv").open("wb") as file:
        file.write(b"Class,Segments\n")
        for class_id in range(NUM_CLASSES):
            listed = _some_of_all_rated(rng, len(segments), rows[class_ids == class_id])
            file.write(b"%d,%b\n" % (class_id, b" ".join(tokens[listed].tolist())))


def _some_of_all_rated(
    rng: np.random.Generator, num_segments: int, rated: NDArray[np.int64]
) -> NDArray[np.int64]:
    others = rng.choice(num_segments, LIST_LENGTH, replace=False)
    listed = np.unique(np.concatenate((rated, others)))
    return rng.permutation(np.setdiff1d(listed, others[: len(listed) - LIST_LENGTH]))


def make_scores(folder: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (NUM_SCORED, NUM_CLASSES)
    values = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.dtype(np.float32), shape)
    for first in range(0, NUM_SCORED, ROWS_AT_ONCE):
        values[first : first + ROWS_AT_ONCE] = rng.random((ROWS_AT_ONCE, NUM_CLASSES), np.float32)


def evaluate(folder: Path) -> None:
    truth = read_labels(folder / "truth.parquet")
    _report(lambda: evaluate_submission(truth, folder / "submission.csv"))


def submit(folder: Path) -> None:
    values = np.load(folder / "scores.npy", mmap_mode="r")
    segments, classes = segment_table(NUM_SCORED), ClassOrder.of(range(NUM_CLASSES))
    _report(lambda: write_submission(folder / "submission.csv", segments, classes, values))


def _report(work: Callable[[], object]) -> None:
    began_s = time.perf_counter()
    work()
    seconds = time.perf_counter() - began_s
    print(json.dumps([seconds, peak_bytes()]))


def peak_bytes() -> int:
    """Peak memory of this process (Linux). `getrusage` would count that of its parent too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak_kib) * 1024


STEPS = {step.__name__: step for step in (make_submission, make_scores, evaluate, submit)}


def main() -> None:
    for name, bench in (("evaluate", evaluate_submission_seconds), ("submit", submit_seconds)):
        seconds, peak_bytes = bench()
        print(f"{name}: {seconds:.1f} s, peak {peak_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:]:
        STEPS[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
