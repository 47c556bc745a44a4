"""How fast lists are found by one kind of scores and ordered by another.

    python bench/bench_lists.py [--segments N]

Scores of 200,000 segments x 1000 classes, float32, made up, in a temporary folder (3.2 GB with what
is written). Each part runs in a process of its own, from opening the folders to Scores on the disk:
`fuse` with the best segment of each video, `shortlist` of 4.85 %, and the same `fuse` searched on
23,779 rated pairs by such lists. Beside them, in the same run: copying the bytes that `shortlist`
reads and writes, in one thread, through numpy.memmap into one buffer and from it into a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench_ranking import NUM_CLASSES, NUM_RATED, peak_bytes, segment_table
from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.list_length import list_length
from whenabouts.core.scores import ScoresWriter, open_scores
from whenabouts.ensemble.fusion import FusionSettings, fuse
from whenabouts.ensemble.own_videos import own_video_scores
from whenabouts.ensemble.search import search_fusion
from whenabouts.ensemble.shortlist import shortlist

NUM_SEGMENTS = 200_000
ROWS_AT_ONCE = 10_000
LENGTH = list_length("4.85%")


def make(folder: Path, num_segments: int) -> None:
    segments, rng = segment_table(num_segments), np.random.default_rng(0)
    for name in ("order", "scores"):
        writer = ScoresWriter(folder / name, segments, ClassOrder.of(range(NUM_CLASSES)))
        for first in range(0, num_segments, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, num_segments - first)
            writer.write(first, rng.random((count, NUM_CLASSES), np.float32) ** 3)
        writer.commit({})


def fuse_with_best_segments(folder: Path) -> None:
    scores = open_scores(folder / "scores")
    fuse(scores, own_video_scores(scores), folder / "found", FusionSettings())


def list_them(folder: Path) -> None:
    order, found = (open_scores(folder / name) for name in ("order", "found"))
    shortlist(order, found, folder / "listed", LENGTH)


def search(folder: Path) -> None:
    scores = open_scores(folder / "scores")
    search_fusion(ratings(len(scores.segments)), scores, own_video_scores(scores), length=LENGTH)


def ratings(num_segments: int) -> SegmentLabels:
    """As many of the segments as the challenge rated of its own."""
    segments, rng = segment_table(num_segments), np.random.default_rng(1)
    num_rated = NUM_RATED * num_segments // 2_000_000
    rated = rng.choice(num_segments * NUM_CLASSES, num_rated, replace=False)
    rows, class_ids = np.divmod(rated, NUM_CLASSES)
    ids = segments.video_ids[segments.video[rows]]
    shows = (rng.random(num_rated) < 0.56).astype(np.float32)
    return segment_labels(ids, segments.starts_s[rows], class_ids, shows)


def copy(folder: Path) -> None:
    """The bytes of two Scores read, of one written."""
    buffer = np.empty((ROWS_AT_ONCE, NUM_CLASSES), np.float32)
    with (folder / "copied").open("wb") as out:
        for name in ("order", "found"):
            values = open_scores(folder / name).values
            for first in range(0, len(values), ROWS_AT_ONCE):
                rows = values[first : first + ROWS_AT_ONCE]
                np.copyto(buffer[: len(rows)], rows)
                if name == "found":
                    buffer[: len(rows)].tofile(out)
        out.flush()
        os.fsync(out.fileno())


PARTS = {part.__name__: part for part in (fuse_with_best_segments, list_them, search, copy)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=NUM_SEGMENTS)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        began_s = time.perf_counter()
        PARTS[args.part[0]](Path(args.part[1]))
        print(json.dumps({"s": time.perf_counter() - began_s, "peak_bytes": peak_bytes()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), args.segments)
        for name in PARTS:
            command = [sys.executable, __file__, "--part", name, folder]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            print(f"{name}: {told['s']:.1f} s, peak {told['peak_bytes'] / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
