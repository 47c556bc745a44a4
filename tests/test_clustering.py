"""Whitening and k-means: against scikit-learn, by hand, in shares, and what they refuse."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from shapes import checked
from whenabouts import clustering
from whenabouts.clustering import (
    Covariance,
    Engine,
    KMeansSettings,
    Nearest,
    fit_kmeans,
    split_widest,
)
from whenabouts.core.errors import SettingsError, UsageError

ENGINES: tuple[Engine, ...] = ("faiss", "torch")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def blobs(num_blobs: int = 5, each: int = 40, width: int = 3) -> tuple[Tensor, Tensor]:
    """Points around distant centres, shuffled, and the blob of each."""
    blob = torch.arange(num_blobs).repeat_interleave(each)
    blob = blob[torch.randperm(len(blob), generator=torch.Generator().manual_seed(1))]
    centres = 10 * torch.eye(num_blobs, width) + torch.arange(num_blobs).unsqueeze(1) * 20
    return centres[blob] + numbers(len(blob), width) / 10, blob


# ---- whitening -----------------------------------------------------------------------------------


def correlated(rows: int = 400, width: int = 7) -> Tensor:
    return numbers(rows, width) @ numbers(width, width, seed=1) + numbers(width, seed=2)


def covariance_of(rows: Tensor, chunk: int = 1000) -> Covariance:
    covariance = Covariance(rows.shape[1])
    for part in rows.split(chunk):
        covariance.add(part)
    return covariance


@pytest.mark.parametrize("dims", [1, 4, 7])
def test_whitening_is_that_of_scikit_learn(dims: int) -> None:
    rows = correlated()
    whitening = covariance_of(rows, 33).whitening(dims)
    pca = PCA(dims, whiten=True).fit(rows.double().numpy())
    expected = pca.transform(rows.double().numpy())
    found = whitening.components(rows).numpy()
    sign = np.sign((expected * found).sum(0))
    np.testing.assert_allclose(found * sign, expected, atol=2e-3)
    np.testing.assert_allclose(whitening.variance, pca.explained_variance_, rtol=1e-4)


def test_whitened_components_are_uncorrelated_and_of_variance_one() -> None:
    rows = correlated()
    components = covariance_of(rows).whitening(7).components(rows)
    np.testing.assert_allclose(np.cov(components.numpy().T), np.eye(7), atol=1e-3)
    np.testing.assert_allclose(components.mean(0), np.zeros(7), atol=1e-4)


def test_whitened_rows_have_length_one_in_the_direction_of_their_components() -> None:
    rows = correlated()
    whitening = covariance_of(rows).whitening(3)
    whitened, components = whitening(rows), whitening.components(rows)
    np.testing.assert_allclose(whitened.norm(dim=1), np.ones(400), rtol=1e-5)
    np.testing.assert_allclose(
        whitened * components.norm(dim=1, keepdim=True), components, atol=1e-5
    )


def test_chunks_do_not_matter_to_the_covariance() -> None:
    rows = correlated()
    whole, cut = covariance_of(rows).whitening(4), covariance_of(rows, 7).whitening(4)
    np.testing.assert_allclose(whole.variance, cut.variance, rtol=1e-5)


def test_components_without_variance_are_left_out() -> None:
    rows = correlated()
    flat = torch.cat([rows[:, :3], rows[:, :3].sum(1, keepdim=True), torch.ones(400, 1)], 1)
    whitening = covariance_of(flat).whitening(5)
    assert whitening.matrix.shape == (5, 3)
    assert whitening(flat).isfinite().all()


def test_what_has_no_variance_is_refused() -> None:
    with pytest.raises(UsageError, match=r"all rows are equal; rows that differ can be clustered"):
        covariance_of(torch.full((50, 3), 0.3)).whitening(2)
    with pytest.raises(UsageError, match=r"there are 1 rows; a covariance takes two"):
        covariance_of(torch.ones(1, 3)).whitening(2)
    with pytest.raises(SettingsError, match=r"dims: the value is 0; it must be at least 1"):
        covariance_of(correlated()).whitening(0)


def test_shapes_of_whitening() -> None:
    whitening = covariance_of(correlated()).whitening(4)
    assert checked(type(whitening).components)(whitening, correlated()).shape == (400, 4)


# ---- the nearest centroid ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num_rows", [0, 1, 19, 300])
def test_nearest_centroid_is_that_of_all_distances(
    engine: Engine, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "BLOCK_SCORES", {"cpu": 1})  # 256 rows at once, the fewest
    rows, centroids = numbers(num_rows, 6), numbers(23, 6, seed=1)
    nearest, distance = checked(Nearest.__call__)(Nearest(centroids, engine), rows)
    all_distances = (rows.double()[:, None] - centroids.double()).square().sum(2)
    expected = all_distances.min(dim=1)
    assert nearest.tolist() == expected.indices.tolist()
    np.testing.assert_allclose(distance, expected.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_of_equal_centroids_the_first_is_nearest(engine: Engine) -> None:
    rows = torch.eye(4).repeat(8, 1)
    nearest, _ = Nearest(torch.cat([torch.eye(4), torch.eye(4)]), engine)(rows)
    assert nearest.tolist() == [0, 1, 2, 3] * 8


# ---- k-means -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spherical", [False, True])
def test_blobs_are_recovered(engine: Engine, spherical: bool) -> None:
    points, blob = blobs(width=5)
    points = torch.nn.functional.normalize(points - points.mean(0), dim=1)
    settings = KMeansSettings(5, redo=8, engine=engine, spherical=spherical)
    found = fit_kmeans(points, settings)
    nearest = Nearest(found.centroids, engine)(points)[0]
    pairs = set(zip(blob.tolist(), nearest.tolist()))
    assert len(pairs) == 5, "a cluster a blob"
    if spherical:
        np.testing.assert_allclose(found.centroids.norm(dim=1), np.ones(5), rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_iterations_are_those_of_scikit_learn(engine: Engine) -> None:
    """From where the first iteration leaves the centroids, the others go the same way."""
    points = numbers(500, 4)
    start = fit_kmeans(points, KMeansSettings(12, iterations=1, engine=engine))
    ours = fit_kmeans(points, KMeansSettings(12, iterations=9, engine=engine))
    init = start.centroids.double().numpy()
    theirs = SklearnKMeans(12, init=init, n_init=1, max_iter=8, tol=0, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(points.double().numpy())
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(4))
def test_inertia_is_the_mean_distance_and_never_rises(engine: Engine, seed: int) -> None:
    points = numbers(600, 5, seed=seed)
    settings = KMeansSettings(20, iterations=8, seed=seed, engine=engine)
    found = fit_kmeans(points, settings)
    assert len(found.inertia) == 8
    assert (np.diff(found.inertia) <= 1e-6).all()
    before_last = fit_kmeans(points, KMeansSettings(20, iterations=7, seed=seed, engine=engine))
    distance = torch.cdist(points.double(), before_last.centroids.double()).amin(1).square()
    assert found.inertia[-1] == pytest.approx(float(distance.mean()), rel=1e-5)


def test_engines_find_the_same_clusters() -> None:
    points = numbers(700, 8)
    faiss, torch_ = (fit_kmeans(points, KMeansSettings(16, engine=e)) for e in ENGINES)
    np.testing.assert_allclose(faiss.centroids, torch_.centroids, atol=1e-4)


def test_a_seed_gives_the_same_clusters_and_another_gives_others() -> None:
    points = numbers(300, 4)
    first, again, other = (fit_kmeans(points, KMeansSettings(9, seed=s)) for s in (1, 1, 2))
    assert torch.equal(first.centroids, again.centroids)
    assert first.inertia == again.inertia
    assert not torch.allclose(first.centroids, other.centroids)


def test_the_best_attempt_counts() -> None:
    points = numbers(300, 4)
    alone = fit_kmeans(points, KMeansSettings(9))
    best = fit_kmeans(points, KMeansSettings(9, redo=6))
    assert best.inertia[-1] < alone.inertia[-1]


def test_it_ends_where_nothing_changes() -> None:
    told: list[float] = []
    found = fit_kmeans(blobs()[0], KMeansSettings(5, iterations=50), on_iteration=told.append)
    assert 2 <= len(found.inertia) < 50
    assert found.inertia[-1] == found.inertia[-2]
    assert tuple(told) == found.inertia


# ---- empty clusters ------------------------------------------------------------------------------


def test_an_empty_cluster_takes_half_of_the_widest() -> None:
    centroids = torch.tensor([[1.0, 2], [0, 0], [3, 4], [9, 9], [7, 7]])
    sizes, spread = torch.tensor([5.0, 0, 4, 0, 99]), torch.tensor([10.0, 0, 12, 0, 0])
    found = checked(split_widest)(centroids, sizes, spread)
    by = 1 / 1024
    expected = torch.tensor([
        [1 * (1 + by), 2 * (1 - by)],  # the widest after the first split: 10 against 6 and 6
        [3 * (1 - by), 4 * (1 + by)],
        [3 * (1 + by), 4 * (1 - by)],
        [1 * (1 - by), 2 * (1 + by)],
        [7, 7],  # the most points, all at one place
    ])  # fmt: skip
    torch.testing.assert_close(found, expected)
    assert centroids[1].tolist() == [0, 0], "the centroids that were given stay"


def test_without_an_empty_cluster_nothing_moves() -> None:
    centroids = numbers(3, 2)
    assert split_widest(centroids, torch.tensor([1.0, 2, 3]), torch.ones(3)) is centroids


@pytest.mark.parametrize("engine", ENGINES)
def test_no_cluster_stays_empty(engine: Engine) -> None:
    """Nine in ten points are equal, so that most centroids begin at one place."""
    points = torch.cat([torch.ones(900, 3), 5 + numbers(100, 3)])
    settings = KMeansSettings(20, iterations=40, engine=engine)
    found = fit_kmeans(points, settings)
    sizes = torch.bincount(Nearest(found.centroids, engine)(points)[0], minlength=20)
    assert (sizes > 0).all()
    assert sizes.max() == 900


def test_more_clusters_than_different_points_are_finite() -> None:
    found = fit_kmeans(torch.eye(3).repeat(10, 1), KMeansSettings(7))
    assert found.centroids.isfinite().all()
    assert found.inertia[-1] == pytest.approx(0, abs=1e-5)


# ---- shares --------------------------------------------------------------------------------------


@dataclass
class Threads:
    """What threads that stand for processes have in common."""

    size: int
    parts: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size)


@dataclass(frozen=True)
class ThreadShares:
    rank: int
    threads: Threads

    @property
    def size(self) -> int:
        return self.threads.size

    def sum(self, tensor: Tensor) -> Tensor:
        """In the order of the ranks, and in place, as torch.distributed has it."""
        self.threads.parts[self.rank] = tensor.clone()
        self.threads.barrier.wait()
        total = torch.stack([self.threads.parts[r] for r in range(self.size)]).sum(0)
        self.threads.barrier.wait()
        return tensor.copy_(total)


def in_threads(size: int, work: Callable[[ThreadShares], Tensor]) -> list[Tensor]:
    threads = Threads(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(ThreadShares(rank, threads)), range(size)))


@pytest.mark.parametrize("cuts", [(250, 250), (1, 499), (0, 500), (100, 300, 100)])
def test_shares_give_what_the_whole_does(cuts: tuple[int, ...]) -> None:
    points = numbers(500, 5)
    settings, parts = KMeansSettings(11, redo=2), points.split(list(cuts))
    whole = fit_kmeans(points, settings)
    found = in_threads(
        len(cuts), lambda shares: fit_kmeans(parts[shares.rank], settings, shares).centroids
    )
    for centroids in found:
        assert torch.equal(centroids, found[0])
        np.testing.assert_allclose(centroids, whole.centroids, atol=1e-6)


def test_shares_have_one_whitening() -> None:
    rows = correlated()
    parts = rows.split([150, 250])
    found = in_threads(
        2, lambda shares: covariance_of(parts[shares.rank]).whitening(4, shares).matrix
    )
    assert torch.equal(*found)
    np.testing.assert_allclose(found[0], covariance_of(rows).whitening(4).matrix, atol=1e-4)


# ---- what is refused -----------------------------------------------------------------------------


def test_more_clusters_than_points_are_refused() -> None:
    fact = r"k is 4, and there are 3 points; a cluster has at least one point; choose a smaller --k"
    with pytest.raises(SettingsError, match=fact):
        fit_kmeans(numbers(3, 2), KMeansSettings(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_refused(value: float) -> None:
    points = numbers(9, 2)
    points[4, 1] = value
    with pytest.raises(UsageError, match=r"a point is not finite"):
        fit_kmeans(points, KMeansSettings(2))


@pytest.mark.parametrize("name", ["k", "iterations", "redo"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: the value is 0; it must be at least 1"):
        KMeansSettings(**{"k": 3, name: 0})


def test_without_faiss_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "faiss", None)
    assert fit_kmeans(numbers(30, 2), KMeansSettings(3)).centroids.shape == (3, 2)
    with pytest.raises(UsageError, match=r"faiss is not installed; pip install"):
        KMeansSettings(3, engine="faiss")
