"""Precision-recall curves of a few classes, a small panel each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.report.precision_recall import PrecisionRecall

PANELS_A_ROW = 5


@style.styled
def draw_precision_recall(curves: Sequence[PrecisionRecall]) -> Figure:
    """A panel a class; the tinted area is its AP, the dashes are the share of positives."""
    rows = max(-(-len(curves) // PANELS_A_ROW), 1)
    figure = Figure((style.WIDTH_IN, 0.3 + 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, PANELS_A_ROW, sharey=True, squeeze=False)
    for axes, curve in zip(grid.flat, curves):
        _draw_curve(axes, curve)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("precision")
    return figure


def _draw_curve(axes: Axes, curve: PrecisionRecall) -> None:
    if len(curve.recall):  # else no positive reached the list
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        axes.fill_between(recall, precision, step="pre", color=style.TINT, linewidth=0)
        axes.plot(recall, precision, drawstyle="steps-pre", color=style.ACCENT)
    share = curve.num_positives / max(curve.num_rated, 1)
    axes.axhline(share, color=style.BASELINE, linewidth=0.9, dashes=(4, 3))
    style.unit_axis(axes)
    style.unit_axis(axes, "x", step=0.5)
    axes.set(xlabel="recall")
    axes.set_title(
        f"{shorten(curve.topic, 26)}\n{curve.role}{', ' if curve.role else ''}AP {curve.ap:.3f}"
    )
