from pathlib import Path

import numpy as np
import pytest

from ranking_oracle import lists_by_definition, random_world, table
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import LabelsError, ScoresError, SubmissionError
from whenabouts.core.segments import SegmentTable
from whenabouts.submission import read_submission, write_submission

CLASSES = ClassOrder.of([7, 3])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "submission.csv"


def written(path: Path, *names: str, scores: list[float], k: int = 100_000) -> bytes:
    values = np.array(scores, np.float32)[:, None]
    write_submission(path, table(*names), ClassOrder.of([3]), values, k)
    return path.read_bytes().removeprefix(b"Class,Segments\n3,").removesuffix(b"\n")


def test_golden_bytes(path: Path) -> None:
    segments = table("b:0", "abc:295", "abc:5", "a:b:100", "abc:0")
    values = np.array([[1, 0], [2, 0], [2, 0], [3, -1], [1.5, 9]], np.float32)
    write_submission(path, segments, CLASSES, values)
    assert path.read_bytes() == (
        b"Class,Segments\n7,a:b:100 abc:5 abc:295 abc:0 b:0\n3,abc:0 abc:5 abc:295 b:0 a:b:100\n"
    )
    write_submission(path, segments, CLASSES, values.astype(np.float16), k=2)
    assert path.read_bytes() == b"Class,Segments\n7,a:b:100 abc:5\n3,abc:0 abc:5\n"


def test_nothing_to_list(path: Path) -> None:
    write_submission(path, table(), CLASSES, np.empty((0, 2), np.float32))
    assert path.read_bytes() == b"Class,Segments\n7,\n3,\n"
    assert list(read_submission(path)) == [(7, []), (3, [])]
    write_submission(path, table("a:0"), ClassOrder.of([]), np.empty((1, 0), np.float32))
    assert path.read_bytes() == b"Class,Segments\n"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", [1, 13, 59, 60, 61, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_lists_against_the_definition(seed: int, k: int, dtype: type, path: Path) -> None:
    world = random_world(seed, dtype=dtype)
    write_submission(path, *world[1:], k=k)
    expected = [
        (class_id, [b"%b:%d" % name for name in names])
        for class_id, names in lists_by_definition(world, k).items()
    ]
    assert list(read_submission(path)) == expected


@pytest.mark.parametrize("budget_bytes", [1, 60 * 4 * 2, 60 * 4 * 4])
def test_the_budget_is_irrelevant(budget_bytes: int, path: Path) -> None:
    world = random_world(0)
    write_submission(path, *world[1:], k=30)
    expected = path.read_bytes()
    write_submission(path, *world[1:], k=30, budget_bytes=budget_bytes)
    assert path.read_bytes() == expected


def test_the_order_of_rows_is_irrelevant(path: Path) -> None:
    world = random_world(1)
    write_submission(path, *world[1:], k=30)
    expected = path.read_bytes()
    rows = np.random.default_rng(0).permutation(60)
    ids, video, starts = world.segments.video_ids, world.segments.video, world.segments.starts_s
    # Unused videos may stand in the table.
    padded = SegmentTable(np.concatenate(([b"unused"], ids)), video[rows] + 1, starts[rows])
    write_submission(path, padded, world.classes, world.values[rows], k=30)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("start", [0, 5, 9, 10, 99, 100, 995, 1000, 12345, 9_999_999])
def test_starts_are_written_plainly(start: int, path: Path) -> None:
    assert written(path, f"a:{start}", scores=[1]) == b"a:%d" % start
    both = written(path, f"a:{start}", "b:9999999", "c:0", scores=[3, 2, 1])
    assert both == b"a:%d b:9999999 c:0" % start


def test_ids_of_all_lengths_and_bytes(path: Path) -> None:
    names = ["é:0", "::5", "x" * 40 + ":10", "a;b'c:15", "a:b:20", "ÿ~!:25"]
    listed = written(path, *names, scores=[6, 5, 4, 3, 2, 1])
    assert listed == " ".join(names).encode()


def test_scores_may_be_mapped(path: Path, tmp_path: Path) -> None:
    world = random_world(2)
    write_submission(path, *world[1:])
    expected = path.read_bytes()
    np.save(tmp_path / "scores.npy", world.values)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    write_submission(path, world.segments, world.classes, mapped)
    assert path.read_bytes() == expected


def test_each_class_is_announced(path: Path) -> None:
    announced: list[int] = []
    world = random_world(0)
    write_submission(path, *world[1:], budget_bytes=1000, on_class=announced.append)
    assert announced == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [b" ", b"a b", b"a,b", b'a"b', b"a\n", b"\ra", b"a\tb", b"a\x00b", b"\x7f", b"", b"x" * 1017],
)
def test_ids_that_cannot_stand_in_the_file(bad: bytes, path: Path) -> None:
    ids = np.array([b"fine", bad, b"fine too".replace(b" ", b"-")], np.bytes_)
    segments = SegmentTable(ids, np.arange(3), np.zeros(3, np.int64))
    with pytest.raises(SubmissionError) as raised:
        write_submission(path, segments, ClassOrder.of([3]), np.zeros((3, 1), np.float32))
    assert f"video id {bad!r} cannot stand in a submission; an id has 1 to 1016" in str(
        raised.value
    )
    assert list(path.parent.iterdir()) == []


def test_the_longest_id_is_read_again(path: Path) -> None:
    name = "x" * 1016 + ":9999999"
    assert written(path, name, scores=[1]) == name.encode()
    assert list(read_submission(path)) == [(3, [name.encode()])]


@pytest.mark.parametrize("start", [-5, 10_000_000])
def test_starts_that_cannot_stand_in_the_file(start: int, path: Path) -> None:
    with pytest.raises(SubmissionError, match=f"starts at {start} s; starts are 0..9999999"):
        written(path, "a:0", f"b:{start}", scores=[1, 2])
    assert list(path.parent.iterdir()) == []


def test_the_highest_class(path: Path) -> None:
    highest, values = 2**31 - 1, np.zeros((1, 1), np.float32)
    write_submission(path, table("a:0"), ClassOrder.of([highest]), values)
    assert list(read_submission(path)) == [(highest, [b"a:0"])]
    with pytest.raises(LabelsError, match="class 2147483648; class ids are 0 to 2147483647"):
        ClassOrder.of([highest + 1])  # which no reader takes


def test_an_error_leaves_what_was_there(path: Path) -> None:
    world = random_world(0)
    path.write_bytes(b"before")
    values = world.values.copy()
    values[5, 3] = np.nan
    with pytest.raises(ScoresError, match="class 0 in row 5 is NaN"):
        write_submission(path, world.segments, world.classes, values)

    def stop(column: int) -> None:
        if column == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_submission(path, *world[1:], on_class=stop)
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_scores_that_cannot_be_ranked(path: Path) -> None:
    with pytest.raises(ScoresError, match="segment a:0 stands in row 0 and in row 2"):
        written(path, "a:0", "a:5", "a:0", scores=[1, 2, 3])
    with pytest.raises(ScoresError, match=r"the scores are \(1, 1\)"):
        write_submission(path, table("a:0"), CLASSES, np.zeros((1, 1), np.float32))


def test_reading_refuses_what_is_broken(path: Path) -> None:
    path.write_bytes(b"Class,Segments\n3,a:0 a:0\n")
    with pytest.raises(SubmissionError, match="token 2 'a:0' repeats token 1"):
        list(read_submission(path))
