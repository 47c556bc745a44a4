"""Whitened principal components, and k-means: rows of features -> clusters.

    whitening   y = unit(diag(l)^-1/2 V^T (x - m))     l, V: the largest eigenvalues of the
                                                       covariance of x, and their vectors
    k-means     Lloyd's iterations: each point to its nearest centroid, each centroid to the mean of
                its points (Lloyd, "Least squares quantization in PCM", 1982)

Memory is that of the points in k-means, and of D x D sums in the covariance, however many rows they
are of. Several processes hold a share of the rows each; sums go over all of them, and every process
gets the same clusters. The nearest centroid is found by faiss where it is installed and the points
are on the CPU, by matrix products in torch elsewhere; the two differ in rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch.nn import functional

from whenabouts.core.errors import SettingsError, UsageError

try:
    import faiss
except ImportError:  # an optional extra, which the images of some clusters lack
    faiss = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Engine = Literal["auto", "faiss", "torch"]
SMALLEST_SHARE = 1e-6  # of the largest eigenvalue; below it there is rounding alone
SPLIT_BY = 1 / 1024  # how far, of their size, the values of a split centroid move; as in faiss
BLOCK_SCORES = {"cpu": 1 << 22, "cuda": 1 << 28}  # points x centroids that are compared at once
SUM_ROWS = {"cpu": 1 << 10, "cuda": 1 << 16}  # that are float64 at once: on a CPU, in its cache


class Shares(Protocol):
    """The process among `size` that hold a share of the rows each."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""


@dataclass(frozen=True)
class _Alone:
    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor


ALONE = _Alone()


def of_first(tensor: Tensor, shares: Shares) -> Tensor:
    """The tensor that the first process has, in all: machines may round differently."""
    return shares.sum(tensor.clone() if shares.rank == 0 else torch.zeros_like(tensor))


