"""Rated pairs of random features, to fit a kernel on."""

from __future__ import annotations

import numpy as np
import torch

from whenabouts.models.rated_kernel import KernelSettings, RatedPairs

WIDTH, CLASSES, SEGMENTS = 5, 4, 30
SETTINGS = KernelSettings(prior=0.4, penalty=0.2, bandwidth=0.7, answers=0.3)


def rated(seed: int = 0, num_segments: int = SEGMENTS) -> RatedPairs:
    """Segments rated for two classes each. Class 0 has both labels, class 1 too; class 2 has no
    positive, class 3 no negative. Labels of 0 are of a ball, which no linear head finds."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_segments, WIDTH)).astype(np.float32)
    segment = np.repeat(np.arange(num_segments), 2)
    column = np.stack([rng.integers(0, 2, num_segments), rng.integers(2, 4, num_segments)], 1)
    is_near = (features**2).sum(1) < WIDTH
    label = np.stack([np.where(column[:, 0] == 0, is_near, rng.random(num_segments) < 0.5),
                      column[:, 1] == 3], 1)  # fmt: skip
    order = rng.permutation(2 * num_segments)  # pairs come in any order
    parts = segment, column.ravel(), label.ravel().astype(np.float32)
    segment, column, label = (torch.from_numpy(part[order]) for part in parts)
    logits = torch.from_numpy(rng.normal(size=(num_segments, CLASSES)).astype(np.float32))
    return RatedPairs(torch.from_numpy(features), segment, column, label, logits)
