"""The search as one HTML page, in the look of the report: light, dark or on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whenabouts.report.layout import document, figure, head, number, table
from whenabouts.report.markup import Markup, tag
from whenabouts.report.style import inline_svg
from whenabouts.search.plot import draw_search
from whenabouts.search.results import conclusion, in_order, setting_names
from whenabouts.search.space import Space
from whenabouts.search.study import Tried

CAPTION = (
    "Full dots: finished trials. Empty ones: pruned, at the best they reached. What is below the "
    "axis stands at its foot."
)


def build_page(title: str, tried: Sequence[Tried], space: Space, found: dict[str, Any]) -> str:
    measure = found["measure"]
    drawn = inline_svg(draw_search(tried, space, measure), "search", f"V2 {measure} by trial")
    return document(
        title,
        tag("header", tag("h1", title)),
        tag(
            "main",
            *(tag("p", line) for line in conclusion(found)),
            figure(drawn, CAPTION),
            tag("div", _table(tried, measure), class_="wide"),
        ),
    )


def _table(tried: Sequence[Tried], measure: str) -> Markup:
    names = setting_names(tried)
    heads = [head("trial"), head(f"V2 {measure}"), head("state")]
    heads += [head(name) for name in names]
    rows = []
    for t in in_order(tried):
        value = "\N{EN DASH}" if t.value is None else f"{t.value:.4f}"
        settings = (t.settings.get(name, "") for name in names)
        shown = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in settings]
        cells = [number(str(t.number)), number(value), number(t.state)]
        rows.append(tag("tr", *cells, *(number(cell) for cell in shown)))
    return table("All trials, the best first", heads, rows)
