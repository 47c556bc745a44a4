"""The few shapes the page is put together from."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from whenabouts.report.markup import Markup, join, tag

NOTHING = Markup("")
PAGE_SIGNS = (b"<!DOCTYPE html>", b"Content-Security-Policy")  # of what `document` makes
NONE = "\N{EN DASH}"  # in a cell without a value


def document(title: str, *children: Markup, script: Markup = NOTHING) -> str:
    """A whole page: its head, and a body with these children. Only `script`, the text of its one
    script, may run, and nothing may be loaded from anywhere."""
    policy = ["default-src 'none'", "style-src 'unsafe-inline'"]
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy.append(f"script-src 'sha256-{digest}'")
        children = (*children, tag("script", script))
    policy += ["base-uri 'none'", "form-action 'none'"]
    top = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content="; ".join(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", asset("page.css")),
    )
    whole = tag("html", tag("head", top), "\n", tag("body", *children), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def asset(name: str) -> Markup:
    """A file of this room that goes into pages as it is."""
    return Markup(resources.files("whenabouts.report").joinpath(name).read_text("utf-8"))


def section(key: str, title: str, *children: str) -> Markup:
    return tag("section", tag("h2", title), *children, id=key)


def missing(text: str) -> Markup:
    return tag("p", text, class_="missing")


def figure(svg: Markup, caption: str = "") -> Markup:
    note = tag("figcaption", caption) if caption else NOTHING
    return tag("figure", tag("div", svg, class_="plot"), note)


def meter(value: float, expected: float) -> Markup:
    """A bar from 0 to 1 with a tick at the random order; the numbers stand beside it as text."""
    return tag(
        "div",
        tag("i", style=f"width:{value:.1%}"),
        tag("b", style=f"left:{expected:.1%}"),
        class_="meter",
        aria_hidden="true",
    )


def table(caption: str, heads: Sequence[Markup], rows: Sequence[Markup], kind: str = "") -> Markup:
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads)),
        tag("tbody", join(*rows)),
        class_=kind or None,
    )


def head(text: str, *, is_number: bool = True) -> Markup:
    return tag("th", text, scope="col", class_="number" if is_number else None)


def number(text: str) -> Markup:
    return tag("td", text, class_="number")
