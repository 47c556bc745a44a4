"""Pseudo-labels on the page: counts as by hand, hostile files refused by field, names as text."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labels_world import CLUSTERED, CLUSTERS, JUDGED, LABELS, RATED, write_clustering
from page_reader import Page
from report_world import HOSTILE, make_labels

from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import write_labels
from whenabouts.report import labels_section as page_part
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.labels_section import labels_section
from whenabouts.report.layout import NONE
from whenabouts.report.page import build_report
from whenabouts.report.plot_labels import draw_clusters, draw_label_counts
from whenabouts.report.pseudo_labels import PseudoLabels, count_labels, read_pseudo_labels

TOPICS = {7: "Train", 9: HOSTILE[0], 5: HOSTILE[3]}


def read(path: Path) -> PseudoLabels:
    return read_pseudo_labels(path, make_labels(RATED), TOPICS)


def page_of(path: Path, few_rated: int = 2) -> Page:
    return Page(labels_section(read(path), ReportSettings(few_rated=few_rated)))


def tiles(page: Page) -> dict[str, tuple[str, str]]:
    """(value, note) of the tiles by name."""
    texts = [t for t in page.text["div"] if t.strip()]
    return {texts[i]: (texts[i + 1], texts[i + 2]) for i in range(0, len(texts), 3)}


def facts(page: Page) -> dict[str, str]:
    return dict(zip(page.text["dt"], page.text["dd"]))


def test_counts_by_hand() -> None:
    counts = count_labels(make_labels(LABELS), make_labels(RATED))
    assert counts.class_ids.tolist() == [7, 9, 5, 2, 3]
    assert counts.positives.tolist() == [3, 2, 1, 0, 0]
    assert counts.negatives.tolist() == [0, 0, 1, 0, 1]
    assert counts.rated_positives.tolist() == [0, 1, 2, 1, 0]
    assert (counts.num_segments, counts.num_videos) == (6, 3)
    assert counts.gained(1).tolist() == [0]
    assert counts.gained(2).tolist() == [0, 1]
    assert counts.gained(3).tolist() == [0, 1, 2]


def test_counts_do_not_depend_on_the_order_of_the_file() -> None:
    labels, rated = make_labels(LABELS), make_labels(RATED)
    turned = count_labels(labels.take(np.arange(len(labels))[::-1]), rated)
    for left, right in zip(vars(turned).values(), vars(count_labels(labels, rated)).values()):
        assert np.array_equal(left, right)


def test_the_numbers_on_the_page(tmp_path: Path) -> None:
    page = page_of(write_clustering(tmp_path))
    shown = tiles(page)
    assert shown["Segments"] == ("6", "of 3 videos")
    assert shown["Pairs"] == ("8", "6 positive (label from 0.5 up), 2 negative")
    assert shown["Classes"] == ("3", "with a positive; rated alone: 1")
    assert shown["Classes gained"] == ("2", "with positives, and fewer than 2 rated ones")
    assert shown["Clusters"] == ("4", "1 without frames of the labelled videos")
    assert shown["With votes"] == ("50%", "2 of 4 clusters")
    assert shown["That label"][0] == "2"
    assert shown["Purity"][0] == "0.625"
    assert ["Train", "7", "3", "0"] in page.rows
    assert [HOSTILE[0], "9", "2", "1"] in page.rows
    assert not [row for row in page.rows if row[1:2] == ["5"]]


def test_the_table_of_clusters(tmp_path: Path) -> None:
    """Equal votes stand by number; three classes a cluster; one without votes is not shown."""
    rows = [row for row in page_of(write_clustering(tmp_path)).rows if len(row) == 7][1:]
    assert rows == [
        ["0", "40", "8", "2", "0.750", f"Train: 6, 1{HOSTILE[0]}: 2, 1", "a:5b:0"],
        ["2", "1,234", "12", "5", "0.500", f"{HOSTILE[0]}: 6, 5{HOSTILE[3]}: 4, 0class 3: 1, 0",
         NONE],
    ]  # fmt: skip


def test_who_made_them_without_paths(tmp_path: Path) -> None:
    path = write_clustering(tmp_path)
    assert facts(page_of(path)) == {
        "method": "cluster", "splits": "train, v1", "trained on": "train, v1",
        "features": "embedding", "run": "s-logi", "k": "4", "min share": "0.5", "soft": "no",
    }  # fmt: skip
    members = [{"scores": "/secret/a"}, {"scores": "/secret/b"}]
    teacher = {
        "method": "teacher",
        "settings": {"threshold": 0.5, "low_threshold": None},
        "scores": {"scores": "/secret/mean", "members": members},
    }
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    page = page_of(write_clustering(tmp_path, CLUSTERS, teacher))
    assert facts(page)["teacher"] == "mean (2 members)"
    assert facts(page)["low threshold"] == "none"
    assert "Clusters" not in page.text["h3"]  # the file beside it is of another method


def test_without_the_clusters_file_the_rest_stands(tmp_path: Path) -> None:
    page = page_of(write_clustering(tmp_path, None))
    assert page.text["h3"] == ["Classes gained"]
    assert tiles(page)["Segments"][0] == "6"
    assert page.ids[:1] == ["labels"]


def test_a_file_without_a_maker_and_without_positives(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, make_labels([(b"a", 0, 7, 0.0)]))
    page = page_of(path)
    assert "The file does not say who made it." in page.text["p"]
    assert "No pseudo-label is positive." in page.text["p"]
    write_labels(path, make_labels([]))
    assert tiles(page_of(path))["Segments"] == ("0", "of 0 videos")


def test_no_class_is_gained(tmp_path: Path) -> None:
    page = page_of(write_clustering(tmp_path), few_rated=0)
    assert "Every class with a positive has 0 rated positives or more." in page.text["p"]
    assert tiles(page)["Classes gained"][0] == "0"


def test_long_tables_and_many_dots_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_DOTS", "MOST_CLUSTERS", "MOST_GAINED"):
        monkeypatch.setattr(page_part, name, 1)
    page = page_of(write_clustering(tmp_path))
    assert "The 1 with the most pseudo-labels of 2." in page.text["p"]
    assert len([row for row in page.rows if len(row) == 7]) == 2
    assert "one in 2" in " ".join(page.text["figcaption"])
    alts = [a["aria-label"] for name, a in page.tags if name == "svg"]
    assert "purity of 1 clusters, median 0.750" in alts[1]


def test_the_judgement(tmp_path: Path) -> None:
    page = page_of(write_clustering(tmp_path, {**CLUSTERS, "judged": JUDGED}))
    shown = tiles(page)
    assert shown["Precision"] == ("0.562", "labelling every pair would have 0.400")
    assert shown["Coverage"] == ("0.250", "of 1,640 rated pairs")
    assert shown["Recall"][0] == "0.300"
    assert shown["Concordance"][0] == NONE
    without = page_of(write_clustering(tmp_path))
    assert "Precision" not in tiles(without)
    assert any(text.startswith("Not measured") for text in without.text["p"])


def test_hostile_names_are_text(tmp_path: Path) -> None:
    made_by = {**CLUSTERED, "features": HOSTILE[0], "settings": {HOSTILE[3]: HOSTILE[1]}}
    clusters = copy.deepcopy({**CLUSTERS, "made_by": made_by})
    clusters["clusters"]["examples"][0] = [[HOSTILE[0], 5]]
    path = write_clustering(tmp_path, clusters, made_by)
    page = page_of(path)
    assert facts(page)["features"] == HOSTILE[0]
    assert facts(page)[HOSTILE[3]] == HOSTILE[1]
    assert any(row[-1] == f"{HOSTILE[0]}:5" for row in page.rows)
    assert not {"script", "img"} & set(page.names())


def test_the_page_has_the_section_only_with_labels(tmp_path: Path) -> None:
    labels = read(write_clustering(tmp_path))
    text = build_report(ReportInputs(title="x", labels=labels), ReportSettings())
    page = Page(text)
    links = [a["href"] for name, a in page.tags if name == "a"]
    sections = [a["id"] for name, a in page.tags if name == "section"]
    assert links == [f"#{key}" for key in sections]
    assert sections.index("labels") == sections.index("settings") - 1
    assert len(page.ids) == len(set(page.ids))
    assert "secret" not in text
    assert "labels" not in Page(build_report(ReportInputs(title="x"), ReportSettings())).ids


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    path = write_clustering(tmp_path, {**CLUSTERS, "judged": JUDGED})
    left, right = (labels_section(read(path), ReportSettings()) for _ in range(2))
    assert left == right


# ---- figures -------------------------------------------------------------------------------------


def test_the_figure_of_counts_has_room_for_nothing() -> None:
    (axes,) = draw_label_counts(np.array([120, 3, 0]), np.array([7, 0, 2])).axes
    assert axes.get_yscale() == "symlog"
    assert axes.get_yticks().tolist() == [0, 1, 10, 100]
    steps = axes.patches[1].get_data()
    assert steps.values.tolist() == [120, 3, 0]
    assert steps.edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    (dots,) = axes.lines
    assert np.asarray(dots.get_xydata()).tolist() == [[1, 7], [2, 0], [3, 2]]
    low, high = axes.get_ylim()
    assert low < 0
    assert high > 120


def test_the_figure_of_clusters() -> None:
    left, right = draw_clusters(
        np.array([100, 5]), np.array([9, 1]), np.array([0.25, 1.0])
    ).axes  # fmt: skip
    for axes, points in ((left, [[100, 0.25], [5, 1.0]]), (right, [[9, 0.25], [1, 1.0]])):
        assert axes.get_xscale() == "log"
        assert np.asarray(axes.lines[0].get_xydata()).tolist() == points


# ---- files that lie ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (("totals",), [], "totals is a table"),
        (("totals", "clusters"), 3, r"clusters\.frames is a list of 3"),
        (("totals", "clusters"), True, r"totals\.clusters is a whole number"),
        (("totals", "clusters"), None, r"totals\.clusters is a whole number"),
        (("totals", "clusters_with_a_list"), 5, r"totals\.clusters_with_a_list is .* to 4"),
        (("totals", "purity"), float("nan"), r"totals\.purity is a number from 0 to 1"),
        (("clusters",), None, "clusters is a table"),
        (("clusters", "frames"), "abcd", r"clusters\.frames is a list of 4"),
        (("clusters", "frames", 1), -1, r"clusters\.frames\[1\] is a whole number"),
        (("clusters", "positive", 2), 1.5, r"clusters\.positive\[2\] is a whole number"),
        (("clusters", "negative", 0), 1 << 60, r"clusters\.negative\[0\] is a whole number"),
        (("clusters", "purity", 3), 1.01, r"clusters\.purity\[3\] is a number from 0 to 1"),
        (("clusters", "purity", 3), "1", r"clusters\.purity\[3\] is a number from 0 to 1"),
        (("clusters", "classes", 1), {}, r"clusters\.classes\[1\] is a list"),
        (("clusters", "classes", 0, 1), [7, 6], r"clusters\.classes\[0\]\[1\] is a list of 3"),
        (("clusters", "classes", 0, 1, 2), "x", r"classes\[0\]\[1\]\[2\] is a whole number"),
        (("clusters", "examples", 0, 0), ["a"], r"clusters\.examples\[0\]\[0\] is a list of 2"),
        (("clusters", "examples", 0, 0, 0), 5, r"examples\[0\]\[0\]\[0\] is a text"),
        (("clusters", "examples", 0, 0, 1), "5", r"examples\[0\]\[0\]\[1\] is a whole number"),
        (("judged",), 0.5, "judged is a table"),
        (("judged", "precision"), "high", r"judged\.precision is a number from 0 to 1"),
        (("judged", "pairs"), None, r"judged\.pairs is a whole number"),
        (("made_by", "settings", "min_share"), 0.75, "both files are of one clustering"),
    ],
)
def test_a_wrong_field_is_named(
    tmp_path: Path, field: tuple[str | int, ...], value: Any, told: str
) -> None:
    clusters = copy.deepcopy({**CLUSTERS, "judged": JUDGED})
    *above, last = field
    place: Any = clusters
    for key in above:
        place = place[key]
    place[last] = value
    with pytest.raises(LabelsError, match=rf"labels\.clusters\.json: .*{told}"):
        read(write_clustering(tmp_path, clusters))


@pytest.mark.parametrize("field", ["made_by", "totals", "clusters"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    clusters = {key: value for key, value in CLUSTERS.items() if key != field}
    with pytest.raises(LabelsError, match=f"no {field}"):
        read(write_clustering(tmp_path, clusters))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = write_clustering(tmp_path)
    (tmp_path / "labels.clusters.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LabelsError, match=r"labels\.clusters\.json: not JSON"):
        read(path)
    (tmp_path / "labels.clusters.json").write_text(json.dumps([1]))
    with pytest.raises(LabelsError, match="the file is a table"):
        read(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": 5}, "method is a text"),
        ({"settings": [1]}, "settings is a table"),
        ({"settings": {"k": [1]}}, r"settings\.k is a text"),
        ({"splits": "v1"}, "splits is a list of texts"),
        ({"trained_on": [1]}, "trained_on is a list of texts"),
        ({"run": {}}, "run is a text"),
        ({"features": 1}, "features is a text"),
        ({"scores": "x"}, "scores is a table"),
        ({"scores": {"scores": 1}}, "scores is a text"),
        ({"scores": {"members": 3}}, r"scores\.members is a list"),
    ],
)
def test_a_wrong_maker_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = write_clustering(tmp_path, None, {**CLUSTERED, **change})
    with pytest.raises(LabelsError, match=rf"labels\.parquet: .*{told}"):
        read(path)
