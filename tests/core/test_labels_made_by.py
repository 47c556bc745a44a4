"""Labels that say who made them, written part by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pseudo_world import labels_of, pairs_of
from whenabouts.core import labels as labels_module
from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import new_labels, read_labels, read_labels_made_by, write_labels

MADE_BY = {"method": "teacher", "trained_on": ["v1"], "settings": {"threshold": 0.5}}
PAIRS = {
    ("b", 5, 3): (1.0, 1.0),
    ("a", 0, 3): (0.25, 0.5),
    ("ö", 10, 4): (0.0, 2.0),
    ("b", 5, 4): (0.5, 0.0),
    ("a", 5, 3): (0.75, 1.0),
}


def write_in_parts(path: Path, size: int) -> Path:
    labels = labels_of(PAIRS)
    with new_labels(path, MADE_BY) as writer:
        for first in range(0, len(labels), size):
            writer.write(labels.take(np.arange(first, min(first + size, len(labels)))))
    return path


def test_they_come_back_with_their_maker(tmp_path: Path) -> None:
    path = write_in_parts(tmp_path / "l.parquet", 2)
    assert pairs_of(read_labels(path)) == PAIRS
    assert read_labels_made_by(path) == {"format": 1, **MADE_BY}


def test_parts_of_any_size_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels_module, "GROUP_PAIRS", 2)
    paths = [write_in_parts(tmp_path / f"{size}.parquet", size) for size in (1, 2, 3, 5)]
    assert len({path.read_bytes() for path in paths}) == 1
    metadata = pq.ParquetFile(paths[0]).metadata
    groups = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    assert groups == [2, 2, 1]
    assert pairs_of(read_labels(paths[0])) == PAIRS


def test_arrays_may_be_used_again_while_their_labels_wait(tmp_path: Path) -> None:
    """A row group is written when it is full; what waits for it is not the caller's memory."""
    labels = labels_of(PAIRS)
    with new_labels(tmp_path / "l.parquet", MADE_BY) as writer:
        writer.write(labels)
        for values in (labels.start_s, labels.class_id, labels.score, labels.weight):
            values[:] = 99
        labels.video[:] = b"z"
    assert pairs_of(read_labels(tmp_path / "l.parquet")) == PAIRS


def test_none_at_all(tmp_path: Path) -> None:
    with new_labels(tmp_path / "l.parquet", MADE_BY):
        pass
    assert len(read_labels(tmp_path / "l.parquet")) == 0
    assert read_labels_made_by(tmp_path / "l.parquet")["method"] == "teacher"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_in_parts(tmp_path / "l.parquet", 5)
    before = path.read_bytes()
    with pytest.raises(AttributeError, match="NoneType"), new_labels(path, {}) as writer:
        writer.write(None)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["l.parquet"]
    assert path.read_bytes() == before


def test_labels_replace_labels_alone(tmp_path: Path) -> None:
    path = write_in_parts(tmp_path / "l.parquet", 5)
    write_in_parts(path, 5)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with (
        pytest.raises(LabelsError, match=r"something else than Labels is here; choose another"),
        new_labels(path, {}),
    ):
        pass
    path.write_text("a diary")
    with pytest.raises(LabelsError, match="something else"), new_labels(path, {}):
        pass
    assert path.read_text() == "a diary"
    with (
        pytest.raises(LabelsError, match=r"the name ends in '\.csv'; it is \.parquet"),
        new_labels(tmp_path / "l.csv", {}),
    ):
        pass


def test_files_that_say_nothing(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.parquet", labels_of(PAIRS))
    assert read_labels_made_by(tmp_path / "l.parquet") == {}
    (tmp_path / "l.csv").write_text("video,start,class,score\na,5,3,1\n")
    assert read_labels_made_by(tmp_path / "l.csv") == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"format": 2}', '{"method": "teacher"}'])
def test_what_cannot_be_read(text: str, tmp_path: Path) -> None:
    table = pa.table({"video": ["a"]}).replace_schema_metadata({b"whenabouts": text})
    pq.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(LabelsError, match=r"l\.parquet: "):
        read_labels_made_by(tmp_path / "l.parquet")
