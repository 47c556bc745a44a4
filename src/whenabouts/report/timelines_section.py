"""Timelines of a few videos, grouped as they were chosen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from whenabouts.report.inputs import NO_LABELS, ReportInputs, ReportSettings
from whenabouts.report.layout import figure, missing, section
from whenabouts.report.markup import Markup, join, shorten, tag
from whenabouts.report.plot_timeline import draw_timeline
from whenabouts.report.style import inline_svg
from whenabouts.report.timelines import (
    ONE_SIDED,
    RANKED,
    UNRATED,
    Timeline,
    ap_and_place,
    build_timeline,
    choose_videos,
    label_names,
)

RULES = {
    **dict.fromkeys(
        RANKED,
        "Videos are ordered by their AP (see Definitions). The best, the middle and the worst are "
        "shown of the half with the most rated pairs: with few of them an AP is chance.",
    ),
    ONE_SIDED: "No video has a topic rated both ways, so the most rated videos are shown.",
    UNRATED: "No rated segments were given, so videos at even distances in the table are shown.",
}

ATTENTION = (
    "The grey lanes are the model's attention: how much a segment counts in the feature of its "
    "video, and a frame in the feature of its segment. Attention is class-agnostic: one value for "
    "all topics. Only its ratios count, so each lane is as high as its highest value."
)
FRAMES_ALIKE = "This model does not weigh frames."


def timelines_section(inputs: ReportInputs, settings: ReportSettings) -> Markup:
    shown = list(_timelines(inputs, settings))
    if not shown:
        text = "No scores were given." if inputs.scores is None else "There is no video to show."
        return section("timelines", "Timelines", missing(text))
    parts: list[Markup] = [_key(shown)]
    for i, timeline in enumerate(shown):
        if i == 0 or shown[i - 1].choice.group != timeline.choice.group:
            parts.append(tag("h3", timeline.choice.group))
        parts.append(_video(timeline, f"t{i}"))
    return section("timelines", "Timelines", *parts)


def _timelines(inputs: ReportInputs, settings: ReportSettings) -> Iterator[Timeline]:
    scores = inputs.scores
    if scores is None or not len(scores.segments) or not len(scores.classes):
        return
    truth = NO_LABELS if inputs.truth is None else inputs.truth
    named = zip(scores.classes.ids, scores.classes.names)
    vocabulary = {**{i: name for i, name in named if name}, **inputs.vocabulary}
    for choice in choose_videos(truth, scores, settings.num_timelines):
        labels = label_names(
            inputs.video_labels, vocabulary, bytes(scores.segments.video_ids[choice.video])
        )
        yield build_timeline(truth, scores, choice, settings.num_topics, settings.segment_s, labels)


def _key(shown: list[Timeline]) -> Markup:
    marks = join(
        "Each line is the score of a topic; thick lines and dark names are topics that were rated "
        "in the video. ",
        tag("span", class_="key positive", aria_hidden="true"),
        " rated positive, ",
        tag("span", class_="key", aria_hidden="true"),
        " rated negative, at the height of the score. ",
        RULES[shown[0].choice.group],
        _about_attention(shown),
        between="",
    )
    return tag("p", marks)


def _about_attention(shown: list[Timeline]) -> str:
    frames = [lane.values for t in shown for lane in t.lanes if lane.name == "frames"]
    if not frames:
        return ""
    weighs = any((values != 1).any() for values in frames)
    return f" {ATTENTION}" + ("" if weighs else f" {FRAMES_ALIKE}")


def _video(timeline: Timeline, key: str) -> Markup:
    return tag(
        "div",
        tag("h4", shorten(timeline.video_id, 120)),
        tag("p", _notes(timeline)),
        figure(inline_svg(draw_timeline(timeline), key, _alt(timeline))),
        class_="video",
    )


def _notes(timeline: Timeline) -> str:
    lines = timeline.lines
    num_rated = sum(len(line.rated_starts_s) for line in lines)
    num_positive = sum(int(line.rated_positive.sum()) for line in lines)
    unscored = sum(int(np.isnan(line.rated_scores).sum()) for line in lines)
    notes = [
        ap_and_place(timeline.choice),
        f"{num_positive} of {num_rated} rated pairs positive" if num_rated else "",
        f"{unscored} rated without a score, not drawn" if unscored else "",
        f"{timeline.num_rated_hidden} more rated topics" if timeline.num_rated_hidden else "",
        f"labels: {shorten(', '.join(timeline.labels), 300)}" if timeline.labels else "",
    ]
    return " · ".join(note for note in notes if note)


def _alt(timeline: Timeline) -> str:
    topics = ", ".join(shorten(line.topic, 40) for line in timeline.lines)
    end_s = int(timeline.ends_s.max(initial=0))
    what = "Scores and attention" if timeline.lanes else "Scores"
    return (
        f"{what} over the {end_s} seconds of video {shorten(timeline.video_id, 40)}, for {topics}."
    )
