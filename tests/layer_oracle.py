"""Layers of the video models by definition, in numpy, and models to try them on."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whenabouts.models.embedding import NormedLinear
from whenabouts.models.normed import Normed

Module = TypeVar("Module", bound=nn.Module)
Array = np.ndarray

# Padding at the end, a hole, one real frame, none at all, and a whole video.
MASK = torch.tensor(
    [[1, 1, 1, 1, 0], [1, 0, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]],
    dtype=torch.bool,
)
EMPTY = 3  # the video of MASK without a real frame


def frames_of(width: int, seed: int = 0, mask: Tensor = MASK) -> Tensor:
    """Frames of length 1 in float64, also at padding."""
    drawn = np.random.default_rng(seed).normal(size=(*mask.shape, width))
    return nn.functional.normalize(torch.from_numpy(drawn), dim=-1)


def stirred(module: Module, seed: int = 0) -> Module:
    """In float64, with scales, shifts and running statistics that are not those of the start."""
    torch.manual_seed(seed)
    for layer in module.double().modules():
        if isinstance(layer, NormedLinear):
            nn.init.uniform_(layer.scale, 0.5, 2)
            nn.init.normal_(layer.shift)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_variance, 0.02, 0.5)
    return module


def videos_of(features: Tensor, mask: Tensor = MASK) -> list[Array]:
    """The real frames of each video."""
    return [x[m].numpy() for x, m in zip(features, mask)]


def array(tensor: Tensor) -> Array:
    values: Array = tensor.detach().numpy()
    return values


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def unit(x: Array) -> Array:
    return np.asarray(x / max(np.linalg.norm(x), 1e-6))


def normed(layer: NormedLinear, rows: Array) -> Array:
    """BN(W rows), with the statistics of the rows in training and the running ones otherwise."""
    y = rows if isinstance(layer, Normed) else rows @ array(layer.linear.weight).T
    mean, variance = y.mean(axis=0), y.var(axis=0)
    if not layer.training:
        mean, variance = array(layer.running_mean), array(layer.running_variance)
    normal = (y - mean) / np.sqrt(variance + 1e-5)
    return np.asarray(normal * array(layer.scale) + array(layer.shift))


def linear(layer: nn.Linear, rows: Array) -> Array:
    bias = 0 if layer.bias is None else array(layer.bias)
    return np.asarray(rows @ array(layer.weight).T + bias)


def by_video(rows: Array, videos: list[Array]) -> list[Array]:
    """Rows of all videos, one after another, cut into those of each."""
    ends = np.cumsum([len(video) for video in videos])
    return np.split(rows, ends[:-1])


def shares_of(layer: NormedLinear, videos: list[Array]) -> list[Array]:
    """The soft assignment of each video's frames [T, K]."""
    return by_video(softmax(normed(layer, np.concatenate(videos))), videos)
