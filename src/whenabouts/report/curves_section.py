"""Precision-recall curves of the chosen classes."""

from __future__ import annotations

from whenabouts.core.errors import SettingsError
from whenabouts.metrics.segment_map import SegmentEvaluation
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import figure, missing, section
from whenabouts.report.markup import Markup, shorten
from whenabouts.report.plot_precision_recall import draw_precision_recall
from whenabouts.report.precision_recall import PrecisionRecall, precision_recall
from whenabouts.report.ranking import chosen_columns
from whenabouts.report.style import inline_svg

TITLE = "Precision and recall"


def curves_section(inputs: ReportInputs, settings: ReportSettings) -> Markup:
    scores, truth, evaluation = inputs.scores, inputs.truth, inputs.evaluation
    if scores is None or truth is None or evaluation is None:
        text = "These curves need scores, rated segments and their evaluation."
        return section("curves", TITLE, missing(text))
    found = [
        precision_recall(truth, scores, class_id, evaluation.k, role)
        for class_id, role in chosen_classes(evaluation, settings).items()
        if class_id in scores.classes.ids
    ]
    curves = [curve for curve in found if curve.num_positives]
    if not curves:
        return section("curves", TITLE, missing("No chosen class has scores and rated positives."))
    return section("curves", TITLE, _figure(curves))


def chosen_classes(evaluation: SegmentEvaluation, settings: ReportSettings) -> dict[int, str]:
    """Role by class id: the ids of the settings, else the best, quartile and worst classes.

    Raises SettingsError if a chosen id is not an evaluated class.
    """
    unknown = sorted(set(settings.pr_classes) - set(evaluation.classes.ids))
    if unknown:
        raise SettingsError(
            f"class {unknown[0]} is not evaluated",
            where="pr_classes",
            remedy="choose ids from the first column of the evaluation's class file",
        )
    if settings.pr_classes:
        return dict.fromkeys(settings.pr_classes, "")
    columns = chosen_columns(evaluation.ap, evaluation.num_positives, settings.min_positives)
    return {evaluation.classes.ids[column]: role for column, role in columns.items()}


def _figure(curves: list[PrecisionRecall]) -> Markup:
    named = "; ".join(f"{shorten(c.topic, 40)} {c.ap:.3f}" for c in curves)
    alt = f"Precision against recall of {len(curves)} classes, with their AP: {named}."
    return figure(
        inline_svg(draw_precision_recall(curves), "pr", alt),
        "The rated segments of a class, best score first. The tinted area is its AP; dashes: the "
        "share of positives among its rated segments.",
    )
