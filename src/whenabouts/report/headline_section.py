"""The head of the page: the few numbers a reader came for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whenabouts.metrics.segment_map import SegmentEvaluation
from whenabouts.report.inputs import ReportInputs
from whenabouts.report.layout import NOTHING, meter, missing, section
from whenabouts.report.markup import Markup, tag
from whenabouts.report.ranking import best_first, random_order_ap

VIDEO_METRICS = {"hit_at_one": "Hit@1", "mean_ap": "mAP of videos", "perr": "PERR"}


def headline_section(inputs: ReportInputs) -> Markup:
    video_tiles = list(_video_tiles(inputs))
    facts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in inputs.facts.items()]
    return section(
        "headline",
        "Headline",
        tag("div", *_evaluation_tiles(inputs.evaluation), class_="tiles"),
        tag("div", *video_tiles, class_="tiles") if video_tiles else NOTHING,
        tag("dl", *facts, class_="facts") if facts else NOTHING,
    )


def _evaluation_tiles(evaluation: SegmentEvaluation | None) -> Iterator[Markup]:
    if evaluation is None:
        yield missing("No evaluation was given: no mAP and no AP per class.")
    elif not len(best_first(evaluation.ap)):
        yield missing("No class has a rated positive: mAP is not defined.")
    else:
        yield from _map_tiles(evaluation)


def _map_tiles(evaluation: SegmentEvaluation) -> Iterator[Markup]:
    has = best_first(evaluation.ap)
    ap = evaluation.ap[has]
    expected = random_order_ap(evaluation.num_rated, evaluation.num_positives)[has]
    low, middle, high = np.quantile(ap, (0.25, 0.5, 0.75))
    num_rated, num_positives = evaluation.num_rated.sum(), evaluation.num_positives.sum()
    share = f"{num_positives:,} positive ({num_positives / num_rated:.0%})"
    yield tile(
        f"mAP@{evaluation.k:,}",
        f"{evaluation.mean_ap:.3f}",
        f"a random order has {expected.mean():.3f}",
        meter(evaluation.mean_ap, expected.mean()),
        is_main=True,
    )
    yield tile("AP of the median class", f"{middle:.3f}", f"quartiles {low:.3f} and {high:.3f}")
    yield tile("Classes", f"{len(has):,}", _class_note(len(evaluation.ap), ap < expected))
    yield tile("Rated pairs", f"{num_rated:,}", share)


def _class_note(num_classes: int, below: NDArray[np.bool_]) -> str:
    note = f"{below.sum():,} below their random order"
    without = num_classes - len(below)
    return f"{note}; {without:,} more have no rated positive" if without else note


def _video_tiles(inputs: ReportInputs) -> Iterator[Markup]:
    """A tile a mean; the counts among the metrics are part of its name and note."""
    metrics = inputs.video_metrics or {}
    names = {**VIDEO_METRICS, "gap": f"GAP@{metrics.get('top_n', 20)}"}
    note = "video labels"
    if "num_videos" in metrics:
        note += f" of {metrics['num_videos']:,} videos"
    for name, value in metrics.items():
        if isinstance(value, float):
            yield tile(names.get(name, name), f"{value:.3f}", note)


def tile(name: str, value: str, note: str, *more: str, is_main: bool = False) -> Markup:
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag("div", value, class_="value"),
        *more,
        tag("div", note, class_="note"),
        class_="tile main" if is_main else "tile",
    )
