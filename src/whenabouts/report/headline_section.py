"""The head of the page: the few numbers a reader came for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whenabouts.metrics.segment_map import SegmentEvaluation
from whenabouts.metrics.video import VideoEvaluation
from whenabouts.report.inputs import LabelledVideos, ReportInputs
from whenabouts.report.layout import NOTHING, meter, missing, section
from whenabouts.report.markup import Markup, tag
from whenabouts.report.ranking import best_first, random_order_ap

VIDEO_METRICS = {"hit_at_one": "Hit@1", "mean_ap": "mAP of videos", "perr": "PERR"}
OF_SEGMENTS = "Segments, against their ratings"
OF_VIDEOS = "Whole videos, against their labels (score of a video: the highest of its segments)"


def headline_section(inputs: ReportInputs) -> Markup:
    tiles = _of_video_classifier(inputs.videos) if inputs.videos else _of_segments(inputs)
    facts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in inputs.facts.items()]
    return section(
        "headline", "Headline", *tiles, tag("dl", *facts, class_="facts") if facts else NOTHING
    )


def _of_segments(inputs: ReportInputs) -> Iterator[Markup]:
    """The metrics of segments; where those of videos stand below, both have a heading."""
    of_segments = tag(
        "div", *_evaluation_tiles(inputs.evaluation, inputs.num_segments), class_="tiles"
    )
    of_videos = list(_video_tiles(inputs))
    if not of_videos:
        yield of_segments
        return
    yield from (tag("h3", OF_SEGMENTS), of_segments)
    yield from (tag("h3", OF_VIDEOS), tag("div", *of_videos, class_="tiles"))


def _of_video_classifier(videos: LabelledVideos) -> Iterator[Markup]:
    found = videos.evaluation
    if not len(best_first(found.ap)):
        yield missing("No video has a label that is scored: no metric is defined.")
        return
    yield tag("div", *_metric_tiles(found), class_="tiles")
    yield tag("div", *_count_tiles(found), class_="tiles")


def _metric_tiles(found: VideoEvaluation) -> Iterator[Markup]:
    has = best_first(found.ap)
    chance = random_order_ap(np.full(len(found.ap), found.num_videos), found.num_positives)
    expected = float(chance[has].mean())
    best = f"of the {found.top_n} best topics of every video"
    yield tile(f"GAP@{found.top_n}", f"{found.gap:.3f}", best, is_main=True)
    yield tile(
        "mAP",
        f"{found.mean_ap:.3f}",
        f"a random order has {expected:.3f}",
        meter(found.mean_ap, expected),
    )
    yield tile("Hit@1", f"{found.hit_at_one:.3f}", "videos whose best topic is a label")
    yield tile("PERR", f"{found.perr:.3f}", "of n labels, found among the n best topics")


def _count_tiles(found: VideoEvaluation) -> Iterator[Markup]:
    ap = found.ap[best_first(found.ap)]
    low, middle, high = np.quantile(ap, (0.25, 0.5, 0.75))
    labels = int(found.num_positives.sum())
    ignored = found.num_ignored_labels
    note = f"{labels / found.num_videos:.1f} a video"
    without = len(found.ap) - len(ap)
    unseen = f"{without:,} more are no video's label" if without else "each a label of some video"
    yield tile("Videos", f"{found.num_videos:,}", "that have labels")
    yield tile("Labels", f"{labels:,}", f"{note}; {ignored:,} more not scored" if ignored else note)
    yield tile("Classes", f"{len(ap):,}", unseen)
    yield tile("AP of the median class", f"{middle:.3f}", f"quartiles {low:.3f} and {high:.3f}")


def _evaluation_tiles(
    evaluation: SegmentEvaluation | None, num_segments: int | None
) -> Iterator[Markup]:
    if evaluation is None:
        yield missing("No evaluation was given: no mAP and no AP per class.")
    elif not len(best_first(evaluation.ap)):
        yield missing("No class has a rated positive: mAP is not defined.")
    else:
        yield from _map_tiles(evaluation, num_segments)


def _map_tiles(evaluation: SegmentEvaluation, num_segments: int | None) -> Iterator[Markup]:
    has = best_first(evaluation.ap)
    ap = evaluation.ap[has]
    counts = evaluation.num_rated, evaluation.num_positives
    expected = random_order_ap(*counts, num_segments, evaluation.k)[has]
    low, middle, high = np.quantile(ap, (0.25, 0.5, 0.75))
    num_rated, num_positives = evaluation.num_rated.sum(), evaluation.num_positives.sum()
    share = f"{num_positives:,} positive ({num_positives / num_rated:.0%})"
    if (num_found := evaluation.num_found.sum()) < num_positives:
        share += f", {num_found:,} of them listed"
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
