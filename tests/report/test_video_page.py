"""The page of a video classifier."""

import dataclasses
import re

import numpy as np
import pytest
from page_reader import Page, class_rows
from report_world import HOSTILE, evaluate, make_video_world, make_videos, train, write_run

from whenabouts.metrics.calibration import calibrate_videos
from whenabouts.report.calibration_section import calibration_section
from whenabouts.report.classes_section import classes_section
from whenabouts.report.examples_section import RIGHT, WRONG, examples_section
from whenabouts.report.headline_section import headline_section
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import NONE
from whenabouts.report.page import VIDEO_CONTENTS, build_report
from whenabouts.report.ranking import best_first, random_order_ap

SETTINGS = ReportSettings(num_timelines=6)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    records = [
        train(10, segments_per_s=50.0),
        evaluate(10, 0.31, measure="gap"),
        evaluate(20, 0.42, measure="gap"),
    ]
    run = write_run(tmp_path_factory.mktemp("run"), records)
    return ReportInputs(HOSTILE[0], run, videos=make_video_world(14, 60), facts={"splits": "v2"})


@pytest.fixture(scope="module")
def text(inputs):
    return build_report(inputs, SETTINGS)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_it_has_its_own_sections_and_misses_nothing(text, page):
    assert [a["href"] for name, a in page.tags if name == "a"] == [f"#{k}" for k in VIDEO_CONTENTS]
    sections = [a["id"] for name, a in page.tags if name == "section"]
    assert sections == list(VIDEO_CONTENTS)
    assert len(page.ids) == len(set(page.ids))
    assert 'class="missing"' not in text
    assert len([name for name in page.names() if name == "svg"]) == 1 + 3 + 1
    assert page.text["h1"] == [HOSTILE[0]]
    assert not re.findall(r"\b(rated|segments?)\b", text.partition("<body>")[2])


def test_the_headline_holds_the_metrics_of_videos(inputs, page):
    found = inputs.videos.evaluation
    chance = random_order_ap(np.full(14, 60), found.num_positives).mean()
    low, middle, high = np.quantile(found.ap, (0.25, 0.5, 0.75))
    labels = int(found.num_positives.sum())
    shown = " | ".join(page.text["div"])
    for expected in (
        f"GAP@20 | {found.gap:.3f} | of the 20 best topics of every video",
        f"mAP | {found.mean_ap:.3f} | a random order has {chance:.3f}",
        f"Hit@1 | {found.hit_at_one:.3f} | ",
        f"PERR | {found.perr:.3f} | ",
        "Videos | 60 | ",
        f"Labels | {labels} | {labels / 60:.1f} a video | ",
        "Classes | 14 | each a label of some video",
        f"AP of the median class | {middle:.3f} | quartiles {low:.3f} and {high:.3f}",
    ):
        assert expected in shown
    (main,) = [a for _, a in page.tags if a.get("class") == "tile main"]
    assert main == {"class": "tile main"}


def test_labels_and_classes_that_do_not_count_are_told():
    videos = make_videos([[0.9, 0.1, 0.2], [0.1, 0.9, 0.3]], [[10, 99], [11, 98]])
    shown = " | ".join(Page(headline_section(ReportInputs("t", videos=videos))).text["div"])
    assert "Labels | 2 | 1.0 a video; 2 more not scored" in shown
    assert "Classes | 2 | 1 more are no video's label" in shown


def test_training_is_told_by_gap(page):
    assert ["Phase", "Steps", "Time", "Videos/s", "Last loss", "Best GAP@20", "at step"] in [
        row for row in page.rows if row
    ]
    assert ["s1", "20", NONE, "50", "0.5", "0.420 (v2)", "20"] in page.rows
    (alt,) = [a["aria-label"] for n, a in page.tags if n == "svg" and "Training" in a["aria-label"]]
    assert alt == "Training curves of s1; best GAP@20 on v2 0.420 at step 20 of s1."


