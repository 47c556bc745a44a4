"""The picture of a search: the value by trial with the best so far, and a panel each setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.search.results import best_of
from whenabouts.search.space import Interval, Space, Span, Value
from whenabouts.search.study import State, Tried

COLUMNS = 3
MARKS: dict[State, tuple[str, str]] = {  # colour and edge of a dot
    "complete": (style.ACCENT, style.ACCENT),
    "pruned": (style.PAPER, style.BASELINE),
}
LOW_SHARE = (
    0.05  # of the finished trials below the axis: one that learned nothing flattens the rest
)


@style.styled
def draw_search(tried: Sequence[Tried], space: Space, measure: str) -> Figure:
    """Finished trials are full dots, pruned ones (their best so far) empty ones; what is below the
    axis stands at its foot."""
    shown = [t for t in tried if t.value is not None and t.state in MARKS]
    names = list(space)
    num_rows = -(-len(names) // COLUMNS)
    figure = Figure((style.WIDTH_IN, 2.6 + 1.9 * num_rows), layout="constrained")
    grid = figure.add_gridspec(1 + num_rows, COLUMNS, height_ratios=[1.3] + [1] * num_rows)
    by_trial = figure.add_subplot(grid[0, :])
    by_trial.set_ylim(*_limits(shown))
    _draw_trials(by_trial, shown, measure)
    for place, name in enumerate(names):
        row, column = divmod(place, COLUMNS)
        axes = figure.add_subplot(grid[1 + row, column], sharey=by_trial)
        _draw_setting(axes, shown, name, space[name])
        if column == 0:
            axes.set_ylabel(f"V2 {measure}")
    return figure


def _draw_trials(axes: Axes, shown: Sequence[Tried], measure: str) -> None:
    finished = [t for t in shown if t.state == "complete"]
    if finished:
        best = np.maximum.accumulate([t.value or 0.0 for t in finished])
        numbers = [t.number for t in finished]
        axes.step(
            [*numbers, max(t.number for t in shown)], [*best, best[-1]],
            where="post", color=style.SERIES[1], linewidth=1.2, label="best so far",
        )  # fmt: skip
    _dots(axes, [(t.number, t) for t in shown])
    chosen = best_of(shown)
    if chosen is not None:
        left = chosen.number < 0.6 * max(t.number for t in shown)
        axes.annotate(
            f"trial {chosen.number}: {chosen.value:.4f}", (chosen.number, chosen.value or 0.0),
            xytext=(0, 6), textcoords="offset points", ha="left" if left else "right",
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel=f"V2 {measure}")
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=style.ROUND, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=style.ROUND))
    style.plain_numbers(axes, "y")
    if shown:
        place = (1.0, 1.0)
        axes.legend(loc="lower right", bbox_to_anchor=place, frameon=False, ncols=3, borderpad=0)


def _draw_setting(axes: Axes, shown: Sequence[Tried], name: str, span: Span) -> None:
    with_it = [t for t in shown if name in t.settings]
    if isinstance(span, Interval):
        _dots(axes, [(float(t.settings[name]), t) for t in with_it])
        if span.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=style.ROUND))
        style.plain_numbers(axes, "x")
    else:
        # Dots of one choice stand side by side in the order of the trials, so that all are seen.
        places = [span.values.index(t.settings[name]) for t in with_it]
        shift = np.linspace(-0.2, 0.2, max(2, len(with_it)))
        _dots(axes, [(place + by, t) for place, by, t in zip(places, shift, with_it)])
        axes.set_xticks(range(len(span.values)), [_named(v) for v in span.values])
        axes.set_xlim(-0.5, len(span.values) - 0.5)
    axes.set_title(shorten(name, 48))


def _named(value: Value) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else shorten(str(value), 12)


def _dots(axes: Axes, placed: Sequence[tuple[float, Tried]]) -> None:
    low, high = axes.get_ylim()
    foot = low + 0.03 * (high - low)
    for state, (colour, edge) in MARKS.items():
        of_state = [(x, max(t.value or 0.0, foot)) for x, t in placed if t.state == state]
        if of_state:
            label = "finished" if state == "complete" else "pruned (the best it reached)"
            axes.scatter(
                [x for x, _ in of_state], [y for _, y in of_state], 16.0,
                color=colour, edgecolors=edge, linewidths=1.0, zorder=3, label=label,
            )  # fmt: skip


def _limits(shown: Sequence[Tried]) -> tuple[float, float]:
    finished = [t for t in shown if t.state == "complete"] or shown
    values = np.array([t.value for t in finished] or [0.0, 1.0], float)
    low, high = float(np.quantile(values, LOW_SHARE, method="lower")), float(values.max())
    air = 0.12 * max(high - low, 1e-4)
    return low - 2 * air, high + 2 * air
