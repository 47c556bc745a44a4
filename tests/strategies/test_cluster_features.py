"""Deep features of frames, the sample of them, and their clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corpus_writer import Video, slow_features
from shapes import checked
from toy_work import ALONE
from whenabouts.core.errors import RunError, SettingsError
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import FCFC, NL, Hierarchical, scaled
from whenabouts.models.logistic import SLogi
from whenabouts.models.table import ModelSettings
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.cluster_features import (
    FRAMES,
    Clustering,
    Clusters,
    FrameSample,
    deep_features,
    fit_clusters,
)
from whenabouts.strategies.s1 import S1
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.distributed import Team
from whenabouts.train.run import Run, build_for, create_run, open_run
from whenabouts.train.settings import Loop, Optimiser

CPU = torch.device("cpu")


# ---- the sample ----------------------------------------------------------------------------------


def test_as_many_frames_as_there_are_are_all_of_them(
    odd_corpus: Corpus, odd_videos: list[Video]
) -> None:
    """Lists that are too short, too long, empty or unevenly spaced among them."""
    rows = np.array([0, 3, 2, 6, 7, 4])
    total = int(odd_corpus.num_frames[rows].sum())
    sample = FrameSample(odd_corpus, rows, total, 0, ALONE)
    expected = np.concatenate([slow_features(odd_videos[row]) for row in rows])
    np.testing.assert_allclose(torch.cat(list(sample.chunks())), expected, atol=1e-6)


def test_chunks_of_a_sample_are_its_frames_in_order(
    odd_corpus: Corpus, odd_videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whenabouts.strategies.cluster_features.SAMPLE_CHUNK", 7)
    rows = np.arange(len(odd_corpus))
    sample = FrameSample(odd_corpus, rows, 40, 5, ALONE)
    frames = [slow_features(odd_videos[r])[t] for r, t in zip(sample.row, sample.frame)]
    chunks = [part.clone() for part in sample.chunks()]
    assert [len(part) for part in chunks] == [7, 7, 7, 7, 7, 5]
    np.testing.assert_allclose(torch.cat(chunks), np.stack(frames), atol=1e-6)


@pytest.mark.parametrize("count", [1, 10, 37, 100])
def test_a_sample_has_one_frame_of_each_stretch(odd_corpus: Corpus, count: int) -> None:
    rows = np.array([0, 8, 2])  # of 12, 300 and 11 frames
    sample = FrameSample(odd_corpus, rows, count, 0, ALONE)
    first = {0: 0, 8: 12, 2: 312}
    place = [first[int(row)] + int(frame) for row, frame in zip(sample.row, sample.frame)]
    bounds = [k * 323 // count for k in range(count + 1)]
    assert all(a <= p < b for p, a, b in zip(place, bounds, bounds[1:]))
    other = FrameSample(odd_corpus, rows, count, 1, ALONE)
    assert (sample.frame != other.frame).any()


def test_processes_have_parts_of_one_sample(odd_corpus: Corpus) -> None:
    rows = np.arange(len(odd_corpus))
    whole = FrameSample(odd_corpus, rows, 50, 0, ALONE)
    parts = [FrameSample(odd_corpus, rows, 50, 0, Team(rank, 3, CPU)) for rank in range(3)]
    for name in ("row", "frame"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert joined.tolist() == getattr(whole, name).tolist()


@pytest.mark.parametrize(
    ("frames", "k", "sampled"),
    [
        (1000, 64, 1000),
        (300_000, 1000, 256_000),
        (800_000_000, 10_000, 2_560_000),
        (256, 64, 256),
        (255, 63, 255),
        (20, 5, 20),
        (3, 1, 3),
    ],
)
def test_sizes_follow_the_number_of_frames(frames: int, k: int, sampled: int) -> None:
    assert (Clustering().num_clusters(frames), Clustering().num_sampled(frames)) == (k, sampled)


def test_sizes_can_be_set() -> None:
    settings = Clustering(k=7, sample_frames=99)
    assert (settings.num_clusters(10**6), settings.num_sampled(10**6)) == (7, 99)
    assert settings.num_sampled(50) == 50
    with pytest.raises(SettingsError, match="k: the value is -1"):
        Clustering(k=-1)


# ---- clusters ------------------------------------------------------------------------------------


def clusters_of(corpus: Corpus, **settings: int) -> Clusters:
    rows = corpus.rows(["train", "v1"])
    return fit_clusters(corpus, rows, FRAMES, Clustering(**settings), ALONE)


def test_frames_have_their_cluster_and_padding_has_none(corpus: Corpus) -> None:
    clusters = clusters_of(corpus, k=5, dims=6)
    frames = torch.nn.functional.normalize(torch.randn(4, 5, corpus.dataset.width), dim=2)
    for padded in (1, 3):  # little of it is computed, much of it is left out
        mask = torch.ones(4, 5, dtype=torch.bool)
        mask[:padded, 1:] = False
        found = checked(Clusters.of)(clusters, frames, mask)
        points = clusters.whitening(frames.flatten(0, 1))
        expected = torch.cdist(points, clusters.found.centroids).argmin(1).view(4, 5)
        assert torch.equal(found, expected.masked_fill(~mask, -1))
    assert len(clusters) == 5
    assert clusters.whitening.matrix.shape == (corpus.dataset.width, 6)


def test_more_clusters_than_frames_are_refused(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"k is 90,000, and there are .* choose a smaller --k"):
        clusters_of(corpus, k=90_000)


# ---- a run's embedding ---------------------------------------------------------------------------


def make_run(
    folder: Path, corpus: Corpus, model: ModelSettings, trained_on: tuple[str, ...] = ("v1",)
) -> Run:
    """A run with the weights that its model begins with."""
    create_run(folder, Recipe(model, S1(), Optimiser(), Loop()), corpus, resume=False)
    torch.manual_seed(0)
    built = build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)
    save_weights(folder / "v1.safetensors", built, {"trained_on": list(trained_on)})
    return open_run(folder)


@pytest.mark.parametrize("settings", [scaled(NL(), "tiny"), scaled(FCFC(), "tiny")])
def test_embedding_is_what_the_model_computes_of_single_frames(
    settings: ModelSettings, corpus: Corpus, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", corpus, settings)
    model = run.load_model()[0]
    assert isinstance(model, Hierarchical)
    rows = torch.randn(7, corpus.dataset.width)
    embedding = model.segment_module.embedding
    linear = embedding(rows) if isinstance(settings, FCFC) else embedding.linear(rows)
    found = deep_features(run, corpus, CPU)
    torch.testing.assert_close(found.embed(rows), linear.clamp_min(0))
    assert found.facts["run"] == str(tmp_path / "run")
    assert found.trained_on == ("v1",)


def test_without_a_run_the_frames_are_clustered(corpus: Corpus) -> None:
    found, rows = deep_features(None, corpus, CPU), torch.randn(3, 4)
    assert torch.equal(found.embed(rows), rows)
    assert (found.facts, found.trained_on) == ({"features": "frames"}, ())


def test_a_run_that_has_seen_v2_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", corpus, scaled(NL(), "tiny"), ("v1", "v2"))
    with pytest.raises(RunError, match="it was trained on V2; what is watched on V2 has not seen"):
        deep_features(run, corpus, CPU)


def test_a_run_without_an_embedding_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", corpus, SLogi())
    with pytest.raises(RunError, match=r"its model has no embedding of frames; att2, .* have one"):
        deep_features(run, corpus, CPU)


def test_a_run_of_other_features_is_refused(
    corpus: Corpus, odd_corpus: Corpus, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", corpus, scaled(NL(), "tiny"))
    with pytest.raises(RunError, match="the run was trained on features"):
        deep_features(run, odd_corpus, CPU)
