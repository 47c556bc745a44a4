"""The reliability diagram: share of positives against mean score, bin by bin."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from whenabouts.metrics.calibration import Calibration
from whenabouts.report import style

LOWEST = 1e-6  # the logarithmic axes begin here at the latest


@style.styled
def draw_calibration(found: Calibration) -> Figure:
    """The bins on linear axes and on logarithmic ones, which show the small scores."""
    figure = Figure((style.WIDTH_IN, 4.1), layout="constrained")
    linear, logarithmic = figure.subplots(1, 2)
    style.unit_axis(linear)
    style.unit_axis(linear, "x")
    linear.plot([0, 1], [0, 1], color=style.BASELINE, linewidth=0.9, dashes=(4, 3))
    linear.annotate(f"ECE {found.ece:.4f}", (0.03, 0.97), va="top", fontweight="bold")
    _draw_bins(linear, found, found.num_pairs > 0)
    _set_logarithmic(logarithmic, found)
    _draw_bins(logarithmic, found, (found.num_positives > 0) & (found.mean_score > 0))
    for axes in (linear, logarithmic):
        axes.set(xlabel="mean score of the group", ylabel="share that is positive")
    return figure


def _draw_bins(axes: Axes, found: Calibration, shown: np.ndarray) -> None:
    score, share = found.mean_score[shown], found.share_positive[shown]
    low, high = (end[shown] for end in found.share_interval())
    axes.vlines(score, low, high, color=style.ACCENT, linewidth=1.0, alpha=0.6)
    axes.plot(score, share, "o-", color=style.ACCENT, markersize=4.5, linewidth=1.0)


def _set_logarithmic(axes: Axes, found: Calibration) -> None:
    """Square axes from below the least value shown to 1."""
    values = np.concatenate([found.mean_score, found.share_positive])
    least = max(values[values > 0].min(initial=0.1), LOWEST)
    limits = least / 2, 1.5
    axes.plot([LOWEST, 1], [LOWEST, 1], color=style.BASELINE, linewidth=0.9, dashes=(4, 3))
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axis.set_major_locator(LogLocator(numticks=8))
        style.plain_numbers(axes, which)
