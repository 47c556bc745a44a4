import base64
import dataclasses
import hashlib
import re

import numpy as np
import pytest
from page_reader import Page, class_rows
from report_world import (
    HOSTILE,
    evaluate,
    make_labels,
    make_scores,
    make_world,
    train,
    with_attention,
    write_run,
)

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import RunError, SettingsError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.scores import ScoresWriter, open_scores
from whenabouts.metrics.calibration import calibrate_pairs
from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.report.calibration_section import calibration_section
from whenabouts.report.curves_section import curves_section
from whenabouts.report.definitions import definitions_section
from whenabouts.report.headline_section import OF_SEGMENTS, OF_VIDEOS, headline_section
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import NONE
from whenabouts.report.page import CONTENTS, build_report, write_report
from whenabouts.report.precision_recall import precision_recall
from whenabouts.report.ranking import best_first, random_order_ap
from whenabouts.report.rated import rated_pairs
from whenabouts.report.run_sections import duration
from whenabouts.report.timelines import build_timeline, choose_videos
from whenabouts.report.timelines_section import timelines_section

SETTINGS = ReportSettings(num_timelines=3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    scores, truth = make_world(12, 40, 10, seed=3)
    records = [train(10, 0.9, learning_rate=0.01, time_s=754.0), train(20, 0.8), evaluate(20, 0.61)]
    run = write_run(tmp_path_factory.mktemp("run"), records, tail='{"kind"')
    return ReportInputs(
        title=HOSTILE[0],
        run=run,
        scores=scores,
        truth=truth,
        evaluation=evaluate_scores(truth, scores.segments, scores.classes, scores.values),
        video_metrics={
            "gap": 0.8125,
            "hit_at_one": 0.75,
            "mean_ap": None,
            "top_n": 20,
            "num_videos": 9,
        },
        video_labels={b"v%03d" % i: [900, scores.classes.ids[3], 901] for i in range(40)},
        vocabulary={900: HOSTILE[3]},
        facts={"<i>split</i>": HOSTILE[1]},
    )


@pytest.fixture(scope="module")
def text(inputs):
    return build_report(inputs, SETTINGS)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_is_well_formed_with_unique_ids(page):
    assert len(page.ids) == len(set(page.ids))
    assert set(CONTENTS) <= set(page.ids)
    assert [a["href"] for name, a in page.tags if name == "a"] == [f"#{key}" for key in CONTENTS]


def test_nothing_is_loaded_from_anywhere(text, page):
    assert "://" not in text
    assert "@import" not in text
    assert not {"link", "iframe", "img", "object", "base"} & set(page.names())
    for name, attributes in page.tags:
        assert "src" not in attributes, name
        assert attributes.get("href", "#").startswith("#"), name
    assert not re.findall(r"url\((?!#)", text)


def test_only_the_script_of_the_page_may_run(page):
    assert page.names().count("script") == 1
    assert page.names().count("style") == 1
    digest = base64.b64encode(hashlib.sha256(page.text["script"][0].encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [key for _, a in page.tags for key in a if key.startswith("on")]


def test_hostile_names_are_shown_as_text(page):
    assert page.text["title"] == [HOSTILE[0]]
    assert page.text["h1"] == [HOSTILE[0]]
    topics = [row[0] for row in class_rows(page)]
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[4]} <= set(topics)
    assert "line break \ufffd \ufffd \ufffd end" in topics
    assert "<i>split</i>" in page.text["dt"]
    assert ["name", "<b>att2</b>"] in page.rows
    assert any(HOSTILE[3] in text for text in page.text["p"])


def test_the_class_table_holds_the_evaluation_best_first(inputs, page):
    evaluation = inputs.evaluation
    rows = class_rows(page)
    chance = random_order_ap(evaluation.num_rated, evaluation.num_positives)
    order = best_first(evaluation.ap)
    assert len(rows) == len(evaluation.ap) == len(order)
    for row, column in zip(rows, order):
        assert row[1:] == [
            str(evaluation.classes.ids[column]),
            f"{evaluation.ap[column]:.3f}",
            "",
            f"{chance[column]:.3f}",
            str(evaluation.num_positives[column]),
            str(evaluation.num_rated[column]),
        ]


def test_the_headline_holds_the_totals(inputs, page):
    evaluation = inputs.evaluation
    shown = " | ".join(page.text["div"])
    chance = random_order_ap(evaluation.num_rated, evaluation.num_positives).mean()
    low, middle, high = np.quantile(evaluation.ap, (0.25, 0.5, 0.75))
    rated, positive = int(evaluation.num_rated.sum()), int(evaluation.num_positives.sum())
    for expected in (
        f"mAP@100,000 | {evaluation.mean_ap:.3f} | a random order has {chance:.3f}",
        f"AP of the median class | {middle:.3f} | quartiles {low:.3f} and {high:.3f}",
        f"Classes | {len(evaluation.ap)} | ",
        f"Rated pairs | {rated} | {positive} positive ({positive / rated:.0%})",
        "GAP@20 | 0.812 | video labels of 9 videos",
        "Hit@1 | 0.750 | video labels of 9 videos",
    ):
        assert expected in shown
    assert "mAP of videos" not in shown
    assert page.text["h3"][:2] == [OF_SEGMENTS, OF_VIDEOS]
    assert page.text["strong"][5:8] == ["GAP", "Hit@1", "PERR"]


def test_segments_alone_need_no_heading(inputs):
    alone = dataclasses.replace(inputs, video_metrics=None)
    assert "<h3>" not in headline_section(alone)
    assert "<strong>GAP" not in definitions_section(alone)


def test_calibration_is_over_the_rated_pairs_that_have_scores(inputs):
    truth = inputs.truth
    pairs = rated_pairs(truth, inputs.scores)
    found = calibrate_pairs(pairs.positive, pairs.score)
    past = make_labels([(b"v000", 995, inputs.scores.classes.ids[0], 1.0)])
    more = SegmentLabels(*(np.concatenate(both) for both in
                           zip(vars(truth).values(), vars(past).values())))  # fmt: skip
    text = calibration_section(dataclasses.replace(inputs, truth=more))
    assert f"<p>ECE {found.ece:.4f} over {len(truth)} pairs (the rated pairs)" in text
    assert f"has about {found.ece_by_chance:.4f} by chance" in text
    assert f"sum to {found.score_sum.sum():,.0f} expected positives" in text
    assert f"there are {found.num_positives.sum()}." in text


def test_scores_that_are_no_probabilities_have_no_calibration():
    scores, truth = make_scores([[1.5], [0.1]]), make_labels([(b"vid0", 0, 10, 1.0)])
    text = calibration_section(ReportInputs("t", None, scores, truth))
    assert "No calibration: a score is 1.5; calibration is a property of" in text
    assert "<svg" not in text
    scored_beside = make_labels([(b"vid0", 5, 10, 1.0)])
    assert "<svg" in calibration_section(ReportInputs("t", None, scores, scored_beside))


def test_the_training_table_holds_the_log(page):
    assert ["s1", "20", "12 min 34 s", NONE, "0.8", "0.610 (v2)", "20"] in page.rows
    assert ["model"] in page.rows
    assert ["hidden", "256"] in page.rows
    assert ["lists", '["rgb", "audio"]'] in page.rows


def test_every_figure_is_an_image_with_an_alternative_text(page):
    svgs = [a for name, a in page.tags if name == "svg"]
    assert len(svgs) == 1 + 3 + 1 + 1 + 3  # training, classes, curves, calibration, timelines
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in svgs)


@pytest.mark.parametrize("weighs", [True, False])
def test_attention_is_shown_and_told_where_it_was_kept(inputs, text, weighs):
    scores = inputs.scores
    rng = np.random.default_rng(4)
    frames = rng.random((len(scores.segments), 5)) if weighs else np.ones((len(scores.segments), 5))
    shown = with_attention(scores, frames, rng.random(len(scores.segments)))
    page = timelines_section(dataclasses.replace(inputs, scores=shown), SETTINGS)
    assert page.count(">attention of frames, up to ") == SETTINGS.num_timelines
    assert page.count(">attention of segments, up to ") == SETTINGS.num_timelines
    assert page.count("Attention is class-agnostic: one value for all topics.") == 1
    assert page.count('aria-label="Scores and attention over') == SETTINGS.num_timelines
    assert ("This model does not weigh frames." in page) == (not weighs)
    assert "ttention" not in text


def test_equal_inputs_give_equal_bytes_and_the_file_is_written_whole(inputs, text, tmp_path):
    (tmp_path / "page.html").write_text("an older page")
    write_report(tmp_path / "page.html", inputs, SETTINGS)
    assert (tmp_path / "page.html").read_text("utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


MISSING = {
    "run": ("No run was given.", "No run was given."),
    "scores": ("These curves need", "No scores were given.", "Calibration needs"),
    "truth": ("These curves need", "Calibration needs"),
    "evaluation": ("No evaluation was given", "No class has an AP", "These curves need"),
}


@pytest.mark.parametrize("part", MISSING)
def test_a_missing_part_is_named(inputs, part):
    few = dataclasses.replace(SETTINGS, num_timelines=1, num_extremes=2)
    text = build_report(dataclasses.replace(inputs, **{part: None}), few)
    notes = [t for t in Page(text).text["p"] if any(t.startswith(m) for m in MISSING[part])]
    assert len(notes) == len(MISSING[part])


def test_a_whole_page_names_nothing_missing(text):
    assert 'class="missing"' not in text


def test_a_page_of_nothing_says_so_in_every_section():
    text = build_report(ReportInputs("empty"), SETTINGS)
    Page(text)
    assert text.count('class="missing"') == 7
    assert len(text) < 20_000


def test_a_run_without_its_files_or_lines_is_named(tmp_path):
    inputs = ReportInputs("t", tmp_path)
    text = build_report(inputs, SETTINGS)
    assert "The run has no metrics.jsonl." in text
    assert "The run has no recipe.json." in text
    (tmp_path / "metrics.jsonl").write_text("")
    assert "The run has logged nothing yet." in build_report(inputs, SETTINGS)


def test_a_broken_log_is_an_error_and_leaves_no_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("[]\n{}\n")
    with pytest.raises(RunError, match=r"metrics.jsonl, line 1: not an object"):
        write_report(tmp_path / "page.html", ReportInputs("t", tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_classes_without_positives_stand_last_without_numbers():
    scores = make_scores([[0.9, 0.1, 0.5], [0.1, 0.2, 0.4]])
    truth = make_labels(
        [(b"vid0", 0, 10, 0.0), (b"vid0", 0, 11, 1.0), (b"vid0", 5, 11, 0.0), (b"vid0", 0, 12, 1.0)]
    )
    evaluation = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
    inputs = ReportInputs("t", None, scores, truth, evaluation)
    text = build_report(inputs, SETTINGS)
    rows = class_rows(Page(text))
    assert [row[1] for row in rows] == ["12", "11", "10"]
    assert rows[2] == ["topic 10", "10", NONE, "", NONE, "0", "1"]
    assert "1 below their random order; 1 more have no rated positive" in text


def test_one_class_and_no_positive():
    scores = make_scores([[0.9], [0.1]])
    for score, note in ((1.0, "the only class"), (0.0, "No class has a rated positive")):
        truth = make_labels([(b"vid0", 0, 10, score)])
        evaluation = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
        text = build_report(ReportInputs("t", None, scores, truth, evaluation), SETTINGS)
        assert note in text


def test_chosen_classes_of_the_settings_get_the_curves(inputs):
    first, second = inputs.evaluation.classes.ids[8:10]
    svg = curves_section(inputs, ReportSettings(pr_classes=(second, first)))
    topics = [inputs.evaluation.classes.topic(c) for c in (9, 8)]
    assert svg.index(f">{topics[0]}<") < svg.index(f">{topics[1]}<")
    with pytest.raises(SettingsError, match="pr_classes: class 123456 is not evaluated"):
        curves_section(inputs, ReportSettings(pr_classes=(123456,)))


def test_evaluated_classes_without_scores_get_no_curve():
    few = make_labels([(b"vid0", 0, 10, 1.0), (b"vid0", 5, 99, 1.0)])
    scores = make_scores([[0.9], [0.1]])
    evaluation = evaluate_scores(few, scores.segments, scores.classes, scores.values)
    text = curves_section(ReportInputs("t", None, scores, few, evaluation), SETTINGS)
    assert "with their AP: topic 10 1.000." in text


def test_a_rated_segment_without_a_score_is_told():
    scores = make_scores([[0.9], [0.1]])
    truth = make_labels([(b"vid0", 0, 10, 1.0), (b"vid0", 5, 10, 0.0), (b"vid0", 95, 10, 1.0)])
    text = build_report(ReportInputs("t", None, scores, truth), SETTINGS)
    assert "2 of 3 rated pairs positive · 1 rated without a score, not drawn" in text


def test_a_page_of_a_thousand_classes_is_below_three_megabytes():
    scores, truth = make_world(1000, 500, 10)
    evaluation = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
    text = build_report(ReportInputs("t", None, scores, truth, evaluation), ReportSettings())
    assert len(text.encode()) < 3_000_000


def test_a_chosen_class_without_positives_gets_no_curve():
    scores = make_scores([[0.9], [0.1]])
    truth = make_labels([(b"vid0", 0, 10, 0.0)])
    evaluation = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
    inputs = ReportInputs("t", None, scores, truth, evaluation)
    text = curves_section(inputs, ReportSettings(pr_classes=(10,)))
    assert "No chosen class has scores and rated positives." in text


def test_scores_on_disk_give_the_page_of_scores_in_memory(inputs, tmp_path):
    scores, truth = inputs.scores, inputs.truth
    plain = ClassOrder(scores.classes.ids, tuple(f"topic {i}" for i in scores.classes.ids))
    writer = ScoresWriter(tmp_path / "scores", scores.segments, plain)
    writer.write(0, scores.values)
    writer.commit({})
    mapped = open_scores(tmp_path / "scores")
    for choice in choose_videos(truth, mapped, 3):
        lines = build_timeline(truth, mapped, choice).lines
        for line, expected in zip(lines, build_timeline(truth, scores, choice).lines, strict=True):
            np.testing.assert_array_equal(line.scores, expected.scores)
            np.testing.assert_array_equal(line.rated_scores, expected.rated_scores)
    id_ = scores.classes.ids[2]
    curves = [precision_recall(truth, of, id_, 100).precision for of in (mapped, scores)]
    np.testing.assert_array_equal(*curves)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(12.3, "12 s"), (59.6, "1 min 0 s"), (754, "12 min 34 s"), (7980, "2 h 13 min"), (None, NONE)],
)
def test_durations(seconds, shown):
    assert duration(float("nan") if seconds is None else seconds) == shown
