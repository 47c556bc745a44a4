"""Pseudo-labels: who made them, how many a class has, and what their clusters look like."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whenabouts.report.cluster_file import ClusterFile
from whenabouts.report.headline_section import tile
from whenabouts.report.inputs import ReportSettings
from whenabouts.report.layout import NONE, figure, head, missing, number, section, table
from whenabouts.report.markup import Markup, join, shorten, tag
from whenabouts.report.plot_labels import draw_clusters, draw_label_counts
from whenabouts.report.pseudo_labels import LabelCounts, PseudoLabels
from whenabouts.report.style import inline_svg

PSEUDO_LABELS = "Pseudo-labels"
MOST_DOTS = 2000  # each weighs a line of SVG, twice
MOST_CLUSTERS, MOST_TOPICS, MOST_GAINED = 15, 3, 100


def labels_section(labels: PseudoLabels, settings: ReportSettings) -> Markup:
    return section("labels", PSEUDO_LABELS, *_parts(labels, settings))


def _parts(labels: PseudoLabels, settings: ReportSettings) -> Iterator[Markup]:
    counts = labels.counts
    yield tag("div", *_tiles(counts, settings.few_rated), class_="tiles")
    yield _made_by(labels)
    if not counts.positives.any():
        yield missing("No pseudo-label is positive.")
    else:
        yield _counts_figure(counts)
        yield from _gained(labels, settings.few_rated)
    if labels.clusters is not None:
        yield from _cluster_parts(labels, labels.clusters)


def _tiles(counts: LabelCounts, few: int) -> Iterator[Markup]:
    positives, negatives = int(counts.positives.sum()), int(counts.negatives.sum())
    yield tile("Segments", f"{counts.num_segments:,}", f"of {counts.num_videos:,} videos")
    yield tile("Pairs", f"{positives + negatives:,}", _split(positives, negatives))
    with_positives, rated = counts.positives > 0, counts.rated_positives > 0
    yield tile(
        "Classes",
        f"{with_positives.sum():,}",
        f"with a positive; rated alone: {(rated & ~with_positives).sum():,}",
    )
    yield tile(
        "Classes gained",
        f"{len(counts.gained(few)):,}",
        f"with positives, and fewer than {few:,} rated ones",
    )


def _split(positives: int, negatives: int) -> str:
    return f"{positives:,} positive (label from 0.5 up), {negatives:,} negative"


def _made_by(labels: PseudoLabels) -> Markup:
    if not labels.made_by:
        return missing("The file does not say who made it.")
    facts = [tag("div", tag("dt", name), tag("dd", told)) for name, told in labels.made_by.items()]
    return tag("dl", *facts, class_="facts")


def _counts_figure(counts: LabelCounts) -> Markup:
    most, least = counts.positives.max(), counts.positives[counts.positives > 0].min()
    alt = (
        f"Positive pseudo-labels of {len(counts.positives):,} classes on a logarithmic axis, from "
        f"{most:,} down to {least:,}, beside their rated positives."
    )
    drawn = draw_label_counts(counts.positives, counts.rated_positives)
    return figure(
        inline_svg(drawn, "label-counts", alt),
        "A step is a class: how many pseudo-labels are positive; the dot on it: how many "
        "ratings of V1 are.",
    )


def _gained(labels: PseudoLabels, few: int) -> Iterator[Markup]:
    counts = labels.counts
    gained = counts.gained(few)
    yield tag("h3", "Classes gained")
    if not len(gained):
        yield missing(f"Every class with a positive has {few:,} rated positives or more.")
        return
    shown = gained[:MOST_GAINED].tolist()
    if len(shown) < len(gained):
        yield tag("p", f"The {len(shown):,} with the most pseudo-labels of {len(gained):,}.")
    heads = [head("Topic", is_number=False), *map(head, ("Class", "Pseudo", "Rated"))]
    rows = [
        tag(
            "tr",
            tag("th", shorten(labels.topic(int(counts.class_ids[c])), 80), scope="row"),
            number(str(counts.class_ids[c])),
            number(f"{counts.positives[c]:,}"),
            number(f"{counts.rated_positives[c]:,}"),
        )
        for c in shown
    ]
    yield _scrolled("Classes gained", table("Positives of classes gained", heads, rows))


def _scrolled(name: str, whole: Markup) -> Markup:
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=name)


# ---- clusters ------------------------------------------------------------------------------------


def _cluster_parts(labels: PseudoLabels, clusters: ClusterFile) -> Iterator[Markup]:
    yield tag("h3", "Clusters")
    yield tag("div", *_cluster_tiles(clusters), class_="tiles")
    has = np.flatnonzero((clusters.votes_for > 0) & (clusters.frames > 0))
    if len(has):
        yield _clusters_figure(clusters, has)
    shown = clusters.clearest(MOST_CLUSTERS)
    if shown:
        yield _clusters_table(labels, clusters, shown)
    yield tag("h3", "Agreement with the ratings of V2")
    yield _judged(clusters)


def _cluster_tiles(clusters: ClusterFile) -> Iterator[Markup]:
    count, voted = len(clusters), int(clusters.with_votes.sum())
    empty = int((clusters.frames == 0).sum())
    yield tile("Clusters", f"{count:,}", f"{empty:,} without frames of the labelled videos")
    yield tile("With votes", f"{voted / max(count, 1):.0%}", f"{voted:,} of {count:,} clusters")
    yield tile("That label", f"{clusters.with_list:,}", "have a class with votes enough")
    yield tile(
        "Purity",
        f"{clusters.overall_purity:.3f}",
        "of votes for, to the first class of their cluster",
    )


def _clusters_figure(clusters: ClusterFile, has: NDArray[np.int64]) -> Markup:
    step = -(-len(has) // MOST_DOTS)
    drawn = has[::step]
    alt = (
        f"Two scatter plots of the purity of {len(drawn):,} clusters, median "
        f"{np.median(clusters.purity[drawn]):.3f}: against their frames, and against their votes."
    )
    which = "A dot is a cluster" if step == 1 else f"A dot is a cluster, one in {step:,}"
    svg = draw_clusters(clusters.frames[drawn], clusters.votes_for[drawn], clusters.purity[drawn])
    return figure(
        inline_svg(svg, "clusters-svg", alt),
        f"{which}, with a vote for a class. Purity: the share of these votes that is for the class "
        "with most of them; it is 1 where there is but one vote (right).",
    )


def _clusters_table(labels: PseudoLabels, clusters: ClusterFile, shown: list[int]) -> Markup:
    heads = [
        head("Cluster", is_number=False),
        *map(head, ("Frames", "Votes for", "Against", "Purity")),
        head("Classes: votes for, against", is_number=False),
        head("Segments: video:s", is_number=False),
    ]
    rows = [_cluster_row(labels, clusters, k) for k in shown]
    caption = f"The {len(shown)} clusters with the most votes for one class"
    return join(tag("p", f"{caption}:"), _scrolled("Clusters", table(caption, heads, rows)))


def _cluster_row(labels: PseudoLabels, clusters: ClusterFile, k: int) -> Markup:
    classes = [
        f"{shorten(labels.topic(c.class_id), 80)}: {c.votes_for:,}, {c.votes_against:,}"
        for c in clusters.classes[k][:MOST_TOPICS]
    ]
    examples = [f"{shorten(video, 40)}:{start_s}" for video, start_s in clusters.examples[k]]
    return tag(
        "tr",
        tag("th", str(k), scope="row"),
        number(f"{clusters.frames[k]:,}"),
        number(f"{clusters.votes_for[k]:,}"),
        number(f"{clusters.votes_against[k]:,}"),
        number(f"{clusters.purity[k]:.3f}"),
        tag("td", join(*classes, between="<br>")),
        tag("td", join(*examples, between="<br>") if examples else NONE),
    )


def _judged(clusters: ClusterFile) -> Markup:
    found = clusters.judged
    if found is None:
        return missing("Not measured: pseudo-label cluster --judge compares with the ratings.")
    base, recall = _share(found["base_rate"]), _share(found["recall"])
    tiles = [
        tile("Precision", _share(found["precision"]), f"labelling every pair would have {base}"),
        tile("Coverage", _share(found["coverage"]), f"of {clusters.num_judged:,} rated pairs"),
        tile("Recall", recall, "of the positive ones, labelled so"),
        tile("Concordance", _share(found["concordance"]), "chance has 0.500"),
    ]
    return tag("div", *tiles, class_="tiles")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
