"""`whenabouts index`: roles of shards, classes, what is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from commandline import Outcome, run
from whenabouts.core.classes import read_class_ids
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.splits import SPLITS, half_of


@pytest.fixture
def made(corpus: Corpus) -> Path:
    return corpus.path.parent


def index(capsys: pytest.CaptureFixture[str], made: Path, out: Path, *words: object) -> Outcome:
    dataset = ("--dataset", made / "dataset.json", "--processes", 1)
    return run(capsys, "index", *words, *dataset, "-o", out)


def counts(path: Path) -> dict[str, int]:
    corpus = open_corpus(path)
    return {split: len(corpus.rows([split])) for split in SPLITS}


def test_shards_by_role(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.index"
    code, told, _ = index(
        capsys, made, out, "--train", made / "train", "--v1", made / "validate/v1-*",
        "--v2", made / "validate/v2-0000.tfrecord", made / "validate/v2-0001.tfrecord",
        "--test", made / "test", "--classes", made / "segment_label_ids.csv",
        "--vocabulary", made / "vocabulary.csv", "--json",
    )  # fmt: skip
    assert code == 0
    result = json.loads(told)
    corpus = open_corpus(out)
    assert 0 < result.pop("time_s") < 60
    assert result == {
        "index": str(out),
        "dataset": "made",
        "videos": {"train": 2, "v1": 12, "v2": 12, "test": 2},
        "frames": int(corpus.num_frames.sum()),
        "rated_pairs": len(corpus.rated_class.values),
        "classes": 4,
        "left_out": 0,
        "notices": {},
    }
    assert counts(out) == result["videos"]
    assert corpus.classes.ids == read_class_ids(made / "segment_label_ids.csv")
    assert all(corpus.classes.names)


def test_the_result_in_words(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.index"
    code, told, _ = index(capsys, made, out, "--v2", made / "validate")
    assert code == 0
    first, second = told.splitlines()
    assert first.startswith(f"{out}: 24 videos (train 0, v1 0, v2 24, test 0), ")
    rated = len(open_corpus(out).rated_class.values)
    assert second == f"{rated} rated pairs in 4 classes; data set made; left out: 0 records"


def test_validate_is_cut_by_a_hash_of_the_id(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.index"
    assert index(capsys, made, out, "--validate", made / "validate").code == 0
    corpus = open_corpus(out)
    halves = [half_of(video) for video in corpus.video_ids.tolist()]
    assert [SPLITS[split] for split in corpus.split] == halves
    assert set(halves) == {"v1", "v2"}


def test_shards_without_a_role(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Videos with ratings are cut in halves; the others go to train."""
    out = tmp_path / "a.index"
    words = (made / "train", made / "validate")
    assert index(capsys, made, out, *words).code == 0
    found = counts(out)
    assert (found["train"], found["v1"] + found["v2"], found["test"]) == (2, 24, 0)
    assert open_corpus(out).classes.ids == tuple(
        sorted(read_class_ids(made / "segment_label_ids.csv"))
    )


def test_a_shard_with_two_roles(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--v1", made / "validate", "--v2", made / "validate" / "v2-0000.tfrecord"
    code, told, err = index(capsys, made, tmp_path / "a.index", *words)
    assert (code, told) == (1, "")
    assert err.endswith("v2-0000.tfrecord: shard is given twice; a shard has one role\n")
    assert not list(tmp_path.iterdir())


def test_no_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "index", "-o", tmp_path / "a.index")
    assert code == 1
    assert "no shards given; pass TFRecord files, folders or globs" in err
    code, _, err = run(capsys, "index", tmp_path / "gone", "-o", tmp_path / "a.index")
    assert code == 1
    assert f"{tmp_path / 'gone'}: no TFRecord file here" in err


def test_a_misspelt_data_set(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = made / "train", "--dataset", "yt8", "-o", tmp_path / "a.index"
    code, _, err = run(capsys, "index", *words)
    assert code == 2
    assert "no data set 'yt8'" in err
    assert "did you mean 'yt8m'?" in err


def test_a_data_set_that_no_preset_fits(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "index", made / "train", "-o", tmp_path / "a.index")
    assert code == 2
    assert "rgb (32 bytes), audio (8 bytes)" in err
    assert "--dataset FILE.json" in err


def test_what_cannot_be_read_is_left_out_and_told(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = tmp_path / "cut.tfrecord"
    shutil.copy(made / "validate" / "v1-0000.tfrecord", shard)
    shard.write_bytes(shard.read_bytes()[:-10])
    code, told, err = index(capsys, made, tmp_path / "a.index", "--v1", shard, "--json")
    assert code == 0
    assert json.loads(told)["left_out"] == 1
    assert json.loads(told)["videos"]["v1"] == 9
    assert f"left out: {shard} at byte" in err
    assert (tmp_path / "a.left-out.csv").exists() or list(tmp_path.glob("*left-out.csv"))
    code, told, err = index(capsys, made, tmp_path / "b.index", "--v1", shard, "--strict")
    assert (code, told) == (1, "")
    assert not (tmp_path / "b.index").exists()
