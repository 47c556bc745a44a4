"""The video classifier's training: what is trained on what, its loss by hand, what is watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toy_work import ALONE, log_lines
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, ScoresError, SettingsError
from whenabouts.core.scores import ScoresWriter
from whenabouts.core.segments import SegmentTable
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.labels import video_labels
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.whole_videos import DrawnBatch, DrawnVideos
from whenabouts.metrics.video import evaluate_videos
from whenabouts.models.mix_nextvlad import MixNeXtVLAD, online_distillation
from whenabouts.models.netvlad import NetVLAD
from whenabouts.models.video_level import VideoLogistic
from whenabouts.models.video_table import VideoSettings, video_scaled
from whenabouts.strategies.setup import Setup, build_seeded
from whenabouts.strategies.teacher import open_teacher
from whenabouts.strategies.video_labels import (
    Polish,
    VideoLabels,
    labelled_rows,
    lesson_loss,
    train_video_labels,
    watched_gap,
)
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

RATE = Optimiser(name="adamw", learning_rate=1e-2)
LOOP = Loop(batch_size=8, max_steps=6, evaluate_every=2, patience=9)
FEW = VideoLabels(num_frames=12)
POLISHED = replace(FEW, polish=Polish(epochs=2, half_life=2))


def build(corpus: Corpus, settings: VideoSettings | None = None) -> nn.Module:
    model = video_scaled(settings or NetVLAD(), "tiny")
    return build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)


def train(
    corpus: Corpus, run: Path, strategy: VideoLabels, loop: Loop = LOOP, *, final: bool = False
) -> tuple[Position, Setup]:
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    with closing(MetricsLog(run)) as log:
        setup = Setup(corpus, run, log, ALONE)
        found = train_video_labels(lambda: build(corpus), strategy, RATE, loop, setup, final=final)
    return found, setup


def weights(corpus: Corpus, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    model = build(corpus)
    facts = load_weights(path, model)
    return model.state_dict(), facts["trained_on"]


@pytest.fixture
def setup(corpus: Corpus, tmp_path: Path) -> Iterator[Setup]:
    with closing(MetricsLog(tmp_path)) as log:
        yield Setup(corpus, tmp_path, log, ALONE)


# ---- phases --------------------------------------------------------------------------------------


def test_the_search_trains_on_train_and_v1_and_watches_gap(corpus: Corpus, tmp_path: Path) -> None:
    found, setup = train(corpus, tmp_path, FEW)
    assert (found.phase, found.step) == ("v1", 6)
    assert weights(corpus, tmp_path / "v1.safetensors")[1] == ["train", "v1"]
    looks = [line for line in log_lines(tmp_path) if line["kind"] == "evaluate"]
    assert [look["step"] for look in looks] == [2, 4, 6]
    assert max(look["gap"] for look in looks) == found.best
    assert setup.ended["v1"].measure == "gap"
    num_videos = len(labelled_rows(corpus, ["train", "v1"]))
    assert num_videos < len(corpus.rows(["train", "v1"]))  # one has no label
    assert looks[-1]["epoch"] == pytest.approx(6 * 8 / num_videos, abs=1e-4)


def test_final_adds_v2_and_takes_twice_the_iterations(corpus: Corpus, tmp_path: Path) -> None:
    found, setup = train(corpus, tmp_path, FEW, final=True)
    assert weights(corpus, tmp_path / "final.safetensors")[1] == ["train", "v1", "v2"]
    assert setup.ended["final"].position.step == 2 * found.best_step
    assert list(setup.ended) == ["v1", "final"]


def test_a_polish_goes_on_from_the_best_weights_at_its_own_rate(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Two epochs of train + V1; the rate and what is averaged are the polish's."""
    _, setup = train(corpus, tmp_path, POLISHED, final=True)
    assert list(setup.ended) == ["pretrain", "v1", "pretrain-final", "final"]
    num_videos = len(labelled_rows(corpus, ["train", "v1"]))
    assert setup.ended["v1"].position.step == round(2 * num_videos / 8)
    lines = [line for line in log_lines(tmp_path) if line["kind"] == "train"]
    rates = {line["phase"]: line["learning_rate"] for line in lines}
    assert rates["v1"] == pytest.approx(8e-5, rel=1e-3)
    assert rates["pretrain"] == pytest.approx(1e-2, rel=1e-3)
    before, _ = weights(corpus, tmp_path / "pretrain.safetensors")
    after, on = weights(corpus, tmp_path / "v1.safetensors")
    assert on == ["train", "v1"]
    moved = max((after[n] - before[n]).abs().max() for n in dict(build(corpus).named_parameters()))
    assert 0 < moved < 20 * 8e-5  # Adam moves a weight by about the rate a step
    assert weights(corpus, tmp_path / "final.safetensors")[1] == ["train", "v1", "v2"]


