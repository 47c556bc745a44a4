"""The small corpus, a run trained on it and its Scores: made once, never written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandline import QUICK
from small_corpus import corpus
from whenabouts.cli import main
from whenabouts.corpus.corpus import Corpus

__all__ = ["corpus"]


@pytest.fixture(scope="session")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of f-logi."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "f-logi", str(corpus.path), "-o", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="session")
def scored(corpus: Corpus, trained: Path) -> Path:
    """Scores of V1 and V2 by that run."""
    out = trained.parent / "scores"
    words = ["predict", str(trained), str(corpus.path), "-o", str(out), "--splits", "v1", "v2"]
    assert main(words) == 0
    return out
