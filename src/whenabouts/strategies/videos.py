"""The video loss, and both losses at once: what S2 and S3 share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from whenabouts.corpus.splits import Split
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.videos import Drawing, VideoBatch, Videos
from whenabouts.losses import rated_bce, rated_bce_with_unrated, video_bce
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.strategies.pseudo import PseudoLabels, all_seen, facts_of
from whenabouts.strategies.setup import Negatives, Setup, video_rows
from whenabouts.train.fit import Work
from whenabouts.train.settings import Loop

Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Terms:
    """What the loss adds to the video loss: the segment loss times segment_weight, that of pseudo
    with it, and the sum of a video's attention, frames and segments, times sparsity (an L1 term,
    as in STPN)."""

    segment_weight: float = 0.0
    sparsity: float = 0.0
    negatives: Negatives = field(default_factory=Negatives)
    pseudo: PseudoLabels | None = None


def video_work(
    phase: str,
    splits: Sequence[Split],
    rated_splits: Sequence[Split],
    terms: Terms,
    drawing: Drawing,
    loop: Loop,
    setup: Setup,
    evaluate: Evaluate | None,
) -> Work[VideoBatch]:
    """Batches of the labelled videos of `splits`; rated pairs of `rated_splits` go with them."""
    corpus, team = setup.corpus, setup.team
    rows = corpus.rows(splits)
    rows = rows[corpus.has_labels(rows)]
    order = ShuffledOrder(len(rows), loop.batch_size, loop.seed)
    rated = corpus.rated(corpus.rows(rated_splits)) if rated_splits else None
    pseudo = None
    if terms.pseudo is not None and rated is not None:
        pseudo = terms.pseudo.beside(rated, corpus)
    videos = Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, team.device, rated,
        drawing, pseudo,
    )  # fmt: skip
    head_rows = video_rows(corpus, team.device)

    def loss(model: nn.Module, batch: VideoBatch) -> Tensor:
        assert isinstance(model, Hierarchical)
        return both_losses(model, batch, terms, head_rows)

    return Work(
        phase=phase,
        batch=lambda step: videos.batch(step, team.rank, team.size),
        loss=loss,
        evaluate=evaluate,
        num_examples=len(rows),
        trained_on=all_seen(splits, terms.pseudo),
        facts=facts_of(terms.pseudo),
    )


def both_losses(model: Hierarchical, batch: VideoBatch, terms: Terms, head_rows: Tensor) -> Tensor:
    """The weighted sum of the terms; each segment is encoded once.

    head_rows: the row of the video head of each evaluated class, -1 where there is none [C].
    """
    encoded, frame_attention = model.encode_segments(batch.features, batch.mask)
    logits, attention = model.video_logits(padded(encoded, batch), batch.segment_mask)
    loss: Tensor = video_bce(batch.labels, logits, batch.num_videos)
    if terms.sparsity:
        loss = loss + terms.sparsity * (frame_attention.sum() + attention.sum()) / batch.num_videos
    if terms.segment_weight:
        for segments in _segment_losses(model, encoded, batch, terms, head_rows):
            loss = loss + terms.segment_weight * segments
    return loss


def _segment_losses(
    model: Hierarchical, encoded: Tensor, batch: VideoBatch, terms: Terms, head_rows: Tensor
) -> Iterator[Tensor]:
    """Of the rated pairs and of the pseudo-labelled ones, where there are any; each over the number
    of its own segments."""
    if len(batch.pair_class):
        if terms.negatives.are_any:
            yield _segment_loss_with_negatives(model, encoded, batch, terms, head_rows)
        else:
            logits = model.pair_logits_of(encoded, batch.pair_segment, batch.pair_class)
            yield rated_bce(batch.pair_label, batch.pair_weight, logits, batch.num_rated)
    pseudo = batch.pseudo
    if pseudo is not None and len(pseudo.segment):
        logits = model.pair_logits_of(encoded, pseudo.segment, pseudo.column)
        yield rated_bce(pseudo.label, pseudo.weight, logits, pseudo.num_segments)


def _segment_loss_with_negatives(
    model: Hierarchical, encoded: Tensor, batch: VideoBatch, terms: Terms, head_rows: Tensor
) -> Tensor:
    """The segment loss over all classes of the rated segments."""
    rated, pair_rated = batch.pair_segment.unique(return_inverse=True)
    video = batch.place[rated] // batch.segment_mask.shape[1]
    labels = batch.labels[video][:, head_rows.clamp_min(0)]  # [R, C]
    outside = (labels == 0) & (head_rows >= 0)
    return rated_bce_with_unrated(
        batch.pair_label,
        batch.pair_weight,
        model.segment_logits(encoded[rated]),
        pair_rated,
        batch.pair_class,
        terms.negatives.weights(outside),
        batch.num_rated,
    )


def padded(encoded: Tensor, batch: VideoBatch) -> Tensor:
    """Packed segment features [N, E] -> [B, S, E], zero where a video has no more segments."""
    num_videos, most = batch.segment_mask.shape
    flat = torch.zeros(num_videos * most, encoded.shape[1], device=encoded.device)
    return flat.to(encoded.dtype).index_copy(0, batch.place, encoded).view(num_videos, most, -1)
