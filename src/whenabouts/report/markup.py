"""HTML by small functions: what is not already `Markup` is escaped, so no name can become a tag."""

from __future__ import annotations

import html
import re
from typing import Any

# Control characters, lone surrogates, direction overrides and non-characters: no name needs them,
# and in a page or an SVG they break the parser or make a text read as something else.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_VOID = frozenset({"br", "input", "meta"})


class Markup(str):
    """Text that is HTML already; every other string is escaped on its way in."""

    __slots__ = ()


def clean(text: str) -> str:
    """`text` with each character that is unfit for a page replaced by U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def escape(text: str) -> Markup:
    return text if isinstance(text, Markup) else Markup(html.escape(clean(text)))


def join(*parts: str, between: str = "\n") -> Markup:
    return Markup(between.join(escape(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: Any) -> Markup:
    """`<name attributes>children</name>`; `class_` is `class`, `aria_label` is `aria-label`.

    An attribute that is None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(escape(child) for child in children)}</{name}>")


def shorten(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters, cut with an ellipsis."""
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"
