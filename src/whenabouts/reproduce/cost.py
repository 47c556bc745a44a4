"""What the stages of the plan cost, roughly: seconds of one thread and bytes on the disk.

Rates were measured on one core with AVX-512 while others worked beside it; a stage that was run
before is known better, and its own time is shown instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS
from whenabouts.recipes.published import WIDTHS, Member, Scale

START_S = 3.0  # a child that loads torch
LIGHT_START_S = 0.7  # one that does not
FLOPS = 4e10  # a second, of products of matrices
PAIRS_PER_S = 2e7  # (segment, class) pairs averaged, fused or ranked
FRAMES_PER_S = 2e6  # gathered
BYTES_PER_S = 1e9  # indexed, with checksums
FLOAT_BYTES = 4
KEPT_COPIES = (
    8  # of the weights in a run: two phases, each with a checkpoint of three times its size
)
SEGMENT_FRAMES = 5
BATCH = 128

# Steps of (pre-training, fine-tuning) until the plateau, and segments of a video in a batch.
STEPS: dict[Scale, tuple[int, int]] = {
    "tiny": (200, 400), "small": (700, 400), "paper": (60_000, 10_000)
}  # fmt: skip
SEGMENTS: dict[Scale, int] = {"tiny": 8, "small": 8, "paper": 60}
LSE_SEGMENTS: dict[Scale, int] = {"tiny": 20, "small": 20, "paper": 60}
LSE_WINDOW_FRAMES = 2
LOGISTIC_STEPS: dict[Scale, int] = {"tiny": 300, "small": 500, "paper": 3000}
LOGISTIC_BATCH = 1024
PRODUCTS_A_FRAME = 16  # of each feature: rated pairs alone are computed, as slowly as so many
VIDEO_STEPS: dict[Scale, int] = {"tiny": 500, "small": 1000, "paper": 200_000}
VIDEO_FRAMES: dict[Scale, int] = {"tiny": 64, "small": 64, "paper": 300}


@dataclass(frozen=True)
class Size:
    """Of a corpus. videos, frames: by split."""

    videos: dict[str, int]
    frames: dict[str, int]
    width: int
    num_classes: int
    num_video_classes: int

    @classmethod
    def of(cls, corpus: Corpus) -> Self:
        rows = {split: corpus.rows([split]) for split in SPLITS}
        return cls(
            videos={split: len(found) for split, found in rows.items()},
            frames={s: int(corpus.num_frames[r].sum(dtype=np.int64)) for s, r in rows.items()},
            width=corpus.dataset.width,
            num_classes=len(corpus.classes),
            num_video_classes=len(corpus.video_classes),
        )

    @classmethod
    def of_shards(cls, roles: dict[str, list[Path]]) -> Self:
        """Of YouTube-8M shards that are not indexed yet, by their bytes alone."""
        sizes = {role: sum(path.stat().st_size for path in files) for role, files in roles.items()}
        half = sizes.get("validate", 0) // 2
        sizes = {"train": sizes.get("train", 0) + sizes.get("auto", 0), "v1": sizes.get("v1", half),
                 "v2": sizes.get("v2", half), "test": sizes.get("test", 0)}  # fmt: skip
        frames = {split: size // 1152 for split, size in sizes.items()}
        return cls({s: count // 200 for s, count in frames.items()}, frames, 1152, 1000, 3862)

    def segments(self, splits: tuple[str, ...]) -> int:
        return sum(self.frames[split] for split in splits) // SEGMENT_FRAMES

    def most_segments(self, splits: tuple[str, ...]) -> int:
        """With one begun in each video; of all splits where nothing is known of these."""
        known = splits if any(self.frames[split] for split in splits) else tuple(self.frames)
        return self.segments(known) + sum(self.videos[split] for split in known)

    @property
    def num_bytes(self) -> int:
        return sum(self.frames.values()) * self.width


@dataclass(frozen=True)
class Cost:
    seconds: float
    size_bytes: float


def of_index(size: Size) -> Cost:
    return Cost(LIGHT_START_S + size.num_bytes / BYTES_PER_S, 300 * sum(size.videos.values()))


def of_training(member: Member, size: Size, scale: Scale) -> Cost:
    weights: float
    products: float
    if member.recipe in ("f-logi", "s-logi"):
        frames = SEGMENT_FRAMES if member.recipe == "f-logi" else 1
        weights = size.width * size.num_classes
        products = LOGISTIC_STEPS[scale] * LOGISTIC_BATCH * frames * size.width * PRODUCTS_A_FRAME
    elif member.scores_videos:
        weights = size.width * size.num_video_classes
        frames = VIDEO_STEPS[scale] * BATCH * VIDEO_FRAMES[scale]
        products = VIDEO_STEPS[scale] * BATCH * weights + frames * size.width
    else:
        weights, products = _of_attention(member, size, scale)
    # A step forward and two back, of a multiplication and an addition each.
    return Cost(START_S + 6 * products / FLOPS, KEPT_COPIES * FLOAT_BYTES * weights)


def _of_attention(member: Member, size: Size, scale: Scale) -> tuple[float, float]:
    """(weights, products of one pass over all steps)"""
    width = _embedding_width(member, scale)
    # Rows a class of a mixture of two: gates and experts.
    experts = 5 if member.setting("--model.head.kind") == "moe" else 1
    video_head, segment_head = (
        width * experts * count for count in (size.num_video_classes, size.num_classes)
    )
    embedding = size.width * width
    pretrain, fine_tune = STEPS[scale]
    a_video: float = SEGMENTS[scale] * SEGMENT_FRAMES * embedding + video_head
    if member.recipe == "lse":  # classifies each window of each segment, of half as many videos
        segments = LSE_SEGMENTS[scale]
        frames = int(member.setting("--model.windows.frames") or LSE_WINDOW_FRAMES)
        windows = SEGMENT_FRAMES + 1 - frames
        a_video = segments * (SEGMENT_FRAMES * embedding + windows * video_head) / 2
    if member.setting("--strategy.fine-tuning") == "kernel":  # fitted at once, in seconds
        fine_tune = 0
    a_segment = SEGMENT_FRAMES * embedding + segment_head
    weights = embedding + video_head + segment_head
    return weights, BATCH * (pretrain * a_video + fine_tune * a_segment)


def _embedding_width(member: Member, scale: Scale) -> int:
    return int(member.setting("--model.embedding.width") or WIDTHS[scale])


def of_prediction(member: Member, size: Size, scale: Scale, splits: tuple[str, ...]) -> Cost:
    frames = sum(size.frames[split] for split in splits)
    if member.scores_videos:
        rows, columns, width = sum(size.videos[s] for s in splits), size.num_video_classes, 1
    else:
        width = _embedding_width(member, scale)
        rows, columns = frames // SEGMENT_FRAMES, size.num_classes
    products = frames * size.width * width + rows * columns * max(width, 64)
    return Cost(
        START_S + frames / FRAMES_PER_S + 2 * products / FLOPS, FLOAT_BYTES * rows * columns
    )


def of_passes(size: Size, splits: tuple[str, ...], read: int, written: int) -> Cost:
    """Of reading so many Scores and writing so many."""
    pairs = size.segments(splits) * size.num_classes
    return Cost(
        LIGHT_START_S + (read + written) * pairs / PAIRS_PER_S, FLOAT_BYTES * written * pairs
    )


def of_clusters(size: Size) -> Cost:
    frames = size.frames["train"] + size.frames["v1"]
    clusters = min(max(64, frames // 300), 10_000)
    return Cost(START_S + 2 * frames * clusters * 256 * 3 / FLOPS, 20 * frames / SEGMENT_FRAMES)
