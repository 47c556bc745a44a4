"""The video classifier's training: video labels alone, GAP@20 watched (Skalic & Austin 2018).

v1         on train + V1, watching the GAP@20 of V2's video labels until the plateau
final      if asked for: anew on train + V1 + V2 with twice the iterations

With a polish, `v1` and `final` are short last phases that start from the weights of `pretrain` and
`pretrain-final` and keep the moving average of the weights at a lower rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whenabouts.core.errors import CorpusError
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import Split
from whenabouts.feed.labels import video_labels
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.whole_videos import NUM_DRAWN, DrawnBatch, DrawnVideos, VideoChunks
from whenabouts.losses import video_bce
from whenabouts.metrics.segment_map import average_precision
from whenabouts.metrics.video import GAP_TOP_N
from whenabouts.models.mix_nextvlad import NeXtVLADMixture, online_distillation
from whenabouts.models.video_table import head_weights
from whenabouts.strategies.setup import Setup, build_seeded
from whenabouts.strategies.teacher import Teacher, open_teacher
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.distributed import Team
from whenabouts.train.fit import Folder, Work
from whenabouts.train.settings import Loop, Optimiser, refuse_below


@dataclass(frozen=True)
class Polish:
    """A last phase that keeps the moving average of the weights; 0 epochs leave it out.

    The 2018 winner: two epochs at 8e-5, half-life about 2000 steps.
    """

    epochs: float = 0.0
    """How long it is, in passes over the videos."""
    learning_rate: float = 8e-5
    """Of all of it."""
    half_life: int = 2000
    """Steps in which an old weight loses half its part."""

    def __post_init__(self) -> None:
        refuse_below("epochs", self.epochs, 0)
        refuse_below("half_life", self.half_life, 1)


@dataclass(frozen=True)
class VideoLabels:
    """Settings of the video classifier's training."""

    kind: Literal["video-labels"] = "video-labels"
    num_frames: int = NUM_DRAWN
    """Drawn of each video, with replacement."""
    head_l2: float = 0.0
    """Weight of half the squared norm of the head's weights."""
    polish: Polish = field(default_factory=Polish)
    teacher: str = ""
    """Scores of videos that are learned from beside the labels."""
    teacher_weight: float = 0.5
    """Of their part of the loss (the 2018 winner: 0.5)."""

    def __post_init__(self) -> None:
        refuse_below("num_frames", self.num_frames, 1)
        for name in ("head_l2", "teacher_weight"):
            refuse_below(name, getattr(self, name), 0)
        refuse_below("1 - teacher_weight", 1 - self.teacher_weight, 0)


def train_video_labels(
    build: Callable[[], nn.Module],
    strategy: VideoLabels,
    optimiser: Optimiser,
    loop: Loop,
    setup: Setup,
    *,
    final: bool,
) -> Position:
    """Train; returns where the search on V2 ended. `build` makes the untrained model."""
    rounds = _Rounds(build, strategy, optimiser, loop, setup)
    watch = _watch(setup)
    is_polished = strategy.polish.epochs > 0
    found = rounds.train("pretrain" if is_polished else "v1", ("train", "v1"), None, watch)
    ended = rounds.polish("v1", ("train", "v1"), watch) if is_polished else found
    if final:
        everything: tuple[Split, ...] = ("train", "v1", "v2")
        name = "pretrain-final" if is_polished else "final"
        rounds.train(name, everything, 2 * found.best_step, None)
        if is_polished:
            rounds.polish("final", everything, None)
    return ended


@dataclass(frozen=True)
class _Lesson:
    """A batch and what the teacher says of its videos [B, V], if there is one."""

    drawn: DrawnBatch
    taught: Tensor | None


Watch = Callable[[nn.Module], float]


@dataclass(frozen=True)
class _Rounds:
    """The phases, for the search (watching V2) and for the final training (not watching)."""

    build: Callable[[], nn.Module]
    strategy: VideoLabels
    optimiser: Optimiser
    loop: Loop
    setup: Setup

    def train(
        self, phase: str, splits: Sequence[Split], num_steps: int | None, watch: Watch | None
    ) -> Position:
        loop = self.loop.of_length(num_steps)
        model = build_seeded(self.build, loop.seed, self.setup.team)
        return self.setup.fit(model, self._work(phase, splits, loop, watch), self.optimiser, loop)

    def polish(self, phase: str, splits: Sequence[Split], watch: Watch | None) -> Position:
        """From the weights of the phase before, at a lower rate, keeping the average."""
        polish, setup = self.strategy.polish, self.setup
        before = "pretrain" if phase == "v1" else "pretrain-final"
        model = build_seeded(self.build, self.loop.seed, setup.team)
        load_weights(Folder(setup.run, before).weights, model)
        num_videos = len(labelled_rows(setup.corpus, splits))
        steps = round(polish.epochs * num_videos / self.loop.batch_size)
        loop = replace(
            self.loop, max_steps=max(1, steps), average_half_life=polish.half_life,
            # Another order than the one the weights come from.
            seed=self.loop.seed + 1,
        )  # fmt: skip
        optimiser = replace(self.optimiser, learning_rate=polish.learning_rate)
        return setup.fit(model, self._work(phase, splits, loop, watch), optimiser, loop)

    def _work(
        self, phase: str, splits: Sequence[Split], loop: Loop, watch: Watch | None
    ) -> Work[_Lesson]:
        strategy, corpus, team = self.strategy, self.setup.corpus, self.setup.team
        rows = labelled_rows(corpus, splits)
        order = ShuffledOrder(len(rows), loop.batch_size, loop.seed)
        videos = DrawnVideos(
            corpus, rows, corpus.video_classes, order, team.device, strategy.num_frames
        )
        teacher = open_teacher(strategy.teacher, corpus, rows) if strategy.teacher else None

        def batch(step: int) -> _Lesson:
            drawn = videos.batch(step, team.rank, team.size)
            return _Lesson(drawn, _taught(teacher, team.share(order.batch(step)), team.device))

        return Work(
            phase=phase,
            batch=batch,
            loss=lambda model, lesson: lesson_loss(model, lesson.drawn, lesson.taught, strategy),
            evaluate=watch,
            num_examples=len(rows),
            trained_on=tuple(splits),
            measure="gap",
        )


