"""How fast videos are gathered into batches, against a plain copy and against tf.data.

The files are read once before, so that they lie in the page cache. The three readers take turns, so
that a busy machine slows all of them, and each keeps its best round.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer
from whenabouts.feed.gather import Gatherer

BATCH = 32
ROUNDS = 7
TF_PYTHON = Path(__file__).parents[1] / ".venv-tf" / "bin" / "python"


def gather_rates(corpus: Corpus) -> dict[str, float]:
    """Bytes a second of gathering random videos, and of copying as many bytes; videos a second."""
    order = np.random.default_rng(0).permutation(len(corpus))
    batches = np.array_split(order, max(1, len(order) // BATCH))
    num_bytes = int(corpus.num_frames.sum()) * corpus.dataset.width
    gather, copy = _gather_all(corpus, batches), _copy_all(corpus, batches)
    best = _best_of_turns(gather, copy)
    return {
        "gather_bytes_per_s": num_bytes / best[0],
        "copy_bytes_per_s": num_bytes / best[1],
        "gather_videos_per_s": len(corpus) / best[0],
        "gather_over_copy": best[1] / best[0],
    }


def _gather_all(corpus: Corpus, batches: list[np.ndarray]) -> Callable[[], None]:
    gatherer, buffer = Gatherer(corpus), BatchBuffer(torch.device("cpu"))

    def gather() -> None:
        for rows in batches:
            count = corpus.num_frames[rows].astype(np.int64)
            shape = (len(rows), int(count.max()), corpus.dataset.width)
            out = buffer.take(shape).numpy().reshape(-1, shape[-1])
            gatherer.gather(rows, np.zeros_like(rows), count, np.arange(len(rows)) * shape[1], out)

    return gather


def _copy_all(corpus: Corpus, batches: list[np.ndarray]) -> Callable[[], None]:
    """The same bytes, batch by batch, from one array into one reused array."""
    sizes = [int(corpus.num_frames[rows].sum()) * corpus.dataset.width for rows in batches]
    source = np.random.default_rng(0).integers(0, 256, sum(sizes), np.uint8)
    target = np.zeros(max(sizes), np.uint8)

    def copy() -> None:
        offset = 0
        for size in sizes:
            np.copyto(target[:size], source[offset : offset + size])
            offset += size

    return copy


def _best_of_turns(*readers: Callable[[], None]) -> list[float]:
    """Seconds of each reader's best round."""
    best = [float("inf")] * len(readers)
    for _ in range(ROUNDS):
        for k, reader in enumerate(readers):
            began_s = time.perf_counter()
            reader()
            best[k] = min(best[k], time.perf_counter() - began_s)
    return best


def tfdata_videos_per_s(corpus: Path) -> float | None:
    """Videos a second of tf.data to uint8 matrices; None where TensorFlow is not installed."""
    if not TF_PYTHON.exists():
        return None
    script = Path(__file__).with_name("tfdata_reader.py")
    shards = [str(path) for path in sorted(corpus.rglob("*.tfrecord"))]
    command = [str(TF_PYTHON), str(script), *shards]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["videos_per_s"])
