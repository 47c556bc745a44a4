"""What a loss adds to rated pairs and video labels: weak negatives and sparsity, by hand."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toy_work import ALONE
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedSegments
from whenabouts.feed.videos import VideoBatch, Videos
from whenabouts.models.hierarchical import (
    FCFC,
    LSE,
    Att2,
    Hierarchical,
    HierarchicalSettings,
    scaled,
)
from whenabouts.strategies.s1 import S1, train_s1
from whenabouts.strategies.s2 import S2, Pretrain, train_s2
from whenabouts.strategies.s3 import S3, train_s3
from whenabouts.strategies.setup import Negatives, Setup, build_seeded, segment_loss, video_rows
from whenabouts.strategies.videos import Terms, both_losses
from whenabouts.train.checkpoint import load_weights
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

LOOP = Loop(batch_size=8, max_steps=3, evaluate_every=3)


def build(corpus: Corpus, settings: HierarchicalSettings | None = None) -> Hierarchical:
    model = scaled(settings or Att2(), "tiny")
    built = build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)
    assert isinstance(built, Hierarchical)
    return built


def model_and_batch(
    corpus: Corpus, settings: HierarchicalSettings | None = None
) -> tuple[Hierarchical, VideoBatch]:
    rows = corpus.rows(["v1"])
    rated, classes = corpus.rated(rows), corpus.classes
    order = ShuffledOrder(len(rows), 6, 0)
    videos = Videos(corpus, rows, classes, corpus.video_classes, order, ALONE.device, rated)
    model = build_seeded(lambda: build(corpus, settings), 0, ALONE)
    assert isinstance(model, Hierarchical)
    return model.eval(), videos.batch(0)


def softplus_where(logits: Tensor, where: Tensor) -> float:
    return value_of(nn.functional.softplus(logits)[where].sum())


def value_of(loss: Tensor) -> float:
    return float(loss.detach())


# ---- weak negatives ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [
        (Negatives(), 0.0),
        (Negatives(unrated=0.25), 0.25),
        (Negatives(unrated=0.5, outside=0.25), 0.5),
    ],
)
def test_one_weight_for_all(negatives: Negatives, expected: float) -> None:
    assert negatives.weights(torch.tensor([[True, False]])) == expected
    assert negatives.are_any == (expected > 0)


def test_outside_classes_weigh_more() -> None:
    weights = Negatives(unrated=0.125, outside=0.5).weights(torch.tensor([[True, False]]))
    assert isinstance(weights, Tensor)
    assert weights.tolist() == [[0.5, 0.125]]


def test_outside_negatives_of_rated_segments_by_hand(corpus: Corpus) -> None:
    """The rated loss, plus half a softplus for each class that the video's labels leave out."""
    labels = corpus.rated(corpus.rows(["v1"]))
    segments = RatedSegments(corpus, labels, corpus.classes, ALONE.device, with_outside=True)
    batch = segments.batch(np.arange(10), num_segments=20)
    model, _ = model_and_batch(corpus)
    logits = model(batch.features, batch.mask)
    assert batch.outside is not None
    is_negative = batch.outside.clone()
    is_negative[batch.pair_segment, batch.pair_class] = False
    assert is_negative.any()
    assert not is_negative.all()
    alone = value_of(segment_loss(model, batch, Negatives()))
    found = value_of(segment_loss(model, batch, Negatives(outside=0.5)))
    added = 0.5 * softplus_where(logits, is_negative) / 20
    assert found == pytest.approx(alone + added, rel=1e-4)


def test_outside_negatives_beside_the_video_loss_by_hand(corpus: Corpus) -> None:
    model, batch = model_and_batch(corpus)
    rows = video_rows(corpus, ALONE.device)
    logits = model(batch.features, batch.mask)
    is_negative = torch.zeros_like(logits, dtype=torch.bool)
    for segment in batch.pair_segment.unique().tolist():
        video = int(batch.place[segment]) // batch.segment_mask.shape[1]
        is_negative[segment] = batch.labels[video][rows] == 0
    is_negative[batch.pair_segment, batch.pair_class] = False
    assert is_negative.any()
    alone, found = (
        value_of(both_losses(model, batch, Terms(0.75, negatives=n), rows))
        for n in (Negatives(), Negatives(outside=0.5))
    )
    added = 0.75 * 0.5 * softplus_where(logits, is_negative) / batch.num_rated
    assert found == pytest.approx(alone + added, rel=1e-4)


def test_a_class_that_labels_are_never_of_is_no_negative(corpus: Corpus) -> None:
    model, batch = model_and_batch(corpus)
    terms = Terms(1.0, negatives=Negatives(outside=0.5))
    rows = torch.full_like(video_rows(corpus, ALONE.device), -1)
    alone = value_of(both_losses(model, batch, Terms(1.0), rows))
    assert value_of(both_losses(model, batch, terms, rows)) == pytest.approx(alone, rel=1e-5)


