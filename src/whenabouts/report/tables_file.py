"""Reads `tables.json`, what `reproduce` says of the whole system, checked field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import StageError
from whenabouts.recipes.published import NAMES
from whenabouts.report.fields import Field, read_fields

FORMATS = (1, 2)  # 1 has no preset of ours
MOST_MODELS, MOST_REPEATS, MOST_CLASSES = 200, 100, 100_000  # beyond, no page is readable
DEEPEST = 3  # tables of settings within each other
OPAQUE = "…"
WITHOUT = ("single_mean_ap", "as_it_is_mean_ap")  # mAP of what a step starts from


@dataclass(frozen=True)
class Spread:
    """The mAP of each repeat, their mean (None where there is none) and standard deviation (None
    where there are fewer than two)."""

    mean: float | None
    sd: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """kind: of the paper's kinds of models, or a recipe; paper: its mAP there, if it has one."""

    name: str
    kind: str
    paper: float | None
    found: Spread


@dataclass(frozen=True)
class Ensemble:
    """halves: the mean of the two halves of V2's videos; fused: the published fusions, in the order
    of `SystemTables.fusions`; best: the fusion that V2 chose, its settings in words, and its mAP
    across the halves; refined: the mean refined as V2 chose; missing: members that it lacks."""

    name: str
    paper_private: float
    paper_public: float
    missing: tuple[str, ...]
    found: Spread
    fused: tuple[Spread, ...]
    best: Spread
    settings: str
    across_halves: float | None
    halves: Spread
    refined: Spread

    @property
    def is_known(self) -> bool:
        return any(each.values for each in (self.found, *self.fused, self.best, self.refined))


@dataclass(frozen=True)
class Single:
    """The best single model of each repeat; halves: on each half that which is best on the
    other."""

    found: Spread
    halves: Spread


@dataclass(frozen=True)
class Step:
    """A step of a preset, upon those before it. across_halves: as in `Ensemble`, with the step and,
    where that was measured, without it."""

    name: str
    says: str
    settings: str
    across_halves: tuple[float | None, float | None]
    found: Spread


@dataclass(frozen=True)
class Preset:
    """missing: models that the first step lacks."""

    models: tuple[Model, ...]
    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassGains:
    """AP of the best single model and of the chosen result in the classes [C] that have both."""

    single: str
    chosen: str
    topics: tuple[str, ...]
    positives: NDArray[np.int64]
    single_ap: NDArray[np.float64]
    chosen_ap: NDArray[np.float64]

    @property
    def gain(self) -> NDArray[np.float64]:
        return self.chosen_ap - self.single_ap


@dataclass(frozen=True)
class SystemTables:
    """fusions: exponents of the videos' and the segments' scores; preset: None where there is none;
    gains: None where the AP of one of the two is not there."""

    scale: str
    repeats: int
    measure: str
    models: tuple[Model, ...]
    fusions: tuple[tuple[float, float], ...]
    single: Single
    ensembles: tuple[Ensemble, ...]
    best_single: str
    chosen: str | None
    preset: Preset | None
    gains: ClassGains | None


def read_tables(path: str | Path) -> SystemTables:
    """Raises StageError, with file and field, if the file is not what `reproduce` writes."""
    root = read_fields(
        Path(path), StageError, "whenabouts reproduce writes it",
        "make it again with 'whenabouts reproduce -o FOLDER --tables'",
    )  # fmt: skip
    found = root.at("format").whole()
    if found not in FORMATS:
        raise root.at("format").wrong("1 or 2")
    ensembles = root.at("ensembles").items(MOST_MODELS)
    fusions = _fusions(ensembles[0]) if ensembles else ()
    best_single = root.at("best_single").text()
    chosen = root.at("chosen").text() if root.gives("chosen") else None
    return SystemTables(
        scale=root.at("scale").text(),
        repeats=root.at("repeats").whole(MOST_REPEATS),
        measure=root.at("measure").text(),
        models=tuple(map(_model, root.at("models").items(MOST_MODELS))),
        fusions=fusions,
        single=_single(root),
        ensembles=tuple(_ensemble(each, fusions) for each in ensembles),
        best_single=best_single,
        chosen=chosen,
        preset=_preset(root.table("best")) if root.gives("best") else None,
        gains=_gains(root.table("classes"), best_single, chosen),
    )


def _spread(field: Field) -> Spread:
    mean, sd = field.at("mean"), field.at("sd")
    values = tuple(each.share() for each in field.at("values").items(MOST_REPEATS))
    if (mean.value is None) != (not values):
        raise mean.wrong("null where there are no values, and only there")
    return Spread(mean.share_or_none(), sd.share_or_none(), values)


