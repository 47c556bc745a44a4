"""Pseudo-labels a class beside rated ones, and clusters by size, votes and purity."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from whenabouts.report import style

Counts = NDArray[np.int64]


@style.styled
def draw_label_counts(positives: Counts, rated_positives: Counts) -> Figure:
    """Positive pseudo-labels and rated positives of each class, in the order given.

    The axis is logarithmic from 1 up, and has room for 0 below.
    """
    figure = Figure((style.WIDTH_IN, 3.0), layout="constrained")
    axes = figure.subplots()
    edges = np.arange(len(positives) + 1) + 0.5
    axes.stairs(positives, edges, fill=True, facecolor=style.TINT)
    axes.stairs(positives, edges, baseline=None, color=style.ACCENT, label="pseudo-labels")
    places = np.arange(len(positives)) + 1
    axes.plot(
        places, rated_positives, "o", markersize=3, color=style.SERIES[1], markeredgewidth=0,
        label="rated",
    )  # fmt: skip
    _count_axis(axes, int(max(positives.max(initial=1), rated_positives.max(initial=1))))
    axes.set(xlabel="class, most pseudo-labels first", ylabel="positives")
    axes.set_xlim(0.5, len(positives) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=style.ROUND, integer=True, min_n_ticks=1))
    axes.legend(frameon=False, loc="upper right")
    return figure


def _count_axis(axes: Axes, most: int) -> None:
    axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    axes.set(ylim=(-0.15, most * 1.6), yticks=[0, *(10**i for i in range(len(str(most))))])
    style.plain_numbers(axes, "y")


@style.styled
def draw_clusters(frames: Counts, votes_for: Counts, purity: NDArray[np.float64]) -> Figure:
    """Purity of clusters against how many frames, and how many votes for a class, they hold.

    Each has at least one frame and one such vote.
    """
    figure = Figure((style.WIDTH_IN, 3.0), layout="constrained")
    named = ((frames, "frames of the cluster"), (votes_for, "votes for a class in the cluster"))
    for axes, (counts, name) in zip(figure.subplots(1, 2, sharey=True), named):
        axes.plot(
            counts, purity, "o", markersize=3.2, alpha=0.5, color=style.ACCENT, markeredgewidth=0
        )
        axes.set_xscale("log")
        axes.set_xlim(counts.min() / 1.3, counts.max() * 1.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=10))
        style.plain_numbers(axes, "x")
        style.unit_axis(axes)
        axes.set(xlabel=name)
    figure.axes[0].set(ylabel="purity")
    return figure
