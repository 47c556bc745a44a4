"""`whenabouts export`, and `predict` with what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundled_runs import (
    OTHER_SEGMENT,
    SMALL_SEGMENT,
    SMALL_VIDEO,
    WIDE_SEGMENT,
    WIDE_VIDEO,
    content,
    make_run,
)
from commandline import run
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs; never written to."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "wide", corpus, WIDE_SEGMENT, 1)
    make_run(folder / "s-logi", corpus, SMALL_SEGMENT, 2, ("v1", "v2"))
    make_run(folder / "f-logi", corpus, OTHER_SEGMENT, 3, ("train",))
    make_run(folder / "video", corpus, SMALL_VIDEO, 4)
    make_run(folder / "netvlad", corpus, WIDE_VIDEO, 5)
    return folder


def test_three_runs_as_json(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    out, names = tmp_path / "bundle", ("wide", "s-logi", "f-logi")
    paths = [runs / name for name in names]
    code, told, _ = run(capsys, "export", *paths, "-o", out, "--weights", 5, 3, 2, "--json")
    assert code == 0
    result, files = json.loads(told), content(out)
    assert result.pop("time_s") > 0
    members = result.pop("members")
    assert [m["from"] for m in members] == [str(path) for path in paths]
    assert [m["run"] for m in members] == ["1-att2", "2-s-logi", "3-f-logi"]
    assert [m["weight"] for m in members] == pytest.approx([0.5, 0.3, 0.2])
    assert [m["trained_on"] for m in members] == [["v1"], ["v1", "v2"], ["train"]]
    before = [(path / "v1.safetensors").stat().st_size for path in paths]
    after = [len(files[f"{m['run']}/v1.safetensors"]) for m in members]
    assert [m["weights_bytes_before"] for m in members] == before
    assert [m["weights_bytes"] for m in members] == after
    assert result == {
        "bundle": str(out),
        "bits": 8,
        "bytes": sum(map(len, files.values())),
        "ratio": sum(before) / sum(after),
    }
    assert result["ratio"] > 3
    kept = json.loads(files["bundle.json"])["members"]
    assert [m["weight"] for m in kept] == [m["weight"] for m in members]


def test_one_run_in_words(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    """The command of the README."""
    out = tmp_path / "bundle"
    code, told, _ = run(capsys, "export", runs / "netvlad", "-o", out, "--max-size", "1GB")
    assert code == 0
    first, last = told.splitlines()
    assert first.startswith(f"1-video-mlp: {runs}/netvlad, counts 1, trained on v1; weights 1.7 MB")
    assert " -> 4" in first
    assert last.startswith(f"{out}: 1 run in 4")
    assert " times smaller, in " in last


def test_32_bits_predict_exactly_what_the_run_does(
    runs: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    for bits in (32, 8):
        out = tmp_path / f"bundle-{bits}"
        assert run(capsys, "export", runs / "wide", "-o", out, "--bits", bits).code == 0
    scores = {}
    for name, path in {
        "run": runs / "wide",
        "32": tmp_path / "bundle-32",
        "8": tmp_path / "bundle-8",
        "member": tmp_path / "bundle-8" / "1-att2",
    }.items():
        words = "predict", path, corpus.path, "-o", tmp_path / name, "--splits", "v2"
        code, told, _ = run(capsys, *words)
        assert code == 0
        assert "segments of 12 videos x 4 classes in" in told
        scores[name] = np.array(open_scores(tmp_path / name).values)
    assert np.array_equal(scores["32"], scores["run"])
    assert np.array_equal(scores["8"], scores["member"])
    assert 0 < np.abs(scores["8"] - scores["run"]).max() < 0.03


def test_a_bundle_predicts_and_is_evaluated(
    runs: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out, scores = tmp_path / "bundle", tmp_path / "scores"
    paths = runs / "s-logi", runs / "f-logi"
    assert run(capsys, "export", *paths, "-o", out, "--weights", 0.75, 0.25).code == 0
    words = "predict", out, corpus.path, "-o", scores, "--splits", "v2"
    assert run(capsys, *words).code == 0
    made_by = open_scores(scores).made_by
    assert made_by["bundle"] == str(out)
    assert [(m["run"], m["weight"]) for m in made_by["members"]] == [
        ("1-s-logi", 0.75), ("2-f-logi", 0.25),
    ]  # fmt: skip
    assert made_by["trained_on"] == ["train", "v1", "v2"]
    code, _, err = run(capsys, "evaluate", scores, corpus.path)
    assert code == 0
    assert "was trained on v2" in err


def test_a_bundle_of_video_classifiers_scores_videos(
    runs: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out, scores = tmp_path / "bundle", tmp_path / "scores"
    assert run(capsys, "export", runs / "video", runs / "netvlad", "-o", out).code == 0
    words = "predict", out, corpus.path, "-o", scores, "--splits", "v2", "--json"
    code, told, _ = run(capsys, *words)
    assert code == 0
    assert (json.loads(told)["segments"], json.loads(told)["videos"]) == (0, 12)
    assert open_scores(scores).values.shape == (12, 6)


@pytest.mark.parametrize(
    ("names", "flags", "code", "told"),
    [
        ([], [], 2, "no run is given"),
        (["video"], ["--weights", 1, 2], 2, "2 weights for 1 runs"),
        (["video"], ["--weights", 0], 2, "--weights are 0; they are finite and above 0"),
        (["video"], ["--bits", 7], 2, "7"),
        (["video"], ["--max-size", "1GiB"], 2, "--max-size: '1GiB' is no size"),
        (["video"], ["--max-size", "1kB"], 1, "--max-size is 1,000 bytes; leave runs out"),
        (["netvlad", "wide"], [], 1, "wide: it scores segments, not whole videos"),
        (["video", "video"], [], 2, "video: these runs stand twice among the members"),
        (["gone"], [], 1, "gone: no recipe.json here"),
        (["."], [], 1, "no recipe.json here; a run is a folder"),
    ],
)
def test_what_is_refused(
    names: list[str], flags: list[Any], code: int, told: str, runs: Path, tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    out = tmp_path / "bundle"
    outcome = run(capsys, "export", *(runs / name for name in names), "-o", out, *flags)
    assert outcome[:2] == (code, "")
    assert told in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_attention_of_a_bundle(runs: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "bundle"
    assert run(capsys, "export", runs / "wide", "-o", out).code == 0
    words = "predict", out, corpus.path, "-o", tmp_path / "s", "--splits", "v2", "--attention"
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "a bundle has no attention to keep; attention is that of one model" in err
    words = "predict", out / "1-att2", *words[2:]
    assert run(capsys, *words).code == 0


def test_no_scorer_here(corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    code, _, err = run(capsys, "predict", tmp_path / "gone", corpus.path, "-o", tmp_path / "s")
    assert code == 1
    assert "gone: no folder here; a run and a bundle are folders; make one with" in err
