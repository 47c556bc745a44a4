"""`whenabouts evaluate`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from whenabouts.commands.arguments import (
    ListText,
    chosen_splits,
    give,
    parse,
    refuse_lists_of_videos,
    refuse_other_videos,
)
from whenabouts.core.atomic import write_json
from whenabouts.core.errors import ScoresError, UsageError
from whenabouts.core.labels import SegmentLabels, read_labels
from whenabouts.core.list_length import K, ListLength, list_length
from whenabouts.core.outputs import refuse_other_folder
from whenabouts.core.progress import say
from whenabouts.core.ranking import refuse_repeated_segments
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.corpus.corpus import Corpus, Ragged, open_corpus
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.metrics.segment_map import (
    Placed,
    SegmentEvaluation,
    place_in_scores,
    place_in_submission,
    write_class_csv,
)
from whenabouts.metrics.video import (
    VideoEvaluation,
    evaluate_videos,
    video_scores_from_segments,
    write_video_class_csv,
)


@dataclass(frozen=True)
class Evaluate:
    """mAP@K of Scores or of a submission file against rated segments; and, from Scores, GAP@20,
    mAP and Hit@1 of the videos against their labels. Scores of whole videos have the latter alone.

    Example: whenabouts evaluate scores corpus.index --splits v2 --out numbers
             whenabouts evaluate submission.csv --truth labels.csv
    """

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES-OR-CSV")]
    """A Scores folder, or a submission file."""
    index: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[INDEX]")] = None
    """The index that holds the rated segments and the labels of the videos."""
    splits: tuple[str, ...] = ("v2",)
    """Splits of the index to evaluate on."""
    truth: Path | None = None
    """Rated segments from a file instead: .csv or .parquet with video,start,class,score."""
    k: ListText = str(K)
    """Entries of each class's list that count, or a share of the scored segments: 4.85% is about
    that of the challenge. Where every segment is listed mAP is of their order alone."""
    halves: bool = False
    """Also the mAP of each half of the videos, cut as searches cut them: what is chosen on one half
    is judged on the other."""
    out: Path | None = None
    """Folder for evaluation.json and classes.csv (AP a class)."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Evaluated:
    """halves: of the segments of the first half of the videos and of the second, if asked for."""

    segments: SegmentEvaluation
    videos: VideoEvaluation | None
    halves: tuple[SegmentEvaluation, ...] = ()

    @property
    def mean_ap_of_halves(self) -> list[float | None]:
        return [half.to_dict()["mean_ap"] for half in self.halves]

    def to_dict(self) -> dict[str, Any]:
        segments = self.segments.to_dict()
        if self.halves:
            segments["mean_ap_of_halves"] = self.mean_ap_of_halves
        return {"segments": segments, **({"videos": self.videos.to_dict()} if self.videos else {})}

    def lines(self) -> list[str]:
        lines = [_segment_line(self.segments)]
        if self.halves:
            lines.append(_halves_line(self.mean_ap_of_halves))
        return [*lines, _video_line(self.videos)] if self.videos else lines

    def write_classes(self, path: Path) -> None:
        write_class_csv(path, self.segments)


@dataclass(frozen=True)
class EvaluatedVideos:
    """What Scores of whole videos have."""

    videos: VideoEvaluation

    def to_dict(self) -> dict[str, Any]:
        return {"videos": self.videos.to_dict()}

    def lines(self) -> list[str]:
        return [_video_line(self.videos)]

    def write_classes(self, path: Path) -> None:
        write_video_class_csv(path, self.videos)


def main(arguments: Sequence[str]) -> None:
    args = parse(Evaluate, "evaluate", arguments)
    length = list_length(args.k)
    if args.out:
        refuse_other_folder(args.out, "evaluation.json")
    corpus = open_corpus(args.index) if args.index else None
    result = _evaluate(args, corpus, length)
    if args.out:
        k = {"k": length.text} if isinstance(result, Evaluated) else {}
        write_json(args.out / "evaluation.json", {**k, **result.to_dict()})
        result.write_classes(args.out / "classes.csv")
    give(result.to_dict(), result.lines(), as_json=args.json)


def _evaluate(
    args: Evaluate, corpus: Corpus | None, length: ListLength
) -> Evaluated | EvaluatedVideos:
    scores = open_scores(args.target) if args.target.is_dir() else None
    if scores is not None and scores.segments.has_whole_videos:
        if args.truth is not None:
            fact = "--truth holds rated segments, and these Scores are of whole videos"
            raise UsageError(fact, where=args.target, remedy="pass INDEX alone")
        refuse_lists_of_videos(scores, length)
        return EvaluatedVideos(evaluate_whole_videos(scores, corpus, args.splits))
    truth = load_truth(args.truth, corpus, args.splits)
    if scores is not None:
        return evaluate_all(scores, truth, corpus, args.splits, length, halves=args.halves)
    if length.entries is None:
        raise UsageError(
            f"--k is {length.text}",
            where=args.target,
            rule="a submission does not say how many segments there were",
            remedy="pass a number of segments",
        )
    classes = corpus.classes if corpus else None

    placed = place_in_submission(truth, args.target, length.entries, classes)
    segments = placed.evaluation()
    _note_missing(args.target, len(truth), int(segments.num_listed.sum()), "listed")
    return Evaluated(segments, None, _of_halves(placed) if args.halves else ())


def _of_halves(placed: Placed) -> tuple[SegmentEvaluation, ...]:
    in_first = first_half(placed.truth.video)
    return tuple(placed.take(half).evaluation() for half in (in_first, ~in_first))


