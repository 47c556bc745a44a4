"""How fast 20 Scores become one submission: mean, fusion with video scores, ranking, the file.

    python bench/bench_ensemble.py [--segments N]

The members are made up (float16, 200,000 segments x 1000 classes, most scores small: 8 GB in a
temporary folder). What is counted is all of `submit_ensemble`, from opening the folders to the CSV
with 100,000 segments a class on the disk, in a process of its own, against copying the bytes that
it must read (members and video scores) through numpy.memmap into one buffer, in the same run and
in one thread. Twice: `cold`, where the files' pages are dropped first and the copy is as fast as
the disk; and `warm`, where the page cache holds them and it is as fast as the memory. The published
ensembles at full size (82 GB) are the cold case on any machine with less memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_ranking import NUM_CLASSES, peak_bytes, segment_table
from whenabouts.core.classes import ClassOrder
from whenabouts.core.scores import ScoresWriter, open_scores
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.core.threads import map_in_order
from whenabouts.ensemble.fusion import Exponents, FusionSettings
from whenabouts.ensemble.mean import EnsembleSettings
from whenabouts.ensemble.members import match_members
from whenabouts.ensemble.one_pass import WithVideos, submit_ensemble

NUM_MEMBERS, NUM_SEGMENTS = 20, 200_000
ROWS_AT_ONCE = 2000
BITS = 1 << 16


def ensemble_rates(num_segments: int = NUM_SEGMENTS) -> dict[str, Any]:
    """Seconds, bytes and rates of both cases; share: rate of the whole work / rate of the copy.

    cpu_s: of all threads; where other work keeps the cores from this, seconds say little, and half
    of cpu_s is what two free cores could not do it in less than.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_members(folder, num_segments)
        num_bytes = sum(path.stat().st_size for path in score_files(folder))
        return {
            "read_bytes": num_bytes,
            "cold": _case(folder, num_bytes, is_cold=True),
            "warm": _case(folder, num_bytes, is_cold=False),
        }


def _case(folder: Path, num_bytes: int, *, is_cold: bool) -> dict[str, float]:
    """The copy before and after the work: the faster one counts."""
    copies_s = [_told(folder, "copy", is_cold)["seconds"]]
    work = _told(folder, "work", is_cold)
    copies_s.append(_told(folder, "copy", is_cold)["seconds"])
    return {
        "seconds": work["seconds"],
        "cpu_s": work["cpu_s"],
        "peak_bytes": work["peak_bytes"],
        "copy_s": min(copies_s),
        "copy_bytes_per_s": num_bytes / min(copies_s),
        "share_of_copy": min(copies_s) / work["seconds"],
    }


def _told(folder: Path, step: str, is_cold: bool) -> dict[str, float]:
    if is_cold:
        drop_pages(score_files(folder))
    command = [sys.executable, __file__, "--step", step, str(folder)]
    told: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return told


# ---- what is made --------------------------------------------------------------------------------


def make_members(folder: Path, num_segments: int) -> None:
    segments = segment_table(num_segments)
    num_videos = int(segments.video.max()) + 1
    videos = SegmentTable(
        segments.video_ids, np.arange(num_videos), np.full(num_videos, WHOLE_VIDEO)
    )
    for member in range(NUM_MEMBERS):
        _make_scores(folder / f"member-{member:02d}", segments, member)
    _make_scores(folder / "videos", videos, NUM_MEMBERS)


def _make_scores(path: Path, rows: SegmentTable, seed: int) -> None:
    """Scores sigmoid(2 z - 5 - seed / 10), z standard normal, as far as 65,536 steps tell."""
    rng = np.random.default_rng(seed)
    logits = np.sort(2 * rng.standard_normal(BITS) - 5 - seed / 10)
    table = (1 / (1 + np.exp(-logits))).astype(np.float16)
    writer = ScoresWriter(path, rows, ClassOrder.of(range(NUM_CLASSES)), "float16")

    def block(place: int) -> NDArray[np.float16]:
        num_rows = min(ROWS_AT_ONCE, len(rows) - place)
        drawn = np.random.default_rng((seed, place)).bytes(2 * num_rows * NUM_CLASSES)
        return table.take(np.frombuffer(drawn, np.uint16)).reshape(num_rows, NUM_CLASSES)

    places = range(0, len(rows), ROWS_AT_ONCE)
    for place, scores in zip(places, map_in_order(block, places)):
        writer.write(place, scores)
    writer.commit({"trained_on": ["train", "v1"]})


# ---- what is measured ----------------------------------------------------------------------------


def score_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/scores.npy"))


def drop_pages(paths: Iterable[Path]) -> None:
    """Out of the page cache; what lies below it (a host's own cache) is out of reach."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def copy(folder: Path) -> None:
    for path in score_files(folder):
        values = np.load(path, mmap_mode="r")
        buffer = np.empty((ROWS_AT_ONCE, values.shape[1]), values.dtype)
        for first in range(0, len(values), ROWS_AT_ONCE):
            rows = values[first : first + ROWS_AT_ONCE]
            np.copyto(buffer[: len(rows)], rows)


def work(folder: Path) -> None:
    members = match_members(open_scores(p.parent) for p in score_files(folder)[:NUM_MEMBERS])
    weights = tuple(float(1 + place % 3) for place in range(NUM_MEMBERS))
    videos = WithVideos(open_scores(folder / "videos"), FusionSettings(Exponents(1, 2)))
    settings = EnsembleSettings(weights=weights)
    submit_ensemble(members, folder / "submission.csv", settings, videos)


STEPS = {step.__name__: step for step in (copy, work)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=NUM_SEGMENTS)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("folder", type=Path, nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        began_s = time.perf_counter()
        STEPS[args.step](args.folder)
        told = {"seconds": time.perf_counter() - began_s, "cpu_s": time.process_time()}
        print(json.dumps({**told, "peak_bytes": peak_bytes()}))
    else:
        print(json.dumps(ensemble_rates(args.segments), indent=2))


if __name__ == "__main__":
    main()
