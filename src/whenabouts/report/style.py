"""The look of every figure, and a figure's two ways out: SVG inside a page, or a PNG file.

Light background, one accent colour, thin grid. Series take the colours of Okabe and Ito (2008),
"Color Universal Design", which people with any common colour blindness can tell apart; a text
beside a line is in the ink colour all the same, since some of these are too pale to read.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.report.markup import Markup

PAPER, INK, MUTED, GRID = "#ffffff", "#1f2328", "#636c76", "#e4e7eb"
ACCENT, TINT, BASELINE = "#0072b2", "#cfe2ef", "#8b949e"
SERIES = (ACCENT, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
WIDTH_IN = 10.0
ROUND = (1, 2, 5, 10)  # steps between ticks, times a power of ten

# In the page a colour is a CSS variable, so that dark mode and print can change it.
_VARIABLES = {
    PAPER: "--paper", INK: "--ink", MUTED: "--muted", GRID: "--grid", TINT: "--tint",
    BASELINE: "--baseline", **{colour: f"--s{i}" for i, colour in enumerate(SERIES)},
}  # fmt: skip

# Any: some versions of matplotlib type the keys, each with its own list of them.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "text.color": INK,
    "text.parse_math": False,  # a topic may hold a dollar sign
    "axes.edgecolor": BASELINE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": BASELINE,
    "ytick.color": BASELINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "lines.linewidth": 1.4,
    "lines.solid_joinstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run `draw` under the style of this file and leave matplotlib's own settings alone."""

    @functools.wraps(draw)
    def styled_draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # A topic in a script that DejaVu lacks: only its width is guessed, the browser has it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            return draw(*args, **kwargs)

    return styled_draw


def unit_axis(axes: Axes, which: str = "y", step: float = 0.25) -> None:
    """An axis of a share or a score: 0 to 1 with a little air at both ends."""
    axes.set(**{f"{which}lim": (-0.03, 1.05), f"{which}ticks": np.arange(0, 1 + step / 2, step)})
    plain_numbers(axes, which)


def plain_numbers(axes: Axes, which: str) -> None:
    """0.5 and 1e-05 at the ticks; matplotlib's own powers of ten would need its math text."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.set_minor_formatter(NullFormatter())


def spread(wanted: NDArray[np.float64], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Heights in the order of the wanted ones, at least `gap` apart, within [low, high], and as
    near the wanted ones (in squares) as that allows.

    Where they cannot all fit, the gap shrinks to what does.
    """
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    offsets = gap * np.arange(len(wanted))
    # Less its offset, a height may equal the one below it: the nearest such rising sequence is
    # made of means of neighbours (isotonic regression), here cut to the bounds.
    rising = _nearest_rising((wanted[order] - offsets).tolist())
    heights = np.empty(len(wanted))
    heights[order] = np.clip(rising, low, high - offsets[-1:].sum()) + offsets
    return heights


def _nearest_rising(values: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values`, by pooling neighbours that fall."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [float(np.mean(pool)) for pool in pools for _ in pool]


@styled
def inline_svg(figure: Figure, key: str, alt: str) -> Markup:
    """The figure as an `<svg>` element for a page.

    `key` must differ from figure to figure of a page: it keeps their element ids apart. Equal
    figures give equal text. Texts stay texts; `alt` says in words what is to be seen.
    """
    with matplotlib.rc_context({"svg.hashsalt": key}):
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(
            written, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    root = ElementTree.fromstring(written.getvalue())
    _tidy(root, key)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return Markup(_renumbered(ElementTree.tostring(root, encoding="unicode"), key))


def _renumbered(svg: str, key: str) -> str:
    """Ids by the order in which they first stand: matplotlib makes some from memory addresses."""
    name = re.compile(rf'(?<=["#])({re.escape(key)}-\w+)(?=[")])')
    number: dict[str, int] = {}
    return name.sub(lambda m: f"{key}-{number.setdefault(m[1], len(number))}", svg)


@styled
def save_png(path: str | Path, figure: Figure, dots_per_inch: int = 160) -> None:
    """Write the figure as a PNG file, for a README or a paper."""
    with atomic_path(path) as partial, partial.open("wb") as out:
        figure.set_dpi(dots_per_inch)
        FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})


def _tidy(root: ElementTree.Element, key: str) -> None:
    """Keep what is seen: no namespaces, no page-wide style sheet, no id that nothing points at."""
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', ElementTree.tostring(root, "unicode")))
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("}style", "}metadata"))]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text":
            element.text = None
        found = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib = {n: _tidy_value(n, v, key) for n, v in found.items()}
        if found.get("id") not in targets:
            element.attrib.pop("id", None)


def _tidy_value(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        return re.sub(r"#[0-9a-f]{6}", lambda m: _themed(m[0]), value)
    value = re.sub(r"#(?=\w)", f"#{key}-", value)
    return re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", value.replace("\n", ""))


def _themed(colour: str) -> str:
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour
