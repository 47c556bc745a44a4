"""From data and dials to a plan; what a folder remembers; folders of TFRecords."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from small_corpus import corpus
from whenabouts.core.errors import StageError, UsageError
from whenabouts.core.list_length import OF_CHALLENGE, list_length
from whenabouts.corpus.corpus import Corpus
from whenabouts.reproduce.plan import graph_of_plan
from whenabouts.reproduce.request import (
    INDEX,
    RecordFolder,
    Request,
    plan_of,
    read_request,
    write_request,
)

__all__ = ["corpus"]


def shards(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1152 * 100))
    return folder


def test_a_request_is_kept(tmp_path):
    request = Request(
        "/data/x.index", "paper", ("/a.index", "/b.index"), 3, True, "cuda", "bfloat16",
        ("published", "best"), "4.85%",
    )  # fmt: skip
    assert read_request(tmp_path / "new") is None
    assert read_request(tmp_path) is None, "an empty folder"
    write_request(tmp_path, request)
    assert read_request(tmp_path) == request


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"it has files, and no reproduce\.json among them"):
        read_request(tmp_path)


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", "3", "{}", '{"data": 3}', '{"data": "x", "scale": "huge"}',
             '{"data": "x", "sale": "tiny"}', '{"data": "x", "seeds": 0}',
             '{"data": "x", "precision": "half"}', '{"data": "x", "presets": ["worst"]}',
             '{"data": "x", "presets": []}', '{"data": "x", "seeds": 1000000}'],
)  # fmt: skip
def test_a_damaged_request_is_named(tmp_path, kept):
    (tmp_path / "reproduce.json").write_text(kept)
    with pytest.raises(StageError, match=r"reproduce\.json: .*; remove it, and pass --data"):
        read_request(tmp_path)


@pytest.mark.parametrize("seeds", [0, 101, 10**12])
def test_seeds_are_counted_from_one_and_end(seeds):
    """A plan has stages for each: a number from a damaged file must not fill the memory."""
    with pytest.raises(UsageError, match=rf"--seeds is {seeds}; it is 1 to 100"):
        Request("x", seeds=seeds)
    assert Request("x", seeds=100).seeds == 100


def test_a_preset_at_least():
    with pytest.raises(UsageError, match=r"--preset names none; it is published, best or both"):
        Request("x", presets=())


def test_what_an_older_version_kept(tmp_path):
    (tmp_path / "reproduce.json").write_text('{"data": "/x", "scale": "tiny"}')
    assert read_request(tmp_path) == Request("/x", "tiny", precision="auto", presets=("published",))


def test_a_plan_of_an_index(corpus: Corpus):
    asked = Request(str(corpus.path), "tiny", seeds=2, final=True, device="cpu")
    plan = plan_of(replace(asked, precision="bfloat16", presets=("best",)))
    assert plan.index == corpus.path
    assert (plan.scale, plan.repeats, plan.final, plan.device) == ("tiny", 2, True, "cpu")
    assert (plan.precision, plan.presets) == ("bfloat16", ("best",))
    assert plan.size.videos == {"train": 2, "v1": 12, "v2": 12, "test": 2}
    assert plan.size.frames["test"] == int(corpus.num_frames[corpus.rows(["test"])].sum())
    assert [(t.name, t.splits) for t in plan.targets] == [("test", ("test",))]
    assert (plan.index_commands, plan.shards) == ((), ())


def test_further_corpora_are_targets_of_all_their_splits(corpus: Corpus, tmp_path):
    other = tmp_path / "held-out.index"
    other.symlink_to(corpus.path)
    plan = plan_of(Request(str(corpus.path), predict=(str(other),)))
    assert [t.name for t in plan.targets] == ["test", "held-out"]
    assert plan.targets[1].splits == ("train", "v1", "v2", "test")


def test_all_targets_have_lists_of_the_length_that_is_asked_for(corpus: Corpus, tmp_path):
    other = tmp_path / "other.index"
    other.symlink_to(corpus.path)
    for k, length in (("4.85%", list_length("4.85%")), ("100000", OF_CHALLENGE)):
        request = Request(str(corpus.path), predict=(str(other),), presets=("best",), k=k)
        plan = plan_of(request)
        assert {target.length for target in (plan.v2, *plan.targets)} == {length}
        found = {stage.name for stage in graph_of_plan(plan).stages}
        assert ({"v2.best-listed", "other.best-listed"} <= found) == (k == "4.85%")


@pytest.mark.parametrize(
    ("names", "k", "is_cut"),
    [
        (("train/a.tfrecord", "validate/a.tfrecord"), "99%", True),
        (("any.tfrecord",), "99%", True),
        (("any.tfrecord",), "100%", False),
        (("any.tfrecord",), "19", True),  # 100 frames are 20 segments, of no one knows which split
        (("any.tfrecord",), "20", False),
        (("train/a.tfrecord", "validate/a.tfrecord"), "9", True),  # of validate half is V2
        (("train/a.tfrecord", "validate/a.tfrecord"), "10", False),
    ],
)
def test_lists_of_shards_that_are_not_indexed_yet(tmp_path, names, k, is_cut):
    plan = plan_of(Request(str(shards(tmp_path, *names)), presets=("best",), k=k))
    found = {stage.name for stage in graph_of_plan(plan).stages}
    assert ("v2.best-listed" in found) == is_cut


@pytest.mark.parametrize("name", ["v2", "test", "teacher", "train", "final", "labels", "submit"])
def test_a_target_whose_name_is_taken(corpus: Corpus, tmp_path, name):
    other = tmp_path / f"{name}.index"
    other.symlink_to(corpus.path)
    with pytest.raises(UsageError, match=f"other stages are named {name}; .* another name"):
        plan_of(Request(str(corpus.path), predict=(str(other),)))


def test_two_targets_of_one_name(corpus: Corpus):
    with pytest.raises(UsageError, match="two targets are named corpus"):
        plan_of(Request(str(corpus.path), predict=(str(corpus.path), str(corpus.path))))


def test_a_target_whose_name_is_no_name(corpus: Corpus, tmp_path):
    other = tmp_path / "my corpus.index"
    other.symlink_to(corpus.path)
    with pytest.raises(UsageError, match="'my corpus' is no name of a target"):
        plan_of(Request(str(corpus.path), predict=(str(other),)))


# ---- folders of TFRecords ------------------------------------------------------------------------


def test_splits_by_folder(tmp_path):
    names = ("train/a.tfrecord", "train/deep/b.tfrecord", "validate/v1-0.tfrecord",
             "validate/v2-0.tfrecord", "test/t.tfrecord", "segment_label_ids.csv")  # fmt: skip
    folder = RecordFolder(shards(tmp_path, *names))
    assert folder.index_words() == (
        "index", "--train", f"{tmp_path}/train", "--test", f"{tmp_path}/test",
        "--v1", f"{tmp_path}/validate/v1*", "--v2", f"{tmp_path}/validate/v2*",
        "--classes", f"{tmp_path}/segment_label_ids.csv", "-o", "corpus.index",
    )  # fmt: skip
    assert {role: len(files) for role, files in folder.roles.items()} == {
        "train": 2, "v1": 1, "v2": 1, "test": 1,
    }  # fmt: skip
    assert len(folder.shards) == 5


def test_validate_is_cut_by_hash_where_nothing_is_said(tmp_path):
    folder = RecordFolder(shards(tmp_path, "train/a.tfrecord", "validate/b.tfrecord"))
    words = folder.index_words()
    assert words[1:5] == ("--train", f"{tmp_path}/train", "--validate", f"{tmp_path}/validate")
    assert "test" not in folder.roles


def test_shards_of_any_names(tmp_path):
    folder = RecordFolder(shards(tmp_path, "a.tfrecord", "x/b.tfrecord", "vocabulary.csv"))
    assert folder.index_words() == (
        "index", str(tmp_path), "--vocabulary", f"{tmp_path}/vocabulary.csv", "-o", "corpus.index",
    )  # fmt: skip
    assert folder.roles.keys() == {"auto"}


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(UsageError, match="no TFRecord file here; pass an index"):
        RecordFolder(tmp_path)


def test_a_plan_of_a_folder(tmp_path):
    plan = plan_of(Request(str(shards(tmp_path, "train/a.tfrecord", "test/b.tfrecord"))))
    assert plan.index == INDEX
    assert plan.shards == (tmp_path / "train/a.tfrecord", tmp_path / "test/b.tfrecord")
    assert [(t.name, t.index) for t in plan.targets] == [("test", INDEX)]
    assert json.dumps(plan.index_commands)
    assert plan.class_files == ()


def test_without_test_videos_there_is_no_such_target(tmp_path):
    folder = shards(tmp_path, "train/a.tfrecord", "validate/b.tfrecord")
    assert plan_of(Request(str(folder))).targets == ()


def test_an_index_is_of_its_class_files_too(tmp_path):
    names = ("segment_label_ids.csv", "vocabulary.csv")
    plan = plan_of(Request(str(shards(tmp_path, "train/a.tfrecord", *names))))
    assert plan.class_files == tuple(tmp_path / name for name in names)
    made = next(stage for stage in graph_of_plan(plan).stages if stage.name == "index")
    assert made.inputs == plan.class_files


def test_a_folder_that_was_locked_and_no_more_is_new(tmp_path):
    (tmp_path / "running.lock").touch()
    assert read_request(tmp_path) is None