# ---- whitening -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whitening:
    """y = unit(x matrix + shift); variance [P]: of each principal component, falling."""

    matrix: Float[Tensor, "D P"]
    shift: Float[Tensor, " P"]
    variance: Float[Tensor, " P"]

    def __call__(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        return functional.normalize(self.components(rows), dim=1)

    def components(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        """The components before they get length 1: each has mean 0 and variance 1."""
        return torch.addmm(self.shift, rows, self.matrix)


class Covariance:
    """Mean and covariance of rows that come in chunks.

    Products are float32, their sums float64.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self._sums = torch.zeros(width + 1, width, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, rows: Float[Tensor, "N D"]) -> None:
        self._sums[:-1] += rows.T @ rows
        self._sums[-1] += rows.sum(0, dtype=torch.float64)
        self._count += len(rows)

    def whitening(self, dims: int, shares: Shares = ALONE) -> Whitening:
        """Of at most `dims` components; those without variance are left out.

        Raises UsageError where fewer than two rows were added, or all are equal.
        """
        if dims < 1:
            raise SettingsError(f"the value is {dims}", where="dims", rule="it must be at least 1")
        sums = shares.sum(self._sums.clone())
        count = int(shares.sum(sums.new_tensor([self._count])))
        if count < 2:
            raise UsageError(f"there are {count} rows", rule="a covariance takes two")
        mean = sums[-1] / count
        covariance = (sums[:-1] - count * torch.outer(mean, mean)) / (count - 1)
        variance, vectors = torch.linalg.eigh(covariance)
        variance, vectors = variance.flip(0)[:dims], vectors.flip(1)[:, :dims]
        # Of all rows equal, what is left is the rounding of their squares.
        least = max(SMALLEST_SHARE * float(variance[0]), 1e-9 * float(mean.square().sum()))
        kept = int((variance > least).sum())
        if not kept:
            raise UsageError("all rows are equal", rule="rows that differ can be clustered")
        matrix = of_first(vectors[:, :kept] * variance[:kept].rsqrt(), shares)
        return Whitening(matrix.float(), -(mean @ matrix).float(), variance[:kept].float())


# ---- k-means -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KMeansSettings:
    """k: number of clusters; redo: attempts, of which the best one counts; spherical: centroids get
    length 1, as the points have."""

    k: int
    iterations: int = 20
    redo: int = 1
    seed: int = 0
    spherical: bool = False
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        for name in ("k", "iterations", "redo"):
            if getattr(self, name) < 1:
                fact = f"the value is {getattr(self, name)}"
                raise SettingsError(fact, where=name, rule="it must be at least 1")
        _refuse_missing_engine(self.engine)


@dataclass(frozen=True)
class KMeans:
    """inertia: mean squared distance of a point to its nearest centroid, as each iteration began:
    it never rises, but for the hair by which a split may raise it."""

    centroids: Float[Tensor, "K P"]
    inertia: tuple[float, ...]


def fit_kmeans(
    points: Float[Tensor, "N P"],
    settings: KMeansSettings,
    shares: Shares = ALONE,
    on_iteration: Callable[[float], object] = lambda inertia: None,
) -> KMeans:
    """The clusters of the points of all shares: the best of `redo` attempts.

    Centroids begin as points drawn by the seed. One that no point is nearest to takes half of the
    widest cluster. An attempt ends early where an iteration changes nothing. on_iteration(inertia)
    is called in each. Raises SettingsError where there are fewer points than clusters, UsageError
    where a value is not finite.
    """
    counts = points.new_zeros(shares.size, dtype=torch.float64)
    counts[shares.rank] = len(points)
    counts = shares.sum(counts).long()
    _refuse_unfit(points, settings.k, int(counts.sum()), shares)
    first = int(counts[: shares.rank].sum())
    starts = (_drawn(points, first, int(counts.sum()), settings, n) for n in range(settings.redo))
    attempts = [_lloyd(points, shares.sum(s), settings, shares, on_iteration) for s in starts]
    return min(attempts, key=lambda attempt: attempt.inertia[-1])


def _lloyd(
    points: Tensor,
    centroids: Tensor,
    settings: KMeansSettings,
    shares: Shares,
    on_iteration: Callable[[float], object],
) -> KMeans:
    inertia: list[float] = []
    for _ in range(settings.iterations):
        nearest, distance = Nearest(centroids, settings.engine)(points)
        sums, sizes, spread = _sums(points, nearest, distance, len(centroids), shares)
        inertia.append(float(spread.sum() / sizes.sum()))
        on_iteration(inertia[-1])
        if len(inertia) > 1 and inertia[-1] == inertia[-2]:
            break
        means = sums / sizes.clamp_min(1).unsqueeze(1)
        if settings.spherical:
            means = functional.normalize(means, dim=1)
        centroids = split_widest(means.to(points.dtype), sizes, spread)
    return KMeans(centroids, tuple(inertia))


def _sums(
    points: Tensor, nearest: Tensor, distance: Tensor, k: int, shares: Shares
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each cluster the sum of its points [K, P], their number [K] and the sum of their squared
    distances [K].

    In float64, so that how points are shared out is all but lost in rounding to centroids.
    """
    sums = points.new_zeros(k, points.shape[1], dtype=torch.float64)
    step = SUM_ROWS[points.device.type]
    for part, places in zip(points.split(step), nearest.split(step)):
        _add_rows(sums, places, part.double())
    counts = sums.new_zeros(k, 2)  # apart: rows of a view are added three times slower
    counts[:, 0] = torch.bincount(nearest, minlength=k)
    _add_rows(counts[:, 1:], nearest, distance.double().unsqueeze(1))
    sums, counts = shares.sum(sums), shares.sum(counts)
    return sums, counts[:, 0], counts[:, 1]


def _add_rows(table: Tensor, places: Tensor, rows: Tensor) -> None:
    """table[places[n]] += rows[n]; index_add_ would do so in any order on CUDA."""
    if table.is_cuda:
        table.index_put_((places,), rows, accumulate=True)
    else:
        table.index_add_(0, places, rows)


def split_widest(
    centroids: Float[Tensor, "K P"], sizes: Float[Tensor, " K"], spread: Float[Tensor, " K"]
) -> Float[Tensor, "K P"]:
    """Each empty cluster, from the first on, takes half of the cluster that is then the widest.

    spread: the sum of squared distances in a cluster. The most points would not do: equal ones, of
    a still picture or of silence, cannot be split. The two centroids are c (1 +- SPLIT_BY), with
    signs that alternate over the values.
    """
    empty = (sizes == 0).nonzero().flatten().tolist()
    if not empty:
        return centroids
    centroids, spread = centroids.clone(), spread.clone()
    step = torch.full_like(centroids[0], SPLIT_BY)
    step[1::2] *= -1
    for place in empty:
        widest = int(spread.argmax())
        centroids[place] = centroids[widest] * (1 - step)
        centroids[widest] *= 1 + step
        spread[place] = spread[widest] = spread[widest] / 2
    return centroids


def _drawn(
    points: Tensor, first: int, total: int, settings: KMeansSettings, attempt: int
) -> Tensor:
    """The centroids to begin with [K, P]: those of them that are among these points, 0 elsewhere.

    The points stand at first .. of all `total`.
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + attempt)
    places = torch.randperm(total, generator=generator)[: settings.k] - first
    here = (places >= 0) & (places < len(points))
    centroids = points.new_zeros(settings.k, points.shape[1])
    centroids[here.to(points.device)] = points[places[here].to(points.device)]
    return centroids


def _refuse_unfit(points: Tensor, k: int, total: int, shares: Shares) -> None:
    if total < k:
        raise SettingsError(
            f"k is {k:,}, and there are {total:,} points",
            rule="a cluster has at least one point",
            remedy="choose a smaller --k, or more --sample-frames",
        )
    is_finite = bool(points.sum().isfinite())
    if shares.sum(points.new_tensor([float(not is_finite)])):
        raise UsageError("a point is not finite", rule="distances are those of numbers")


# ---- the nearest centroid ------------------------------------------------------------------------


class Nearest:
    """Finds the nearest centroid of each row, by squared L2 distance."""

    def __init__(self, centroids: Float[Tensor, "K P"], engine: Engine = "auto") -> None:
        _refuse_missing_engine(engine)
        on_cpu = centroids.device.type == "cpu"
        self._index = None
        if faiss is not None and on_cpu and engine != "torch":
            faiss.omp_set_num_threads(torch.get_num_threads())
            self._index = faiss.IndexFlatL2(centroids.shape[1])
            self._index.add(centroids.contiguous().numpy())
            return
        self._columns = centroids.T.contiguous()
        self._shift = centroids.square().sum(1).div_(-2)
        block = BLOCK_SCORES["cpu" if on_cpu else "cuda"]
        self._rows = max(256, block // len(centroids))

    def __call__(self, rows: Float[Tensor, "N P"]) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        """Which centroid it is, and its squared distance."""
        if self._index is not None:
            distance, nearest = self._index.search(rows.contiguous().numpy(), 1)
            return torch.from_numpy(nearest[:, 0]), torch.from_numpy(distance[:, 0])
        found = [self._block(part) for part in rows.split(self._rows)]
        score, place = (torch.cat(parts) for parts in zip(*found))
        return place, (rows.square().sum(1) - 2 * score).clamp_min_(0)

    def _block(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The largest x . c - |c|^2 / 2 of each row, and where it is: |x|^2 is the same for all."""
        largest = torch.addmm(self._shift, rows, self._columns).max(dim=1)
        return largest.values, largest.indices


def _refuse_missing_engine(engine: Engine) -> None:
    if engine == "faiss" and faiss is None:
        raise UsageError(
            "faiss is not installed",
            where="engine",
            remedy="pip install faiss-cpu, or choose torch or auto",
        )
