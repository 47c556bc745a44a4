"""`tables.md`: the tables for people, from what `tables` gathers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from whenabouts.recipes.published import NAMES

MOST_CLASSES = 10
NONE = "-"


def markdown(found: dict[str, Any]) -> str:
    return "\n".join(_lines(found)) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    repeats = found["repeats"]
    several = f", mean and standard deviation over {repeats} repeats" if repeats > 1 else ""
    yield f"mAP on V2 of this corpus (`--scale {found['scale']}`{several}) beside the paper's on"
    yield "YouTube-8M (private leaderboard; public in brackets). The corpora differ: compare the"
    yield "order, not the numbers. V2 chose the best step of each model and what is marked with *."
    yield ""
    yield "## The models"
    yield ""
    yield from _table(("model", "kind", "paper", "V2"), map(_model_row, found["models"]))
    yield ""
    yield "## The ensembles"
    yield ""
    head = ("", "mean", *(_exponents(f) for f in found["ensembles"][0]["fused"]))
    rows = (_ensemble_row(ensemble) for ensemble in found["ensembles"])
    yield from _table((*head, "best fusion*", "exponents, filter*", "paper"), rows)
    yield ""
    yield "Columns a, b: video^a x segment^b, published; the last fusion is the best one on V2."
    yield from _missing(found["ensembles"])
    yield from _gains(found)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    paper = NONE if model["paper"] is None else f"{model['paper']:.3f}"
    return model["name"], NAMES[model["group"]], paper, _value(model)


def _ensemble_row(ensemble: dict[str, Any]) -> tuple[str, ...]:
    paper = f"{ensemble['paper_private']:.4f} ({ensemble['paper_public']:.4f})"
    return (
        ensemble["name"],
        _value(ensemble),
        *map(_value, ensemble["fused"]),
        _value(ensemble["searched"]),
        _settings(ensemble["searched"].get("settings")),
        paper,
    )


def _value(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return NONE
    sd = "" if spread["sd"] is None else f" ± {spread['sd']:.4f}"
    return f"{spread['mean']:.4f}{sd}"


def _exponents(fused: dict[str, Any]) -> str:
    return f"{fused['video']}, {fused['segment']}"


def _settings(settings: dict[str, Any] | None) -> str:
    if settings is None:
        return NONE
    exponents = settings["exponents"]
    told = f"{exponents['video']:g}, {exponents['segment']:g}"
    chosen = settings["candidates"].items()
    kept = (f"{name.replace('_', ' ')} {value:g}" for name, value in chosen if value is not None)
    return "; ".join((told, *kept))


def _missing(ensembles: Iterable[dict[str, Any]]) -> Iterator[str]:
    for ensemble in ensembles:
        if ensemble["missing"]:
            yield ""
            yield f"{ensemble['name']} lacks {', '.join(ensemble['missing'])}: the others' weights"
            yield "were raised in proportion."


def _gains(found: dict[str, Any]) -> Iterator[str]:
    """The classes that the chosen ensemble gains and loses most over the best single model."""
    ap, single, chosen = found["classes"]["ap"], found["best_single"], found["chosen"]
    if chosen is None or chosen not in ap:
        return
    pairs = zip(found["classes"]["names"], found["classes"]["ids"], ap[single], ap[chosen])
    rows = [(name or str(i), a, b) for name, i, a, b in pairs if a is not None and b is not None]
    rows.sort(key=lambda row: row[1] - row[2])
    half = min(MOST_CLASSES // 2, len(rows) // 2)
    shown = [*rows[:half], *rows[len(rows) - half :]]
    gained = sum(b > a for _, a, b in rows)
    yield ""
    yield f"## {chosen} over {single}, the best single model, a class"
    yield ""
    yield f"{gained} of {len(rows)} classes gain. Those that gain most, and those that lose most:"
    yield ""
    cells = ((name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}") for name, a, b in shown)
    yield from _table(("class", single, chosen, "gain"), cells)