def test_the_final_polish_goes_on_from_the_final_weights(corpus: Corpus, tmp_path: Path) -> None:
    """At a rate of 0 it ends with what it began with; that took twice the search's iterations."""
    still = replace(FEW, polish=Polish(epochs=1, learning_rate=0.0))
    _, setup = train(corpus, tmp_path, still, final=True)
    before, _ = weights(corpus, tmp_path / "pretrain-final.safetensors")
    after, _ = weights(corpus, tmp_path / "final.safetensors")
    for name, _ in build(corpus).named_parameters():
        assert torch.equal(after[name], before[name])
    pretrained, polished = (setup.ended[phase].position for phase in ("pretrain", "v1"))
    assert setup.ended["pretrain-final"].position.step == 2 * pretrained.best_step
    assert pretrained.best_step != polished.best_step


@pytest.mark.parametrize("strategy", [FEW, POLISHED])
def test_same_seed_same_bytes(corpus: Corpus, tmp_path: Path, strategy: VideoLabels) -> None:
    for name in ("one", "other"):
        train(corpus, tmp_path / name, strategy)
    one, other = (tmp_path / name / "v1.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_phases_are_shuffled_by_the_seed_and_a_polish_by_another(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def order(num_examples: int, batch_size: int, seed: int) -> ShuffledOrder:
        seeds.append(seed)
        return ShuffledOrder(num_examples, batch_size, seed)

    monkeypatch.setattr("whenabouts.strategies.video_labels.ShuffledOrder", order)
    train(corpus, tmp_path, POLISHED, replace(LOOP, seed=5), final=True)
    assert seeds == [5, 6, 5, 6]


def test_it_learns(corpus: Corpus, tmp_path: Path) -> None:
    found, _ = train(corpus, tmp_path, FEW, replace(LOOP, max_steps=60, evaluate_every=10))
    assert found.best > found.history[0] + 0.1


def test_videos_without_labels_are_refused_by_split(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"no video of test has labels; a video classifier"):
        labelled_rows(corpus, ["test"])


# ---- the loss ------------------------------------------------------------------------------------


def drawn_batch(corpus: Corpus, size: int = 6) -> DrawnBatch:
    rows = corpus.rows(["v1"])
    order = ShuffledOrder(len(rows), size, 0)
    return DrawnVideos(corpus, rows, corpus.video_classes, order, ALONE.device, 12).batch(0)


def value_of(loss: Tensor) -> float:
    return float(loss.detach())


def bce(logits: Tensor, target: Tensor, num_videos: int) -> float:
    p = logits.detach().double().sigmoid()
    return float(-(target * p.log() + (1 - target) * (1 - p).log()).sum() / num_videos)


def test_the_loss_is_that_of_the_labels(corpus: Corpus) -> None:
    model, drawn = build_seeded(lambda: build(corpus), 0, ALONE).eval(), drawn_batch(corpus)
    expected = bce(model(drawn.features, drawn.mask), drawn.labels, drawn.num_videos)
    found = lesson_loss(model, drawn, None, FEW)
    assert value_of(found) == pytest.approx(expected, rel=1e-4)
    share = replace(drawn, num_videos=3 * drawn.num_videos)  # of a batch three times as large
    assert value_of(lesson_loss(model, share, None, FEW)) == pytest.approx(expected / 3, rel=1e-4)


def test_a_teacher_has_its_part_of_the_loss(corpus: Corpus) -> None:
    model, drawn = build_seeded(lambda: build(corpus), 0, ALONE).eval(), drawn_batch(corpus)
    taught = torch.rand(drawn.labels.shape, generator=torch.Generator().manual_seed(1))
    logits = model(drawn.features, drawn.mask)
    labels, teaching = (bce(logits, t, drawn.num_videos) for t in (drawn.labels, taught))
    found = lesson_loss(model, drawn, taught, replace(FEW, teacher_weight=0.25))
    assert value_of(found) == pytest.approx(0.75 * labels + 0.25 * teaching, rel=1e-4)


def test_l2_is_of_the_heads_weights_alone(corpus: Corpus) -> None:
    model, drawn = build(corpus, VideoLogistic()), drawn_batch(corpus)
    (head,) = (m for m in model.modules() if isinstance(m, nn.Linear))
    without, found = (
        value_of(lesson_loss(model, drawn, None, replace(FEW, head_l2=l2))) for l2 in (0.0, 0.5)
    )
    norm = head.weight.detach().square().sum()
    assert found - without == pytest.approx(0.25 * float(norm), rel=1e-3)
    half = replace(drawn, num_videos=2 * drawn.num_videos)  # one of two equal shares
    halved = value_of(lesson_loss(model, half, None, replace(FEW, head_l2=0.5)))
    assert halved == pytest.approx(found / 2, rel=1e-4)


def test_the_members_of_a_mixture_learn_labels_and_from_each_other(corpus: Corpus) -> None:
    settings = MixNeXtVLAD(temperature=2.0)
    model = build_seeded(lambda: build(corpus, settings), 0, ALONE).eval()
    drawn = drawn_batch(corpus)
    logits, members = model.all_logits(drawn.features, drawn.mask)
    count = drawn.num_videos
    expected = value_of(online_distillation(logits, members, 2.0, count))
    for each in (logits, *(members[:, m] for m in range(3))):
        expected += bce(each, drawn.labels, count)
    assert value_of(lesson_loss(model, drawn, None, FEW)) == pytest.approx(expected, rel=1e-4)


# ---- the teacher ---------------------------------------------------------------------------------


def write_teacher(
    path: Path, corpus: Corpus, rows: np.ndarray, classes: ClassOrder, **made_by: object
) -> np.ndarray:
    values = np.random.default_rng(0).random((len(rows), len(classes)), np.float32)
    with closing(ScoresWriter(path, SegmentTable.of_videos(corpus.video_ids[rows]), classes)) as w:
        w.write(0, values)
        w.commit(made_by)
    return values


def reversed_classes(corpus: Corpus) -> ClassOrder:
    return ClassOrder(corpus.video_classes.ids[::-1], corpus.video_classes.names[::-1])


def test_a_teachers_scores_are_found_by_video_and_class(corpus: Corpus, tmp_path: Path) -> None:
    """The Scores hold more videos, in another order, and the classes backwards."""
    rows = corpus.rows(["v1"])
    scored = corpus.rows(["train", "v1", "v2"])[::-1]
    values = write_teacher(tmp_path / "t", corpus, scored, reversed_classes(corpus))
    teacher = open_teacher(tmp_path / "t", corpus, rows)
    found = teacher.scores(np.array([2, 0, 2]))
    place = [int(np.flatnonzero(scored == rows[k])[0]) for k in (2, 0, 2)]
    np.testing.assert_array_equal(found, values[place][:, ::-1])


def test_a_teacher_that_cannot_be(corpus: Corpus, tmp_path: Path) -> None:
    v1, v2, classes = corpus.rows(["v1"]), corpus.rows(["v2"]), corpus.video_classes
    write_teacher(tmp_path / "v2", corpus, v2, classes)
    with pytest.raises(ScoresError, match=r"v2: no score of video \w+ \(12 of 12 are missing\)"):
        open_teacher(tmp_path / "v2", corpus, v1)
    fewer = ClassOrder(classes.ids[1:], classes.names[1:])
    write_teacher(tmp_path / "fewer", corpus, v1, fewer)
    missing = rf"no score of class {classes.ids[0]} \(1 of {len(classes)} are missing\)"
    with pytest.raises(ScoresError, match=missing):
        open_teacher(tmp_path / "fewer", corpus, v1)
    write_teacher(tmp_path / "seen", corpus, v1, classes, trained_on=["train", "v1", "v2"])
    with pytest.raises(ScoresError, match=r"seen: its model was trained on V2; what is watched"):
        open_teacher(tmp_path / "seen", corpus, v1)


def test_a_teacher_reaches_the_training(corpus: Corpus, tmp_path: Path) -> None:
    write_teacher(tmp_path / "t", corpus, corpus.rows(["train", "v1"]), corpus.video_classes)
    train(corpus, tmp_path / "plain", FEW)
    train(corpus, tmp_path / "taught", replace(FEW, teacher=str(tmp_path / "t")))
    plain, taught = (tmp_path / name / "v1.safetensors" for name in ("plain", "taught"))
    assert plain.read_bytes() != taught.read_bytes()


def test_each_video_learns_what_the_teacher_says_of_it(corpus: Corpus, tmp_path: Path) -> None:
    """A teacher that repeats the labels changes nothing."""
    rows, classes = corpus.rows(["train", "v1"]), corpus.video_classes
    table = SegmentTable.of_videos(corpus.video_ids[rows])
    with closing(ScoresWriter(tmp_path / "t", table, classes)) as writer:
        writer.write(0, video_labels(corpus, rows, classes))
        writer.commit({})
    train(corpus, tmp_path / "plain", FEW)
    train(corpus, tmp_path / "taught", replace(FEW, teacher=str(tmp_path / "t"), teacher_weight=1))
    plain, taught = (
        weights(corpus, tmp_path / name / "v1.safetensors")[0] for name in ("plain", "taught")
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(taught[name], tensor)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_frames": 0}, "num_frames"),
        ({"head_l2": -1.0}, "head_l2"),
        ({"teacher_weight": -0.1}, "teacher_weight"),
        ({"teacher_weight": 1.1}, "teacher_weight"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, float], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        VideoLabels(**settings)


def test_a_polish_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="half_life"):
        Polish(half_life=0)
    with pytest.raises(SettingsError, match="epochs"):
        Polish(epochs=-1)


# ---- what is watched -----------------------------------------------------------------------------


def test_the_watched_gap_is_that_of_whole_scores(corpus: Corpus, setup: Setup) -> None:
    """All frames of every video, scored one by one, through the metric itself."""
    model = build_seeded(lambda: build(corpus), 3, ALONE).eval()
    rows = corpus.rows(["v2"])
    scores = []
    with torch.inference_mode():
        for row in rows:
            one = DrawnVideos(
                corpus, np.array([row]), corpus.video_classes, ShuffledOrder(1, 1, 0),
                ALONE.device, 1,
            )  # fmt: skip
            length = int(corpus.num_frames[row])
            one._draw = lambda rows, step, length=length: np.arange(length)[None]
            batch = one.batch(0)
            scores.append(model(batch.features, batch.mask).sigmoid()[0].numpy())
        found = watched_gap(model, setup, rows)
    offsets = corpus.labels.offsets
    values = np.concatenate([corpus.labels.values[offsets[r] : offsets[r + 1]] for r in rows])
    ends = np.r_[0, np.cumsum(np.diff(offsets)[rows])]
    expected = evaluate_videos(values, ends, corpus.video_classes, np.stack(scores), top_n=20)
    assert found == pytest.approx(expected.gap, abs=1e-6)
