"""S2 and S3 on a small corpus: what is trained on what, in which order, and what is kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from toy_work import ALONE, log_lines
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.videos import Drawing, Videos
from whenabouts.models.hierarchical import Att2, Hierarchical, scaled
from whenabouts.strategies.s2 import S2, Pretrain, train_s2
from whenabouts.strategies.s3 import S3, train_s3
from whenabouts.strategies.setup import Setup, build_seeded, video_rows
from whenabouts.strategies.videos import Terms, both_losses, video_work
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

RATE = Optimiser(name="adamw", learning_rate=1e-3)
PRETRAIN = Pretrain(optimiser=RATE, batch_size=8, max_steps=6, evaluate_every=2, patience=9)
LOOP = Loop(batch_size=16, max_steps=4, evaluate_every=2, patience=9)


def build(corpus: Corpus) -> Hierarchical:
    model = scaled(Att2(), "tiny")
    built = build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)
    assert isinstance(built, Hierarchical)
    return built


def train(
    corpus: Corpus, run: Path, strategy: S2 | S3, *, final: bool = False, rate: Optimiser = RATE
) -> Position:
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    with closing(MetricsLog(run)) as log:
        setup = Setup(corpus, run, log, ALONE)
        if isinstance(strategy, S2):
            return train_s2(lambda: build(corpus), strategy, rate, LOOP, setup, final=final)
        return train_s3(lambda: build(corpus), strategy, rate, LOOP, setup, final=final)


def weights(corpus: Corpus, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    model = build(corpus)
    facts = load_weights(path, model)
    return model.state_dict(), facts["trained_on"]


def test_s2_pretrains_then_fine_tunes_the_segment_module(corpus: Corpus, tmp_path: Path) -> None:
    found = train(corpus, tmp_path, S2(pretrain=PRETRAIN))
    assert (found.phase, found.step) == ("v1", 4)
    before, on_videos = weights(corpus, tmp_path / "pretrain.safetensors")
    after, on_ratings = weights(corpus, tmp_path / "v1.safetensors")
    assert on_videos == on_ratings == ["train", "v1"]
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"segment_module", "segment_head"}
    phases = [line["phase"] for line in log_lines(tmp_path) if line["kind"] == "evaluate"]
    assert phases == ["pretrain"] * 3 + ["v1"] * 2


def test_s2_starts_the_segment_head_from_the_video_head(corpus: Corpus, tmp_path: Path) -> None:
    """The weights kept of the pre-training hold the rows that fine-tuning starts from."""
    train(corpus, tmp_path, S2(pretrain=PRETRAIN))
    kept, _ = weights(corpus, tmp_path / "pretrain.safetensors")
    assert_head_is_the_video_heads(corpus, kept)


def test_so_does_the_final_training_which_watches_nothing(corpus: Corpus, tmp_path: Path) -> None:
    """At a rate of 0 the fine-tuned head is what it began with."""
    still = replace(RATE, learning_rate=0.0)
    train(corpus, tmp_path, S2(pretrain=PRETRAIN), final=True, rate=still)
    kept, _ = weights(corpus, tmp_path / "final.safetensors")
    assert_head_is_the_video_heads(corpus, kept)


def assert_head_is_the_video_heads(corpus: Corpus, kept: dict[str, torch.Tensor]) -> None:
    for column, class_id in enumerate(corpus.classes.ids):
        row = corpus.video_classes.ids.index(class_id)
        for part in ("weight", "bias"):
            names = [n for n in kept if n.startswith("segment_head.") and n.endswith(part)]
            for name in names:
                video = kept[name.replace("segment_head", "video_head")]
                assert torch.equal(kept[name][column], video[row])


def test_s2_final_adds_v2_and_takes_twice_the_iterations(corpus: Corpus, tmp_path: Path) -> None:
    found = train(corpus, tmp_path, S2(pretrain=PRETRAIN), final=True)
    _, on_videos = weights(corpus, tmp_path / "pretrain-final.safetensors")
    _, on_ratings = weights(corpus, tmp_path / "final.safetensors")
    assert on_videos == on_ratings == ["train", "v1", "v2"]
    steps = {line["phase"]: line["step"] for line in log_lines(tmp_path)}
    looked = [line for line in log_lines(tmp_path) if line["kind"] == "evaluate"]
    best = max((e for e in looked if e["phase"] == "pretrain"), key=lambda e: e["mean_ap"])
    assert steps["pretrain-final"] == 2 * best["step"]
    assert steps["final"] == 2 * found.best_step


@pytest.mark.parametrize("strategy", [S2(pretrain=PRETRAIN), S3()])
def test_same_seed_same_bytes(corpus: Corpus, tmp_path: Path, strategy: S2 | S3) -> None:
    for name in ("one", "other"):
        train(corpus, tmp_path / name, strategy)
    one, other = (tmp_path / name / "v1.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_s3_trains_everything_at_once(corpus: Corpus, tmp_path: Path) -> None:
    train(corpus, tmp_path, S3(), final=True)
    after, on = weights(corpus, tmp_path / "v1.safetensors")
    assert on == ["train", "v1"]
    assert weights(corpus, tmp_path / "final.safetensors")[1] == ["train", "v1", "v2"]
    before = build_seeded(lambda: build(corpus), 0, ALONE).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"segment_module", "segment_head", "video_attention", "video_head"}


def test_s3_final_takes_twice_the_iterations(corpus: Corpus, tmp_path: Path) -> None:
    found = train(corpus, tmp_path, S3(), final=True)
    steps = {line["phase"]: line["step"] for line in log_lines(tmp_path)}
    assert steps["final"] == 2 * found.best_step


def batch_and_model(corpus: Corpus) -> tuple[Hierarchical, Videos]:
    rows = corpus.rows(["v1"])
    order = ShuffledOrder(len(rows), 6, 0)
    videos = Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, ALONE.device,
        rated=corpus.rated(rows),
    )  # fmt: skip
    model = build_seeded(lambda: build(corpus), 0, ALONE)
    assert isinstance(model, Hierarchical)
    return model.eval(), videos


def test_batches_are_of_labelled_videos_in_the_order_of_the_seed(
    corpus: Corpus, tmp_path: Path
) -> None:
    rows = corpus.rows(["train", "v1"])
    num_labelled = int(corpus.has_labels(rows).sum())
    assert num_labelled < len(rows)
    with closing(MetricsLog(tmp_path)) as log:
        setup = Setup(corpus, tmp_path, log, ALONE)
        one, other = (
            video_work(
                "v1", ("train", "v1"), (), Terms(), Drawing(), replace(LOOP, seed=seed), setup, None
            )
            for seed in (0, 1)
        )
    assert one.num_examples == num_labelled
    labels = torch.cat([one.batch(step).labels for step in range(3)])
    assert (labels.sum(dim=1) > 0).all()
    assert not torch.equal(one.batch(0).labels, other.batch(0).labels)


def test_both_losses_by_hand(corpus: Corpus) -> None:
    model, videos = batch_and_model(corpus)
    batch = videos.batch(0)
    total, first, weight = 0.0, 0, 0.7
    for video, count in enumerate(batch.segment_mask.sum(dim=1).tolist()):
        part = slice(first, first + count)
        encoded = model.encode_segments(batch.features[part], batch.mask[part])[0]
        everything = torch.ones(1, count, dtype=torch.bool)
        logits = model.video_logits(encoded[None], everything)[0][0]
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, batch.labels[video], reduction="sum"
        )
        total, first = total + float(loss.detach()) / batch.num_videos, first + count
    logits = model(batch.features, batch.mask)[batch.pair_segment, batch.pair_class]
    segments = nn.functional.binary_cross_entropy_with_logits(
        logits, batch.pair_label, reduction="sum"
    )
    expected = total + weight * float(segments.detach()) / batch.num_rated
    assert float(
        both_losses(model, batch, Terms(weight), video_rows(corpus, ALONE.device)).detach()
    ) == pytest.approx(expected, rel=1e-4)
    without = float(both_losses(model, batch, Terms(), video_rows(corpus, ALONE.device)).detach())
    assert without == pytest.approx(total, rel=1e-4)


def test_unrated_pairs_have_no_gradient(corpus: Corpus) -> None:
    """Classes that no segment of the batch is rated for: their rows of the segment head."""
    model, videos = batch_and_model(corpus)
    batch = replace(videos.batch(0), pair_class=videos.batch(0).pair_class * 0)
    both_losses(model, batch, Terms(1.0), video_rows(corpus, ALONE.device)).backward()
    gradient = model.segment_head.get_parameter("linear.weight").grad
    assert gradient is not None
    assert gradient[0].abs().sum() > 0
    assert (gradient[1:] == 0).all()