def labelled_rows(corpus: Corpus, splits: Sequence[Split]) -> NDArray[np.int64]:
    """The videos of the splits that have labels. Raises CorpusError if there is none."""
    rows = corpus.rows(splits)
    labelled: NDArray[np.int64] = rows[corpus.has_labels(rows)]
    if not len(labelled):
        raise CorpusError(
            f"no video of {' + '.join(splits)} has labels",
            where=corpus.path,
            rule="a video classifier learns from video labels and is watched on those of V2",
            remedy="index shards with labels, some of them as --v2 or --validate",
        )
    return labelled


def _taught(
    teacher: Teacher | None, videos: NDArray[np.int64], device: torch.device
) -> Tensor | None:
    return None if teacher is None else torch.from_numpy(teacher.scores(videos)).to(device)


# ---- the loss ------------------------------------------------------------------------------------


def lesson_loss(
    model: nn.Module, drawn: DrawnBatch, taught: Tensor | None, strategy: VideoLabels
) -> Tensor:
    """BCE to the labels and, with its weight, to the teacher; a mixture's members learn as well.

    Each process adds the head's L2 for its share of the videos, so that shares add up to one.
    """
    if isinstance(model, NeXtVLADMixture):
        logits, members = model.all_logits(drawn.features, drawn.mask)
        count = drawn.num_videos
        loss = online_distillation(logits, members, model.temperature, count)
        for each in (logits, *members.unbind(dim=1)):
            loss = loss + _target_loss(each, drawn, taught, strategy.teacher_weight)
    else:
        logits = model(drawn.features, drawn.mask)
        loss = _target_loss(logits, drawn, taught, strategy.teacher_weight)
    if strategy.head_l2:
        norm = sum((w.square().sum() for w in head_weights(model)), loss.new_zeros(()))
        loss = loss + strategy.head_l2 / 2 * norm * (len(drawn.labels) / drawn.num_videos)
    return loss


def _target_loss(
    logits: Tensor, drawn: DrawnBatch, taught: Tensor | None, teacher_weight: float
) -> Tensor:
    loss: Tensor = video_bce(drawn.labels, logits, drawn.num_videos)
    if taught is None:
        return loss
    teaching = video_bce(taught, logits, drawn.num_videos)
    return (1 - teacher_weight) * loss + teacher_weight * teaching


# ---- what is watched -----------------------------------------------------------------------------


def _watch(setup: Setup) -> Watch:
    rows = labelled_rows(setup.corpus, ["v2"])

    def evaluate(model: nn.Module) -> float:
        return watched_gap(model, setup, rows)

    return evaluate


def watched_gap(model: nn.Module, setup: Setup, rows: NDArray[np.int64]) -> float:
    """GAP@20 of the given videos; each process scores its part, and keeps 20 scores a video."""
    team: Team = setup.team
    chunks = VideoChunks(setup.corpus, rows, team.device)
    depth = min(GAP_TOP_N, len(setup.corpus.video_classes))
    best = torch.zeros(2, len(rows), depth, device=team.device)  # scores; whether they are labels
    num_labels = torch.zeros((), device=team.device)
    block = team.block(len(rows))
    for chunk in chunks.chunks(block.start, block.stop):
        here = slice(chunk.first, chunk.first + len(chunk.mask))
        labels = torch.from_numpy(
            video_labels(setup.corpus, rows[here], setup.corpus.video_classes)
        ).to(team.device)
        scores, column = model(chunk.features, chunk.mask).sigmoid().topk(depth)
        best[0, here] = scores
        best[1, here] = labels.gather(1, column)
        num_labels += labels.sum()
    scores, is_label = team.sum(best).cpu().flatten(1).numpy()
    by_score = np.argsort(-scores, kind="stable")
    return average_precision(is_label[by_score] > 0, int(team.sum(num_labels)))
