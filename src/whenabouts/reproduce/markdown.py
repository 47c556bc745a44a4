"""`tables.md`: the tables for people, from what `tables` gathers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any

from whenabouts.recipes.published import NAMES

MOST_CLASSES = 10
NONE = "-"
BAR = "\\|"  # in a cell
CHOSEN = "V2 chose the best step of each model and what is marked with *."


def markdown(found: dict[str, Any]) -> str:
    return "\n".join(_lines(found)) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    searched = (ensemble["searched"] for ensemble in found["ensembles"])
    published = (*found["models"], *found["ensembles"], *searched)
    if has_published := any(each["mean"] is not None for each in published):
        yield from _published(found)
    else:
        yield f"{found['measure']} of this corpus ({_scale(found)}). {CHOSEN}"
    if found["best"]:
        yield ""
        yield from _best(found, has_published=has_published)
    yield from _gains(found)


def _published(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['measure']} of this corpus ({_scale(found)}) beside the paper's on"
    yield "YouTube-8M (private leaderboard; public in brackets). The corpora differ: compare the"
    yield f"order, not the numbers. {CHOSEN}"
    yield ""
    yield "## The models"
    yield ""
    yield from _table(("model", "kind", "paper", "V2"), map(_model_row, found["models"]))
    yield ""
    yield "## The ensembles"
    yield ""
    fused = [_exponents(each) for each in found["ensembles"][0]["fused"]]
    head = ("", "mean", "halves", *fused, "best fusion*", "exponents, filter*", "refined*", "paper")
    rows = (_ensemble_row(ensemble) for ensemble in found["ensembles"])
    single = (
        "best single model*",
        _value(found["single"]),
        _value(found["single"]["across_halves"]),
    )
    yield from _table(head, [(*single, *[""] * (len(head) - len(single))), *rows])
    yield ""
    yield "Columns a, b: video^a x segment^b, published; the last fusion is the best one on V2."
    yield "Refined: the mean, smoothed and centred by video as V2 chose, not as published."
    yield "Halves: mean over the halves of V2's videos; of the single models, on each half the"
    yield "one that is best on the other: the best of many is chosen on V2, and an ensemble is not."
    yield from _missing(found["ensembles"])


def _scale(found: dict[str, Any]) -> str:
    repeats = found["repeats"]
    several = f", mean and standard deviation over {repeats} repeats" if repeats > 1 else ""
    return f"`--scale {found['scale']}`{several}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from (f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |" for row in rows)


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    paper = NONE if model["paper"] is None else f"{model['paper']:.3f}"
    return model["name"], NAMES[model["group"]], paper, _value(model)


def _ensemble_row(ensemble: dict[str, Any]) -> tuple[str, ...]:
    paper = f"{ensemble['paper_private']:.4f} ({ensemble['paper_public']:.4f})"
    return (
        ensemble["name"],
        _value(ensemble),
        _value(ensemble["across_halves"]),
        *map(_value, ensemble["fused"]),
        _value(ensemble["searched"]),
        _settings(ensemble["searched"].get("settings")),
        _value(ensemble["refined"]),
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


# ---- our preset ----------------------------------------------------------------------------------


def _best(found: dict[str, Any], *, has_published: bool) -> Iterator[str]:
    best = found["best"]
    single = max(best["models"], key=_mean)
    yield "## Our preset"
    yield ""
    head = ("", "what", "V2", "gain", "chosen*", "across halves")
    yield from _table(head, _best_rows(best, single))
    yield ""
    start, *further = (step["name"] for step in best["steps"])
    gains = (f"of {after} over {before}" for before, after in pairwise((start, *further)))
    yield f"Gain: of {start} over the best model, {single['name']}; {'; '.join(gains)}. Across"
    yield "halves: chosen on one half of V2's videos, scored on the other, both ways; in brackets"
    yield "without the step, on the same halves."
    if best["missing"]:
        yield ""
        yield f"{start} lacks {', '.join(best['missing'])}: its weights are of the others."
    if has_published:
        yield from _beside_published(found)


def _best_rows(best: dict[str, Any], single: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """single: the model that the mean starts from."""
    for model in best["models"]:
        yield model["name"], model["recipe"], _value(model), "", "", ""
    mean, refined, *listed = best["steps"]
    across = _across(mean, "single_mean_ap")
    yield _step_row(mean, single, _weights(mean["settings"]), across)
    across = _across(refined, "as_it_is_mean_ap")
    yield _step_row(refined, mean, _shares(refined["settings"]), across)
    for step in listed:
        yield _step_row(step, refined, _entries(step["settings"]), "")


def _step_row(
    step: dict[str, Any], start: dict[str, Any], chosen: str, across: str
) -> tuple[str, ...]:
    """start: the row that the step starts from."""
    return step["name"], step["says"], _value(step), _gain(step, start), chosen, across


def _mean(spread: dict[str, Any]) -> float:
    return -inf if spread["mean"] is None else float(spread["mean"])


def _gain(spread: dict[str, Any], start: dict[str, Any]) -> str:
    if spread["mean"] is None or start["mean"] is None:
        return NONE
    return f"{spread['mean'] - start['mean']:+.4f}"


def _weights(settings: dict[str, Any] | None) -> str:
    if settings is None:
        return NONE
    counted = ((name, weight) for name, weight in settings["weights"].items() if weight > 0)
    return f"{settings['by']}: {', '.join(f'{name} {weight:.2g}' for name, weight in counted)}"


def _shares(settings: dict[str, Any] | None) -> str:
    if settings is None:
        return NONE
    if not any(settings.values()):
        return "as it is: nothing pays"
    return ", ".join(f"{name} {settings[name]:.4g}" for name in ("alike", "smooth", "centre"))


def _entries(settings: dict[str, Any] | None) -> str:
    return NONE if settings is None else f"{settings['entries']:,} segments a class"


def _across(step: dict[str, Any], without: str) -> str:
    across = step["cross_validated"]
    return NONE if across is None else f"{across['mean_ap']:.4f} ({across[without]:.4f})"


def _beside_published(found: dict[str, Any]) -> Iterator[str]:
    """The last step beside E1 and the best of the fused and refined ensembles, where they are
    there."""
    last = next((step for step in found["best"]["steps"][::-1] if step["mean"] is not None), None)
    first = found["ensembles"][0]
    fused, refined = (
        max(found["ensembles"], key=lambda ensemble: _mean(ensemble[step]))
        for step in ("searched", "refined")
    )
    rows = (
        (first["name"], first),
        (f"{fused['name']} at its best fusion", fused["searched"]),
        (f"{refined['name']} refined", refined["refined"]),
    )
    there = [(name, row) for name, row in rows if row["mean"] is not None]
    if last and there:
        told = (f"{name} {_value(row)} ({_gain(last, row)})" for name, row in there)
        yield ""
        yield f"{last['name']} {_value(last)}, beside it: {'; '.join(told)}."


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
