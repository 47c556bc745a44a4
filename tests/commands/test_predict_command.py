"""`whenabouts predict`: which videos, what is told, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attention_run import make_attention_run
from commandline import run
from small_corpus import index_small, make_small
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import Att2


def test_scores_and_what_is_told_of_them(
    corpus: Corpus, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    words = "predict", trained, corpus.path, "-o", out, "--splits", "v2"
    code, told, _ = run(capsys, *words, "--json")
    assert code == 0
    result, scores = json.loads(told), open_scores(out)
    assert result.pop("time_s") > 0
    assert result == {"scores": str(out), "segments": len(scores.values), "videos": 12}
    rows = corpus.rows(["v2"])
    assert scores.segments.video_ids.tolist() == corpus.video_ids[rows].tolist()
    assert len(scores.values) == int(np.ceil(corpus.num_frames[rows] / 5).sum())
    assert scores.made_by["splits"] == ["v2"]
    assert scores.made_by["trained_on"] == ["v1"]
    assert ((scores.values > 0) & (scores.values < 1)).all()


def test_the_result_in_words_and_all_splits(
    corpus: Corpus, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    code, told, _ = run(capsys, "predict", trained, corpus.path, "-o", out)
    assert code == 0
    count = len(open_scores(out).values)
    assert told.startswith(f"{out}: {count} segments of 28 videos x 4 classes in ")
    assert open_scores(out).made_by["splits"] == ["train", "v1", "v2", "test"]


def test_settings(
    corpus: Corpus, trained: Path, scored: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = "predict", trained, corpus.path, "--splits", "v2", "v1", "--chunk-size", 3
    assert run(capsys, *words, "--dtype", "float16", "-o", tmp_path / "half").code == 0
    half, whole = open_scores(tmp_path / "half").values, open_scores(scored).values
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, atol=1e-3)


def test_attention(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    att2, out = make_attention_run(tmp_path / "att2", corpus, Att2()), tmp_path / "scores"
    words = "predict", att2.path, corpus.path, "-o", out, "--splits", "v2"
    assert run(capsys, *words).code == 0
    assert open_scores(out).attention is None
    code, told, _ = run(capsys, *words, "--attention")
    assert code == 0
    assert "x 4 classes, with attention, in " in told
    scores = open_scores(out)
    assert scores.attention is not None
    assert scores.attention.frames.shape == (len(scores.segments), 5)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--splits", "v3"], 2, "no split 'v3'; splits are train, v1, v2, test"),
        (["--chunk-size", 0], 2, "chunk_size: the value is 0; it must be at least 1"),
        (["--dtype", "float64"], 2, "float64"),
        (["--device", "abacus"], 2, "no device 'abacus'"),
        (["--attention"], 2, "the model of the run, f-logi, has no attention to keep"),
    ],
)
def test_wrong_use(
    words: list[object], code: int, told: str, corpus: Corpus, trained: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "scores"
    outcome = run(capsys, "predict", trained, corpus.path, "-o", out, *words)
    assert outcome[:2] == (code, "")
    assert told in outcome.err
    assert not out.exists()


def test_splits_without_videos(
    corpus: Corpus, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("validate", "vocabulary.csv", "segment_label_ids.csv"):
        (tmp_path / name).symlink_to(corpus.path.parent / name)
    bare = index_small(tmp_path, "v1.index", ("v1",), corpus.classes)
    words = "predict", trained, bare.path, "-o", tmp_path / "s", "--splits", "v2", "test"
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "v1.index: no videos in splits v2, test; choose other --splits" in err


def test_no_run_and_no_index(
    corpus: Corpus, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "predict", tmp_path, corpus.path, "-o", tmp_path / "s")
    assert code == 1
    assert f"{tmp_path}: no recipe.json here" in err
    code, _, err = run(capsys, "predict", trained, tmp_path / "x", "-o", tmp_path / "s")
    assert code == 1
    assert "x: no index here" in err


def test_a_corpus_with_other_features(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = (("rgb", 24), ("audio", 8))
    other = make_small(tmp_path / "made", num_train=0, num_validate=2, features=features)
    out = tmp_path / "scores"
    code, _, err = run(capsys, "predict", trained, other.path, "-o", out)
    assert code == 1
    assert "rgb (24 bytes)" in err
    assert "the run was trained on features rgb (32 bytes)" in err
    assert not out.exists()
