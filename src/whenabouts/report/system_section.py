"""The whole system: the paper's tables beside ours, our preset, and what an ensemble gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from whenabouts.report.headline_section import tile
from whenabouts.report.inputs import ReportSettings
from whenabouts.report.layout import NONE, NOTHING, figure, head, missing, number, section, table
from whenabouts.report.markup import Markup, join, shorten, tag
from whenabouts.report.plot_system import draw_gains, draw_models
from whenabouts.report.style import inline_svg
from whenabouts.report.tables_file import (
    ClassGains,
    Ensemble,
    Model,
    Preset,
    Single,
    Spread,
    SystemTables,
)

SYSTEM = "The whole system"
TIMES = "\N{MULTIPLICATION SIGN}"
POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
CORPORA = (
    "Beside the numbers of this corpus stand the paper's, on YouTube-8M. The corpora differ: "
    "compare the order, not the numbers."
)
CHOSEN_ON_V2 = "V2 chose the best step of each model, and what is marked with *."
ACROSS = "Across halves: each half of V2 with what the other half chose"


def system_section(tables: SystemTables, settings: ReportSettings) -> Markup:
    return section("system", SYSTEM, *_parts(tables, settings))


def _parts(tables: SystemTables, settings: ReportSettings) -> Iterator[Markup]:
    models_known = any(model.found.values for model in tables.models)
    ensembles_known = any(each.is_known for each in tables.ensembles)
    is_published = models_known or ensembles_known
    yield tag("p", f"{CORPORA} {CHOSEN_ON_V2}" if is_published else CHOSEN_ON_V2)
    yield _facts(tables)
    if models_known:
        yield tag("h3", "Models")
        yield from _models(tables.models)
    if ensembles_known:
        yield tag("h3", "Ensembles")
        yield from _ensembles(tables)
    if tables.preset is not None:
        yield tag("h3", "Our preset")
        yield from _preset(tables.preset)
    yield tag("h3", "Gain a class")
    yield from _gains(tables.gains, settings.num_extremes // 2)


def _facts(tables: SystemTables) -> Markup:
    facts = {
        "measure": shorten(tables.measure, 60),
        "scale": shorten(tables.scale, 60),
        "repeats": str(tables.repeats),
        "best single model": shorten(tables.best_single, 60),
        "best result*": shorten(tables.chosen, 60) if tables.chosen else "none yet",
    }
    cells = [tag("div", tag("dt", name), tag("dd", told)) for name, told in facts.items()]
    return tag("dl", *cells, class_="facts")


# ---- tables --------------------------------------------------------------------------------------


def _models(models: Sequence[Model]) -> Iterator[Markup]:
    known = [model.found.mean for model in models if model.found.mean is not None]
    alt = (
        f"mAP of {len(known)} models, from {min(known):.4f} to {max(known):.4f}, a row each, "
        "beside the paper's; the numbers stand in the table below."
    )
    yield figure(
        inline_svg(draw_models(models), "system-models", alt),
        "A dot is a model, once a repeat with another seed; a tick is the paper's mAP.",
    )
    heads = [
        head("Model", is_number=False),
        head("Kind", is_number=False),
        head("The paper"),
        head("Here"),
        head("Repeats"),
    ]
    rows = [_model_row(model) for model in models]
    yield _wide(table("Models beside the paper's", heads, rows), 34)


def _model_row(model: Model) -> Markup:
    return tag(
        "tr",
        tag("th", shorten(model.name, 60), scope="row"),
        tag("td", shorten(model.kind, 60)),
        number(NONE if model.paper is None else f"{model.paper:.3f}"),
        number(_told(model.found)),
        number(f"{len(model.found.values)}"),
    )


def _ensembles(tables: SystemTables) -> Iterator[Markup]:
    heads = [
        head("Ensemble", is_number=False),
        head("Mean"),
        head("Halves"),
        *(head(_product(*exponents)) for exponents in tables.fusions),
        head("Best fusion*"),
        head("Exponents, filter*", is_number=False),
        head("Across halves"),
        head("Refined*"),
        head("The paper"),
    ]
    rows = [_ensemble_row(each) for each in tables.ensembles]
    if tables.single.found.values:
        rows.insert(0, _single_row(tables.single, len(heads)))
    yield _wide(table("Ensembles and their fusions", heads, rows), 72)
    yield tag(
        "p",
        "Mean: of the members, with the paper's weights. Halves: the mean over the halves of V2's "
        "videos; of the single models, on each half that which is best on the other, since the "
        "best of many is chosen on V2 and an ensemble is not. Then products of the video's score "
        f"v and the segment's s, as published, and the best one of a search. {ACROSS}. Refined: "
        "the mean, smoothed and centred by video as V2 chose, not as published. The paper: "
        "private leaderboard (public).",
    )
    for each in tables.ensembles:
        if each.missing:
            yield _lacks(each.name, each.missing, "the others' weights were raised in proportion.")


def _lacks(name: str, members: Sequence[str], so: str) -> Markup:
    return tag("p", f"{shorten(name, 60)} lacks {shorten(', '.join(members), 300)}: {so}")


def _single_row(single: Single, num_cells: int) -> Markup:
    cells = (
        tag("th", "Best single model*", scope="row"),
        *map(_narrow, (single.found, single.halves)),
    )
    return tag("tr", *cells, tag("td", colspan=num_cells - len(cells)))


def _ensemble_row(each: Ensemble) -> Markup:
    return tag(
        "tr",
        tag("th", shorten(each.name, 60), scope="row"),
        *(_narrow(spread) for spread in (each.found, each.halves, *each.fused, each.best)),
        tag("td", shorten(each.settings, 120) or NONE),
        number(_share(each.across_halves)),
        _narrow(each.refined),
        number(f"{each.paper_private:.4f} ({each.paper_public:.4f})"),
    )


def _product(video: float, segment: float) -> str:
    """v and s, each with its exponent unless that is 1, and a sign of multiplication between."""
    return f" {TIMES} ".join(
        name if exponent == 1 else f"{name}{_power(exponent)}"
        for name, exponent in (("v", video), ("s", segment))
    )


def _power(exponent: float) -> str:
    text = f"{exponent:g}"
    return text.translate(POWERS) if text.isdigit() else f"^{text}"


def _preset(preset: Preset) -> Iterator[Markup]:
    if preset.models:
        heads = [head("Model", is_number=False), head("Recipe", is_number=False), head("mAP")]
        rows = [_preset_row(model) for model in preset.models]
        yield tag("p", "Its models:")
        yield _wide(table("Models of our preset", heads, rows), 24)
    if preset.steps:
        yield tag("p", "What is made of them, step by step:")
        heads = [
            head("Step", is_number=False),
            head("Settings*", is_number=False),
            head("mAP"),
            head("Gain"),
            head("Across halves"),
        ]
        yield _wide(table("Steps of our preset", heads, list(_step_rows(preset))), 50)
        yield tag(
            "p",
            f"Gain: over the step before, of the first one over the best model. {ACROSS}; in "
            "brackets without the step.",
        )
    if preset.steps and preset.missing:
        yield _lacks(preset.steps[0].name, preset.missing, "its weights are of the others.")


def _step_rows(preset: Preset) -> Iterator[Markup]:
    before = max((m.found.mean for m in preset.models if m.found.mean is not None), default=None)
    for step in preset.steps:
        mean = step.found.mean
        gain = None if mean is None or before is None else mean - before
        yield tag(
            "tr",
            tag(
                "th",
                join(
                    tag("strong", shorten(step.name, 60)), shorten(step.says, 200), between="<br>"
                ),
                scope="row",
            ),
            tag("td", shorten(step.settings, 300) or NONE),
            number(_told(step.found)),
            number(NONE if gain is None else f"{gain:+.4f}"),
            number(_with_and_without(*step.across_halves)),
        )
        before = before if mean is None else mean


def _with_and_without(with_it: float | None, without: float | None) -> str:
    return _share(with_it) + ("" if without is None else f" ({without:.4f})")


def _preset_row(model: Model) -> Markup:
    name, recipe = shorten(model.name, 60), shorten(model.kind, 60)
    return tag("tr", tag("th", name, scope="row"), tag("td", recipe), number(_told(model.found)))


# ---- gains ---------------------------------------------------------------------------------------


def _gains(gains: ClassGains | None, num: int) -> Iterator[Markup]:
    if gains is None or not len(gains.topics):
        yield missing("No class has an AP both of the best single model and of the best result.")
        return
    single, chosen = shorten(gains.single, 60), shorten(gains.chosen, 60)
    yield tag("p", f"AP of {chosen}, less that of {single}, the best single model.")
    yield tag("div", *_gain_tiles(gains), class_="tiles")
    drawn = draw_gains(gains.single_ap, gains.chosen_ap, gains.single, gains.chosen)
    alt = f"Gains of {len(gains.topics):,} classes, and AP of {chosen} against AP of {single}."
    yield figure(
        inline_svg(drawn, "system-gains", alt),
        "Blue: classes that gain. Right: a dot is a class; it gains where it is above the dashes.",
    )
    order = np.argsort(-gains.gain, kind="stable")
    most = order[gains.gain[order] > 0][:num]
    least = order[gains.gain[order] < 0][::-1][:num]
    yield _gain_table(gains, {"Gain most": most.tolist(), "Lose most": least.tolist()})


def _gain_tiles(gains: ClassGains) -> Iterator[Markup]:
    gain = gains.gain
    gaining, losing = int((gain > 0).sum()), int((gain < 0).sum())
    low, middle, high = np.quantile(gain, (0.25, 0.5, 0.75))
    share = f"{gaining / len(gain):.0%} of {len(gain):,} classes"
    yield tile("Classes that gain", f"{gaining:,}", share)
    yield tile("Classes that lose", f"{losing:,}", f"{len(gain) - gaining - losing:,} stay as is")
    yield tile("Mean gain", f"{gain.mean():+.4f}", "of AP, over the classes")
    yield tile("Median gain", f"{middle:+.4f}", f"quartiles {low:+.4f} and {high:+.4f}")


def _gain_table(gains: ClassGains, shown: dict[str, list[int]]) -> Markup:
    heads = [
        head("Topic", is_number=False),
        head("Rated positives"),
        head(shorten(gains.single, 30)),
        head(shorten(gains.chosen, 30)),
        head("Gain"),
    ]
    rows: list[Markup] = []
    for title, classes in shown.items():
        if classes:
            name = tag("th", tag("strong", title), scope="rowgroup", colspan=len(heads))
            rows += [tag("tr", name), *(_gain_row(gains, c) for c in classes)]
    return _wide(table("Classes that gain and lose most", heads, rows), 40) if rows else NOTHING


def _gain_row(gains: ClassGains, c: int) -> Markup:
    return tag(
        "tr",
        tag("th", shorten(gains.topics[c], 80), scope="row"),
        number(f"{gains.positives[c]:,}"),
        number(f"{gains.single_ap[c]:.4f}"),
        number(f"{gains.chosen_ap[c]:.4f}"),
        number(f"{gains.gain[c]:+.4f}"),
    )


def _wide(whole: Markup, least_rem: int) -> Markup:
    """The table at least so wide, since words that break are hard to read; it can be scrolled."""
    return tag("div", tag("div", whole, style=f"min-width:{least_rem}rem"), class_="wide")


def _told(spread: Spread) -> str:
    if spread.mean is None:
        return NONE
    return f"{spread.mean:.4f}" + ("" if spread.sd is None else f" ± {spread.sd:.4f}")


def _narrow(spread: Spread) -> Markup:
    """A cell of a table of many numbers: the deviation stands below the mean."""
    return tag("td", join(*_told(spread).split(" ", 1), between="<br>"), class_="number")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
