"""The report: one HTML file that needs nothing but itself, also without a network or scripts."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from whenabouts import __version__
from whenabouts.core.atomic import write_text
from whenabouts.report.classes_section import classes_section
from whenabouts.report.curves_section import curves_section
from whenabouts.report.headline_section import headline_section
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import section
from whenabouts.report.markup import Markup, join, tag
from whenabouts.report.run_sections import settings_section, training_section
from whenabouts.report.timelines_section import timelines_section

CONTENTS = {
    "headline": "Headline",
    "training": "Training",
    "classes": "AP per class",
    "curves": "Precision and recall",
    "timelines": "Timelines",
    "settings": "Settings",
    "definitions": "Definitions",
}

DEFINITIONS = {
    "AP": "For each class the segments are listed by falling score and the list is cut after K "
    "entries; entries that nobody rated for the class are dropped. AP is the mean, over all rated "
    "positives of the class, of the share of positives among the entries down to that one; a "
    "positive that is not in the list adds 0.",
    "mAP@K": "The mean of AP over the classes that have a rated positive.",
    "Random order": "The exact expectation of AP if the rated pairs of a class stood in random "
    "order and all were in the list. It is high where most rated pairs are positive.",
    "Precision and recall": "Over the same entries; recall counts all rated positives of the class "
    "and the steps run through the points at the positives, so the area below them is the AP.",
    "AP of a video": "The same measure within one video: the rated segments of a topic by falling "
    "score, then the mean over the topics that were rated both positive and negative there.",
    "Training loss": "As logged; its scale depends on the loss of the phase, so that phases need "
    "not be comparable. The running mean is centred and spans a fortieth of the phase.",
}


def write_report(
    path: str | Path, inputs: ReportInputs, settings: ReportSettings | None = None
) -> None:
    """Write the page; an older one is replaced when the new one is complete.

    Equal inputs give equal bytes. Raises RunError if a file of the run is not what it should be.
    """
    write_text(path, build_report(inputs, settings or ReportSettings()))


def build_report(inputs: ReportInputs, settings: ReportSettings) -> str:
    body = tag(
        "body",
        tag("header", tag("h1", inputs.title), _navigation()),
        tag(
            "main",
            headline_section(inputs),
            training_section(inputs),
            classes_section(inputs, settings),
            curves_section(inputs, settings),
            timelines_section(inputs, settings),
            settings_section(inputs),
            _definitions(),
        ),
        tag("footer", f"Made by whenabouts {__version__}."),
        tag("script", _asset("page.js")),
    )
    return "<!DOCTYPE html>\n" + tag("html", _head(inputs.title), "\n", body, lang="en") + "\n"


def _head(title: str) -> Markup:
    script = hashlib.sha256(_asset("page.js").encode()).digest()
    # Only this page's own script may run, and nothing may be loaded from anywhere.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{base64.b64encode(script).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        join(
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("style", _asset("page.css")),
        ),
    )


def _asset(name: str) -> Markup:
    return Markup(resources.files("whenabouts.report").joinpath(name).read_text("utf-8"))


def _navigation() -> Markup:
    links = [tag("a", title, href=f"#{key}") for key, title in CONTENTS.items()]
    return tag("nav", *links, aria_label="Sections")


def _definitions() -> Markup:
    terms = [tag("p", tag("strong", term), f". {text}") for term, text in DEFINITIONS.items()]
    return section("definitions", "Definitions", *terms)
