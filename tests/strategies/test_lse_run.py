"""The recipe lse from the command line: what its run says, predicts, and is good for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bundled_runs import scores_of
from commandline import run as command
from toy_work import ALONE
from whenabouts.cli import main
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.attention import AttentionSegment
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.models.rated_kernel import rbf
from whenabouts.strategies.setup import Setup, watched_map
from whenabouts.train.bundle import open_bundle
from whenabouts.train.export import export
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import Run, open_run

WORDS = (
    *("--scale", "tiny", "--model.embedding.dropout", 0, "--strategy.pretrain.batch-size", 7),
    *("--strategy.pretrain.max-steps", 4, "--strategy.pretrain.evaluate-every", 2),
)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("lse") / "run"
    assert main([str(w) for w in ("train", "lse", corpus.path, "-o", out, *WORDS)]) == 0
    return open_run(out)


def model_of(run: Run) -> Hierarchical:
    model, _ = run.load_model()
    assert isinstance(model, Hierarchical)
    assert model.rated_kernel.is_fitted
    return model


def test_what_a_run_says(run: Run, corpus: Corpus) -> None:
    kept = json.loads((run.path / "run.json").read_text())
    model = model_of(run)
    with closing(MetricsLog(run.path)) as log, torch.inference_mode():
        rated = Setup(corpus, run.path, log, ALONE).watched(model)
        best = watched_map(model, rated, corpus.classes, ALONE)
    assert (kept["recipe"], kept["trained_on"]) == ("lse", ["train", "v1"])
    assert kept["best_v2_map"] == pytest.approx(best)
    assert kept["best_step"] in (2, 4)
    assert run.recipe["strategy"]["fine_tuning"] == "kernel"


def slow_scores(model: Hierarchical, corpus: Corpus) -> Iterator[np.ndarray]:
    """Of each video of V1 and V2, segment by segment, by the kernel's own sum over its pairs; of
    each window by itself, those of two frames and no pooled one."""
    for row in corpus.rows(["v1", "v2"]):
        frames = np.concatenate(corpus.frames(row), axis=1).astype(np.float64)
        x = frames * 4 / 255 + 4 / 512 - 2
        x = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)).float()
        for first in range(0, len(x), 5):
            odds = [
                _logits(model, window).mul(4).exp() for window in _windows(x[first : first + 5])
            ]
            yield (torch.stack(odds).mean(dim=0).log() / 4).sigmoid().numpy()


def _windows(frames: Tensor) -> Iterator[Tensor]:
    for first in range(4):
        start = min(first, max(len(frames) - 2, 0))
        yield frames[start : start + 2]


@torch.no_grad()
def _logits(model: Hierarchical, window: Tensor) -> Tensor:
    kernel, embed = model.rated_kernel, model.segment_module
    assert isinstance(embed, AttentionSegment)
    rows = embed.embedding(window)
    score = embed.attention.logits(rows).sigmoid()
    feature = (score * rows).sum(dim=0, keepdim=True) / score.sum()
    head = model.segment_head(feature)
    near = rbf(feature, kernel.supports, kernel.width)[0]
    near = near * rbf(head.sigmoid().sqrt(), kernel.answers, kernel.answer_width)[0]
    added = kernel.coefficient * near[kernel.pair_support]
    logits: Tensor = kernel.prior * head[0] + kernel.bias
    return logits.index_add(0, kernel.pair_class, added)


@pytest.fixture(scope="module")
def expected(run: Run, corpus: Corpus) -> np.ndarray:
    return np.stack(list(slow_scores(model_of(run), corpus)))


@pytest.mark.parametrize("attention", [False, True])
def test_predicted_scores(
    attention: bool, run: Run, corpus: Corpus, expected: np.ndarray, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = "predict", run.path, corpus.path, "--splits", "v1", "v2", "-o", tmp_path / "s"
    outcome = command(capsys, *words, *["--attention"] * attention)
    assert outcome.code == 0, outcome.err
    scores = open_scores(tmp_path / "s")
    np.testing.assert_allclose(scores.values, expected, atol=1e-5)
    if not attention:
        assert scores.attention is None
        return
    assert scores.attention is not None
    of_segments = np.asarray(scores.attention.segments, np.float64)
    sums = np.bincount(scores.segments.video, of_segments)
    np.testing.assert_allclose(sums[sums > 0], 1, atol=5e-3)  # float16
    assert np.nanstd(np.asarray(scores.attention.frames, np.float64)) > 0


@pytest.mark.parametrize("bits", [32, 8])
def test_in_a_bundle(
    bits: Any, run: Run, corpus: Corpus, expected: np.ndarray, tmp_path: Path
) -> None:
    export([run, run], tmp_path / "bundle", [0.5, 0.5], bits=bits)
    found = scores_of(open_bundle(tmp_path / "bundle"), corpus, tmp_path / "s")
    np.testing.assert_allclose(found, expected, atol=1e-5 if bits == 32 else 0.02)


def test_clusters_of_its_embedding(
    run: Run, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "pseudo-label", "cluster", corpus.path, "-o", tmp_path / "labels.parquet"
    outcome = command(capsys, *words, "--run", run.path, "--k", 24)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "labels.parquet").is_file()
