"""How fast the commands work: training S-Logi, predicting 1000 classes, showing help.

Each is the real command in a process of its own, on a made corpus.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

WHENABOUTS = [sys.executable, "-m", "whenabouts"]


def index_videos_per_s(corpus: Path, index_path: Path, rounds: int = 3) -> float:
    """Videos a second of `whenabouts index`, checksums and start of processes included; best."""
    shards = str(corpus / "**" / "*.tfrecord")
    told = [_whenabouts("index", shards, "-o", str(index_path), "--json") for _ in range(rounds)]
    return max(float(sum(t["videos"].values()) / t["time_s"]) for t in told)


def train_segments_per_s(index_path: Path, run: Path, recipe: str = "s-logi") -> float:
    """Rated segments a second of `whenabouts train`: median of the stretches it logs."""
    steps = ["--loop.max-steps", "400", "--loop.evaluate-every", "40", "--loop.patience", "99"]
    _whenabouts("train", recipe, str(index_path), "-o", str(run), *steps, "--json")
    entries = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8")]
    rates: list[float] = [e["segments_per_s"] for e in entries if e["kind"] == "train"]
    return median(rates)


def predict_segments_per_s(run: Path, index_path: Path, scores: Path) -> float:
    """Segments a second of `whenabouts predict`, from the opened index to Scores on the disk."""
    flags = ["--splits", "v1", "v2", "--json"]
    told = _whenabouts("predict", str(run), str(index_path), "-o", str(scores), *flags)
    return float(told["segments"] / told["time_s"])


def help_seconds(rounds: int = 9) -> float:
    """Seconds of `whenabouts --help`, start of Python included; median."""
    times = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        subprocess.run([*WHENABOUTS, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began_s)
    return median(times)


def _whenabouts(*words: str) -> dict[str, Any]:
    done = subprocess.run([*WHENABOUTS, *words], check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told
