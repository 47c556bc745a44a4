"""Records of stages: what is kept, what is damaged, and why a stage has to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whenabouts.workflow.fingerprint import ABSENT, Fingerprints
from whenabouts.workflow.record import (
    Record,
    changed_part,
    parts_of,
    read_record,
    record_path,
    why_run,
    write_record,
)
from whenabouts.workflow.stage import Stage

PARTS = {"version": "1", "settings": "[]", "input a": "aa"}
STAGE = Stage("s", (("do", "it"),), (Path("out"),), (Path("a"),), (Path("b"), Path("c")))


def test_a_record_comes_back(tmp_path):
    for record in (Record("done", PARTS, 2.5), Record("failed", {}), Record("running", PARTS)):
        write_record(tmp_path, STAGE, record)
        assert read_record(tmp_path, STAGE) == record
    assert record_path(tmp_path, STAGE) == tmp_path / "stages" / "s.json"


GOOD = {"format": 1, "state": "done", "parts": {}, "seconds": 1}


@pytest.mark.parametrize(
    "kept",
    [
        "", "{", "[]", "3", "null", '"x"', "[" * 100_000, "\x00\x01",
        *(json.dumps({k: v for k, v in GOOD.items() if k != left}) for left in GOOD),
        *(json.dumps({**GOOD, **bad}) for bad in (
            {"format": 2}, {"state": "well"}, {"state": None}, {"state": []},
            {"parts": 3}, {"parts": "ab"}, {"parts": [1, 2]}, {"seconds": "long"},
            {"seconds": None},
        )),
    ],
)  # fmt: skip
def test_a_damaged_record_is_none(tmp_path, kept):
    path = record_path(tmp_path, STAGE)
    path.parent.mkdir()
    path.write_text(kept)
    assert read_record(tmp_path, STAGE) is None
    path.write_text(json.dumps(GOOD))
    assert read_record(tmp_path, STAGE) == Record("done", {}, 1.0)


def test_no_record_or_a_folder_in_its_place_is_none(tmp_path):
    assert read_record(tmp_path, STAGE) is None
    record_path(tmp_path, STAGE).mkdir(parents=True)
    assert read_record(tmp_path, STAGE) is None


def test_what_a_stage_depends_on(tmp_path):
    for name in "abcd":
        (tmp_path / name).write_text(name)
    stage = Stage("s", (), (Path("o"),), (Path("a"),), (Path("b"), Path("c")), (Path("d"),))
    prints = Fingerprints(tmp_path, tmp_path / "prints")
    parts = parts_of(stage, (("x", "y"),), frozenset({Path("b")}), "1.2", prints)
    assert parts == {
        "version": "1.2",
        "settings": '[["x", "y"]]',
        "input a": prints.of(Path("a")),
        "input b": prints.of(Path("b")),
        "input c": ABSENT,
        "input d": prints.stamp(Path("d")),
    }


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (PARTS, ""),
        ({**PARTS, "version": "2"}, "version changed"),
        ({**PARTS, "settings": "[1]"}, "settings changed"),
        ({**PARTS, "input a": "ab"}, "input a changed"),
        ({**PARTS, "input a": ABSENT}, "input a is gone"),
        ({**PARTS, "input b": "x"}, "input b is new"),
        ({"version": "1", "settings": "[]"}, "input a is gone"),
        ({**PARTS, "input b": ABSENT}, ""),
        ({**PARTS, "version": "2", "input a": "x"}, "version changed"),
    ],
)
def test_the_first_change_is_told(now, told):
    assert changed_part(PARTS, now) == told


def test_why_a_stage_has_to_run(tmp_path):
    def why(record: Record | None) -> str:
        return why_run(tmp_path, STAGE, record, PARTS)

    assert why(Record("done", PARTS)) == "out is missing"
    (tmp_path / "out").touch()
    assert why(Record("done", PARTS)) == ""
    assert why(None) == "not done yet"
    assert why(Record("failed", PARTS)) == "it failed"
    assert why(Record("running", PARTS)) == "it was interrupted"
    assert why(Record("done", {**PARTS, "version": "0"})) == "version changed"
    assert why(Record("failed", {**PARTS, "version": "0"})) == "version changed"
