"""The training curves of a run: loss, learning rate and what was watched
(mAP or GAP) against step, phase after phase."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.report.run_log import (
    Curve,
    Phase,
    best_of,
    measure_name,
    smooth,
    splits,
    thin,
)

LOG_FROM = 30.0  # a curve that spans this factor is drawn on a logarithmic axis
PANELS = {"loss": ("training loss", 1.7), "learning_rate": ("learning rate", 0.9)}


@style.styled
def draw_training(phases: tuple[Phase, ...]) -> Figure:
    """A panel each for loss, learning rate and mAP (or GAP), as far as logged; steps shared."""
    panels = [p for p in PANELS if any(len(getattr(phase, p)) for phase in phases)]
    heights = [PANELS[p][1] for p in panels]
    evaluated = splits(phases)
    if evaluated:
        heights.append(1.9)
    figure = Figure((style.WIDTH_IN, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(
        max(len(heights), 1), 1, sharex=True, squeeze=False, height_ratios=heights or [1]
    )
    rows = list(grid[:, 0])
    for axes, panel in zip(rows, panels):
        _draw_panel(axes, phases, panel)
    if evaluated:
        _draw_evaluations(rows[-1], phases, evaluated)
    _mark_phases(rows, phases)
    figure.align_ylabels(rows)
    return figure


def _draw_panel(axes: Axes, phases: tuple[Phase, ...], panel: str) -> None:
    curves = [(phase.first_step, thin(getattr(phase, panel))) for phase in phases]
    if panel == "loss":
        axes.plot(*_joined(curves), color=style.TINT, linewidth=0.9)
        curves = [(first, smooth(curve)) for first, curve in curves]
    axes.plot(*_joined(curves), color=style.ACCENT)
    axes.set_ylabel(PANELS[panel][0])
    values = np.concatenate([curve.value for _, curve in curves])
    if values.min() > 0 and values.max() > LOG_FROM * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
    elif values.min() >= 0:
        axes.set_ylim(0, max(values.max() * 1.08, 1e-12))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=style.ROUND))
    style.plain_numbers(axes, "y")


def _draw_evaluations(axes: Axes, phases: tuple[Phase, ...], evaluated: list[str]) -> None:
    for split, colour in zip(evaluated, style.SERIES):
        curves = [(p.first_step, p.watched[split]) for p in phases if split in p.watched]
        axes.plot(*_joined(curves), color=colour, marker=".", markersize=3.5, linewidth=1.1)
        best = best_of(phases, split)
        axes.plot(best.whole_step, best.value, "o", color=colour, markersize=6)
        left = best.whole_step < 0.5 * _last_step(phases)
        text = f"{_split_name(split)}: best {best.value:.3f} at step {best.step:,.0f}"
        if len(phases) > 1:
            text += f" of {shorten(best.phase, 20)}"
        axes.annotate(
            text,
            (best.whole_step, best.value),
            xytext=(0, 7),
            textcoords="offset points",
            ha="left" if left else "right",
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=style.ROUND))
    axes.set_ylabel(f"{measure_name(phases)} on {', '.join(map(_split_name, evaluated))}")


def _mark_phases(rows: list[Axes], phases: tuple[Phase, ...]) -> None:
    last = max(_last_step(phases), 1.0)
    rows[-1].set_xlim(-0.01 * last, 1.01 * last)
    several = len(phases) > 1
    rows[-1].set_xlabel("step" + (" (phases one after another)" if several else ""))
    rows[-1].xaxis.set_major_locator(MaxNLocator(8, steps=style.ROUND, integer=True))
    style.plain_numbers(rows[-1], "x")
    for phase in phases if several else ():
        for axes in rows:
            axes.axvline(phase.first_step, color=style.BASELINE, linewidth=0.8, dashes=(3, 3))
        rows[0].annotate(
            shorten(phase.name, 24),
            (phase.first_step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            color=style.MUTED,
        )


def _joined(
    curves: list[tuple[float, Curve]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One line through all phases, broken (NaN) between them."""
    gap = [np.nan]
    steps = [part for first, curve in curves for part in (first + curve.step, gap)]
    values = [part for _, curve in curves for part in (curve.value, gap)]
    return np.concatenate(steps), np.concatenate(values)


def _last_step(phases: tuple[Phase, ...]) -> float:
    return phases[-1].first_step + phases[-1].num_steps


def _split_name(split: str) -> str:
    return shorten(split.upper() if len(split) <= 2 else split, 16)
