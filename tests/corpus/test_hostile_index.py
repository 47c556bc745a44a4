"""An index in which a stranger has changed something is refused, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_writer import NARROW, Video, write_shard
from whenabouts.core.errors import CorpusError
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.index import build_index

RATED = ((0, 7, 1.0), (5, 8, 0.0))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    videos = [Video("a", 12, (7,), RATED), Video("b", 6, (8, 9)), Video("c", 11, (7,), RATED[:1])]
    build_index([("v1", write_shard(tmp_path / "s", videos))], tmp_path / "index", NARROW)
    return tmp_path / "index"


def change(index: Path, name: str, values: list[Any]) -> None:
    table = pq.read_table(index)
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(values)), index)


def change_header(index: Path, **values: Any) -> None:
    table = pq.read_table(index)
    header = {**json.loads(table.schema.metadata[b"whenabouts"]), **values}
    pq.write_table(table.replace_schema_metadata({"whenabouts": json.dumps(header)}), index)


def test_the_same_written_again_opens(index: Path) -> None:
    kept = open_corpus(index)
    change(index, "frames", [12, 6, 11])
    assert open_corpus(index).digest == kept.digest


FIRST = "rgb"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rated_score", [[1.0, 2.0], [], [1.0]], "video 'a': rated_score is 2.0"),
        ("rated_score", [[1.0, float("nan")], [], [1.0]], "video 'a': rated_score is nan"),
        ("rated_score", [[1.0, 0.0], [], [-0.5]], "video 'c': rated_score is -0.5"),
        ("rated_score", [[1.0], [], [1.0]], "video 'a': number of rated_score is 1"),
        ("rated_score", [[1.0, None], [], [1.0]], "'rated_score' has a place without a value"),
        ("rated_start", [[0, 5], [0], [0]], "video 'b': number of rated_start is 1"),
        ("rated_start", [[0, 5], [], [15]], "video 'c': rated_start is 15"),
        ("rated_start", [[0, 3], [], [0]], "video 'a': rated_start is 3"),
        ("rated_start", [[-5, 5], [], [0]], "video 'a': rated_start is -5"),
        ("rated_class", [[7, -8], [], [7]], "video 'a': rated_class is -8"),
        ("labels", [[7], [8, -1], []], "video 'b': labels is -1"),
        ("labels", [[7], None, []], "row 1 has no labels"),
        ("split", ["v1", "v3", "v1"], "video 'b': split is v3"),
        ("frames", [12, 0, 11], "video 'b': frames is 0"),
        ("frames", ["many", "6", "11"], "column 'frames': .*many"),
        ("shard", [0, 0, 1], "video 'c': shard is 1"),
        ("shard", [0, -1, 0], "video 'b': shard is -1"),
        ("offset", [0, 1 << 40, 0], "video 'b': end in its shard is 1099511627"),
        ("offset", [-1, 0, 0], "video 'a': offset is -1"),
        ("length", [10, 10, 1 << 62], "video 'c': end in its shard is 46116860184273"),
        (f"{FIRST}_offset", [0, 0, 1 << 40], "video 'c': end in its shard is 10995116"),
        (f"{FIRST}_stride", [8, -8, 8], f"video 'b': {FIRST}_stride is -8"),
        (f"{FIRST}_frames", [1 << 30, 6, 11], "video 'a': end in its shard is"),
        ("id", ["a", "b", "a"], "video 'a' stands twice"),
        ("id", ["a", "b" * 300, "c"], "an id has 300 bytes, not 1 to 255"),
        ("id", ["a", "b\0", "b"], "an id has a NUL byte"),
        ("id", ["a", None, "c"], "row 1 has no id"),
    ],
)
def test_a_value_that_cannot_be(index: Path, name: str, values: list[Any], message: str) -> None:
    change(index, name, values)
    with pytest.raises(CorpusError, match=f"index: .*{message}.*index again"):
        open_corpus(index)


def test_the_last_frame_may_end_where_its_shard_does(index: Path) -> None:
    """And not a byte behind it."""
    width, stride, size = 6, 20, index.with_name("s").stat().st_size
    change(index, "rgb_stride", [stride] * 3)
    last = [size - stride * (n - 1) - width for n in (12, 6, 11)]
    change(index, "rgb_offset", last)
    assert open_corpus(index).num_frames.tolist() == [12, 6, 11]
    for row in range(3):
        change(index, "rgb_offset", [at + (k == row) for k, at in enumerate(last)])
        with pytest.raises(
            CorpusError, match=f"video '{'abc'[row]}': end in its shard is {size + 1}"
        ):
            open_corpus(index)
    change(index, "rgb_stride", [0] * 3)  # not regular: it is walked again
    open_corpus(index)


def test_a_segment_begins_before_the_video_ends(index: Path) -> None:
    change(index, "rated_start", [[0, 10], [], [10]])
    open_corpus(index)
    change(index, "frames", [12, 6, 10])
    with pytest.raises(CorpusError, match="video 'c': rated_start is 10"):
        open_corpus(index)


def test_class_0_is_a_class(index: Path) -> None:
    change(index, "labels", [[0], [0, 8], []])
    change(index, "rated_class", [[0, 7], [], [0]])
    assert open_corpus(index).labels.of(1).tolist() == [0, 8]


@pytest.mark.parametrize("name", ["id", "split", "rated_class", f"{FIRST}_offset", "shard"])
def test_a_column_that_is_missing(index: Path, name: str) -> None:
    pq.write_table(pq.read_table(index).drop_columns([name]), index)
    with pytest.raises(CorpusError, match=f"index: no column {name}"):
        open_corpus(index)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": {"name": "x"}}, "header.dataset: no features"),
        ({"dataset": 3}, "header.dataset: the value is 3"),
        ({"shards": "s"}, "header.shards: the value is 's'"),
        ({"shards": [{"path": "s"}]}, r"header.shards\[0\]: no role, size, mtime_ns"),
        ({"classes": {"ids": [7, 8], "names": ["x"]}}, "2 classes have 1 names"),
        ({"classes": {"ids": [7, 7], "names": ["", ""]}}, "a class id stands twice"),
        ({"classes": {"ids": [7, -8], "names": ["", ""]}}, "class -8; class ids are 0 to"),
        ({"classes": {"ids": ["7"], "names": [""]}}, r"header.classes.ids\[0\]: the value is '7'"),
    ],
)
def test_a_header_that_cannot_be(index: Path, values: dict[str, Any], message: str) -> None:
    change_header(index, **values)
    with pytest.raises(CorpusError, match=f"index: .*{message}"):
        open_corpus(index)


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000])
def test_a_header_that_is_no_object(index: Path, text: str) -> None:
    table = pq.read_table(index)
    pq.write_table(table.replace_schema_metadata({"whenabouts": text}), index)
    with pytest.raises(CorpusError, match=r"index: (its header is not JSON|index format is None)"):
        open_corpus(index)


def test_a_shard_of_another_time_says_so(index: Path) -> None:
    """Of equal size, too: other bytes may stand in it."""
    shard = index.with_name("s")
    shard.touch()
    with pytest.raises(CorpusError, match=r"shard has changed .*: its time of change is another"):
        open_corpus(index)
