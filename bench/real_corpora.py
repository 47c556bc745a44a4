"""Corpora of real data, made once and used again, and the commands that run on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whenabouts.records.quantize import QuantizeRange, dequantize
from whenabouts.records.writing import encode_example, write_records

MONTAGE_SIZE = (3000, 2000)
POOL_SHARDS = 10
RGB = 1024


def audioset(shared: Path, work: Path) -> Path:
    """Index of the AudioSet corpus; V1 and V2 by hash of the video id."""
    folder, index_path = shared / "data" / "audioset", work / "audioset.index"
    classes = ("--classes", str(folder / "segment_label_ids.csv"))
    names = ("--vocabulary", str(folder / "vocabulary.csv"))
    if not index_path.exists():
        whenabouts("index", str(folder), *classes, *names, "-o", str(index_path))
    return index_path


def montage(shared: Path, work: Path) -> Path:
    """Index of a montage corpus cut from real features; it comes with its own V1 and V2."""
    num_train, num_validate = MONTAGE_SIZE
    folder = work / f"montage-{num_train}-{num_validate}"
    index_path = folder.with_suffix(".index")
    if not index_path.exists():
        cut_montage(shared, folder, num_train, num_validate)
        whenabouts(
            "index", "--train", f"{folder}/train", "--v1", f"{folder}/validate/v1*",
            "--v2", f"{folder}/validate/v2*", "--classes", f"{folder}/segment_label_ids.csv",
            *names(shared), "-o", str(index_path),
        )  # fmt: skip
    return index_path


def cut_montage(shared: Path, folder: Path, num_train: int, num_validate: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    tool, pool = shared / "tools" / "make_montage.py", shared / "data" / "montage" / "pool.npz"
    sizes = ["--train", str(num_train), "--validate", str(num_validate)]
    subprocess.run([sys.executable, str(tool), str(pool), str(folder), *sizes], check=True)


def yt8m_video(shared: Path, work: Path) -> Path:
    """Index of the original video-level shards; the last fifth of them is held out as V2."""
    shards = sorted(str(p) for p in (shared / "data" / "yt8m-video").glob("*.tfrecord"))
    return _held_out_fifth(shards, work / "yt8m-video.index", shared)


def pool(shared: Path, work: Path) -> Path:
    """Index of the montage pool as video-level shards; a random fifth is held out as V2."""
    folder = work / "pool"
    if not folder.exists():
        write_pool(shared / "data" / "montage" / "pool.npz", folder)
    shards = sorted(str(p) for p in folder.glob("*.tfrecord"))
    return _held_out_fifth(shards, work / "pool.index", shared)


def write_pool(pool_path: Path, folder: Path) -> None:
    """The pool's videos as Examples with mean_rgb and mean_audio, in an order drawn once."""
    with np.load(pool_path) as arrays:
        ids, features = arrays["ids"], dequantize(arrays["features"], QuantizeRange(-2, 2))
        labels = np.split(arrays["labels"], arrays["offsets"][1:-1])
    order = np.random.default_rng(0).permutation(len(ids))

    def payloads(chosen: np.ndarray) -> Iterator[bytes]:
        for k in chosen:
            yield encode_example(
                {
                    "id": bytes(ids[k]),
                    "labels": labels[k].astype(np.int64),
                    "mean_rgb": features[k, :RGB].astype(np.float32),
                    "mean_audio": features[k, RGB:].astype(np.float32),
                }
            )

    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, chosen in enumerate(np.array_split(order, POOL_SHARDS)):
        write_records(partial / f"pool{number:04d}.tfrecord", payloads(chosen))
    partial.rename(folder)


def _held_out_fifth(shards: list[str], index_path: Path, shared: Path) -> Path:
    if not index_path.exists():
        cut = len(shards) * 4 // 5
        roles = ("--train", *shards[:cut], "--v2", *shards[cut:])
        whenabouts("index", *roles, *names(shared), "-o", str(index_path))
    return index_path


def names(shared: Path) -> tuple[str, str]:
    return "--vocabulary", str(shared / "data" / "meta" / "vocabulary.csv")


# ---- commands ------------------------------------------------------------------------------------


def whenabouts(*words: str, threads: int | None = None) -> None:
    subprocess.run(_command(words), check=True, env=_environment(threads))


def told(*words: str, threads: int | None = None) -> dict[str, Any]:
    """What a command says with --json."""
    done = subprocess.run(
        [*_command(words), "--json"],
        check=True, stdout=subprocess.PIPE, text=True, env=_environment(threads),
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def once(made: Path, *words: str, threads: int | None = None) -> Path:
    """Run a command that makes `made` (its -o), unless it is there."""
    if not made.exists():
        whenabouts(*words, "-o", str(made), threads=threads)
    return made


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "whenabouts", *words]


def _environment(threads: int | None) -> dict[str, str]:
    return dict(os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {}))