def test_the_class_table_holds_the_ap_of_videos_best_first(inputs, page):
    found = inputs.videos.evaluation
    chance = random_order_ap(np.full(14, 60), found.num_positives)
    assert [row[1:] for row in class_rows(page)] == [
        [
            str(found.classes.ids[column]),
            f"{found.ap[column]:.3f}",
            "",
            f"{chance[column]:.3f}",
            str(found.num_positives[column]),
        ]
        for column in best_first(found.ap)
    ]
    above = int((found.ap > chance).sum())
    alts = [a["aria-label"] for name, a in page.tags if name == "svg"]
    assert f"A scatter plot of AP: {above} of 14 classes lie above a random order." in alts
    assert {HOSTILE[0], HOSTILE[3]} <= {row[0] for row in class_rows(page)}


def test_classes_without_any_video_stand_last():
    videos = make_videos([[0.9, 0.1], [0.2, 0.3]], [[11], [11]])
    text = classes_section(ReportInputs("t", videos=videos), SETTINGS)
    assert class_rows(Page(text))[-1] == ["topic 10", "10", NONE, "", NONE, "0"]


def test_calibration_is_over_every_pair(inputs, text):
    videos = inputs.videos
    found = calibrate_videos(videos.truth, videos.values)
    told = f"ECE {found.ece:.4f} over {60 * 14} pairs (every class of every labelled video)"
    assert told in text
    assert f"there are {videos.evaluation.num_positives.sum()}." in text


def test_fused_scores_above_one_have_no_calibration(inputs):
    videos = dataclasses.replace(inputs.videos, values=inputs.videos.values * 9)
    text = calibration_section(dataclasses.replace(inputs, videos=videos))
    assert "No calibration: a score is" in text


def test_examples_mark_right_and_wrong_and_what_was_missed():
    values = [[0.9, 0.2, 0.8, 0.1], [0.1, 0.7, 0.2, 0.3]]
    videos = make_videos(values, [[10, 11], [11]], names=("a", "<b>", "c", "d"))
    page = Page(examples_section(ReportInputs("t", videos=videos), ReportSettings(num_topics=2)))
    assert page.text["h4"] == ["v001", "v000"]
    assert page.text["h3"] == ["Best videos", "Worst videos"]
    assert page.rows == [
        ["1.", RIGHT, "<b>", "", "0.700"],
        ["2.", WRONG, "d", "", "0.300"],
        ["1.", RIGHT, "a", "", "0.900"],
        ["2.", WRONG, "c", "", "0.800"],
        ["3.", RIGHT, "<b>", "", "0.200"],
    ]
    kinds = [a.get("class") for name, a in page.tags if name == "tr"]
    assert kinds == [None, None, None, None, "missed"]
    notes = page.text["p"][-2:]
    assert notes == [
        "AP 1.000, place 1 of 2 · 1 of 1 labels among the first 2",
        "AP 0.833, place 2 of 2 · 1 of 2 labels among the first 2",
    ]
    widths = [a["style"] for name, a in page.tags if name == "i"]
    assert widths == ["width:70.0%", "width:30.0%", "width:90.0%", "width:80.0%", "width:20.0%"]
    marks = [(a["class"], a["aria-label"]) for n, a in page.tags if n == "span"]
    assert marks[:2] == [("mark right", "label"), ("mark", "no label")], "the key"
    assert marks[2:4] == [("mark right", "label"), ("mark", "no label")]


def test_labels_that_are_not_listed_are_told():
    videos = make_videos([np.linspace(0.9, 0.1, 9)], [list(range(11, 19))])
    text = examples_section(ReportInputs("t", videos=videos), ReportSettings(num_topics=1))
    assert "AP 0.771, place 1 of 1 · 0 of 8 labels among the first 1 · 3 more further down" in text


def test_videos_without_a_scored_label_give_a_page_that_says_so():
    videos = make_videos([[0.9, 0.1]], [[99]])
    text = build_report(ReportInputs("t", videos=videos), SETTINGS)
    for note in (
        "No video has a label that is scored: no metric is defined.",
        "No class has an AP: see above.",
        "There is no video to show.",
    ):
        assert note in text


def test_num_timelines_is_the_number_of_videos(page):
    assert len(page.text["h4"]) == 6
