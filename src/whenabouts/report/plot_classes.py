"""AP a class: the sorted curve, the best and worst by name, and AP against what made it easy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.report.ranking import best_first, extremes

Values = NDArray[np.float64]
LOG_FROM = 30  # numbers that span this factor stand on a logarithmic axis


@style.styled
def draw_sorted_ap(ap: Values, random_ap: Values) -> Figure:
    """AP of all classes, best first, each above a tick for the AP of a random order."""
    order = best_first(ap)
    edges = np.arange(len(order) + 1) + 0.5
    figure = Figure((style.WIDTH_IN, 2.7), layout="constrained")
    axes = figure.subplots()
    axes.stairs(ap[order], edges, fill=True, facecolor=style.TINT)
    axes.stairs(ap[order], edges, baseline=None, color=style.ACCENT, linewidth=1.4)
    _draw_ticks(axes, random_ap[order])
    mean, random_mean = ap[order].mean(), random_ap[order].mean()
    axes.axhline(mean, color=style.INK, linewidth=0.8, dashes=(4, 3))
    axes.axhline(random_mean, color=style.BASELINE, linewidth=0.8, dashes=(4, 3))
    heights = style.spread(np.array([mean, random_mean]), 0.08, 0.0, 1.0)
    _name_line(axes, heights[0], f"mAP {mean:.3f}")
    _name_line(axes, heights[1], f"random order {random_mean:.3f}")
    style.unit_axis(axes)
    axes.set(xlabel="class, best first", ylabel="AP", xlim=(0.5, len(order) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=style.ROUND, integer=True, min_n_ticks=1))
    return figure


def _draw_ticks(axes: Axes, heights: Values) -> None:
    """A short level tick a class, all in one path: a thousand elements would weigh 100 kB."""
    centre = np.arange(len(heights)) + 1.0
    x = np.stack([centre - 0.4, centre + 0.4, np.full(len(centre), np.nan)], 1)
    y = np.repeat(heights[:, None], 3, 1)
    axes.plot(x.ravel(), y.ravel(), color=style.BASELINE, linewidth=1.0)


def _name_line(axes: Axes, height: float, text: str) -> None:
    axes.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )


@style.styled
def draw_extremes(ap: Values, random_ap: Values, topics: Sequence[str], num: int) -> Figure:
    """The `num` best and the `num` worst classes by name; a tick stands at the random order."""
    best, worst = extremes(ap, num)
    panels = [(f"{len(best)} best", best), (f"{len(worst)} worst", worst)]
    if not len(worst):
        panels = [("the only class", best)]
    figure = Figure((style.WIDTH_IN, 0.7 + 0.2 * len(best)), layout="constrained")
    for axes, (title, columns) in zip(figure.subplots(1, 2), panels):
        axes.set_title(title, fontweight="bold")
        _draw_bars(axes, ap[columns], random_ap[columns], [topics[c] for c in columns], len(best))
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    return figure


def _draw_bars(axes: Axes, ap: Values, random_ap: Values, topics: list[str], rows: int) -> None:
    places = np.arange(len(ap))
    axes.barh(places, ap, height=0.66, color=style.ACCENT)
    axes.vlines(random_ap, places - 0.42, places + 0.42, color=style.INK, linewidth=1.0)
    for place, value, random_value in zip(places, ap, random_ap):
        axes.annotate(
            f"{value:.2f}",
            (max(value, random_value), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=style.MUTED,
        )
    style.unit_axis(axes, "x")
    axes.set(yticks=places, ylim=(rows - 0.4, -0.6), xlim=(0, 1.12), xlabel="AP")
    axes.set_yticklabels([shorten(topic, 30) for topic in topics], color=style.INK)
    axes.grid(visible=False, axis="y")


@style.styled
def draw_ap_against(ap: Values, random_ap: Values, num_positives: NDArray[np.int64]) -> Figure:
    """AP against the number of rated positives, and against the AP of a random order."""
    figure = Figure((style.WIDTH_IN, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    has = np.isfinite(ap)
    for axes, x in ((left, num_positives[has]), (right, random_ap[has])):
        axes.plot(
            x, ap[has], "o", markersize=3.6, alpha=0.65, color=style.ACCENT, markeredgewidth=0
        )
        style.unit_axis(axes)
    left.set(xlabel="rated positives of the class", ylabel="AP")
    left.set_xlim(0, num_positives[has].max(initial=1) * 1.04)
    left.xaxis.set_major_locator(MaxNLocator(6, steps=style.ROUND, integer=True))
    right.plot([0, 1], [0, 1], color=style.INK, linewidth=0.8, dashes=(4, 3))
    right.annotate("random order", (0.8, 0.72))
    style.unit_axis(right, "x")
    right.set(xlabel="expected AP of a random order")
    return figure


@style.styled
def draw_ap_of_frequency(ap: Values, random_ap: Values, num_positives: NDArray[np.int64]) -> Figure:
    """AP against the number of videos with the class; dashes: the AP of a random order, which is
    a function of that number alone."""
    figure = Figure((style.WIDTH_IN, 3.0), layout="constrained")
    axes = figure.subplots()
    has = np.isfinite(ap)
    count, order = num_positives[has], np.argsort(num_positives[has], kind="stable")
    axes.plot(count, ap[has], "o", markersize=4, alpha=0.65, color=style.ACCENT, markeredgewidth=0)
    axes.plot(count[order], random_ap[has][order], color=style.INK, linewidth=0.8, dashes=(4, 3))
    axes.annotate(
        "random order",
        (count[order[-1]], random_ap[has][order[-1]]),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
    )
    style.unit_axis(axes)
    if count.max() > LOG_FROM * count.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=10))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(10, steps=style.ROUND, integer=True))
    style.plain_numbers(axes, "x")
    axes.set(xlabel="videos with the label", ylabel="AP")
    return figure
