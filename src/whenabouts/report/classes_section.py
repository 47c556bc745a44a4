"""AP per class: three figures and the table of all classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from whenabouts.report.class_results import ClassResults, class_results
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
from whenabouts.report.plot_classes import (
    draw_ap_against,
    draw_ap_of_frequency,
    draw_extremes,
    draw_sorted_ap,
)
from whenabouts.report.ranking import best_first
from whenabouts.report.style import inline_svg

SCATTER_FROM = 5  # fewer dots show no relation


def classes_section(inputs: ReportInputs, settings: ReportSettings) -> Markup:
    results = class_results(inputs)
    if results is None or not len(best_first(results.ap)):
        return section("classes", "AP per class", missing("No class has an AP: see above."))
    of_videos = inputs.videos is not None
    return section(
        "classes",
        "AP per class",
        *_figures(results, settings, of_videos=of_videos),
        tag("h3", "All classes"),
        _table(results, of_videos=of_videos),
    )


def _figures(
    results: ClassResults, settings: ReportSettings, *, of_videos: bool
) -> Iterator[Markup]:
    ap, expected, topics = results.ap, results.random_ap, results.topics
    yield figure(
        inline_svg(draw_sorted_ap(ap, expected), "ap-sorted", _sorted_alt(results)),
        "AP of every class, best first. Grey ticks: what to expect of a random order of the "
        f"{results.ranked}.",
    )
    yield figure(
        inline_svg(
            draw_extremes(ap, expected, topics, settings.num_extremes),
            "ap-extremes",
            "Bars of the AP of the best and the worst classes by name, as in the table below.",
        ),
        "The classes at both ends. Dark ticks: a random order.",
    )
    if len(best_first(ap)) >= SCATTER_FROM:
        yield _frequency_figure(results) if of_videos else _rated_figure(results)


def _rated_figure(results: ClassResults) -> Markup:
    drawn = draw_ap_against(results.ap, results.random_ap, results.num_positives)
    return figure(
        inline_svg(drawn, "ap-against", f"Two scatter plots of AP: {_above(results)}"),
        "A dot is a class. Left: does AP follow the number of rated positives? Right: above the "
        "dashes a class is ranked better than by chance.",
    )


def _frequency_figure(results: ClassResults) -> Markup:
    drawn = draw_ap_of_frequency(results.ap, results.random_ap, results.num_positives)
    return figure(
        inline_svg(drawn, "ap-against", f"A scatter plot of AP: {_above(results)}"),
        "A dot is a class: are frequent topics found better? Above the dashes a class is ranked "
        "better than by chance.",
    )


def _above(results: ClassResults) -> str:
    order = best_first(results.ap)
    above = int((results.ap[order] > results.random_ap[order]).sum())
    return f"{above} of {len(order)} classes lie above a random order."


def _sorted_alt(results: ClassResults) -> str:
    ap, order = results.ap, best_first(results.ap)
    ends = [f"{ap[c]:.3f} ({shorten(results.topics[c], 40)})" for c in (order[0], order[-1])]
    return (
        f"AP of {len(order)} classes, best first: from {ends[0]} to {ends[1]}, "
        f"mean {ap[order].mean():.3f}."
    )


def _table(results: ClassResults, *, of_videos: bool) -> Markup:
    """The number of items ranked has a column where it differs from class to class."""
    order = best_first(results.ap).tolist()
    without = np.flatnonzero(np.isnan(results.ap)).tolist()
    rows = [_row(results, c, with_ranked=not of_videos) for c in [*order, *without]]
    counts = ("Videos with it",) if of_videos else ("Positives", "Rated")
    heads = [
        head("Topic", is_number=False),
        head("Class"),
        head("AP"),
        tag("td", class_="bar"),
        *map(head, ("Random order", *counts)),
    ]
    whole = table("AP of all classes, best first", heads, rows, "sortable")
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label="All classes")


def _row(results: ClassResults, c: int, *, with_ranked: bool) -> Markup:
    ap, chance = float(results.ap[c]), float(results.random_ap[c])
    has = np.isfinite(ap)
    return tag(
        "tr",
        tag("th", shorten(results.classes.topic(c), 120), scope="row"),
        number(str(results.classes.ids[c])),
        number(f"{ap:.3f}" if has else NONE),
        tag("td", meter(ap, chance) if has else NOTHING, class_="bar"),
        number(f"{chance:.3f}" if has else NONE),
        number(f"{results.num_positives[c]:,}"),
        *([number(f"{results.num_ranked[c]:,}")] if with_ranked else []),
    )
