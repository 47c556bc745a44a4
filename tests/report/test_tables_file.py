"""`tables.json` of somebody else: what is not as `reproduce` writes it is refused by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tables_world import TABLES, changed, without, write_tables

from whenabouts.core.errors import StageError
from whenabouts.report.tables_file import read_tables

NAN = float("nan")


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([1], "the file is a table"),
        (changed("format", to=3), "format is 1 or 2"),
        (changed("format", to=True), "format is a whole number"),
        (changed("scale", to=None), "scale is a text"),
        (changed("measure", to=5), "measure is a text"),
        (changed("repeats", to=101), "repeats is a whole number from 0 to 100"),
        (changed("models", to={}), "models is a list"),
        (changed("models", to=TABLES["models"] * 51), "models is a list of at most 200"),
        (changed("models", 1, to=[]), r"models\[1\] is a table"),
        (changed("models", 1, "name", to=None), r"models\[1\]\.name is a text"),
        (changed("models", 0, "group", to=["nl"]), r"models\[0\]\.group is a text"),
        (changed("models", 0, "paper", to=79), r"models\[0\]\.paper is a number from 0 to 1"),
        (changed("models", 0, "mean", to=NAN), r"models\[0\]\.mean is a number from 0 to 1"),
        (changed("models", 0, "mean", to=None), r"models\[0\]\.mean is null where .* no values"),
        (changed("models", 1, "mean", to=0.5), r"models\[1\]\.mean is null where .* no values"),
        (changed("models", 0, "sd", to=-0.1), r"models\[0\]\.sd is a number from 0 to 1"),
        (changed("models", 0, "values", 1, to="x"), r"models\[0\]\.values\[1\] is a number"),
        (changed("models", 0, "values", to=[0.5] * 101), "values is a list of at most 100"),
        (changed("ensembles", 0, "paper_public", to=None), r"ensembles\[0\]\.paper_public is"),
        (changed("ensembles", 0, "missing", to=[5]), r"ensembles\[0\]\.missing\[0\] is a text"),
        (changed("ensembles", 0, "fused", to="x"), r"ensembles\[0\]\.fused is a list"),
        (changed("ensembles", 1, "fused", to=[]), r"\[1\]\.fused is of the same exponents"),
        (changed("ensembles", 0, "fused", 0, "video", to=NAN), r"fused\[0\]\.video is a number"),
        (changed("ensembles", 0, "fused", 0, "video", to=10**400), r"\.video is a number"),
        (changed("ensembles", 0, "searched", to=None), r"ensembles\[0\]\.searched is a table"),
        (changed("ensembles", 0, "searched", "settings", to=1), r"searched\.settings is a table"),
        (changed("ensembles", 0, "searched", "settings", "candidates", to={"top": "x"}),
         r"settings\.candidates\.top is a number"),
        (changed("ensembles", 0, "searched", "settings", "exponents", "video", to="2"),
         r"settings\.exponents\.video is a number"),
        (changed("ensembles", 0, "searched", "cross_validated", to=0.5),
         r"searched\.cross_validated is a table"),
        (changed("ensembles", 0, "across_halves", to=None), r"\[0\]\.across_halves is a table"),
        (changed("ensembles", 0, "refined", "mean", to=2), r"refined\.mean is a number"),
        (changed("single", to=0.5), "single is a table"),
        (changed("single", "values", 0, to=None), r"single\.values\[0\] is a number"),
        (changed("single", "across_halves", "sd", to=2), r"single\.across_halves\.sd is a number"),
        (changed("best", to=[1]), "best is a table"),
        (changed("best", "models", 0, "recipe", to=1), r"best\.models\[0\]\.recipe is a text"),
        (changed("best", "steps", 0, "says", to=None), r"best\.steps\[0\]\.says is a text"),
        (changed("best", "steps", 0, "cross_validated", "mean_ap", to=2),
         r"steps\[0\]\.cross_validated\.mean_ap is a number from 0 to 1"),
        (changed("best", "missing", to="deep-3"), r"best\.missing is a list"),
        (changed("best_single", to=None), "best_single is a text"),
        (changed("chosen", to=5), "chosen is a text"),
        (changed("classes", to=[]), "classes is a table"),
        (changed("classes", "ids", 0, to=-1), r"classes\.ids\[0\] is a whole number"),
        (changed("classes", "ids", to=[0] * 100_001), r"classes\.ids is a list of at most 100,000"),
        (changed("classes", "names", to=["a"]), r"classes\.names is a list of 6"),
        (changed("classes", "names", 3, to=None), r"classes\.names\[3\] is a text"),
        (changed("classes", "positives", 0, to=1.5), r"classes\.positives\[0\] is a whole number"),
        (changed("classes", "ap", "nl-1", to=[0.5]), r"classes\.ap\.nl-1 is a list of 6"),
        (changed("classes", "ap", "nl-1", 2, to=NAN), r"classes\.ap\.nl-1\[2\] is a number from 0"),
        (changed("classes", "ap", "E1", 2, to=1.5), r"classes\.ap\.E1\[2\] is a number from 0"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path: Path, tables: Any, told: str) -> None:
    with pytest.raises(StageError, match=rf"tables\.json: .*{told}.*; make it again with"):
        read_tables(write_tables(tmp_path, tables))


REQUIRED: list[tuple[str | int, ...]] = [
    *((key,) for key in TABLES if key not in ("best", "chosen", "single")),
    *(("models", 0, key) for key in ("name", "group", "paper", "mean", "sd", "values")),
    ("ensembles", 0, "searched"), ("ensembles", 0, "missing"), ("ensembles", 0, "fused"),
    ("best", "models"), ("best", "steps"), ("best", "steps", 0, "settings"),
    *(("classes", key) for key in ("ids", "names", "positives", "ap")),
]  # fmt: skip


@pytest.mark.parametrize("path", REQUIRED, ids=str)
def test_a_missing_field_is_named(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    with pytest.raises(StageError, match=rf"tables\.json: no \S*{path[-1]}; whenabouts reproduce"):
        read_tables(write_tables(tmp_path, without(*path)))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "1" * 5000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StageError, match=r"tables\.json: not JSON; it is a JSON object; make it"):
        read_tables(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"gone: cannot be read \(No such file or directory\)"):
        read_tables(tmp_path / "gone")
    with pytest.raises(StageError, match=r"cannot be read \(Is a directory\); make it again"):
        read_tables(tmp_path)


def test_deep_settings_are_cut(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    tables = changed("best", "steps", 0, "settings", to=deep)
    preset = read_tables(write_tables(tmp_path, tables)).preset
    assert preset is not None
    assert preset.steps[0].settings == "a: a: a: a: …"
