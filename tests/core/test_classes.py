from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.core.classes import (
    MAX_CLASS,
    ClassOrder,
    read_class_ids,
    read_classes,
    read_vocabulary,
    write_classes,
)
from whenabouts.core.errors import LabelsError

META = Path(__file__).parents[2].parent / "shared" / "data" / "meta"
class_ids = st.integers(0, 12) | st.integers(0, MAX_CLASS)


@settings(deadline=None, max_examples=50)
@given(st.lists(class_ids, unique=True, max_size=8), st.lists(st.integers(-3, 14) | class_ids))
def test_columns_are_places_in_the_order(ids, wanted):
    expected = [ids.index(i) if i in ids else -1 for i in wanted]
    for dtype in (np.int64, np.int32):
        columns = ClassOrder.of(ids).columns(np.array(wanted, dtype))
        assert columns.tolist() == expected


def test_column_of_what_int32_cannot_hold():
    wanted = np.array([-(2**63), -1, 2**31, 2**32 + 5, 2**63 - 1])
    assert ClassOrder.of([5, MAX_CLASS]).columns(wanted).tolist() == [-1] * 5


def test_names_follow_the_ids():
    order = ClassOrder.of(np.array([7, 2, 9]), {2: "Guitar", 9: "", 3: "Dog"})
    assert order.ids == (7, 2, 9)
    assert all(type(i) is int for i in order.ids), "JSON cannot hold numpy integers"
    assert order.names == ("", "Guitar", "")
    assert [order.topic(k) for k in range(3)] == ["class 7", "Guitar", "class 9"]
    assert len(order) == 3
    assert ClassOrder.of([4]).names == ("",)


def test_repeated_id_is_refused():
    with pytest.raises(LabelsError, match="stands twice"):
        ClassOrder.of([1, 2, 1])


@pytest.mark.parametrize("ids", [(-1,), (3, 2**31)])
def test_an_id_out_of_range_is_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(LabelsError, match=rf"class {ids[-1]}; class ids are 0 to 2147483647"):
        ClassOrder.of(ids)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ()])
def test_each_class_has_one_name(names: tuple[str, ...]) -> None:
    with pytest.raises(LabelsError, match=rf"2 classes have {len(names)} names; each has one"):
        ClassOrder((3, 1), names)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_class_ids_keep_the_order_of_the_file(tmp_path):
    assert read_class_ids(write(tmp_path / "a.csv", "Index\n1000\n3\n\n1\n")) == (1000, 3, 1)
    path = write(tmp_path / "b.csv", f"Name,Index\r\nDog,{MAX_CLASS}\r\nCat,0\r\n")
    assert read_class_ids(path) == (MAX_CLASS, 0)


def test_vocabulary_in_any_order_with_empty_names(tmp_path):
    text = 'Index,TrainVideoCount,Name\n9,4,"Rock, hard"\n2,1,\n3\n0,1,Dog\n'
    assert read_vocabulary(write(tmp_path / "v.csv", text)) == {
        9: "Rock, hard",
        2: "",
        3: "",
        0: "Dog",
    }


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "", "٣", "1e3", str(2**31), "9" * 5000, " 1"])
def test_what_is_no_class_id_is_named(tmp_path, text):
    path = write(tmp_path / "a.csv", f"Index,Name\n5,Dog\n{text},Cat\n")
    message = rf"a\.csv, line 3: '{text}' is no class id; .*2147483647"
    with pytest.raises(LabelsError, match=message):
        read_class_ids(path)
    with pytest.raises(LabelsError, match=message):
        read_vocabulary(path)


def test_row_without_an_id_is_named(tmp_path):
    with pytest.raises(LabelsError, match="line 2: '' is no class id"):
        read_class_ids(write(tmp_path / "a.csv", "Name,Index\nDog\n"))


@pytest.mark.parametrize("content", ["", "id\n3\n", "3\n4\n", "Name\nDog\n"])
def test_file_without_the_header_is_refused(tmp_path, content):
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(LabelsError, match=r"a\.csv: columns are .*a header with 'Index';"):
        read_class_ids(path)


def test_vocabulary_without_names_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "Index\n3\n")
    with pytest.raises(LabelsError, match=r"columns are \['Index'\]; .*'Index' and 'Name'"):
        read_vocabulary(path)
    path = write(tmp_path / "b.csv", "Name\nDog\n")
    with pytest.raises(LabelsError, match=r"columns are \['Name'\]; .*'Index' and 'Name'"):
        read_vocabulary(path)


@pytest.mark.parametrize("content", [b"Index,Name\n1,\xff\n", b'Index,Name\n1,"' + b"x" * 200_000])
def test_file_that_is_no_csv_is_refused(tmp_path, content):
    with pytest.raises(LabelsError, match=r"a\.csv: no CSV file in UTF-8"):
        read_vocabulary(write(tmp_path / "a.csv", content))


def test_classes_come_back_as_written(tmp_path):
    names = {3: 'a, "b"', 1: "two\nlines", 7: "Ö"}
    order = ClassOrder.of([3, 1, 0, 7], names)
    write_classes(tmp_path / "c.csv", order)
    assert read_classes(tmp_path / "c.csv") == order
    assert [p.name for p in tmp_path.iterdir()] == ["c.csv"]


def test_golden_class_file(tmp_path):
    write_classes(tmp_path / "c.csv", ClassOrder((3, 1), ("Ö, x", "")))
    assert (tmp_path / "c.csv").read_bytes() == 'Index,Name\r\n3,"Ö, x"\r\n1,\r\n'.encode()


@pytest.mark.skipif(not META.is_dir(), reason="the YouTube-8M class files are not here")
def test_files_of_youtube_8m():
    ids = read_class_ids(META / "segment_label_ids.csv")
    assert len(ids) == len(set(ids)) == 1000
    assert list(ids) != sorted(ids)
    vocabulary = read_vocabulary(META / "vocabulary.csv")
    assert sorted(vocabulary) == list(range(3862))
    assert sum(not name for name in vocabulary.values()) == 56


def test_a_class_of_two_names_is_refused(tmp_path):
    path = write(tmp_path / "v.csv", "Index,Name\n2,Cat\n3,Dog\n2,Cat\n3,Hound\n")
    with pytest.raises(LabelsError, match=r"v.csv, line 5: class 3 has two names; it has one"):
        read_vocabulary(path)
