"""The report: one HTML file that needs nothing but itself, also without a network or scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from whenabouts import __version__
from whenabouts.core.atomic import write_text
from whenabouts.report.calibration_section import calibration_section
from whenabouts.report.classes_section import classes_section
from whenabouts.report.curves_section import curves_section
from whenabouts.report.definitions import definitions_section
from whenabouts.report.examples_section import examples_section
from whenabouts.report.headline_section import headline_section
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.labels_section import PSEUDO_LABELS, labels_section
from whenabouts.report.layout import asset, document
from whenabouts.report.markup import Markup, tag
from whenabouts.report.run_sections import settings_section, training_section
from whenabouts.report.system_section import SYSTEM, system_section
from whenabouts.report.timelines_section import timelines_section

CONTENTS = {
    "headline": "Headline",
    "training": "Training",
    "classes": "AP per class",
    "curves": "Precision and recall",
    "calibration": "Calibration",
    "timelines": "Timelines",
    "settings": "Settings",
    "definitions": "Definitions",
}
VIDEO_CONTENTS = {
    "headline": "Headline",
    "training": "Training",
    "classes": "AP per class",
    "calibration": "Calibration",
    "examples": "Example videos",
    "settings": "Settings",
    "definitions": "Definitions",
}


def write_report(
    path: str | Path, inputs: ReportInputs, settings: ReportSettings | None = None
) -> None:
    """Write the page; an older one is replaced when the new one is complete.

    Equal inputs give equal bytes. Raises RunError if a file of the run is not what it should be.
    """
    write_text(path, build_report(inputs, settings or ReportSettings()))


def build_report(inputs: ReportInputs, settings: ReportSettings) -> str:
    contents = contents_of(inputs)
    return document(
        inputs.title,
        tag("header", tag("h1", inputs.title), _navigation(contents)),
        tag("main", *_sections(inputs, settings)),
        tag("footer", f"Made by whenabouts {__version__}."),
        script=asset("page.js"),
    )


def contents_of(inputs: ReportInputs) -> dict[str, str]:
    """Titles by key of the page's sections; the whole system and pseudo-labels have one where
    there is something to tell of them."""
    contents = dict(CONTENTS if inputs.videos is None else VIDEO_CONTENTS)
    before = {"headline": contents.pop("headline")}
    behind = {key: contents.pop(key) for key in ("settings", "definitions")}
    if inputs.tables is not None:
        before["system"] = SYSTEM
    if inputs.labels is not None:
        contents["labels"] = PSEUDO_LABELS
    return {**before, **contents, **behind}


def _sections(inputs: ReportInputs, settings: ReportSettings) -> Iterator[Markup]:
    of_segments = inputs.videos is None
    yield headline_section(inputs)
    if inputs.tables is not None:
        yield system_section(inputs.tables, settings)
    yield training_section(inputs)
    yield classes_section(inputs, settings)
    if of_segments:
        yield curves_section(inputs, settings)
    yield calibration_section(inputs)
    shown = timelines_section if of_segments else examples_section
    yield shown(inputs, settings)
    if inputs.labels is not None:
        yield labels_section(inputs.labels, settings)
    yield settings_section(inputs)
    yield definitions_section(inputs)


def _navigation(contents: Mapping[str, str]) -> Markup:
    links = [tag("a", title, href=f"#{key}") for key, title in contents.items()]
    return tag("nav", *links, aria_label="Sections")
