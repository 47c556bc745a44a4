from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import (
    SegmentLabels,
    read_labels,
    refuse_repeats,
    segment_labels,
    write_labels,
)

FIELDS = ("video", "start_s", "class_id", "score", "weight")


def some_labels() -> SegmentLabels:
    return SegmentLabels(
        np.array([b"b", b"a", b"b", "ö".encode()]),
        np.array([5, 0, 5, 10]),
        np.array([3, 3, 4, 3]),
        np.array([1, 0, 0.25, 1], np.float32),
        np.array([1, 0, 2.5, 1], np.float32),
    )


def assert_same(labels: SegmentLabels, other: SegmentLabels) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(labels, name), getattr(other, name), strict=True)


def rows_of(labels: SegmentLabels) -> list[tuple]:
    return list(zip(*(getattr(labels, name).tolist() for name in FIELDS)))


def test_labels_come_back_as_written(tmp_path):
    write_labels(tmp_path / "l.parquet", some_labels())
    assert_same(read_labels(tmp_path / "l.parquet"), some_labels())
    assert pq.read_schema(tmp_path / "l.parquet").names == [
        "video",
        "start",
        "class",
        "score",
        "weight",
    ]


def test_no_labels_come_back_as_written(tmp_path):
    write_labels(tmp_path / "l.parquet", some_labels().take(np.zeros(4, bool)))
    assert len(read_labels(tmp_path / "l.parquet")) == 0


def test_take_takes_of_every_column():
    labels = some_labels()
    assert rows_of(labels.take(np.array([2, 0]))) == [rows_of(labels)[2], rows_of(labels)[0]]
    assert rows_of(labels.take(labels.class_id == 4)) == [(b"b", 5, 4, 0.25, 2.5)]
    assert len(labels) == 4