def _spread_if_told(field: Field, name: str) -> Spread:
    """Of what files of before do not tell."""
    return _spread(field.table(name)) if field.has(name) else Spread(None, None, ())


def _single(root: Field) -> Single:
    if not root.has("single"):
        return Single(Spread(None, None, ()), Spread(None, None, ()))
    field = root.table("single")
    return Single(_spread(field), _spread_if_told(field, "across_halves"))


def _model(field: Field) -> Model:
    group: Any = field.at("group").text()
    paper = field.at("paper").share_or_none()
    return Model(field.at("name").text(), NAMES.get(group, group), paper, _spread(field))


def _fusions(ensemble: Field) -> tuple[tuple[float, float], ...]:
    published = ensemble.at("fused").items(MOST_MODELS)
    return tuple((each.at("video").number(), each.at("segment").number()) for each in published)


def _ensemble(field: Field, fusions: tuple[tuple[float, float], ...]) -> Ensemble:
    if _fusions(field) != fusions:
        raise field.at("fused").wrong("of the same exponents in all ensembles")
    searched = field.table("searched")
    return Ensemble(
        name=field.at("name").text(),
        paper_private=field.at("paper_private").share(),
        paper_public=field.at("paper_public").share(),
        missing=_missing(field),
        found=_spread(field),
        fused=tuple(map(_spread, field.at("fused").items())),
        best=_spread(searched),
        settings=_fusion_in_words(searched.table("settings")) if searched.gives("settings") else "",
        across_halves=_across_halves(searched, "mean_ap"),
        halves=_spread_if_told(field, "across_halves"),
        refined=_spread_if_told(field, "refined"),
    )


def _missing(field: Field) -> tuple[str, ...]:
    return tuple(each.text() for each in field.at("missing").items(MOST_MODELS))


def _fusion_in_words(settings: Field) -> str:
    """The two exponents, then what narrows the candidates: '1, 2; top topics 20'."""
    exponents, candidates = settings.table("exponents"), settings.table("candidates")
    chosen = (exponents.at(name).number() for name in ("video", "segment"))
    parts = [", ".join(f"{exponent:g}" for exponent in chosen)]
    parts += [
        f"{name.replace('_', ' ')} {candidates.at(name).number():g}"
        for name in candidates.entries()
        if candidates.gives(name)
    ]
    return "; ".join(parts)


def _across_halves(field: Field, *names: str) -> float | None:
    """The mAP by the first of these names that the search tells, if there was a search."""
    if not field.gives("cross_validated"):
        return None
    across = field.table("cross_validated")
    return next((across.at(name).share_or_none() for name in names if across.has(name)), None)


def _preset(field: Field) -> Preset:
    models = tuple(map(_preset_model, field.at("models").items(MOST_MODELS)))
    steps = tuple(map(_step, field.at("steps").items(MOST_MODELS)))
    return Preset(models, steps, _missing(field) if field.has("missing") else ())


def _preset_model(field: Field) -> Model:
    return Model(field.at("name").text(), field.at("recipe").text(), None, _spread(field))


def _step(field: Field) -> Step:
    with_it, without = _across_halves(field, "mean_ap"), _across_halves(field, *WITHOUT)
    return Step(
        name=field.at("name").text(),
        says=field.at("says").text(),
        settings="; ".join(_in_words(field.at("settings").value, DEEPEST)),
        across_halves=(with_it, without),
        found=_spread(field),
    )


def _in_words(settings: Any, deepest: int) -> Iterator[str]:
    """'smooth 0.5', 'weights: a 0.25, b 0.75': every setting, apart from null ones."""
    if not isinstance(settings, dict):
        if settings is not None:
            yield _plain(settings)
        return
    for key, value in settings.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            within = ", ".join(_in_words(value, deepest - 1)) if deepest else OPAQUE
            if within:
                yield f"{name}: {within}"
        elif value is not None:
            yield f"{name} {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(
            OPAQUE if isinstance(each, list | dict) else _plain(each) for each in value
        )
    return str(value)


def _gains(classes: Field, single: str, chosen: str | None) -> ClassGains | None:
    ids = [each.whole() for each in classes.at("ids").items(MOST_CLASSES)]
    names = [each.text() for each in classes.column("names", len(ids)).items()]
    positives = classes.column("positives", len(ids)).wholes()
    ap = classes.table("ap")
    values = {name: ap.column(name, len(ids)).shares_or_nan() for name in ap.entries()}
    if chosen is None or not {single, chosen} <= values.keys():
        return None
    both = np.flatnonzero(np.isfinite(values[single] + values[chosen]))
    topics = tuple(names[c] or f"class {ids[c]}" for c in both.tolist())
    return ClassGains(
        single, chosen, topics, positives[both], values[single][both], values[chosen][both]
    )
