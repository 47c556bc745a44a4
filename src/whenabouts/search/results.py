"""What a search found: a summary, and its trials as CSV and as a table for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from whenabouts.ensemble.halves import choose_across
from whenabouts.search.study import Tried

MOST_SHOWN = 10
OPTIMISTIC = (
    "V2 chose the best of these trials and measures it, so its value flatters it; 'across halves' "
    "is chosen on one half of V2's videos and measured on the other, both ways (halves have fewer "
    "segments: compare such values with each other alone)"
)


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The finished trial with the highest value, of equals the first."""
    finished = [t for t in tried if t.state == "complete" and t.value is not None]
    return max(finished, key=lambda t: t.value or 0.0, default=None)


def summary(tried: Sequence[Tried], measure: str) -> dict[str, Any]:
    """measure: what the values are. Estimates across halves as far as the trials have halves."""
    best = best_of(tried)
    found: dict[str, Any] = {
        "measure": measure,
        "trials": {s: sum(t.state == s for t in tried) for s in ("complete", "pruned", "failed")},
        "best": None,
    }
    if best is None:
        return found
    found["best"] = {
        "trial": best.number,
        "run": f"trials/{best.number}",
        "value": best.value,
        "settings": best.settings,
    }
    first = tried[0]
    if first.number == 0 and first.state == "complete":
        found["first"] = {"value": first.value, "across_halves": _mean(first.halves)}
    with_halves = [t for t in tried if t.state == "complete" and t.halves is not None]
    across = choose_across(np.array([t.halves for t in with_halves])) if with_halves else None
    if across is not None:
        chosen = [with_halves[place].number for place in across.chosen]
        found["across_halves"] = {"value": across.estimate, "chosen": chosen}
    return found


def _mean(halves: tuple[float, float] | None) -> float | None:
    return None if halves is None else sum(halves) / 2


def setting_names(tried: Sequence[Tried]) -> list[str]:
    return list(dict.fromkeys(name for t in tried for name in t.settings))


def as_csv(tried: Sequence[Tried]) -> str:
    """A row a trial, a column a setting."""
    names, written = setting_names(tried), io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    fixed = ("trial", "state", "value", "first_half", "second_half", "looks", "time_s", "reason")
    rows.writerow([*fixed, *names])
    for t in tried:
        halves = t.halves or ("", "")
        value = "" if t.value is None else t.value
        settings = [t.settings.get(name, "") for name in names]
        told = (t.number, t.state, value, *halves, t.looks, round(t.time_s, 3), t.reason)
        rows.writerow([*told, *settings])
    return written.getvalue()


def as_markdown(tried: Sequence[Tried], found: dict[str, Any]) -> str:
    """All trials, the best first, and how far to trust it."""
    names = setting_names(tried)
    heads = ["trial", f"V2 {found['measure']}", "state", "looks", "s", *names]
    lines = [heads, ["---"] * len(heads), *(_cells(t, names) for t in in_order(tried))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{' '.join(conclusion(found))}\n"


def in_order(tried: Sequence[Tried]) -> list[Tried]:
    """Finished ones first, by value; then pruned ones by value, then the rest."""
    order = {"complete": 0, "pruned": 1, "failed": 2, "running": 3}
    return sorted(tried, key=lambda t: (order[t.state], -(t.value or 0.0), t.number))


def table_lines(tried: Sequence[Tried], found: dict[str, Any]) -> Iterator[str]:
    """For the terminal: the best trials, aligned, and how far to trust the best."""
    names = setting_names(tried)
    short = [name.rpartition(".")[2] for name in names]
    # Where two settings have one last name, the names are written whole.
    shown = [last if short.count(last) == 1 else name for last, name in zip(short, names)]
    rows = [["trial", f"V2 {found['measure']}", "state", "looks", "s", *shown]]
    rows += [_cells(t, names) for t in in_order(tried)[:MOST_SHOWN]]
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths))
    if len(tried) > MOST_SHOWN:
        yield f"and {len(tried) - MOST_SHOWN} more in trials.csv"
    yield from conclusion(found)


def conclusion(found: dict[str, Any]) -> Iterator[str]:
    counts = found["trials"]
    yield f"{counts['complete']} finished, {counts['pruned']} pruned, {counts['failed']} failed."
    best = found["best"]
    if best is None:
        return
    line = f"Best: trial {best['trial']}, V2 {found['measure']} {best['value']:.4f}"
    first, across = found.get("first"), found.get("across_halves")
    if first is not None:
        line += f" (trial 0, the first: {first['value']:.4f})"
    if across is not None:
        line += f"; across halves {across['value']:.4f}"
        if first is not None and first["across_halves"] is not None:
            line += f" (trial 0: {first['across_halves']:.4f})"
    yield f"{line}."
    yield f"{OPTIMISTIC}." if across is not None else f"{OPTIMISTIC.partition(';')[0]}."


def _cells(t: Tried, names: Sequence[str]) -> list[str]:
    value = "-" if t.value is None else f"{t.value:.4f}"
    settings = (t.settings.get(name, "-") for name in names)
    shown = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in settings]
    return [str(t.number), value, t.state, str(t.looks), f"{t.time_s:.0f}", *shown]