# ---- sparsity ------------------------------------------------------------------------------------


def test_sparsity_is_the_sum_of_a_videos_attention(corpus: Corpus) -> None:
    model, batch = model_and_batch(corpus)
    rows = video_rows(corpus, ALONE.device)
    encoded, frames = model.encode_segments(batch.features, batch.mask)
    total, first = value_of(frames[batch.mask].sum()), 0
    for count in batch.segment_mask.sum(dim=1).tolist():
        everything = torch.ones(1, count, dtype=torch.bool)
        part = encoded[None, first : first + count]
        total += value_of(model.encode_video(part, everything)[1].sum())
        first += count
    without, found = (
        value_of(both_losses(model, batch, Terms(sparsity=s), rows)) for s in (0, 0.5)
    )
    assert found - without == pytest.approx(0.5 * total / batch.num_videos, rel=1e-3)


def test_sparsity_pulls_attention_down(corpus: Corpus) -> None:
    model, batch = model_and_batch(corpus)
    both_losses(model, batch, Terms(sparsity=1e6), video_rows(corpus, ALONE.device)).backward()
    for attention in (model.segment_module.attention, model.video_attention):
        assert attention.out.bias.grad.item() > 0


def test_sparsity_of_fcfc_is_of_its_segments_alone(corpus: Corpus) -> None:
    """Its frame attention is the mask: a constant."""
    model, batch = model_and_batch(corpus, FCFC())
    both_losses(model, batch, Terms(sparsity=1e6), video_rows(corpus, ALONE.device)).backward()
    assert model.video_attention.out.bias.grad.item() > 0


def test_sparsity_of_lse_is_of_its_frames_alone(corpus: Corpus) -> None:
    """In training its segments have none."""
    model, batch = model_and_batch(corpus, LSE())
    rows = video_rows(corpus, ALONE.device)
    _, frames = model.encode_segments(batch.features, batch.mask)
    model.train().segment_module.eval()  # the same frames each time
    without, found = (
        value_of(both_losses(model, batch, Terms(sparsity=s), rows)) for s in (0, 0.5)
    )
    total = value_of(frames[batch.mask].sum())
    assert found - without == pytest.approx(0.5 * total / batch.num_videos, rel=1e-3)


# ---- each setting reaches the weights ------------------------------------------------------------


def trained(corpus: Corpus, run: Path, strategy: S1 | S2 | S3, loop: Loop = LOOP) -> Tensor:
    """All weights after a few steps, as one vector."""
    (run / "checkpoints").mkdir(parents=True)
    rate = Optimiser(name="adamw", learning_rate=1e-3)
    with closing(MetricsLog(run)) as log:
        setup, model = Setup(corpus, run, log, ALONE), lambda: build(corpus)
        match strategy:
            case S1():
                train_s1(model, strategy, rate, loop, setup, final=False)
            case S2():
                train_s2(model, strategy, rate, loop, setup, final=False)
            case S3():
                train_s3(model, strategy, rate, loop, setup, final=False)
    kept = build(corpus)
    load_weights(run / "v1.safetensors", kept)
    return torch.cat([p.detach().flatten() for p in kept.parameters()])


PRETRAIN = Pretrain(batch_size=8, max_steps=2, evaluate_every=2)
OUTSIDE = Negatives(outside=0.5)


@pytest.mark.parametrize(
    ("plain", "changed"),
    [
        (S1(), S1(negatives=OUTSIDE)),
        (S2(pretrain=PRETRAIN), S2(pretrain=PRETRAIN, negatives=OUTSIDE)),
        (S2(pretrain=PRETRAIN), S2(pretrain=replace(PRETRAIN, sparsity=0.5))),
        (S2(pretrain=PRETRAIN), S2(pretrain=replace(PRETRAIN, max_segments=3))),
        (S2(pretrain=PRETRAIN), S2(pretrain=replace(PRETRAIN, shift=2))),
        (S3(), S3(max_segments=3)),
        (S3(), S3(negatives=OUTSIDE)),
        (S3(), S3(sparsity=0.5)),
        (S3(), S3(segment_weight=0.5)),
    ],
)
def test_settings_reach_the_training(
    plain: S1 | S2 | S3, changed: S1 | S2 | S3, corpus: Corpus, tmp_path: Path
) -> None:
    one, other = (trained(corpus, tmp_path / n, s) for n, s in (("a", plain), ("b", changed)))
    assert not torch.equal(one, other)


def test_bfloat16_is_close_to_float32(corpus: Corpus, tmp_path: Path) -> None:
    """Products alone are rounded: the weights stay float32 and near, but not equal."""
    losses = []
    for precision in ("auto", "bfloat16"):
        run = tmp_path / precision
        losses.append(trained(corpus, run, S3(), replace(LOOP, precision=precision)))
    assert losses[1].dtype == torch.float32
    assert not torch.equal(*losses)
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=4e-3)
