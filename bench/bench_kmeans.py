"""K-means against faiss called directly; labelling by clusters against gathering alone.

    python bench/bench_kmeans.py [--quick] [--parts kmeans labelling memory]

kmeans: 1,000,000 points x 256, k = 4,096, 10 iterations, on the same points and threads, ours and
faiss's taking turns. Ratios are of wall time and of CPU time, which other work on the machine
touches less.

labelling: frames/s of gathering bytes from the page cache; of the feed, which dequantises and
normalises them too; and of the whole way to labels, for several k. The floor is arithmetic: a frame
of D values takes 2 D P operations for its P components and 2 k P for its cluster.

memory: peak of anonymous memory of `whenabouts pseudo-label cluster` on a corpus and on four times
as many videos, with the same k and sample.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch.nn import functional

from bench_memory import peaks
from whenabouts.clustering import KMeansSettings, fit_kmeans
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.index import build_index
from whenabouts.corpus.made import MadeCorpus, make_corpus
from whenabouts.feed.gather import Gatherer
from whenabouts.feed.segments import SegmentChunks
from whenabouts.strategies.cluster_features import FRAMES, Clustering, fit_clusters
from whenabouts.strategies.cluster_tally import Tally
from whenabouts.strategies.cluster_votes import Voting, reader_of
from whenabouts.strategies.pseudo_cluster import ClusterLabelling, labels_of_videos, votes_of
from whenabouts.train.distributed import Team

WIDTH, CHUNK = 256, 512
MADE = MadeCorpus(
    num_train=600, num_validate=200, num_test=0, num_classes=120, num_rated_classes=100,
    min_frames=300, videos_per_shard=200,
)  # fmt: skip
ALONE = Team(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Plan:
    num_points: int = 1_000_000
    k: int = 4096
    iterations: int = 10
    label_k: tuple[int, ...] = (64, 256, 1024, 4096)
    made: MadeCorpus = MADE


QUICK = Plan(100_000, 512, 10, (64, 512), replace(MADE, num_train=150, num_validate=60))


# ---- k-means -------------------------------------------------------------------------------------


def kmeans(plan: Plan) -> dict[str, Any]:
    torch.manual_seed(0)
    points = functional.normalize(torch.randn(plan.num_points, WIDTH))
    ours = _seconds(lambda: _ours(points, plan))
    theirs = _seconds(lambda: _faiss(points, plan))
    inertia, faiss_inertia = ours.result, theirs.result
    return {
        "points": plan.num_points, "k": plan.k, "iterations": plan.iterations,
        "threads": torch.get_num_threads(),
        "ours_s": ours.wall_s, "faiss_s": theirs.wall_s,
        "over_faiss": ours.wall_s / theirs.wall_s, "over_faiss_cpu": ours.cpu_s / theirs.cpu_s,
        "inertia": inertia, "faiss_inertia": faiss_inertia,
    }  # fmt: skip


def _ours(points: torch.Tensor, plan: Plan) -> float:
    settings = KMeansSettings(plan.k, plan.iterations, engine="faiss")
    return fit_kmeans(points, settings).inertia[-1]


def _faiss(points: torch.Tensor, plan: Plan) -> float:
    faiss.omp_set_num_threads(torch.get_num_threads())
    theirs = faiss.Kmeans(
        WIDTH, plan.k, niter=plan.iterations, seed=1,
        min_points_per_centroid=1, max_points_per_centroid=plan.num_points,
    )  # fmt: skip
    theirs.train(points.numpy())
    objective: Any = theirs.obj
    return float(objective[-1] / len(points))


@dataclass(frozen=True)
class Timed:
    result: float
    wall_s: float
    cpu_s: float


def _seconds(work: Callable[[], float]) -> Timed:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return Timed(result, time.perf_counter() - wall_s, time.process_time() - cpu_s)


# ---- labelling -----------------------------------------------------------------------------------


def labelling(folder: Path, plan: Plan) -> dict[str, Any]:
    corpus = _corpus(folder / "made", plan.made)
    rows = corpus.rows(["train"])
    num_frames = int(corpus.num_frames[rows].sum())
    ways: dict[str, Callable[[], object]] = {
        "gather": lambda: _gather(corpus, rows),
        "feed": lambda: [None for _ in _chunks(corpus, rows)],
    }
    for k in plan.label_k:
        ways[f"label_k{k}"] = _labeller(corpus, rows, k)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):  # in turns
        for name, way in ways.items():
            began_s = time.perf_counter()
            way()
            rates[name].append(num_frames / (time.perf_counter() - began_s))
    best = {name: max(values) for name, values in rates.items()}
    over = {f"{n}_over_{of}": best[n] / best[of] for of in ("gather", "feed") for n in best
            if n.startswith("label")}  # fmt: skip
    return {"frames_per_s": best, **over, "threads": torch.get_num_threads()}


def _labeller(corpus: Corpus, rows: np.ndarray[Any, Any], k: int) -> Callable[[], object]:
    settings = ClusterLabelling(Clustering(k=k, iterations=2), Voting(), ("train", "v1"), CHUNK)
    with torch.inference_mode():
        all_rows = corpus.rows(settings.splits)
        clusters = fit_clusters(corpus, all_rows, FRAMES, settings.clustering, ALONE)
        votes = votes_of(corpus, clusters, CHUNK, ALONE.device)
    read = reader_of(votes, settings.voting, corpus.classes)

    def label() -> int:
        tally = Tally.empty(k, len(corpus.classes))
        with torch.inference_mode():
            found = labels_of_videos(corpus, rows, clusters, read, settings, tally, ALONE.device)
            return sum(map(len, found))

    return label


def _chunks(corpus: Corpus, rows: np.ndarray[Any, Any]) -> Iterator[object]:
    chunks = SegmentChunks(corpus, rows, ALONE.device, CHUNK)
    yield from chunks.chunks(0, len(chunks.table))


def _gather(corpus: Corpus, rows: np.ndarray[Any, Any]) -> None:
    table, gatherer, length = corpus.segments(rows), Gatherer(corpus), corpus.grid.num_frames
    out = np.empty((CHUNK * length, corpus.dataset.width), np.uint8)
    for first in range(0, len(table), CHUNK):
        part = slice(first, first + CHUNK)
        first_frames = corpus.grid.first_frame(table.starts_s[part])
        gatherer.gather_segments(rows[table.video[part]], first_frames, length, out)


def _corpus(folder: Path, made: MadeCorpus) -> Corpus:
    make_corpus(folder, made, os.cpu_count() or 1)
    shards = [("train", p) for p in sorted(folder.glob("train/*.tfrecord"))]
    shards += [("v1", p) for p in sorted(folder.glob("validate/v1-*.tfrecord"))]
    build_index(shards, folder / "corpus.index")  # type: ignore[arg-type]
    return open_corpus(folder / "corpus.index")


# ---- memory --------------------------------------------------------------------------------------


def memory(folder: Path, plan: Plan) -> dict[str, Any]:
    """Peaks of anonymous memory in bytes, and their ratio."""
    found: dict[str, int] = {}
    for name, times in (("once", 1), ("four_times", 4)):
        made = replace(plan.made, num_train=plan.made.num_train * times)
        corpus = _corpus(folder / name, made)
        words = [str(corpus.path), "-o", str(folder / f"{name}.parquet"), "--json"]
        flags = ["--k", "64", "--sample-frames", "20000", "--iterations", "4", "--device", "cpu"]
        command = [sys.executable, "-m", "whenabouts", "pseudo-label", "cluster", *words, *flags]
        found[name] = peaks(command)[0]
    return {**found, "four_times_over_once": found["four_times"] / found["once"]}


# ---- all of it -----------------------------------------------------------------------------------


def clustering(parts: tuple[str, ...] = ("kmeans", "labelling", "memory"), *,
               is_quick: bool = False) -> dict[str, Any]:  # fmt: skip
    plan, told = QUICK if is_quick else Plan(), {}
    with tempfile.TemporaryDirectory() as folder:
        if "kmeans" in parts:
            told["kmeans"] = kmeans(plan)
        if "labelling" in parts:
            told["labelling"] = labelling(Path(folder), plan)
        if "memory" in parts:
            told["memory"] = memory(Path(folder), plan)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="*", default=["kmeans", "labelling", "memory"])
    args = parser.parse_args()
    print(json.dumps(clustering(tuple(args.parts), is_quick=args.quick), indent=2))


if __name__ == "__main__":
    main()
