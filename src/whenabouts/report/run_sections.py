"""What the run folder tells: training curves, and the settings it was trained with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from whenabouts.metrics.watched import MEASURES
from whenabouts.report.inputs import ReportInputs
from whenabouts.report.layout import NONE, figure, head, missing, number, section, table
from whenabouts.report.markup import Markup, shorten, tag
from whenabouts.report.plot_training import draw_training
from whenabouts.report.run_log import (
    Phase,
    best_of,
    measure_name,
    read_recipe,
    read_run_log,
    splits,
)
from whenabouts.report.style import inline_svg

NO_RUN = "No run was given."


def training_section(inputs: ReportInputs) -> Markup:
    if inputs.run is None:
        return section("training", "Training", missing(NO_RUN))
    path = inputs.run / "metrics.jsonl"
    if not path.is_file():
        return section("training", "Training", missing("The run has no metrics.jsonl."))
    phases = read_run_log(path)
    if not any(len(p.loss) + len(p.learning_rate) + len(p.watched) for p in phases):
        return section("training", "Training", missing("The run has logged nothing yet."))
    return section("training", "Training", _curves(phases), _phase_table(phases))


def _curves(phases: tuple[Phase, ...]) -> Markup:
    bests = [best_of(phases, split) for split in splits(phases)]
    told = [
        f"best {MEASURES[b.measure]} on {b.split} {b.value:.3f} at step {b.step:,.0f} of {b.phase}"
        for b in bests
    ]
    names = ", ".join(p.name for p in phases)
    alt = f"Training curves of {names}; {'; '.join(told) or 'nothing watched'}."
    return figure(
        inline_svg(draw_training(phases), "training-svg", shorten(alt, 400)),
        "Pale: the loss as logged; dark: its running mean. A large dot is the best evaluation.",
    )


def _phase_table(phases: tuple[Phase, ...]) -> Markup:
    heads = [head("Phase", is_number=False)]
    measure = measure_name(phases)
    rate = "Videos/s" if measure == MEASURES["gap"] else "Segments/s"
    heads += map(head, ("Steps", "Time", rate, "Last loss", f"Best {measure}", "at step"))
    rows = [_phase_row(phase) for phase in phases]
    return tag("div", table("Phases of the run", heads, rows), class_="wide")


def _phase_row(phase: Phase) -> Markup:
    watched = splits([phase])
    best = best_of([phase], watched[0]) if watched else None
    loss = f"{phase.loss.value[-1]:.4g}" if len(phase.loss) else NONE
    if phase.num_not_finite:
        loss += f" ({phase.num_not_finite} not finite)"
    cells = [
        f"{phase.num_steps:,.0f}",
        duration(phase.seconds),
        f"{phase.segments_per_s:,.0f}" if np.isfinite(phase.segments_per_s) else NONE,
        loss,
        f"{best.value:.3f} ({best.split})" if best else NONE,
        f"{best.step:,.0f}" if best else NONE,
    ]
    return tag("tr", tag("th", shorten(phase.name, 60), scope="row"), *map(number, cells))


def duration(seconds: float) -> str:
    """12.3 -> '12 s', 754 -> '12 min 34 s', 8000 -> '2 h 13 min'."""
    if not np.isfinite(seconds):
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def settings_section(inputs: ReportInputs) -> Markup:
    title = "Settings of the run"
    if inputs.run is None:
        return section("settings", title, missing(NO_RUN))
    path = inputs.run / "recipe.json"
    if not path.is_file():
        return section("settings", title, missing("The run has no recipe.json."))
    rows = list(_setting_rows("", read_recipe(path)))
    heads = [head("Setting", is_number=False), head("Value", is_number=False)]
    return section("settings", title, table("Settings of the run", heads, rows, "settings"))


def _setting_rows(group: str, values: dict[str, Any]) -> Iterator[Markup]:
    """A row a plain setting, then a heading and the rows of each table of settings within."""
    tables = {name: value for name, value in values.items() if isinstance(value, dict) and value}
    for name, value in values.items():
        if name not in tables:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            setting = tag("th", shorten(name, 100), scope="row")
            yield tag("tr", setting, tag("td", tag("code", shorten(shown, 400))))
    for name, value in tables.items():
        path = f"{group}.{name}" if group else name
        yield tag("tr", tag("th", shorten(path, 200), colspan=2, scope="colgroup", class_="group"))
        yield from _setting_rows(path, value)
