"""`whenabouts report`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.commands.evaluate import Evaluated, evaluate_all, load_truth
from whenabouts.core.classes import read_vocabulary
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.scores import Scores, open_scores
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.page import write_report


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page: curves, AP a class, precision-recall, timelines.

    Timelines show attention too where the Scores hold it (predict --attention).

    Example: whenabouts report scores corpus.index --run runs/s-logi -o report.html
    """

    scores: tyro.conf.Positional[Path]
    """The Scores folder."""
    index: tyro.conf.Positional[Path]
    """The index that holds the rated segments."""
    run: Path | None = None
    """The run's folder, for its curves and settings."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """The page to write."""
    splits: tuple[str, ...] = ("v2",)
    """Splits to evaluate on."""
    vocabulary: Path | None = None
    """vocabulary.csv: names of the video labels that are not evaluated."""
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
    corpus, scores = open_corpus(args.index), open_scores(args.scores)
    truth = load_truth(None, corpus, args.splits)
    evaluated = evaluate_all(scores, truth, corpus, args.splits)
    vocabulary = read_vocabulary(args.vocabulary) if args.vocabulary else {}
    settings = ReportSettings(
        num_timelines=args.num_timelines,
        pr_classes=args.pr_classes,
        segment_s=corpus.dataset.segment_s,
    )
    inputs = report_inputs(
        args.title, args.run, scores, truth, corpus, evaluated, args.splits, vocabulary
    )
    write_report(args.out, inputs, settings)
    mean_ap = evaluated.segments.to_dict()["mean_ap"]
    result = {"report": str(args.out), "mean_ap": mean_ap}
    head = "no rated positives" if mean_ap is None else f"mAP {mean_ap:.4f}"
    line = f"{args.out}: {head}; open it in a browser"
    give(result, [line], as_json=args.json)


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
    """What the page reads; facts name no path, so that the page can be passed on."""
    rows = corpus.rows_of(scores.segments.video_ids)
    labels = {corpus.video_ids[r]: corpus.labels.of(r).tolist() for r in rows[rows >= 0].tolist()}
    facts = {
        "data set": corpus.dataset.name,
        "splits": ", ".join(splits),
        "videos scored": f"{len(scores.segments.video_ids):,}",
        "segments scored": f"{len(scores.segments):,}",
        "trained on": ", ".join(scores.made_by.get("trained_on", ())) or "not stated",
    }
    return ReportInputs(
        title=title,
        run=run,
        scores=scores,
        truth=truth,
        evaluation=evaluated.segments,
        video_metrics=evaluated.videos.to_dict() if evaluated.videos else None,
        video_labels=labels,
        vocabulary=vocabulary,
        facts=facts,
    )
