"""One video's scores over time, with the segments that people rated and a model's attention."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from whenabouts.report import style
from whenabouts.report.markup import shorten
from whenabouts.report.timelines import Lane, Line, Timeline

LABEL_GAP = 0.115  # of the axis: the height of a line of text
LANE_IN, BETWEEN_IN = 0.2, 0.1  # height of a lane of attention, and of the gap above it


@style.styled
def draw_timeline(timeline: Timeline, title: str = "") -> Figure:
    """Steps a topic, named at the right; a filled dot is a segment rated positive, an open ring
    one rated negative, at the height of its score. Lanes of attention stand below. A `title` adds
    a heading and the key."""
    figure = _stack(len(timeline.lanes), *((2.25, 0.62) if title else (1.95, 0.76)))
    axes, *lane_axes = figure.axes
    for line, colour in reversed([*zip(timeline.lines, style.SERIES)]):
        _draw_line(axes, timeline, line, colour)
    for line, colour in zip(timeline.lines, style.SERIES):
        _draw_ratings(axes, timeline, line, colour)
    end = int(timeline.ends_s.max(initial=1))
    style.unit_axis(axes)
    axes.set(ylabel="score")
    for each, lane in zip(lane_axes, timeline.lanes):
        _draw_lane(each, lane)
    for each in figure.axes:
        each.set_xlim(0, end)
        each.xaxis.set_major_locator(MultipleLocator(tick_s(end)))
        each.tick_params(labelbottom=each is figure.axes[-1])
    figure.axes[-1].set_xlabel("time (s)")
    _name_lines(axes, timeline)
    if title:
        axes.set_title(shorten(title, 70), fontweight="bold", pad=9)
        axes.set_title(
            "\N{BLACK CIRCLE} rated positive   \N{WHITE CIRCLE} rated negative", loc="right"
        )
    return figure


def _draw_lane(axes: Axes, lane: Lane) -> None:
    """Columns from 0 to the highest attention in the video, in a colour that is no topic's."""
    highest = float(lane.values[np.isfinite(lane.values)].max(initial=0.0))
    x, y = step_points(lane.starts_s, lane.ends_s, lane.values)
    axes.fill_between(x, y, color=style.BASELINE, linewidth=0)
    axes.set(ylim=(0, highest or 1.0), yticks=[])
    axes.grid(visible=False)
    axes.annotate(
        f"attention of {lane.name}, up to {highest:.2g}", (1, 0.5), xytext=(1.04, 0.5),
        textcoords="axes fraction", xycoords="axes fraction", va="center", color=style.MUTED,
    )  # fmt: skip


def _stack(num_lanes: int, height_in: float, share: float) -> Figure:
    """Axes for the scores, a `share` of the given height, and below for lanes, which add to it.

    Fixed margins, so that the time axes of several figures stand below each other.
    """
    step_in = LANE_IN + BETWEEN_IN
    whole_in = height_in + num_lanes * step_in
    figure = Figure((style.WIDTH_IN, whole_in))
    for k, tall_in in enumerate([share * height_in, *num_lanes * [LANE_IN]]):
        bottom_in = 0.2 * height_in + (num_lanes - k) * step_in
        figure.add_axes((0.052, bottom_in / whole_in, 0.708, tall_in / whole_in))
    return figure


def _draw_line(axes: Axes, timeline: Timeline, line: Line, colour: str) -> None:
    x, y = step_points(timeline.starts_s, timeline.ends_s, line.scores)
    rated = len(line.rated_starts_s) > 0
    axes.plot(x, y, color=colour, linewidth=1.6 if rated else 0.9)


def _draw_ratings(axes: Axes, timeline: Timeline, line: Line, colour: str) -> None:
    middle = line.rated_starts_s + _segment_s(timeline) / 2
    for positive in (True, False):
        of_kind = line.rated_positive == positive
        axes.plot(
            middle[of_kind],
            line.rated_scores[of_kind],
            "o",
            markersize=5.5,
            markerfacecolor=colour if positive else style.PAPER,
            markeredgecolor=colour,
            markeredgewidth=1.4,
            clip_on=False,
            zorder=3,
        )


def _name_lines(axes: Axes, timeline: Timeline) -> None:
    """Each topic's name right of the plot, led to the end of its line without overlaps."""
    ends = np.array([_last_finite(line.scores) for line in timeline.lines])
    end_s = axes.get_xlim()[1]
    for line, colour, end, height in zip(
        timeline.lines, style.SERIES, ends, style.spread(ends, LABEL_GAP, 0.0, 1.0)
    ):
        rated = len(line.rated_starts_s) > 0
        axes.annotate(
            shorten(line.topic, 34),
            (end_s, end),
            xytext=(1.04, height),
            textcoords=("axes fraction", "data"),
            va="center",
            color=style.INK if rated else style.MUTED,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": colour, "relpos": (0, 0.5), "shrinkA": 4, "shrinkB": 0,
                "linewidth": 1.6 if rated else 0.9,
            },
        )  # fmt: skip


def step_points(
    starts_s: NDArray[np.number], ends_s: NDArray[np.number], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of a step line: level over each segment, broken (NaN) where none follows on."""
    x, y = [], []
    for i, score in enumerate(scores):
        x += [float(starts_s[i]), float(ends_s[i])]
        y += [score, score]
        if i + 1 < len(scores) and starts_s[i + 1] > ends_s[i]:
            x.append(float(ends_s[i]))
            y.append(np.nan)
    return np.array(x), np.array(y)


def tick_s(end_s: int) -> int:
    """Seconds between ticks: a round step that gives at most 13 of them."""
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 1800)
    return next((step for step in steps if end_s <= 12 * step), 3600)


def _last_finite(scores: NDArray[np.float64]) -> float:
    finite = scores[np.isfinite(scores)]
    return float(finite[-1]) if len(finite) else 0.0


def _segment_s(timeline: Timeline) -> int:
    return int((timeline.ends_s - timeline.starts_s).max(initial=1))
