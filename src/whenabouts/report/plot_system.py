"""Models beside the paper's, and what an ensemble gains a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.report.tables_file import Model

LOSS = style.SERIES[1]


@style.styled
def draw_models(models: Sequence[Model]) -> Figure:
    """A row a model: dots for its repeats, a line of two standard deviations around their mean, and
    a tick at the paper's mAP."""
    figure = Figure((style.WIDTH_IN, 0.75 + 0.2 * len(models)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(models))
    papers = [(row, model.paper) for row, model in enumerate(models) if model.paper is not None]
    if papers:
        places, paper = np.array(papers).T
        axes.plot(
            paper, places, "|", markersize=9, color=style.INK, markeredgewidth=1.2,
            label="the paper",
        )  # fmt: skip
    dots = [(value, row) for row, model in enumerate(models) for value in model.found.values]
    if dots:
        axes.plot(
            *np.array(dots).T, "o", markersize=4.5, color=style.ACCENT, markeredgewidth=0,
            alpha=0.75, label="here, each repeat",
        )  # fmt: skip
    _draw_spreads(axes, models)
    axes.set(yticks=rows, ylim=(len(models) - 0.4, -0.6), xlabel="mAP")
    axes.set_yticklabels([shorten(model.name, 30) for model in models], color=style.INK)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=style.ROUND, min_n_ticks=2))
    style.plain_numbers(axes, "x")
    axes.margins(x=0.04)
    if papers or dots:
        axes.legend(
            frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2
        )
    return figure


def _draw_spreads(axes: Axes, models: Sequence[Model]) -> None:
    known = [
        (row, model.found.mean, model.found.sd)
        for row, model in enumerate(models)
        if model.found.mean is not None and model.found.sd is not None
    ]
    if known:
        places, mean, sd = np.array(known).T
        axes.hlines(
            places, mean - sd, mean + sd, color=style.ACCENT, linewidth=1.6,
            label="mean ± standard deviation",
        )  # fmt: skip


@style.styled
def draw_gains(
    single_ap: NDArray[np.float64], chosen_ap: NDArray[np.float64], single: str, chosen: str
) -> Figure:
    """Left: the gain of every class, greatest first. Right: AP of the one against the other."""
    figure = Figure((style.WIDTH_IN, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    gain = np.sort(chosen_ap - single_ap)[::-1]
    edges = np.arange(len(gain) + 1) + 0.5
    for part, colour in ((np.maximum(gain, 0), style.ACCENT), (np.minimum(gain, 0), LOSS)):
        left.stairs(part, edges, fill=True, facecolor=colour)
    left.axhline(0, color=style.INK, linewidth=0.8)
    most = max(np.abs(gain).max(initial=0.0), 0.005)
    left.set(xlim=(0.5, len(gain) + 0.5), ylim=(-1.08 * most, 1.08 * most))
    left.set(xlabel="class, greatest gain first", ylabel="gain in AP")
    left.xaxis.set_major_locator(MaxNLocator(6, steps=style.ROUND, integer=True, min_n_ticks=1))
    style.plain_numbers(left, "y")
    _draw_against(right, single_ap, chosen_ap)
    right.set(xlabel=f"AP of {shorten(single, 30)}", ylabel=f"AP of {shorten(chosen, 30)}")
    return figure


def _draw_against(
    axes: Axes, single_ap: NDArray[np.float64], chosen_ap: NDArray[np.float64]
) -> None:
    gains = chosen_ap > single_ap
    for kind, colour in ((gains, style.ACCENT), (~gains, LOSS)):
        axes.plot(
            single_ap[kind], chosen_ap[kind], "o", markersize=3.6, alpha=0.65, color=colour,
            markeredgewidth=0,
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=0.8, dashes=(4, 3))
    low = np.floor(10 * min(single_ap.min(initial=0.9), chosen_ap.min(initial=0.9))) / 10
    for which in ("x", "y"):
        style.unit_axis(axes, which)
        axes.set(**{f"{which}lim": (low - 0.03 * (1 - low), 1 + 0.05 * (1 - low))})
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(MaxNLocator(6, steps=style.ROUND))
