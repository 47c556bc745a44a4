"""Example videos of a video classifier: what it says of each, right and wrong marked."""

from __future__ import annotations

from itertools import groupby

from whenabouts.report.examples import Example, ScoredTopic, build_example, choose_examples
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import missing, number, section
from whenabouts.report.markup import Markup, join, shorten, tag
from whenabouts.report.timelines import ap_and_place

TITLE = "Example videos"
RULE = (
    "Videos are ordered by their AP (see Definitions). The best, the middle and the worst are "
    "shown of the half with the most labels: with few of them an AP is chance. Of each video: the "
    "topics of the highest scores, best first, then its labels that are not among them. "
)
RIGHT, WRONG = "\N{CHECK MARK}", "\N{MULTIPLICATION SIGN}"


def examples_section(inputs: ReportInputs, settings: ReportSettings) -> Markup:
    if inputs.videos is None:
        return section("examples", TITLE, missing("No labelled videos were given."))
    choices = choose_examples(inputs.videos, settings.num_timelines)
    if not choices:
        return section("examples", TITLE, missing("There is no video to show."))
    shown = [build_example(inputs.videos, choice, settings.num_topics) for choice in choices]
    parts: list[Markup] = [_key()]
    for group, examples in groupby(shown, lambda example: example.choice.group):
        parts.append(tag("h3", group))
        parts.append(tag("div", *map(_video, examples), class_="examples"))
    return section("examples", TITLE, *parts)


def _key() -> Markup:
    right, wrong = _mark(is_label=True), _mark(is_label=False)
    return tag("p", join(RULE, right, " a label of the video, ", wrong, " none.", between=""))


def _video(example: Example) -> Markup:
    rows = [_row(topic, "") for topic in example.best]
    rows += [_row(topic, "missed") for topic in example.missed]
    return tag(
        "div",
        tag("h4", shorten(example.video_id, 120)),
        tag("p", _notes(example)),
        tag("table", tag("tbody", join(*rows))),
        class_="video",
    )


def _notes(example: Example) -> str:
    found = sum(topic.is_label for topic in example.best)
    hidden = example.num_missed_hidden
    notes = [
        ap_and_place(example.choice),
        f"{found} of {example.num_labels} labels among the first {len(example.best)}",
        f"{hidden} more further down" if hidden else "",
    ]
    return " · ".join(note for note in notes if note)


def _row(topic: ScoredTopic, kind: str) -> Markup:
    bar = tag("i", style=f"width:{min(max(topic.score, 0), 1):.1%}")
    return tag(
        "tr",
        number(f"{topic.rank}."),
        tag("td", _mark(is_label=topic.is_label)),
        tag("th", shorten(topic.topic, 60), scope="row"),
        tag("td", tag("div", bar, class_="meter", aria_hidden="true"), class_="bar"),
        number(f"{topic.score:.3f}"),
        class_=kind or None,
    )


def _mark(*, is_label: bool) -> Markup:
    name, sign = ("label", RIGHT) if is_label else ("no label", WRONG)
    return tag("span", sign, class_="mark right" if is_label else "mark", title=name, role="img",
               aria_label=name)  # fmt: skip
