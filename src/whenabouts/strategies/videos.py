"""The video loss, and both losses at once: what S2 and S3 share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from whenabouts.corpus.splits import Split
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.videos import VideoBatch, Videos
from whenabouts.losses import rated_bce, video_bce
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.strategies.setup import Setup
from whenabouts.train.fit import Work
from whenabouts.train.settings import Loop

Evaluate = Callable[[nn.Module], float]


def video_work(
    phase: str,
    splits: Sequence[Split],
    rated_splits: Sequence[Split],
    segment_weight: float,
    max_segments: int,
    loop: Loop,
    setup: Setup,
    evaluate: Evaluate | None,
) -> Work[VideoBatch]:
    """Batches of the labelled videos of `splits`; rated pairs of `rated_splits` go with them.

    The loss is the video loss plus segment_weight times the segment loss.
    """
    corpus, team = setup.corpus, setup.team
    rows = corpus.rows(splits)
    rows = rows[np.diff(corpus.labels.offsets)[rows] > 0]
    order = ShuffledOrder(len(rows), loop.batch_size, loop.seed)
    rated = corpus.rated(corpus.rows(rated_splits)) if rated_splits else None
    videos = Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, team.device, rated, max_segments
    )

    def loss(model: nn.Module, batch: VideoBatch) -> Tensor:
        assert isinstance(model, Hierarchical)
        return both_losses(model, batch, segment_weight)

    return Work(
        phase=phase,
        batch=lambda step: videos.batch(step, team.rank, team.size),
        loss=loss,
        evaluate=evaluate,
        num_examples=len(rows),
        trained_on=tuple(splits),
    )


def both_losses(model: Hierarchical, batch: VideoBatch, segment_weight: float) -> Tensor:
    """Video loss plus segment_weight times segment loss; each segment is encoded once."""
    encoded = model.encode_segments(batch.features, batch.mask)[0]
    feature, _ = model.encode_video(padded(encoded, batch), batch.segment_mask)
    loss: Tensor = video_bce(batch.labels, model.video_logits(feature), batch.num_videos)
    if segment_weight and len(batch.pair_class):
        logits = model.pair_logits_of(encoded, batch.pair_segment, batch.pair_class)
        segments = rated_bce(batch.pair_label, batch.pair_weight, logits, batch.num_rated)
        loss = loss + segment_weight * segments
    return loss


def padded(encoded: Tensor, batch: VideoBatch) -> Tensor:
    """Packed segment features [N, E] -> [B, S, E], zero where a video has no more segments."""
    num_videos, most = batch.segment_mask.shape
    flat = torch.zeros(num_videos * most, encoded.shape[1], device=encoded.device)
    return flat.to(encoded.dtype).index_copy(0, batch.place, encoded).view(num_videos, most, -1)