def test_csv_in_any_order_of_columns_without_weight(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("score,class,extra,video,start\n1,3,x,0012,5\n0.5,4,y,-a:b,0\n")
    assert rows_of(read_labels(path)) == [(b"0012", 5, 3, 1.0, 1.0), (b"-a:b", 0, 4, 0.5, 1.0)]


def test_csv_of_ids_that_look_like_numbers(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("video,start,class,score\n0012,5,3,1\n1e3,5,3,0\n")
    assert [video for video, *_ in rows_of(read_labels(path))] == [b"0012", b"1e3"]


def test_csv_with_weight(tmp_path):
    (tmp_path / "l.csv").write_text("video,start,class,score,weight\na,5,3,1,0.5\n")
    assert rows_of(read_labels(tmp_path / "l.csv")) == [(b"a", 5, 3, 1.0, 0.5)]


def test_parquet_of_another_writer(tmp_path):
    """Narrow integers, doubles and a dictionary of ids, as other tools write them."""
    columns = {
        "video": pa.array(["a", "b", "a"]).dictionary_encode(),
        "start": pa.array([0, 5, 5], pa.int16()),
        "class": pa.array([1, 1, 1], pa.uint8()),
        "score": pa.array([1.0, 0.0, 0.5], pa.float64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    labels = read_labels(tmp_path / "l.parquet")
    assert rows_of(labels) == [(b"a", 0, 1, 1, 1), (b"b", 5, 1, 0, 1), (b"a", 5, 1, 0.5, 1)]
    assert labels.start_s.dtype == labels.class_id.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start,score\na,0,1\n", "no column class"),
        ("start,class\n0,1\n", "no column score, video"),
        (
            "video,start,class,score\na,0,3,1\na,5,3,1.01\n",
            r"a score is outside \[0, 1\]: 1.01 in row 1",
        ),
        ("video,start,class,score\na,0,3,-0.01\n", r"a score is outside \[0, 1\]"),
        ("video,start,class,score\na,0,3,1\na,0,-1,1\n", "row 1 has class -1; classes are 0 to"),
        ("video,start,class,score\na,0,2147483648,1\n", "row 0 has class 2147483648; classes"),
        ("video,start,class,score\na,0,3,nan\n", "row 0 has no score"),
        ("video,start,class,score,weight\na,0,3,1,-0.1\n", "a weight is negative or not finite"),
        (
            "video,start,class,score,weight\na,0,3,1,inf\n",
            "a weight is negative or not finite: inf in row 0",
        ),
        ("video,start,class,score\na,0,3,1\nb,,3,1\n", "row 1 has no start"),
        ("video,start,class,score\na,0,,1\n", "row 0 has no class"),
        ("video,start,class,score\na,0.5,3,1\n", "Float value 0.50* was truncated"),
        ("video,start,class,score\na,zero,3,1\n", "zero"),
        ("video,start,class,score\na,0\n", "Expected 4 columns"),
        ("video,start,class,score\na,0,3,1\na,5,3,1\na,0,3,0\n", "a:0 is rated twice for class 3"),
        ("", "Empty"),
    ],
)
def test_csv_that_does_not_fit_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(LabelsError, match=rf"l\.csv: .*{message}"):
        read_labels(tmp_path / "l.csv")


def test_limits_of_scores_and_weights_are_allowed(tmp_path):
    (tmp_path / "l.csv").write_text("video,start,class,score,weight\na,0,3,0,0\na,5,3,1,9\n")
    assert rows_of(read_labels(tmp_path / "l.csv")) == [(b"a", 0, 3, 0, 0), (b"a", 5, 3, 1, 9)]


def test_missing_video_in_parquet_is_named(tmp_path):
    columns = {"video": ["a", None], "start": [0, 0], "class": [1, 1], "score": [1.0, 1.0]}
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    with pytest.raises(LabelsError, match=r"l\.parquet: row 1 has no video; Labels have"):
        read_labels(tmp_path / "l.parquet")


@pytest.mark.parametrize("name", ["score", "weight"])
def test_number_that_is_none_is_refused(tmp_path, name):
    columns = {"video": ["a"], "start": [0], "class": [1], "score": [1.0], "weight": [1.0]}
    pq.write_table(pa.table(columns | {name: [float("nan")]}), tmp_path / "l.parquet")
    with pytest.raises(LabelsError, match=rf"l\.parquet: a {name} is"):
        read_labels(tmp_path / "l.parquet")


def test_column_of_another_kind_is_refused(tmp_path):
    columns = {"video": ["a"], "start": [[0]], "class": [1], "score": [1.0]}
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    with pytest.raises(LabelsError, match=r"l\.parquet: .*list"):
        read_labels(tmp_path / "l.parquet")


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "l.parquet").write_bytes(b"rubbish, but long enough for a footer")
    with pytest.raises(LabelsError, match=r"l\.parquet: .*Parquet"):
        read_labels(tmp_path / "l.parquet")


def test_labels_of_arrays_have_weight_one():
    labels = segment_labels(
        np.array([b"a", b"b"]), np.array([0, 5], np.int32), np.array([1, 2], np.int16),
        np.array([1.0, 0.5]),
    )  # fmt: skip
    assert rows_of(labels) == [(b"a", 0, 1, 1, 1), (b"b", 5, 2, 0.5, 1)]
    assert [getattr(labels, n).dtype for n in FIELDS[1:]] == ["i8", "i8", "f4", "f4"]


def pairs(*rows: tuple[bytes, int, int]) -> SegmentLabels:
    video, start, class_id = (np.array(column) for column in zip(*rows))
    ones = np.ones(len(rows), np.float32)
    return SegmentLabels(video, start, class_id, ones, ones)


def test_same_pair_twice_is_refused():
    twice = pairs((b"a", 0, 1), (b"b", 5, 2), (b"b", 0, 2), (b"a", 5, 2), (b"b", 5, 2))
    with pytest.raises(LabelsError, match=r"^x: segment b:5 is rated twice for class 2"):
        refuse_repeats(twice, "x")
    with pytest.raises(LabelsError, match="rated twice"):
        segment_labels(twice.video, twice.start_s, twice.class_id, twice.score)


def test_pairs_that_differ_in_one_field_are_no_repeats():
    refuse_repeats(pairs((b"a", 0, 1), (b"b", 0, 1), (b"a", 5, 1), (b"a", 0, 2)), "x")
    assert len(segment_labels(*(np.zeros(0, d) for d in ("S1", int, int, float)))) == 0
