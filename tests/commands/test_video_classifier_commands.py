"""A video classifier through the commands: train, predict, evaluate, fuse; alone and in a team."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commandline import run, start, torchrun
from whenabouts.cli import main
from whenabouts.core.scores import open_scores
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.corpus.corpus import Corpus

Capture = pytest.CaptureFixture[str]
SETTINGS = (
    *("--scale", "tiny", "--loop.batch-size", "7", "--loop.max-steps", "12"),
    *("--loop.evaluate-every", "4", "--strategy.num-frames", "20"),
)


@pytest.fixture(scope="module")
def classifier(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "run"
    assert main(["train", "netvlad", str(corpus.path), "-o", str(out), *SETTINGS]) == 0
    return out


def test_what_a_run_says(classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    told = json.loads((classifier / "run.json").read_text())
    assert told["trained_on"] == ["train", "v1"]
    assert "best_v2_map" not in told
    out = tmp_path / "again"
    code, line, _ = run(capsys, "train", "netvlad", corpus.path, "-o", out, *SETTINGS)
    assert code == 0
    gap, step = told["best_v2_gap"], told["best_step"]
    assert line.startswith(f"{out}: V2 GAP@20 {gap:.4f} at step {step}, ")


def test_it_scores_whole_videos(
    classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "scores"
    words = ("predict", classifier, corpus.path, "-o", out, "--splits", "v2")
    code, line, _ = run(capsys, *words)
    num_classes = len(corpus.video_classes)
    assert code == 0
    assert line.startswith(f"{out}: 12 videos x {num_classes} classes in ")
    scores = open_scores(out)
    assert (scores.segments.starts_s == WHOLE_VIDEO).all()
    assert scores.segments.video_ids.tolist() == corpus.video_ids[corpus.rows(["v2"])].tolist()
    assert scores.classes == corpus.video_classes
    assert scores.made_by["trained_on"] == ["train", "v1"]
    code, told, _ = run(capsys, "evaluate", out, corpus.path, "--splits", "v2", "--json")
    assert code == 0
    best = json.loads((classifier / "run.json").read_text())["best_v2_gap"]
    assert json.loads(told)["videos"]["gap"] == pytest.approx(best, abs=1e-6)


def test_what_it_scored_as_json(
    classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "scores"
    told = run(capsys, "predict", classifier, corpus.path, "-o", out, "--splits", "v2", "--json")
    result = json.loads(told.out)
    assert result.pop("time_s") > 0
    assert result == {"scores": str(out), "segments": 0, "videos": 12}


def test_its_scores_are_fused_with_those_of_segments(
    classifier: Path, scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    videos, fused = tmp_path / "videos", tmp_path / "fused"
    words = ("predict", classifier, corpus.path, "-o", videos, "--splits", "v1", "v2")
    assert run(capsys, *words).code == 0
    assert run(capsys, "fuse", scored, videos, "-o", fused).code == 0
    segment, video, product = (open_scores(path) for path in (scored, videos, fused))
    columns = video.classes.columns(np.asarray(segment.classes.ids))
    rows = video.segments.videos_of(segment.segments.video_ids)[segment.segments.video]
    expected = segment.values * video.values[rows][:, columns]
    orders = (np.argsort(np.argsort(v, axis=0), axis=0) for v in (product.values, expected))
    np.testing.assert_array_equal(*orders)


def test_it_teaches_another_one(
    classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    teacher = tmp_path / "teacher"
    words = ("predict", classifier, corpus.path, "-o", teacher, "--splits", "train", "v1")
    assert run(capsys, *words).code == 0
    pupil = ("train", "video-mlp", corpus.path, "-o", tmp_path / "run", *SETTINGS)
    assert run(capsys, *pupil, "--strategy.teacher", teacher).code == 0
    code, _, err = run(capsys, *pupil[:4], tmp_path / "other", *SETTINGS,
                       "--strategy.teacher", tmp_path / "gone")  # fmt: skip
    assert code == 1
    assert f"{tmp_path / 'gone'}: " in err


def test_attention_is_not_to_be_had(
    classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("predict", classifier, corpus.path, "-o", tmp_path / "s", "--attention")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "netvlad, has no attention to keep" in err


def test_two_processes_as_one(
    classifier: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """7 videos a step: 4 and 3; batch norms see the whole batch."""
    out = tmp_path / "two"
    outcome = start(torchrun(2), "train", "netvlad", corpus.path, "-o", out, *SETTINGS)
    assert outcome.code == 0, outcome.err
    one, two = (json.loads((path / "run.json").read_text()) for path in (classifier, out))
    assert two["best_v2_gap"] == pytest.approx(one["best_v2_gap"], abs=1e-4)
    scores = [tmp_path / "one-scores", tmp_path / "two-scores"]
    words = ("predict", classifier, corpus.path, "--splits", "v2", "-o")
    assert run(capsys, *words, scores[0]).code == 0
    outcome = start(torchrun(2), *words, scores[1])
    assert outcome.code == 0, outcome.err
    values = [open_scores(path).values for path in scores]
    np.testing.assert_allclose(*values, atol=1e-6)
