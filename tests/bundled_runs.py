"""Untrained runs to be bundled: their weights are random, and some large enough to become bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toy_work import ALONE
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.embedding import EmbeddingSettings
from whenabouts.models.hierarchical import Att2
from whenabouts.models.logistic import FLogi, SLogi
from whenabouts.models.video_level import VideoLogistic, VideoMLP
from whenabouts.recipes.logistic import s_logi
from whenabouts.train.bundle import Bundle
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.predict import PredictSettings, predict
from whenabouts.train.run import Run, build_for, create_run, open_run

SPLITS = ["v1", "v2"]
WIDE_VIDEO = VideoMLP(width=448, num_blocks=1)  # three tensors of more than 17,000 elements
WIDE_SEGMENT = Att2(embedding=EmbeddingSettings(width=448))  # and here
SMALL_VIDEO, SMALL_SEGMENT, OTHER_SEGMENT = VideoLogistic(), SLogi(), FLogi()


def make_run(
    path: Path, corpus: Corpus, model: Any, seed: int = 0, trained_on: tuple[str, ...] = ("v1",)
) -> Run:
    """A run of a model of these settings, with weights of the phase v1."""
    create_run(path, replace(s_logi(), model=model), corpus, resume=False)
    torch.manual_seed(seed)
    module = build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=3 / parameter.shape[-1] ** 0.5)
    facts = {"phase": "v1", "step": 10 + seed, "trained_on": trained_on}
    save_weights(path / "v1.safetensors", module, facts)
    return open_run(path)


def scores_of(scorer: Run | Bundle, corpus: Corpus, out: Path, **made_by: Any) -> NDArray:
    """Its scores of the videos in V1 and V2."""
    rows, settings = corpus.rows(SPLITS), PredictSettings(chunk_size=10)
    predict(scorer, corpus, rows, out, settings, ALONE, made_by)
    return np.array(open_scores(out).values)


def content(folder: Path) -> dict[str, bytes]:
    """Every file in the folder, by its path in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
