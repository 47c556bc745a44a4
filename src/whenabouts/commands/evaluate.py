"""`whenabouts evaluate`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from whenabouts.commands.arguments import chosen_splits, give, parse, refuse_other_videos
from whenabouts.core.atomic import write_json
from whenabouts.core.errors import UsageError
from whenabouts.core.labels import SegmentLabels, read_labels
from whenabouts.core.progress import say
from whenabouts.core.scores import Scores, open_scores
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.metrics.segment_map import (
    K,
    SegmentEvaluation,
    evaluate_scores,
    evaluate_submission,
    write_class_csv,
)
from whenabouts.metrics.video import (
    VideoEvaluation,
    evaluate_videos,
    video_scores_from_segments,
)


@dataclass(frozen=True)
class Evaluate:
    """mAP@K of Scores or of a submission file against rated segments; and, from Scores, GAP@20,
    mAP and Hit@1 of the videos against their labels.

    Example: whenabouts evaluate scores corpus.index --splits v2 --out numbers
             whenabouts evaluate submission.csv --truth labels.csv
    """

    target: tyro.conf.Positional[Path]
    """A Scores folder, or a submission file."""
    index: tyro.conf.Positional[Path | None] = None
    """The index that holds the rated segments and the labels of the videos."""
    splits: tuple[str, ...] = ("v2",)
    """Splits of the index to evaluate on."""
    truth: Path | None = None
    """Rated segments from a file instead: .csv or .parquet with video,start,class,score."""
    k: int = K
    """Entries of each class's list that count."""
    out: Path | None = None
    """Folder for evaluation.json and classes.csv (AP a class)."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Evaluated:
    segments: SegmentEvaluation
    videos: VideoEvaluation | None

    def to_dict(self) -> dict[str, Any]:
        videos = {"videos": self.videos.to_dict()} if self.videos else {}
        return {"segments": self.segments.to_dict(), **videos}


def main(arguments: Sequence[str]) -> None:
    args = parse(Evaluate, "evaluate", arguments)
    corpus = open_corpus(args.index) if args.index else None
    truth = load_truth(args.truth, corpus, args.splits)
    if args.k < 1:
        raise UsageError(f"--k is {args.k}", rule="at least one entry a class must count")
    if args.target.is_dir():
        scores = open_scores(args.target)
        result = evaluate_all(scores, truth, corpus, args.splits, args.k)
    else:
        classes = corpus.classes if corpus else None
        result = Evaluated(evaluate_submission(truth, args.target, args.k, classes), None)
    if args.out:
        write_evaluation(args.out, result)
    give(result.to_dict(), lines(result), as_json=args.json)


def load_truth(path: Path | None, corpus: Corpus | None, splits: Sequence[str]) -> SegmentLabels:
    """Rated segments from the file if one is given, else from the corpus."""
    if path is not None:
        return read_labels(path)
    if corpus is None:
        raise UsageError("no truth given", remedy="pass INDEX, or --truth FILE")
    truth = corpus.rated(corpus.rows(chosen_splits(splits)))
    if not len(truth):
        raise UsageError(
            f"no rated segments in splits {', '.join(splits)}",
            where=corpus.path,
            remedy="choose other --splits, or pass --truth FILE",
        )
    return truth


def evaluate_all(
    scores: Scores, truth: SegmentLabels, corpus: Corpus | None, splits: Sequence[str], k: int = K
) -> Evaluated:
    """Segments and videos in one go."""
    if corpus is not None:
        refuse_other_videos(scores, corpus)
    _warn_of_leak(scores, splits)
    segments = evaluate_scores(truth, scores.segments, scores.classes, scores.values, k)
    return Evaluated(segments, _evaluate_videos(scores, corpus, splits) if corpus else None)


def _warn_of_leak(scores: Scores, splits: Sequence[str]) -> None:
    seen = sorted(set(scores.made_by.get("trained_on", ())) & set(splits))
    if seen:
        say(f"note: the model was trained on {', '.join(seen)}: these numbers flatter it")


def _evaluate_videos(
    scores: Scores, corpus: Corpus, splits: Sequence[str]
) -> VideoEvaluation | None:
    """Metrics of the scored videos of the splits that have labels; None if there are none."""
    rows = corpus.rows_of(scores.segments.video_ids)
    wanted = np.isin(rows, corpus.rows(chosen_splits(splits)))
    wanted &= np.diff(corpus.labels.offsets)[rows] > 0
    if not wanted.any():
        return None
    labels = corpus.labels.take(rows[wanted])
    values = video_scores_from_segments(scores.segments, scores.values)[wanted]
    return evaluate_videos(labels.values, labels.offsets, scores.classes, values)


def write_evaluation(folder: Path, result: Evaluated) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", result.to_dict())
    write_class_csv(folder / "classes.csv", result.segments)


def lines(result: Evaluated) -> list[str]:
    told = result.segments.to_dict()
    mean_ap = told["mean_ap"]
    head = "no rated positives" if mean_ap is None else f"{mean_ap:.4f}"
    out = [
        f"mAP@{told['k']}: {head} over {told['num_classes']:,} classes, "
        f"{told['num_rated']:,} rated pairs ({told['num_positives']:,} positive)"
    ]
    if result.videos:
        v = result.videos
        out.append(
            f"videos: GAP@{v.top_n} {v.gap:.4f}, mAP {v.mean_ap:.4f}, Hit@1 {v.hit_at_one:.4f}, "
            f"PERR {v.perr:.4f} over {v.num_videos:,} videos"
        )
    return out
