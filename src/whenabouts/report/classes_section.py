"""AP per class: three figures and the table of all classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whenabouts.metrics.segment_map import SegmentEvaluation
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import (
    NONE,
    NOTHING,
    figure,
    head,
    meter,
    missing,
    number,
    section,
    table,
)
from whenabouts.report.markup import Markup, shorten, tag
from whenabouts.report.plot_classes import draw_ap_against, draw_extremes, draw_sorted_ap
from whenabouts.report.ranking import best_first, random_order_ap
from whenabouts.report.style import inline_svg

SCATTER_FROM = 5  # fewer dots show no relation


def classes_section(inputs: ReportInputs, settings: ReportSettings) -> Markup:
    evaluation = inputs.evaluation
    if evaluation is None or not len(best_first(evaluation.ap)):
        return section("classes", "AP per class", missing("No class has an AP: see above."))
    expected = random_order_ap(evaluation.num_rated, evaluation.num_positives)
    return section(
        "classes",
        "AP per class",
        *_figures(evaluation, expected, settings),
        tag("h3", "All classes"),
        _table(evaluation, expected),
    )


def _figures(
    evaluation: SegmentEvaluation, expected: NDArray[np.float64], settings: ReportSettings
) -> Iterator[Markup]:
    ap = evaluation.ap
    topics = [evaluation.classes.topic(c) for c in range(len(ap))]
    yield figure(
        inline_svg(draw_sorted_ap(ap, expected), "ap-sorted", _sorted_alt(ap, topics)),
        "AP of every class, best first. Grey ticks: what to expect of a random order of the "
        "class's rated pairs.",
    )
    yield figure(
        inline_svg(
            draw_extremes(ap, expected, topics, settings.num_extremes),
            "ap-extremes",
            "Bars of the AP of the best and the worst classes by name, as in the table below.",
        ),
        "The classes at both ends. Dark ticks: a random order.",
    )
    order = best_first(ap)
    if len(order) < SCATTER_FROM:
        return
    above = int((ap[order] > expected[order]).sum())
    yield figure(
        inline_svg(
            draw_ap_against(ap, expected, evaluation.num_positives),
            "ap-against",
            f"Two scatter plots of AP: {above} of {len(order)} classes lie above a random order.",
        ),
        "A dot is a class. Left: does AP follow the number of rated positives? Right: above the "
        "dashes a class is ranked better than by chance.",
    )


def _sorted_alt(ap: NDArray[np.float64], topics: list[str]) -> str:
    order = best_first(ap)
    best, worst = order[0], order[-1]
    return (
        f"AP of {len(order)} classes, best first: from {ap[best]:.3f} ({shorten(topics[best], 40)})"
        f" to {ap[worst]:.3f} ({shorten(topics[worst], 40)}), mean {ap[order].mean():.3f}."
    )


def _table(evaluation: SegmentEvaluation, expected: NDArray[np.float64]) -> Markup:
    order = best_first(evaluation.ap)
    without = np.flatnonzero(np.isnan(evaluation.ap))
    rows = [_row(evaluation, expected, c) for c in [*order.tolist(), *without.tolist()]]
    heads = [
        head("Topic", is_number=False),
        head("Class"),
        head("AP"),
        tag("td", class_="bar"),
        *map(head, ("Random order", "Positives", "Rated")),
    ]
    whole = table("AP of all classes, best first", heads, rows, "sortable")
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label="All classes")


def _row(evaluation: SegmentEvaluation, expected: NDArray[np.float64], c: int) -> Markup:
    ap, chance = float(evaluation.ap[c]), float(expected[c])
    has = np.isfinite(ap)
    return tag(
        "tr",
        tag("th", shorten(evaluation.classes.topic(c), 120), scope="row"),
        number(str(evaluation.classes.ids[c])),
        number(f"{ap:.3f}" if has else NONE),
        tag("td", meter(ap, chance) if has else NOTHING, class_="bar"),
        number(f"{chance:.3f}" if has else NONE),
        number(f"{evaluation.num_positives[c]:,}"),
        number(f"{evaluation.num_rated[c]:,}"),
    )
