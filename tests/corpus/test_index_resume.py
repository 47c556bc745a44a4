"""Several processes, interruptions, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_writer import (
    NARROW,
    Video,
    ids_of,
    names_in,
    write_shard,
    write_shards,
)
from whenabouts.core.classes import ClassOrder
from whenabouts.core.progress import Progress
from whenabouts.corpus import index as index_module
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.corpus.index import build_index

RATED = ((0, 7, 1), (5, 7, 0))


def many_shards(folder: Path) -> list:
    contents = [[Video(f"{k}{i}", 3 + k, (k,), RATED) for i in "abc"] for k in range(5)]
    contents[1].insert(1, b"\xff")
    contents[3].insert(0, b"\xff")
    contents[4].append(Video("1a", 4))
    return write_shards(folder, [("validate", content) for content in contents])


def test_same_index_for_one_or_two_processes(tmp_path):
    shards = many_shards(tmp_path)
    reports = [build_index(shards, tmp_path / f"{n}.index", NARROW, processes=n) for n in (1, 2)]
    assert reports[0] == reports[1]
    assert [Path(entry.path).name[5] for entry in reports[0].left_out] == ["1", "3", "4"]
    one, two = (tmp_path / "1.index", tmp_path / "2.index")
    assert one.read_bytes() == two.read_bytes()
    suffix = ".left-out.csv"
    assert one.with_name(f"1.index{suffix}").read_bytes() == (
        two.with_name(f"2.index{suffix}").read_bytes()
    )


def test_order_in_which_shards_are_done_is_irrelevant(tmp_path, monkeypatch):
    shards = many_shards(tmp_path)
    expected = build_index(shards, tmp_path / "index", NARROW)
    before = (tmp_path / "index").read_bytes()

    def backwards(work, items, processes):
        assert processes == 7
        return [(item, work(item)) for item in reversed(items)]

    monkeypatch.setattr(index_module, "map_unordered", backwards)
    assert build_index(shards, tmp_path / "index", NARROW, processes=7) == expected
    assert (tmp_path / "index").read_bytes() == before


@pytest.fixture
def shards_read(monkeypatch) -> list[str]:
    """The names of the shards that were read, in order."""
    names = []
    open_shard = index_module.open_shard

    def counted(path: str) -> np.ndarray:
        names.append(Path(path).name)
        return open_shard(path)

    monkeypatch.setattr(index_module, "open_shard", counted)
    return names


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(work, items, processes):
        yield from ((item, work(item)) for item in items[:count])
        raise KeyboardInterrupt

    monkeypatch.setattr(index_module, "map_unordered", interrupted)


def interrupted_index(shards: list, path: Path, count: int, **settings: object) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_after(count, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            build_index(shards, path, NARROW, **settings)


def test_interrupted_index_goes_on_where_it_was(tmp_path, shards_read):
    shards = many_shards(tmp_path)
    expected = build_index(shards, tmp_path / "whole", NARROW)
    shards_read.clear()
    interrupted_index(shards, tmp_path / "index", 2)
    assert shards_read == ["shard0.tfrecord", "shard1.tfrecord"]
    assert not (tmp_path / "index").exists()
    assert len(names_in(tmp_path / "index.parts")) == 2
    shards_read.clear()
    assert build_index(shards, tmp_path / "index", NARROW) == expected
    assert shards_read == ["shard2.tfrecord", "shard3.tfrecord", "shard4.tfrecord"]
    assert (tmp_path / "index").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "index.parts").exists()


def test_progress_counts_bytes_and_videos_also_of_finished_parts(tmp_path, monkeypatch):
    shown = []

    class Bar(Progress):
        def advance(self, amount: float, note: str = "") -> None:
            super().advance(amount, note)
            shown.append((self.done, self.total, self.unit, self.note))

    @contextmanager
    def recorded(what: str, total: float, unit: str) -> Iterator[Progress]:
        yield Bar(what, total, unit)

    shards = write_shards(tmp_path, [("v1", [Video("a"), Video("b")]), ("v1", [Video("c")])])
    interrupted_index(shards, tmp_path / "index", 1)
    monkeypatch.setattr(index_module, "progress", recorded)
    build_index(shards, tmp_path / "index", NARROW)
    first, second = (path.stat().st_size for _, path in shards)
    total = first + second
    assert shown == [(first, total, "B", "2 videos"), (total, total, "B", "3 videos")]


def test_part_of_a_changed_shard_is_not_used_again(tmp_path, shards_read):
    shards = many_shards(tmp_path)
    interrupted_index(shards, tmp_path / "index", 5)
    shards_read.clear()
    other_size, same_size = shards[0][1], shards[2][1]
    mtime_ns = [path.stat().st_mtime_ns for path in (other_size, same_size)]
    write_shard(other_size, [Video("new", 4)])
    os.utime(other_size, ns=(mtime_ns[0], mtime_ns[0]))
    write_shard(same_size, [Video(f"2{i}", 5, (2,), RATED) for i in "xyz"])
    os.utime(same_size, ns=(mtime_ns[1], mtime_ns[1] + 1))
    build_index(shards, tmp_path / "index", NARROW)
    assert shards_read == ["shard0.tfrecord", "shard2.tfrecord"]
    found = ids_of(open_corpus(tmp_path / "index"))
    assert [i for i in found if i[0] in "n2"] == ["new", "2x", "2y", "2z"]


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ClassOrder.of([8])},
        {"dataset": DatasetSettings("narrow", NARROW.features, segment_s=6)},
        {"dataset": DatasetSettings("narrow", (FeatureList("audio", 3), FeatureList("rgb", 6)))},
    ],
)
def test_part_made_with_other_settings_is_not_used_again(tmp_path, changes):
    shards = many_shards(tmp_path)
    expected = build_index(shards, tmp_path / "whole", **{"dataset": NARROW, **changes})
    interrupted_index(shards, tmp_path / "index", 5)
    assert build_index(shards, tmp_path / "index", **{"dataset": NARROW, **changes}) == expected
    assert (tmp_path / "index").read_bytes() == (tmp_path / "whole").read_bytes()


def test_part_made_for_another_role_is_not_used_again(tmp_path):
    shards = many_shards(tmp_path)
    interrupted_index(shards, tmp_path / "index", 5)
    build_index([("test", path) for _, path in shards], tmp_path / "index", NARROW)
    corpus = open_corpus(tmp_path / "index")
    assert len(corpus.rows(["test"])) == len(corpus) == 15


KILLED = """
import os, signal, sys
from pathlib import Path
from corpus_writer import NARROW
from whenabouts.core import atomic
from whenabouts.corpus.index import build_index

