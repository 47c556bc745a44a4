"""`whenabouts report`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from whenabouts.commands.arguments import ListText, give, parse, refuse_lists_of_videos
from whenabouts.commands.evaluate import (
    Evaluated,
    evaluate_all,
    labelled_videos,
    load_truth,
)
from whenabouts.core.classes import ClassOrder, read_vocabulary
from whenabouts.core.errors import UsageError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.list_length import K, ListLength, list_length
from whenabouts.core.outputs import refuse_other_file
from whenabouts.core.progress import say
from whenabouts.core.scores import Scores, open_scores
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.metrics.video import evaluate_videos, video_truth
from whenabouts.metrics.watched import MEASURES, Measure
from whenabouts.report.inputs import LabelledVideos, ReportInputs, ReportSettings
from whenabouts.report.layout import PAGE_SIGNS
from whenabouts.report.page import write_report
from whenabouts.report.pseudo_labels import PseudoLabels, read_pseudo_labels
from whenabouts.report.tables_file import SystemTables, read_tables

UNDEFINED = {"mean_ap": "no rated positives", "gap": "no label is scored"}


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page: curves, AP a class, calibration, and, of segments,
    precision-recall and timelines; of whole videos (a video classifier's Scores), example videos.

    Timelines show attention too where the Scores hold it (predict --attention).

    Example: whenabouts report scores corpus.index --run runs/s-logi -o report.html
    """

    scores: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCORES")]
    """The Scores folder."""
    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index that holds the rated segments and the labels of the videos."""
    run: Path | None = None
    """The run's folder, for its curves and settings."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """The page to write."""
    splits: tuple[str, ...] = ("v2",)
    """Splits to evaluate on."""
    k: ListText = str(K)
    """Entries of each class's list that count, or a share of the scored segments (4.85%)."""
    vocabulary: Path | None = None
    """vocabulary.csv: names of the classes that the Scores or the evaluation do not name."""
    labels: Path | None = None
    """Labels of `pseudo-label`, to show how many they are and what their clusters look like."""
    tables: Path | None = None
    """tables.json of `reproduce`, to show the whole system: the paper's tables beside ours."""
    pr_classes: tuple[int, ...] = ()
    """Class ids of the precision-recall curves; default: best, quartiles, worst."""
    num_timelines: int = 12
    """Videos shown."""
    title: str = "whenabouts report"
    """Title of the page."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Report, "report", arguments)
    length = list_length(args.k)
    refuse_other_file(args.out, "a report", *PAGE_SIGNS)
    tables = read_tables(args.tables) if args.tables else None
    corpus, scores = open_corpus(args.index), open_scores(args.scores)
    _note_another_run(args, scores)
    vocabulary = read_vocabulary(args.vocabulary) if args.vocabulary else {}
    if scores.segments.has_whole_videos:
        refuse_lists_of_videos(scores, length)
        name, value = _write_of_videos(args, scores, corpus, vocabulary, tables)
    else:
        name, value = _write_of_segments(args, scores, corpus, vocabulary, tables, length)
    told = UNDEFINED[name] if value is None else f"{MEASURES[name]} {value:.4f}"
    line = f"{args.out}: {told}; open it in a browser"
    give({"report": str(args.out), name: value}, [line], as_json=args.json)


def _note_another_run(args: Report, scores: Scores) -> None:
    """Curves of one model beside the numbers of another would mislead."""
    made_by = scores.made_by.get("run")
    if args.run and isinstance(made_by, str) and Path(made_by).name != args.run.resolve().name:
        say(f"note: {args.scores} was predicted by {made_by}, and --run is another: {args.run}")


def _write_of_segments(
    args: Report,
    scores: Scores,
    corpus: Corpus,
    vocabulary: dict[int, str],
    tables: SystemTables | None,
    length: ListLength,
) -> tuple[Measure, float | None]:
    """Returns the key of the main metric and its value."""
    truth = load_truth(None, corpus, args.splits)
    evaluated = evaluate_all(scores, truth, corpus, args.splits, length)
    settings = ReportSettings(
        num_timelines=args.num_timelines,
        pr_classes=args.pr_classes,
        segment_s=corpus.dataset.segment_s,
    )
    inputs = report_inputs(
        args.title, args.run, scores, truth, corpus, evaluated, args.splits, vocabulary
    )
    labels = _pseudo_labels(args, corpus, vocabulary)
    write_report(args.out, replace(inputs, labels=labels, tables=tables), settings)
    return "mean_ap", evaluated.segments.to_dict()["mean_ap"]


def _write_of_videos(
    args: Report,
    scores: Scores,
    corpus: Corpus,
    vocabulary: dict[int, str],
    tables: SystemTables | None,
) -> tuple[Measure, float | None]:
    """Returns the key of the main metric and its value."""
    if args.pr_classes:
        raise UsageError(
            "--pr-classes chooses curves of rated segments, and these Scores are of whole videos",
            where=args.scores,
            remedy="leave it out",
        )
    named = {**vocabulary, **{i: n for i, n in zip(scores.classes.ids, scores.classes.names) if n}}
    classes = ClassOrder.of(scores.classes.ids, named)
    ids, labels, values = labelled_videos(scores, corpus, args.splits)
    ragged = labels.values, labels.offsets
    evaluation = evaluate_videos(*ragged, classes, values)
    inputs = ReportInputs(
        title=args.title,
        run=args.run,
        videos=LabelledVideos(ids, video_truth(*ragged, classes), values, evaluation),
        labels=_pseudo_labels(args, corpus, vocabulary),
        tables=tables,
        facts=_facts(scores, corpus, args.splits),
    )
    write_report(args.out, inputs, ReportSettings(num_timelines=args.num_timelines))
    return "gap", evaluation.to_dict()["gap"]


def _pseudo_labels(args: Report, corpus: Corpus, vocabulary: dict[int, str]) -> PseudoLabels | None:
    """The Labels of `--labels`, beside the ratings of V1: what training has without them."""
    if args.labels is None:
        return None
    named = {i: name for i, name in zip(corpus.classes.ids, corpus.classes.names) if name}
    rated = corpus.rated(corpus.rows(["v1"]))
    return read_pseudo_labels(args.labels, rated, {**vocabulary, **named})


def report_inputs(
    title: str,
    run: Path | None,
    scores: Scores,
    truth: SegmentLabels,
    corpus: Corpus,
    evaluated: Evaluated,
    splits: Sequence[str],
    vocabulary: dict[int, str],
) -> ReportInputs:
    """What a page of segments reads; facts name no path, so that the page can be passed on."""
    rows = corpus.rows_of(scores.segments.video_ids)
    labels = {corpus.video_ids[r]: corpus.labels.of(r).tolist() for r in rows[rows >= 0].tolist()}
    return ReportInputs(
        title=title,
        run=run,
        scores=scores,
        truth=truth,
        evaluation=evaluated.segments,
        video_metrics=evaluated.videos.to_dict() if evaluated.videos else None,
        video_labels=labels,
        vocabulary=vocabulary,
        facts=_facts(scores, corpus, splits),
    )


def _facts(scores: Scores, corpus: Corpus, splits: Sequence[str]) -> dict[str, str]:
    of_segments = not scores.segments.has_whole_videos
    return {
        "data set": corpus.dataset.name,
        "splits": ", ".join(splits),
        "videos scored": f"{len(scores.segments.video_ids):,}",
        **({"segments scored": f"{len(scores.segments):,}"} if of_segments else {}),
        "trained on": ", ".join(scores.made_by.get("trained_on", ())) or "not stated",
    }
