"""Untrained runs of models with attention, random enough that attention differs from place to
place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import Hierarchical, HierarchicalSettings, scaled
from whenabouts.recipes.attention import att2
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.run import Run, build_for, create_run, open_run

FACTS = {"phase": "v1", "step": 40, "trained_on": ["v1"]}


def make_attention_run(path: Path, corpus: Corpus, settings: HierarchicalSettings) -> Run:
    """A run of a model of these settings at scale tiny."""
    recipe = replace(att2("tiny"), model=scaled(settings, "tiny"))
    create_run(path, recipe, corpus, resume=False)
    torch.manual_seed(5)
    model = build_for(recipe.model, corpus.dataset, corpus.classes, corpus.video_classes)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    save_weights(path / "v1.safetensors", model, FACTS)
    return open_run(path)


def model_of(run: Run) -> Hierarchical:
    model, _ = run.load_model()
    assert isinstance(model, Hierarchical)
    return model
