"""Video labels as arrays, against the labels that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corpus_writer import Video, make_small_corpus
from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.labels import outside_labels, video_labels
from whenabouts.feed.rated import RatedSegments

LABELS = ((3, 7), (), (9,), (7, 9, 4))
ROWS = np.array([3, 0, 1, 3])


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    videos = [
        Video(f"v{k}", 12, labels, ((5 * (k % 2), 7, 1), (5, 9, 0)))
        for k, labels in enumerate(LABELS)
    ]
    return make_small_corpus(tmp_path, ("v1", videos))


def test_labels_of_videos(corpus: Corpus) -> None:
    """A row may come twice; a label of no class given is left out."""
    classes = ClassOrder((9, 3, 7), ("", "", ""))
    found = video_labels(corpus, ROWS, classes)
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 1]]


def test_what_is_outside_the_labels(corpus: Corpus) -> None:
    """Nothing of a video without labels, and no class that labels are never of."""
    assert 5 not in corpus.video_classes.ids
    classes = ClassOrder((9, 5, 7), ("", "", ""))
    found = outside_labels(corpus, ROWS, classes)
    assert found.tolist() == [
        [False, False, False],
        [True, False, False],
        [False, False, False],
        [False, False, False],
    ]


@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
def test_rated_batches_say_what_is_outside(corpus: Corpus, resident_bytes: int) -> None:
    """Segments (v0, 0), (v0, 5), (v1, 5), (v2, 0), (v2, 5), (v3, 5); of v1 nothing is known."""
    classes = ClassOrder((7, 9), ("", ""))
    segments = RatedSegments(
        corpus, corpus.rated(np.arange(4)), classes, torch.device("cpu"), resident_bytes,
        with_outside=True,
    )  # fmt: skip
    batch = segments.batch(np.array([4, 0, 2, 5]))
    assert batch.outside is not None
    assert batch.outside.tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert len(segments) == 6


def test_they_do_not_unless_asked(corpus: Corpus) -> None:
    labels = corpus.rated(np.arange(4))
    segments = RatedSegments(corpus, labels, corpus.classes, torch.device("cpu"))
    assert segments.batch(np.array([0])).outside is None
