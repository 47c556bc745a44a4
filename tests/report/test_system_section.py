"""The whole system on the page: numbers as in tables.json, by hand; names as text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from page_reader import Page
from report_world import HOSTILE
from tables_world import TABLES, changed, spread, without, write_tables

from whenabouts.recipes.published import NAMES
from whenabouts.report import style
from whenabouts.report.inputs import ReportInputs, ReportSettings
from whenabouts.report.layout import NONE
from whenabouts.report.page import build_report
from whenabouts.report.plot_system import draw_gains, draw_models
from whenabouts.report.system_section import TIMES, system_section
from whenabouts.report.tables_file import Model, Spread, read_tables

SETTINGS = ReportSettings()


def text_of(folder: Path, tables: Any = TABLES, **settings: Any) -> str:
    return system_section(read_tables(write_tables(folder, tables)), ReportSettings(**settings))


def page_of(folder: Path, tables: Any = TABLES, **settings: Any) -> Page:
    return Page(text_of(folder, tables, **settings))


def rows_below(page: Page, head: str) -> list[list[str]]:
    """The rows of the table whose first head this is."""
    heads = ("Model", "Ensemble", "Step", "Topic")
    starts = [i for i, row in enumerate(page.rows) if row[0] in heads] + [len(page.rows)]
    tables = [page.rows[a:b] for a, b in pairwise(starts)]
    return next(rows[1:] for rows in tables if rows[0][0] == head)


def tiles(page: Page) -> dict[str, tuple[str, str]]:
    texts = [text for text in page.text["div"] if text.strip()]
    return {texts[i]: (texts[i + 1], texts[i + 2]) for i in range(0, len(texts), 3)}


# ---- what is told --------------------------------------------------------------------------------


def test_the_facts(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert dict(zip(page.text["dt"], page.text["dd"])) == {
        "measure": "mAP on V2", "scale": "tiny", "repeats": "2",
        "best single model": "nl-1", "best result*": "E1-fused",
    }  # fmt: skip
    assert page.text["h3"] == ["Models", "Ensembles", "Our preset", "Gain a class"]
    assert any("compare the order, not the numbers" in text for text in page.text["p"])


def test_models_beside_the_papers(tmp_path: Path) -> None:
    assert rows_below(page_of(tmp_path), "Model") == [
        ["nl-1", "NL", "0.789", "0.5000 ± 0.1250", "2"],
        ["loss2", "Loss2", "0.778", NONE, "0"],
        ["student-1", "Student", NONE, "0.4375", "1"],
        [HOSTILE[0], HOSTILE[3], "0.500", "0.1250", "1"],
    ]


@pytest.mark.parametrize("group", NAMES)
def test_kinds_have_the_names_of_the_paper(tmp_path: Path, group: str) -> None:
    page = page_of(tmp_path, changed("models", 0, "group", to=group))
    assert rows_below(page, "Model")[0][1] == NAMES[group]


def test_ensembles_with_their_fusions(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    head = next(row for row in page.rows if row[0] == "Ensemble")
    assert head[2:6] == ["Halves", f"v {TIMES} s", f"v {TIMES} s²", f"v² {TIMES} s"]
    filtered = "0.25, 1; top topics 20; min video score 0.001"
    paper, fused = "0.7864 (0.7957)", ("0.5000", "0.6250", "0.3750")
    assert rows_below(page, "Ensemble") == [
        ["Best single model*", "0.6250", "0.6562± 0.0312", ""],
        ["E1", "0.5625", "0.6875", *fused, "0.7500", filtered, "0.6875", "0.5938", paper],
        ["E2", "0.3125", "0.4375", *fused, NONE, NONE, NONE, NONE, paper],
    ]
    told = "E2 lacks loss2, nl-2: the others' weights were raised in proportion."
    assert told in page.text["p"]
    assert not any(text.startswith("E1 lacks") for text in page.text["p"])


def test_tables_of_before_have_no_halves_and_nothing_refined(tmp_path: Path) -> None:
    tables = without("single")
    for each in tables["ensembles"]:
        del each["across_halves"], each["refined"]
    rows = rows_below(page_of(tmp_path, tables), "Ensemble")
    assert [row[0] for row in rows] == ["E1", "E2"]
    assert [(row[2], row[-2]) for row in rows] == [(NONE, NONE)] * 2


def test_the_deviation_of_an_ensemble_stands_below_its_mean(tmp_path: Path) -> None:
    tables = changed("ensembles", 0, "fused", 1, "sd", to=0.03125)
    assert '<td class="number">0.6250<br>± 0.0312</td>' in text_of(tmp_path, tables)


def test_exponents_that_are_no_digit(tmp_path: Path) -> None:
    tables = changed("ensembles", 0, "fused", 0, "video", to=0)
    tables["ensembles"][0]["fused"][0]["segment"] = 0.5
    tables["ensembles"][1]["fused"][0].update(video=0, segment=0.5)
    head = next(row for row in page_of(tmp_path, tables).rows if row[0] == "Ensemble")
    assert head[3] == f"v⁰ {TIMES} s^0.5"


def test_our_preset_and_what_each_step_gains(tmp_path: Path) -> None:
    """The first step starts from the best model; one without a value is stepped over."""
    page = page_of(tmp_path)
    assert rows_below(page, "Step") == [
        ["best-meangeometric mean", "kind geometric; weights: deep-1 0.25, deep-2 0.3333",
         "0.6250", "+0.0625", "0.5938 (0.5312)"],
        ["half", NONE, NONE, NONE, NONE],
        ["best-refinedsmoothed", "smooth 0; centre yes", "0.5938", "-0.0312", "0.6000 (0.6100)"],
    ]  # fmt: skip
    models = [row for row in page.rows if row[1:2] == ["deep"]]
    assert models == [["deep-1", "deep", "0.5000"], ["deep-2", "deep", "0.5625"]]
    assert "best-mean lacks deep-3: its weights are of the others." in page.text["p"]


@pytest.mark.parametrize("tables", [changed("best", to=None), without("best")])
def test_without_our_preset(tmp_path: Path, tables: Any) -> None:
    assert page_of(tmp_path, tables).text["h3"] == ["Models", "Ensembles", "Gain a class"]


def test_format_1_is_read(tmp_path: Path) -> None:
    assert read_tables(write_tables(tmp_path, {**without("best"), "format": 1})).preset is None


def test_our_preset_alone(tmp_path: Path) -> None:
    tables = changed("chosen", to=None)
    for each in (*tables["models"], *tables["ensembles"]):
        each.update(spread())
    for each in tables["ensembles"]:
        each["searched"].update(spread())
        each["refined"].update(spread())
        for fused in each["fused"]:
            fused.update(spread())
    page = page_of(tmp_path, tables)
    assert page.text["h3"] == ["Our preset", "Gain a class"]
    assert not any("YouTube-8M" in text for text in page.text["p"])
    assert "none yet" in page.text["dd"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (None, NONE),
        ({}, NONE),
        ({"a_b": None, "c": {}}, NONE),
        (
            {"a_b": 0.5, "soft": False, "of": [1, "x", 2.5, [3]]},
            "a b 0.5; soft no; of 1, x, 2.5, …",
        ),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, "a: b: c: d: …"),
        ("<b>", "<b>"),
        (7, "7"),
    ],
)
def test_settings_of_a_step_in_words(tmp_path: Path, settings: Any, told: str) -> None:
    page = page_of(tmp_path, changed("best", "steps", 0, "settings", to=settings))
    assert rows_below(page, "Step")[0][1] == told


# ---- gains ---------------------------------------------------------------------------------------


def test_gains_by_hand(tmp_path: Path) -> None:
    """A class without an AP of the one counts nowhere; one of equal AP neither gains nor loses."""
    page = page_of(tmp_path)
    shown = tiles(page)
    assert shown["Classes that gain"] == ("2", "40% of 5 classes")
    assert shown["Classes that lose"] == ("2", "1 stay as is")
    assert shown["Mean gain"][0] == "+0.0250"
    assert shown["Median gain"] == ("+0.0000", "quartiles -0.1250 and +0.2500")
    assert rows_below(page, "Topic") == [
        ["Gain most"],
        [HOSTILE[0], "20", "0.2500", "0.7500", "+0.5000"],
        ["Train", "10", "0.5000", "0.7500", "+0.2500"],
        ["Lose most"],
        ["class 5", "1,234", "0.7500", "0.2500", "-0.5000"],
        ["Boat", "5", "0.5000", "0.3750", "-0.1250"],
    ]
    assert next(row for row in page.rows if row[0] == "Topic")[2:4] == ["nl-1", "E1-fused"]


def test_of_many_classes_those_at_both_ends_are_named(tmp_path: Path) -> None:
    page = page_of(tmp_path, num_extremes=2)
    assert [row[0] for row in rows_below(page, "Topic")] == [
        "Gain most", HOSTILE[0], "Lose most", "class 5",
    ]  # fmt: skip
    single = [0.5] * 6
    page = page_of(tmp_path, changed("classes", "ap", to={"nl-1": single, "E1-fused": [0.6] * 6}))
    rows = rows_below(page, "Topic")
    assert (len(rows), rows[0]) == (7, ["Gain most"]), "no class loses"
    page = page_of(tmp_path, changed("classes", "ap", to={"nl-1": single, "E1-fused": single}))
    assert not [row for row in page.rows if row[0] == "Topic"]


@pytest.mark.parametrize(
    "tables",
    [
        changed("chosen", to=None),
        changed("chosen", to="E5-fused"),
        changed("best_single", to="se-1"),
        changed("classes", "ap", "nl-1", to=[None] * 6),
        changed("classes", to={"ids": [], "names": [], "positives": [], "ap": {}}),
    ],
)
def test_gains_that_are_not_known(tmp_path: Path, tables: Any) -> None:
    page = page_of(tmp_path, tables)
    assert any(text.startswith("No class has an AP both") for text in page.text["p"])
    assert not [row for row in page.rows if row[0] == "Topic"]


@pytest.mark.parametrize("num_classes", [1, 30, 1000])
def test_figures_of_any_number_of_classes(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    single, chosen = rng.random((2, num_classes))
    left, right = draw_gains(single, chosen, "a", "b").axes
    gains, losses = (patch.get_data().values for patch in left.patches)
    assert (gains + losses).tolist() == sorted((chosen - single).tolist(), reverse=True)
    assert (gains >= 0).all()
    assert (losses <= 0).all()
    low, high = left.get_ylim()
    assert low < (chosen - single).min()
    assert (chosen - single).max() < high
    drawn = {to_hex(line.get_color()): line.get_xydata() for line in right.lines[:2]}
    points = np.stack([single, chosen], 1)
    np.testing.assert_array_equal(drawn[style.ACCENT], points[chosen > single])
    np.testing.assert_array_equal(drawn[style.SERIES[1]], points[chosen <= single])
    for least, most in (right.get_xlim(), right.get_ylim()):
        assert least <= points.min()
        assert points.max() <= most
    assert (right.get_xlabel(), right.get_ylabel()) == ("AP of a", "AP of b")


def test_the_figure_of_models() -> None:
    models = (
        Model("a", "A", 0.75, Spread(0.5, 0.125, (0.25, 0.75))),
        Model("b", "B", None, Spread(None, None, ())),
        Model("c", "C", 0.5, Spread(0.375, None, (0.375,))),
    )
    (axes,) = draw_models(models).axes
    paper, dots = (np.asarray(line.get_xydata()).tolist() for line in axes.lines)
    assert paper == [[0.75, 0], [0.5, 2]]
    assert dots == [[0.25, 0], [0.75, 0], [0.375, 2]]
    (spreads,) = axes.collections
    assert [segment.tolist() for segment in spreads.get_segments()] == [[[0.375, 0], [0.625, 0]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    top, bottom = sorted(axes.get_ylim())
    assert top < 0
    assert bottom > 2
    assert axes.yaxis_inverted(), "the first stands on top"


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_has_the_section_only_with_tables(tmp_path: Path) -> None:
    inputs = ReportInputs(title="x", tables=read_tables(write_tables(tmp_path)))
    page = Page(build_report(inputs, SETTINGS))
    links = [a["href"] for name, a in page.tags if name == "a"]
    sections = [a["id"] for name, a in page.tags if name == "section"]
    assert links == [f"#{key}" for key in sections]
    assert sections[:2] == ["headline", "system"]
    assert len(page.ids) == len(set(page.ids))
    assert "Across halves" in page.text["strong"]
    plain = Page(build_report(ReportInputs(title="x"), SETTINGS))
    assert "system" not in plain.ids
    assert "Across halves" not in plain.text["strong"]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    tables = changed("ensembles", 1, "name", to=HOSTILE[3])
    tables["best"]["steps"][0].update(name=HOSTILE[0], says=HOSTILE[3])
    tables.update(scale=HOSTILE[0], measure=HOSTILE[3])
    tables["best_single"] = tables["models"][0]["name"] = HOSTILE[2]
    ap = tables["classes"]["ap"]
    ap[HOSTILE[2]] = ap.pop("nl-1")
    tables["classes"]["names"] = list(HOSTILE[1:7])
    page = page_of(tmp_path, tables)
    assert not {"script", "img"} & set(page.names())
    assert page.text["dd"][:2] == [HOSTILE[3], HOSTILE[0]]
    assert page.names().count("svg") == 2


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    assert text_of(tmp_path) == text_of(tmp_path)


def test_very_many_classes_and_long_names(tmp_path: Path) -> None:
    count = 5000
    rng = np.random.default_rng(0)
    classes = {
        "ids": list(range(count)),
        "names": ["x" * 1000] * count,
        "positives": [1] * count,
        "ap": {"nl-1": rng.random(count).tolist(), "E1-fused": rng.random(count).tolist()},
    }
    text = text_of(tmp_path, changed("classes", to=classes))
    assert "x" * 100 not in text
    assert len(text) < 1_500_000