def _refuse_other_truth(scores: Scores, truth: SegmentLabels) -> None:
    """Numbers of other videos would all be 0."""
    num_scored = int((scores.segments.rows_of(truth.video, truth.start_s) >= 0).sum())
    if len(truth) and not num_scored:
        raise UsageError(
            f"none of the {len(truth):,} rated segments is scored",
            where=scores.path,
            rule="a rated segment that is missing counts as ranked last",
            remedy="pass --splits as they were predicted, or the --truth of these videos",
        )
    _note_missing(scores.path, len(truth), num_scored, "scored")


def _note_missing(where: Path, num_rated: int, num_found: int, done: str) -> None:
    if num_found < num_rated:
        missing = f"{num_rated - num_found:,} of {num_rated:,} rated pairs"
        say(f"note: {where}: {missing} are not {done}, and count as ranked last")


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
    scores: Scores,
    truth: SegmentLabels,
    corpus: Corpus | None,
    splits: Sequence[str],
    length: ListLength,
    *,
    halves: bool = False,
) -> Evaluated:
    """Segments and videos in one go, of Scores of segments. halves: see `Evaluate`."""
    if corpus is not None:
        refuse_other_videos(scores, corpus)
    _refuse_other_truth(scores, truth)
    _warn_of_leak(scores, splits)

    k = length.of(len(scores.segments))
    placed = place_in_scores(truth, scores.segments, scores.classes, scores.values, k)
    videos = _evaluate_videos(scores, corpus, splits) if corpus else None
    return Evaluated(placed.evaluation(), videos, _of_halves(placed) if halves else ())


def evaluate_whole_videos(
    scores: Scores, corpus: Corpus | None, splits: Sequence[str]
) -> VideoEvaluation:
    """Scores with a row a video against the labels of the videos of the splits."""
    _, labels, values = labelled_videos(scores, corpus, splits)
    return evaluate_videos(labels.values, labels.offsets, scores.classes, values)


def labelled_videos(
    scores: Scores, corpus: Corpus | None, splits: Sequence[str]
) -> tuple[NDArray[np.bytes_], Ragged, NDArray[np.floating]]:
    """(ids [V], labels, values [V, C]) of the scored videos of the splits that have labels.

    Raises ScoresError where a row is no video, UsageError where there are none.
    """
    if corpus is None:
        raise UsageError(
            "no labels given", where=scores.path, remedy="pass INDEX: it holds those of the videos"
        )
    rows, wanted = labelled_rows(scores, corpus, splits)
    _warn_of_leak(scores, splits)
    values = scores.values if wanted.all() else scores.values[wanted]
    return corpus.video_ids[rows[wanted]], corpus.labels.take(rows[wanted]), values


def labelled_rows(
    scores: Scores, corpus: Corpus, splits: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(row in the corpus, is it of the splits and labelled?) of each scored video.

    Raises errors as `labelled_videos`.
    """
    _refuse_misfit_of_videos(scores)
    refuse_other_videos(scores, corpus)
    rows = corpus.rows_of(scores.segments.video_ids)[scores.segments.video]
    wanted = _are_labelled(rows, corpus, splits)
    if not wanted.any():
        raise UsageError(
            f"no scored video in splits {', '.join(splits)} has labels",
            where=corpus.path,
            remedy="choose other --splits",
        )
    return rows, wanted


def _refuse_misfit_of_videos(scores: Scores) -> None:
    is_segment = scores.segments.starts_s != WHOLE_VIDEO
    if is_segment.any():
        raise ScoresError(
            f"row {int(is_segment.argmax())} is a segment, and others are whole videos",
            where=scores.path,
            rule="Scores are of segments or of videos",
        )
    refuse_repeated_segments(scores.segments)


def _are_labelled(
    rows: NDArray[np.int64], corpus: Corpus, splits: Sequence[str]
) -> NDArray[np.bool_]:
    """Which rows of the corpus (-1: not in it) are videos of the splits and have labels."""
    wanted = np.isin(rows, corpus.rows(chosen_splits(splits)))
    return wanted & corpus.has_labels(rows)


def _warn_of_leak(scores: Scores, splits: Sequence[str]) -> None:
    seen = sorted(set(scores.made_by.get("trained_on", ())) & set(splits))
    if seen:
        say(f"note: the model was trained on {', '.join(seen)}: these numbers flatter it")


def _evaluate_videos(
    scores: Scores, corpus: Corpus, splits: Sequence[str]
) -> VideoEvaluation | None:
    """Metrics of the scored videos of the splits that have labels; None if there are none."""
    rows = corpus.rows_of(scores.segments.video_ids)
    wanted = _are_labelled(rows, corpus, splits)
    if not wanted.any():
        return None
    labels = corpus.labels.take(rows[wanted])
    values = video_scores_from_segments(scores.segments, scores.values)[wanted]
    return evaluate_videos(labels.values, labels.offsets, scores.classes, values)


def _segment_line(evaluation: SegmentEvaluation) -> str:
    told = evaluation.to_dict()
    mean_ap = told["mean_ap"]
    head = "no rated positives" if mean_ap is None else f"{mean_ap:.4f}"
    found, positive = told["num_found"], told["num_positives"]
    listed = f", {found:,} of them listed" if found < positive else ""
    return (
        f"mAP@{told['k']}: {head} over {told['num_classes']:,} classes, "
        f"{told['num_rated']:,} rated pairs ({positive:,} positive{listed})"
    )


def _halves_line(mean_aps: Sequence[float | None]) -> str:
    first, second = ("no positives" if each is None else f"{each:.4f}" for each in mean_aps)
    return f"halves of the videos: mAP {first} and {second}"


def _video_line(v: VideoEvaluation) -> str:
    return (
        f"videos: GAP@{v.top_n} {v.gap:.4f}, mAP {v.mean_ap:.4f}, Hit@1 {v.hit_at_one:.4f}, "
        f"PERR {v.perr:.4f} over {v.num_videos:,} videos"
    )
