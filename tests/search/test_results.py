"""Table, summary and picture of a search, from trials by hand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from whenabouts.report.style import SERIES
from whenabouts.search.page import build_page
from whenabouts.search.plot import draw_search
from whenabouts.search.results import (
    as_csv,
    as_markdown,
    best_of,
    conclusion,
    in_order,
    summary,
    table_lines,
)
from whenabouts.search.space import Choice, Interval, Space
from whenabouts.search.study import Tried

SPACE: Space = {
    "optimiser.learning_rate": Interval(1e-4, 1e-2, log=True),
    "model.width": Choice((64, 128)),
    "strategy.negatives.outside": Interval(0.0, 0.5),
    "loop.average_half_life": Interval(0, 9),
}


def trial(number: int, value: float | None, state: str = "complete", **more: object) -> Tried:
    settings = {
        "optimiser.learning_rate": 1e-3 * (number + 1),
        "model.width": (64, 128)[number % 2],
        "strategy.negatives.outside": number / 20,
        "loop.average_half_life": number,
    }
    return Tried(number, state, settings, value, 12, 3.5, **more)


TRIED = (
    trial(0, 0.50, halves=(0.50, 0.54)),
    trial(1, 0.60, halves=(0.70, 0.50)),
    trial(2, 0.31, "pruned"),
    trial(3, 0.55, halves=(0.52, 0.58)),
    trial(4, None, "failed", reason="no memory, at all"),
    trial(5, 0.60, halves=(0.60, 0.57)),
)


def test_the_summary_by_hand() -> None:
    assert summary(TRIED, "mAP") == {
        "measure": "mAP",
        "trials": {"complete": 4, "pruned": 1, "failed": 1},
        "best": {"trial": 1, "run": "trials/1", "value": 0.60, "settings": TRIED[1].settings},
        "first": {"value": 0.50, "across_halves": pytest.approx(0.52)},
        # Trial 1 is best on the first half, 3 on the second.
        "across_halves": {"value": pytest.approx((0.50 + 0.52) / 2), "chosen": [1, 3]},
    }


def test_nothing_finished_and_no_halves() -> None:
    found = summary(TRIED[2:3], "mAP")
    assert found["best"] is None
    assert list(conclusion(found)) == ["0 finished, 1 pruned, 0 failed."]
    assert best_of([]) is None
    without = [replace(t, halves=None) for t in TRIED]
    assert "across_halves" not in summary(without, "GAP@20")
    assert "flatters it." in list(conclusion(summary(without, "GAP@20")))[-1]


def test_the_conclusion_says_what_not_to_trust() -> None:
    counts, best, warning = conclusion(summary(TRIED, "mAP"))
    assert counts == "4 finished, 1 pruned, 1 failed."
    assert best == (
        "Best: trial 1, V2 mAP 0.6000 (trial 0, the first: 0.5000); across halves 0.5100 "
        "(trial 0: 0.5200)."
    )
    assert "its value flatters it" in warning
    assert "measured on the other, both ways" in warning


def test_the_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(TRIED))))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    for row, t in zip(rows, TRIED):
        assert row["state"] == t.state
        assert row["value"] == ("" if t.value is None else str(t.value))
        assert float(row["optimiser.learning_rate"]) == t.settings["optimiser.learning_rate"]
        assert int(row["model.width"]) == t.settings["model.width"]
    assert (rows[1]["first_half"], rows[1]["second_half"], rows[2]["first_half"]) == (
        "0.7", "0.5", "",
    )  # fmt: skip
    assert rows[4]["reason"] == "no memory, at all"


def test_the_tables_begin_with_the_best() -> None:
    assert [t.number for t in in_order(TRIED)] == [1, 5, 3, 0, 2, 4]
    found = summary(TRIED, "mAP")
    lines = as_markdown(TRIED, found).splitlines()
    assert lines[2].startswith("| 1 | 0.6000 | complete | 12 | 4 | 0.002 | 128 | 0.05 | 1 |")
    assert len({line.count("|") for line in lines[:8]}) == 1
    head, first, *_ = table_lines(TRIED, found)
    assert head.split() == [
        *("trial", "V2", "mAP", "state", "looks", "s"),
        *("learning_rate", "width", "outside", "average_half_life"),
    ]
    assert first.split()[:3] == ["1", "0.6000", "complete"]


def test_settings_of_one_last_name_are_told_apart() -> None:
    names = ("optimiser.learning_rate", "strategy.pretrain.optimiser.learning_rate", "loop.seed")
    tried = [Tried(0, "complete", dict.fromkeys(names, 1), 0.5, 1, 1.0)]
    assert next(table_lines(tried, summary(tried, "mAP"))).split()[-3:] == [*names[:2], "seed"]


# ---- the picture ---------------------------------------------------------------------------------


def test_what_is_drawn() -> None:
    figure = draw_search(TRIED, SPACE, "mAP")
    by_trial, *panels = figure.axes
    assert [axes.get_title("left") for axes in panels] == list(SPACE)
    best = next(line for line in by_trial.lines if line.get_color() == SERIES[1])
    numbers, heights = best.get_data()
    assert list(numbers) == [0, 1, 3, 5, 5]
    assert list(heights) == [0.5, 0.6, 0.6, 0.6, 0.6]
    full, empty = (np.asarray(dots.get_offsets()) for dots in by_trial.collections)
    assert full.tolist() == [[0, 0.5], [1, 0.6], [3, 0.55], [5, 0.6]]
    low, high = by_trial.get_ylim()
    assert empty[:, 0].tolist() == [2]
    assert low < empty[0, 1] < 0.5  # it is below the axis, and stands at its foot
    assert high > 0.6
    rate, width, *_ = panels
    assert rate.get_xscale() == "log"
    of_rate = np.asarray(rate.collections[0].get_offsets())
    assert of_rate[:, 0].tolist() == [t.settings["optimiser.learning_rate"]
                                      for t in TRIED if t.state == "complete"]  # fmt: skip
    assert [label.get_text() for label in width.get_xticklabels()] == ["64", "128"]
    of_width = np.asarray(width.collections[0].get_offsets())[:, 0]
    assert of_width.round().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("tried", [(), TRIED[:1], TRIED[2:3], TRIED[4:5]])
def test_little_can_be_drawn_too(tried: tuple[Tried, ...]) -> None:
    assert len(draw_search(tried, SPACE, "mAP").axes) == 5
    assert build_page("t", tried, SPACE, summary(tried, "mAP")).endswith("</html>\n")


def test_the_page() -> None:
    page = build_page("Search of <att2>", TRIED, SPACE, summary(TRIED, "mAP"))
    assert "<h1>Search of &lt;att2&gt;</h1>" in page
    assert "prefers-color-scheme: dark" in page
    assert "its value flatters it" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert page.count("<tr>") == 1 + len(TRIED)
    assert build_page("Search of <att2>", TRIED, SPACE, summary(TRIED, "mAP")) == page
