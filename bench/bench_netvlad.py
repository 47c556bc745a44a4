"""How near the training step of NetVLAD comes to its arithmetic floor.

    python bench/bench_netvlad.py [--scale paper] [--batch-size 128] [--rounds 7]

As bench_deep does it for NL: the loop's step (300 drawn frames, forward, backward, clip, AdamW) and
matrix products take turns; the floor is the operations of the step's own products over the best
rate of the run. The optimiser does no products: at paper scale it moves 290 million weights a step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench_deep import MADE, NUM_VIDEO_CLASSES, Products, Steps, against_floor, made_corpus
from whenabouts.core.allocator import keep_freed_memory
from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.whole_videos import DrawnBatch, DrawnVideos
from whenabouts.models.hierarchical import SCALES
from whenabouts.models.netvlad import NetVLAD
from whenabouts.models.twins import twin_sizes
from whenabouts.models.video_table import build_video_model, video_scaled
from whenabouts.strategies.video_labels import VideoLabels, lesson_loss

CPU = torch.device("cpu")
STRATEGY = VideoLabels(head_l2=1e-6)
GATES_AND_EXPERTS = 5  # rows of MoE-2 a class: three gates, two experts


def netvlad_step(scale: str = "paper", batch_size: int = 128, rounds: int = 7) -> dict[str, Any]:
    keep_freed_memory()
    settings = video_scaled(NetVLAD(), scale)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        corpus = made_corpus(Path(folder))
        widths = tuple(feature.width for feature in corpus.dataset.features)
        torch.manual_seed(0)
        model = build_video_model(settings, widths, NUM_VIDEO_CLASSES)
        products = list(forward_products(settings, widths, batch_size, MADE.max_frames))
        largest = max(products, key=lambda shape: shape[0] * shape[1] * shape[2])
        rates = Products(largest, CPU, torch.float32)
        steps = Steps(model, _videos(corpus, batch_size), loss_of, is_half=False)
        rates.warm_up()
        steps.warm_up()
        measured = [(rates.run(), steps.run()) for _ in range(rounds)]
    seconds = [step for _, step in measured]
    whole = [sum(step.values()) for step in seconds]
    told = against_floor(step_flops(products, settings, widths, batch_size, MADE.max_frames),
                         [rate for rate, _ in measured], whole)  # fmt: skip
    parts = {part: median(s[part] for s in seconds) for part in seconds[0]}
    return told | {"parts_s": parts, "threads": torch.get_num_threads(), "scale": scale}


def forward_products(
    settings: NetVLAD, widths: tuple[int, ...], num_videos: int, num_frames: int
) -> Iterator[tuple[int, int, int]]:
    """(n, k, m) of the matrix products of forward."""
    frames, pooled = num_videos * num_frames, 0
    clusters = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
    for width, size in zip(widths, clusters):
        yield frames, width, size  # assignment
        yield num_videos * size, num_frames, width  # sums of residuals
        pooled += width * size
    hidden = settings.head.hidden
    yield num_videos, pooled, hidden
    yield num_videos, hidden, hidden  # context gate
    yield num_videos, hidden, GATES_AND_EXPERTS * NUM_VIDEO_CLASSES
    yield num_videos, NUM_VIDEO_CLASSES, NUM_VIDEO_CLASSES  # probability gate


def step_flops(
    products: list[tuple[int, int, int]],
    settings: NetVLAD,
    widths: tuple[int, ...],
    num_videos: int,
    num_frames: int,
) -> int:
    """Forward and backward; the frames are data, so that no gradient of them is needed."""
    forward = sum(2 * n * k * m for n, k, m in products)
    clusters = twin_sizes(settings.num_clusters, len(widths), settings.twin_reduction)
    of_frames = sum(2 * num_videos * num_frames * w * k for w, k in zip(widths, clusters))
    return 3 * forward - 2 * of_frames


def loss_of(model: nn.Module, drawn: DrawnBatch) -> Tensor:
    return lesson_loss(model, drawn, None, STRATEGY)


def _videos(corpus: Corpus, batch_size: int) -> DrawnVideos:
    order = ShuffledOrder(len(corpus), batch_size, seed=0)
    classes = ClassOrder.of(range(NUM_VIDEO_CLASSES))
    return DrawnVideos(corpus, np.arange(len(corpus)), classes, order, CPU, MADE.max_frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(json.dumps(netvlad_step(args.scale, args.batch_size, args.rounds), indent=2))


if __name__ == "__main__":
    main()