syncs, sync = [], atomic.sync

def killed_at_the_third(path):
    syncs.append(path)
    if len(syncs) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)

atomic.sync = killed_at_the_third
paths = sorted(Path(sys.argv[1]).glob("shard*"))
build_index([("validate", path) for path in paths], Path(sys.argv[1], "index"), NARROW)
"""


def test_killed_index_goes_on_where_it_was(tmp_path, shards_read):
    """The process dies with the third part written but not yet in its place."""
    shards = many_shards(tmp_path)
    expected = build_index(shards, tmp_path / "whole", NARROW)
    shards_read.clear()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -signal.SIGKILL
    parts = names_in(tmp_path / "index.parts")
    assert [name.startswith(".") for name in parts] == [True, False, False]
    assert not (tmp_path / "index").exists()
    assert build_index(shards, tmp_path / "index", NARROW) == expected
    assert shards_read == ["shard2.tfrecord", "shard3.tfrecord", "shard4.tfrecord"]
    assert (tmp_path / "index").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "index.parts").exists()


def test_index_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    """The disk is full when the parts are done and the index itself is written."""
    shards = many_shards(tmp_path)
    build_index(shards[:1], tmp_path / "index", NARROW)
    before = (tmp_path / "index").read_bytes()
    write_table = pq.write_table

    def full(table: pa.Table, path: Path, **settings: object) -> None:
        write_table(table, path, **settings)
        if path.parent == tmp_path:
            os.truncate(path, 100)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        build_index(shards, tmp_path / "index", NARROW)
    assert (tmp_path / "index").read_bytes() == before
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]
    assert len(names_in(tmp_path / "index.parts")) == 5


def test_full_disk_leaves_the_old_index(tmp_path, tiny_disk):
    small = write_shard(tmp_path / "a.tfrecord", [Video("a")])
    build_index([("train", small)], tiny_disk / "index", NARROW)
    before = (tiny_disk / "index").read_bytes()
    large = write_shard(
        tmp_path / "b.tfrecord", [Video(f"{k * 7919:x}" * 9, 1) for k in range(2000)]
    )
    with pytest.raises(OSError, match="No space left"):
        build_index([("train", small), ("train", large)], tiny_disk / "index", NARROW)
    assert (tiny_disk / "index").read_bytes() == before
    assert not any(name.startswith(".") for name in names_in(tiny_disk / "index.parts"))
    assert len(open_corpus(tiny_disk / "index")) == 1
