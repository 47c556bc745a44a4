"""What pseudo-labels are worth: V2 mAP of a student with and without them, and their precision.

The teacher is the mean of NL's three seeds, trained on train + V1; clusters are of its first seed's
embedding. Nothing that makes the labels has seen V2, whose ratings only judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from real_corpora import audioset, montage, once
from real_runs import Bench, MakeCorpus, Recipe, run_path, spread, train
from real_video import scores_of
from whenabouts.core.labels import clusters_path
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.feed.labels import video_labels
from whenabouts.metrics.segment_map import POSITIVE

TEACHER = Recipe("nl", scale="small")
EVERYTHING = ("--soft", "--no-within-labels", "--threshold", "0", "--top-share", "0")


@dataclass(frozen=True)
class Case:
    """A corpus, a student, and how the teacher's labels are cleaned. cluster_weight: tried for the
    clusters' labels beside the weight that a recipe has."""

    corpus: str
    make: MakeCorpus
    student: str
    cleaning: tuple[str, ...]
    scale: str = ""
    cluster_weight: float = 0.0


CASES = (
    Case("AudioSet", audioset, "s-logi", EVERYTHING),
    Case("AudioSet", audioset, "nl", EVERYTHING, "small"),
    Case("montage", montage, "s-logi", (), cluster_weight=30),
    Case("montage", montage, "nl", (), "small", cluster_weight=3),
)


def rows(bench: Bench) -> list[dict[str, Any]]:
    for make in (audioset, montage):
        _train_teachers(bench, make(bench.shared, bench.work))
    return [
        *(row for case in CASES for row in _rows_of(bench, case)),
        *_precision("AudioSet", audioset, bench),
        *_precision("montage", montage, bench),
    ]


def _rows_of(bench: Bench, case: Case) -> list[dict[str, Any]]:
    index_path = case.make(bench.shared, bench.work)
    labels = {
        "teacher": _by_teacher(bench, index_path, case),
        "cluster": _by_clusters(bench, index_path),
    }
    found = [_row(bench, index_path, case, Recipe(case.student, case.scale), "without")]
    for method, weight in _variants(case):
        words: tuple[str, ...] = ("--strategy.pseudo.labels", str(labels[method]))
        if weight:
            words = (*words, "--strategy.pseudo.weight", weight)
        recipe = Recipe(case.student, case.scale, f"by-{method}{weight and '-' + weight}", words)
        what = f"{method}, weight {weight}" if weight else method
        found.append(_row(bench, index_path, case, recipe, what))
    return found


def _variants(case: Case) -> Iterator[tuple[str, str]]:
    """Who labels, and the weight of the labels; '' leaves the recipe's."""
    yield "teacher", ""
    yield "cluster", ""
    if case.cluster_weight:
        yield "cluster", f"{case.cluster_weight:g}"


def _row(bench: Bench, index_path: Path, case: Case, recipe: Recipe, what: str) -> dict[str, Any]:
    told_by = bench.at_once(lambda seed: train(bench, index_path, recipe, seed), bench.seeds)
    maps = [run["best_v2_map"] for run in told_by]
    return {"what": f"{case.student}, {what}", "corpus": case.corpus, **spread(maps)}


def _train_teachers(bench: Bench, index_path: Path) -> None:
    bench.at_once(lambda seed: train(bench, index_path, TEACHER, seed), bench.seeds)


def _teacher_scores(bench: Bench, index_path: Path, split: str) -> Path:
    runs = (run_path(bench, index_path, TEACHER, seed) for seed in bench.seeds)
    members = [str(scores_of(bench, index_path, run, split)) for run in runs]
    return once(bench.work / "scores" / f"{index_path.stem}-nl-{split}", "ensemble", *members)


def _by_teacher(bench: Bench, index_path: Path, case: Case) -> Path:
    scores = _teacher_scores(bench, index_path, "train")
    labels = bench.work / "labels" / f"{index_path.stem}-teacher.parquet"
    labels.parent.mkdir(exist_ok=True)
    words = (str(scores), str(index_path), *case.cleaning, "--splits", "train")
    return once(labels, "pseudo-label", "teacher", *words)


def _by_clusters(bench: Bench, index_path: Path) -> Path:
    labels = bench.work / "labels" / f"{index_path.stem}-cluster.parquet"
    labels.parent.mkdir(exist_ok=True)
    run = run_path(bench, index_path, TEACHER, 0)
    words = (str(index_path), "--run", str(run), "--judge")
    return once(labels, "pseudo-label", "cluster", *words)


def _precision(name: str, make: MakeCorpus, bench: Bench) -> list[dict[str, Any]]:
    """Share of positives among V2's rated pairs within the labels of their videos: of all, of those
    that the teacher gives 0.5 or more, and of those that the clusters call positive."""
    index_path = make(bench.shared, bench.work)
    corpus = open_corpus(index_path)
    scores = open_scores(_teacher_scores(bench, index_path, "v2"))
    truth = corpus.rated(corpus.rows(["v2"]))
    within = _is_label(corpus, truth.video, truth.class_id)
    row = scores.segments.rows_of(truth.video, truth.start_s)
    p = scores.values[row, scores.classes.columns(truth.class_id)]
    positive = truth.score >= POSITIVE
    chosen = {"all pairs": within, "teacher >= 0.5": within & (p >= 0.5)}
    found = {what: float(positive[k].mean()) for what, k in chosen.items()}
    told = clusters_path(_by_clusters(bench, index_path)).read_text(encoding="utf-8")
    judged = json.loads(told)["judged"]
    found[f"clusters, of {judged['coverage']:.2f} of the pairs"] = judged["precision"]
    return [
        {"what": f"precision, {what}", "corpus": name, **spread([value])}
        for what, value in found.items()
    ]


def _is_label(
    corpus: Corpus, video: np.ndarray[Any, Any], class_id: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    ids, place = np.unique(video, return_inverse=True)
    labels = video_labels(corpus, corpus.rows_of(ids), corpus.classes)
    found: np.ndarray[Any, Any] = labels[place, corpus.classes.columns(class_id)] > 0
    return found
