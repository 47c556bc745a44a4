"""The deep features that frames are clustered by, and the clusters of a sample of them.

    frame -> its normalised features, or a run's embedding of them -> whitening -> k-means

A run's embedding is what its model computes of single frames, before attention: drop(relu(BN(W x)))
of an attention model, relu(A x) of FCFC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from whenabouts.clustering import (
    Covariance,
    Engine,
    KMeans,
    KMeansSettings,
    Nearest,
    Whitening,
    fit_kmeans,
)
from whenabouts.core.errors import RunError
from whenabouts.core.progress import progress
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.frames import BatchBuffer, normalised
from whenabouts.feed.gather import Gatherer
from whenabouts.models.attention import AttentionSegment
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.models.rows import RealRows
from whenabouts.strategies.teacher import has_seen_v2
from whenabouts.train.distributed import Team
from whenabouts.train.run import Run
from whenabouts.train.settings import refuse_below

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

SAMPLE_CHUNK = 4096  # frames
FRAMES_A_CLUSTER, LEAST_A_CLUSTER = 300, 4
FEWEST, MOST = 64, 10_000
DRAW = 2  # tells the draw of frames from other draws of the same seed


@dataclass(frozen=True)
class Clustering:
    """How frames are clustered."""

    k: int = 0
    """Number of clusters; 0: a 300th of the frames, at least 64 (of few frames a quarter), at most
    10,000."""
    dims: int = 256
    """Principal components that are kept, at most; each is scaled to variance 1."""
    sample_frames: int = 0
    """Frames that are drawn to find the clusters; 0: 256 a cluster. No more than there are."""
    iterations: int = 20
    """Of k-means; it ends early where nothing changes."""
    redo: int = 1
    """Attempts of k-means, of which the best one counts."""
    spherical: bool = False
    """Centroids get length 1, as the frames have."""
    seed: int = 0
    engine: Engine = "auto"
    """What finds the nearest cluster; auto: faiss on the CPU where it is installed, else torch."""

    def __post_init__(self) -> None:
        for name in ("k", "sample_frames", "seed"):
            refuse_below(name, getattr(self, name), 0)
        for name in ("dims", "iterations", "redo"):
            refuse_below(name, getattr(self, name), 1)

    def num_clusters(self, num_frames: int) -> int:
        """k for so many frames in all."""
        wanted = int(np.clip(num_frames // FRAMES_A_CLUSTER, FEWEST, MOST))
        return self.k or max(1, min(wanted, num_frames // LEAST_A_CLUSTER))

    def num_sampled(self, num_frames: int) -> int:
        wanted = self.sample_frames or 256 * self.num_clusters(num_frames)
        return min(wanted, num_frames)


# ---- features ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeepFeatures:
    """Normalised frames [N, D] -> what is clustered [N, E]; facts: what Labels say of it."""

    embed: Callable[[Tensor], Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()


FRAMES = DeepFeatures(lambda rows: rows, {"features": "frames"})


def deep_features(run: Run | None, corpus: Corpus, device: torch.device) -> DeepFeatures:
    """The frames themselves, or their embedding by a run.

    Raises RunError where the run has seen V2, has no embedding of frames, or is of other features.
    """
    if run is None:
        return FRAMES
    run.check_fits(corpus)
    model, kept = run.load_model()
    trained_on = tuple(str(split) for split in kept.get("trained_on", ()))
    if has_seen_v2(kept):
        raise RunError(
            "it was trained on V2",
            where=run.path,
            rule="what is watched on V2 has not seen V2",
            remedy="choose a run that was trained without --final",
        )
    embed = _embedding(model.to(device), run)
    facts = {"features": "embedding", "run": str(run.path), "run_digest": run.fingerprint().hex()}
    return DeepFeatures(embed, facts, trained_on)


def _embedding(model: nn.Module, run: Run) -> Callable[[Tensor], Tensor]:
    if not isinstance(model, Hierarchical):
        raise RunError(
            "its model has no embedding of frames",
            where=run.path,
            rule="att2, loss2, nl, se, fcfc and lse have one",
            remedy="choose such a run, or leave --run out",
        )
    module = model.segment_module
    if isinstance(module, AttentionSegment):
        return module.embedding
    return lambda rows: functional.relu(module.embedding(rows))


# ---- a sample of frames --------------------------------------------------------------------------


class FrameSample:
    """Frames of the given videos, drawn evenly: one of each of `count` equal stretches of them all.

    So none is drawn twice, and of as many as there are every one is drawn. Under torchrun each
    process has a part of them.
    """

    def __init__(
        self, corpus: Corpus, rows: NDArray[np.int64], count: int, seed: int, team: Team
    ) -> None:
        ends = np.cumsum(corpus.num_frames[rows], dtype=np.int64)
        assert 0 < count <= ends[-1]
        bounds = np.arange(count + 1) * int(ends[-1]) // count
        drawn = np.random.default_rng([seed, DRAW]).integers(bounds[:-1], bounds[1:])
        block = team.block(count)
        place = drawn[block.start : block.stop]
        video = np.searchsorted(ends, place, side="right")
        self.row: NDArray[np.int64] = rows[video]
        self.frame: NDArray[np.int64] = place - (ends - corpus.num_frames[rows])[video]
        self._corpus, self._device = corpus, team.device
        self._gatherer = Gatherer(corpus, streams=True)
        self._buffer = BatchBuffer(team.device, corpus.dataset.dtype)

    def __len__(self) -> int:
        return len(self.row)

    def chunks(self) -> Iterator[Float[Tensor, "N D"]]:
        """Normalised frames, in order."""
        for first in range(0, len(self), SAMPLE_CHUNK):
            part = slice(first, first + SAMPLE_CHUNK)
            yield self._chunk(self.row[part], self.frame[part])

    def _chunk(self, row: NDArray[np.int64], frame: NDArray[np.int64]) -> Float[Tensor, "N D"]:
        """Frames that follow each other are one stretch: one copy a feature list."""
        follows = (row[1:] == row[:-1]) & (frame[1:] == frame[:-1] + 1)
        opens = np.flatnonzero(np.r_[True, ~follows])
        count = np.diff(np.append(opens, len(row)))
        block = self._buffer.take((1, len(row), self._corpus.dataset.width))
        self._gatherer.gather(row[opens], frame[opens], count, opens, block.numpy()[0])
        mask = torch.ones(block.shape[:2], dtype=torch.bool, device=self._device)
        frames = block.to(self._device, non_blocking=True)
        return normalised(frames, mask, self._corpus.dataset)[0]


# ---- clusters ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clusters:
    """The clusters of frames: features -> whitening -> the nearest centroid."""

    features: DeepFeatures
    whitening: Whitening
    found: KMeans
    nearest: Nearest
    num_sampled: int

    def __len__(self) -> int:
        return len(self.found.centroids)

    def of(self, frames: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """The cluster of each normalised frame; -1 where mask is False."""
        real = RealRows(mask, keep_little=True)
        points = self.whitening(self.features.embed(real.take(frames)))
        nearest = self.nearest(points)[0].unsqueeze(1)
        return real.put(nearest).squeeze(2).masked_fill(~mask, -1)


def fit_clusters(
    corpus: Corpus,
    rows: NDArray[np.int64],
    features: DeepFeatures,
    settings: Clustering,
    team: Team,
) -> Clusters:
    """Cluster the frames of the given videos by a sample of them, which is read twice."""
    num_frames = int(corpus.num_frames[rows].sum())
    num_sampled = settings.num_sampled(num_frames)
    sample = FrameSample(corpus, rows, num_sampled, settings.seed, team)
    whitening = _fit_whitening(sample, features, settings.dims, team)
    points = torch.empty(len(sample), len(whitening.shift), device=team.device)
    first = 0
    for rows_in in _told("sample", sample):
        points[first : first + len(rows_in)] = whitening(features.embed(rows_in))
        first += len(rows_in)
    of_kmeans = KMeansSettings(
        settings.num_clusters(num_frames),
        settings.iterations,
        settings.redo,
        settings.seed,
        settings.spherical,
        settings.engine,
    )
    with progress("k-means", settings.iterations * settings.redo, "iterations") as bar:
        found = fit_kmeans(points, of_kmeans, team, lambda inertia: bar.advance(1))
    nearest = Nearest(found.centroids, settings.engine)
    return Clusters(features, whitening, found, nearest, num_sampled)


def _fit_whitening(sample: FrameSample, features: DeepFeatures, dims: int, team: Team) -> Whitening:
    covariance: Covariance | None = None
    for frames in _told("covariance", sample):
        embedded = features.embed(frames)
        covariance = covariance or Covariance(embedded.shape[1], team.device)
        covariance.add(embedded)
    assert covariance is not None, "every process has frames of the sample"
    return covariance.whitening(dims, team)


def _told(what: str, sample: FrameSample) -> Iterator[Tensor]:
    """The chunks of the sample, with progress."""
    with progress(what, len(sample), "frames") as bar:
        for frames in sample.chunks():
            yield frames
            bar.advance(len(frames))
