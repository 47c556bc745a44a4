"""A small made corpus that can be learned, and the settings that train on it in a moment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder, read_class_ids, read_vocabulary
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus, Ragged, open_corpus
from whenabouts.corpus.dataset import DatasetSettings, FeatureList
from whenabouts.corpus.index import build_index
from whenabouts.corpus.made import NARROW, make_corpus
from whenabouts.corpus.splits import Role

torch.set_num_threads(1)  # as the processes that tests start: the same sums, bit for bit

DATASET = DatasetSettings("made", tuple(FeatureList(*feature) for feature in NARROW.features))
SETTINGS = replace(
    NARROW,
    seed=3,
    num_train=2,
    num_validate=24,
    num_test=2,
    num_classes=6,
    num_rated_classes=4,
    max_frames=80,
    mean_scene_s=10,
    videos_per_shard=10,
)
PATTERNS: dict[Role, str] = {
    "train": "train/*.tfrecord",
    "v1": "validate/v1-*.tfrecord",
    "v2": "validate/v2-*.tfrecord",
    "test": "test/*.tfrecord",
}


def make_small(folder: Path, **changes: Any) -> Corpus:
    """Make a small corpus in the new folder and index it as `corpus.index` there.

    `dataset.json` holds the settings of its records.
    """
    settings = replace(SETTINGS, **changes)
    make_corpus(folder, settings, processes=1)
    dataset = replace(DATASET, features=tuple(FeatureList(*each) for each in settings.features))
    (folder / "dataset.json").write_text(json.dumps(to_dict(dataset)))
    return index_small(folder, dataset=dataset)


def index_small(
    folder: Path,
    name: str = "corpus.index",
    roles: tuple[Role, ...] = ("train", "v1", "v2", "test"),
    classes: ClassOrder | None = None,
    dataset: DatasetSettings = DATASET,
) -> Corpus:
    """Index the shards of these roles of a made corpus as `name`."""
    vocabulary = read_vocabulary(folder / "vocabulary.csv")
    if classes is None:
        classes = ClassOrder.of(read_class_ids(folder / "segment_label_ids.csv"), vocabulary)
    shards = [(role, path) for role in roles for path in sorted(folder.glob(PATTERNS[role]))]
    build_index(shards, folder / name, dataset, classes, vocabulary)
    return open_corpus(folder / name)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The one small corpus of a test session; never write to it.

    A conftest.py that imports it has it as a fixture; all of them share one folder.
    """
    folder = tmp_path_factory.getbasetemp() / "small-corpus"
    return open_corpus(folder / "corpus.index") if folder.exists() else make_small(folder)


def take_out_ratings(corpus: Corpus, keep: NDArray[np.bool_]) -> Corpus:
    """The corpus with only those of its rated pairs."""
    rows = corpus.rated_class.rows[keep]
    offsets = np.searchsorted(rows, np.arange(len(corpus) + 1))
    names = ("rated_start_s", "rated_class", "rated_score")
    return replace(corpus, **{n: Ragged(getattr(corpus, n).values[keep], offsets) for n in names})
