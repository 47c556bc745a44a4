"""Calibration: may a score be read as a probability?"""

from __future__ import annotations

from whenabouts.core.errors import ScoresError
from whenabouts.metrics.calibration import Calibration, calibrate_pairs, calibrate_videos
from whenabouts.report.inputs import ReportInputs
from whenabouts.report.layout import figure, missing, section
from whenabouts.report.markup import Markup, tag
from whenabouts.report.plot_calibration import draw_calibration
from whenabouts.report.rated import rated_pairs
from whenabouts.report.style import inline_svg

TITLE = "Calibration"
HOW_TO_READ = (
    "A dot is a group of pairs with similar scores: how high they are scored, and what share of "
    "them is truly positive. On the dashes a score is a probability: of the pairs scored 0.8, 80 % "
    "are positive. Below the dashes scores are too high, above them too low. Upright lines: "
    "where the share of such a group may lie by chance (95 %). Right: the same on axes "
    "where small scores have room; groups without any positive have no place there."
)


def calibration_section(inputs: ReportInputs) -> Markup:
    try:
        found = _calibration(inputs)
    except ScoresError as error:  # fused or foreign scores may be anything that can be ranked
        return section("calibration", TITLE, missing(f"No calibration: {error}."))
    if found is None or not len(found.num_pairs):
        text = "Calibration needs scores and the rated segments or labels to compare them with."
        return section("calibration", TITLE, missing(text))
    pairs = "every class of every labelled video" if inputs.videos else "the rated pairs"
    return section("calibration", TITLE, tag("p", _summary(found, pairs)), _figure(found))


def _calibration(inputs: ReportInputs) -> Calibration | None:
    if inputs.videos is not None:
        return calibrate_videos(inputs.videos.truth, inputs.videos.values)
    if inputs.scores is None or inputs.truth is None:
        return None
    pairs = rated_pairs(inputs.truth, inputs.scores)
    pairs = pairs.take(pairs.row >= 0)
    return calibrate_pairs(pairs.positive, pairs.score)


def _summary(found: Calibration, pairs: str) -> str:
    num, positive = found.num_pairs.sum(), found.num_positives.sum()
    return (
        f"ECE {found.ece:.4f} over {num:,} pairs ({pairs}) in {len(found.num_pairs)} groups; of so "
        f"many pairs a calibrated model has about {found.ece_by_chance:.4f} by chance. The scores "
        f"sum to {found.score_sum.sum():,.0f} expected positives; there are {positive:,}."
    )


def _figure(found: Calibration) -> Markup:
    low, high = found.mean_score[[0, -1]]
    shares = found.share_positive[[0, -1]]
    alt = (
        f"Share of positives against mean score in {len(found.num_pairs)} groups: from "
        f"{shares[0]:.3f} at {low:.3f} to {shares[1]:.3f} at {high:.3f}; ECE {found.ece:.4f}."
    )
    return figure(inline_svg(draw_calibration(found), "calibration-svg", alt), HOW_TO_READ)
