"""S2: learn from the labels of whole videos, then fine-tune on rated segments (11th place, 2019).

pretrain   the whole network with the video loss on train + V1; the mAP on V2 is watched with
           the segment head filled from the video head
v1         the segment head starts from the video head's rows of the evaluated classes; the
           segment module is fine-tuned with the segment loss on V1 at a lower rate; or, with
           `fine_tuning` kernel, stays as it is, and V1's rated segments are what to be near to
final      if asked for: both again with V2 added and twice the iterations
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.corpus.splits import Split
from whenabouts.feed.rated import RatedSegments
from whenabouts.feed.videos import Drawing
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.models.rated_kernel import KernelSettings
from whenabouts.strategies.kernel import fit_kernel
from whenabouts.strategies.pseudo import Pseudo, PseudoLabels, all_seen
from whenabouts.strategies.s1 import rated_work
from whenabouts.strategies.setup import Negatives, Setup, build_seeded, video_rows, watched_map
from whenabouts.strategies.videos import Evaluate, Terms, video_work
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.fit import Folder
from whenabouts.train.settings import Loop, Optimiser, refuse_below


@dataclass(frozen=True)
class Pretrain:
    """How the whole network learns from video labels."""

    optimiser: Optimiser = field(
        default_factory=lambda: Optimiser(name="adamw", learning_rate=2e-4, clip_norm=1.0)
    )
    batch_size: int = 128
    """Videos of a step."""
    max_steps: int = 20_000
    """It ends here, if the plateau does not end it before."""
    evaluate_every: int = 50
    """Steps between two looks at V2."""
    patience: int = 10
    """Evaluations without a better V2 mAP before the plateau is declared."""
    max_segments: int = 0
    """Segments of a video drawn anew for each batch; 0 takes all."""
    shift: int = 0
    """Frames by which their windows begin off the grid, at most, either way."""
    sparsity: float = 0.0
    """Weight of the sum of a video's attention, an L1 term (STPN: 1e-4)."""

    def __post_init__(self) -> None:
        for name in ("max_segments", "shift", "sparsity"):
            refuse_below(name, getattr(self, name), 0)

    def loop(self, fine_tuning: Loop) -> Loop:
        """The loop of the pre-training: same seed and checkpoints as the fine-tuning."""
        return replace(
            fine_tuning,
            batch_size=self.batch_size,
            max_steps=self.max_steps,
            evaluate_every=self.evaluate_every,
            patience=self.patience,
        )


@dataclass(frozen=True)
class S2:
    """Settings of S2. negatives: in the fine-tuning, unrated classes as weak negatives. pseudo: in
    the fine-tuning, pseudo-labels to learn from as well."""

    kind: Literal["s2"] = "s2"
    pretrain: Pretrain = field(default_factory=Pretrain)
    negatives: Negatives = field(default_factory=Negatives)
    pseudo: Pseudo = field(default_factory=Pseudo)
    fine_tuning: Literal["gradient", "kernel"] = "gradient"
    """By gradient descent, or by kernel logistic regression, which takes neither weak negatives nor
    pseudo-labels."""
    kernel: KernelSettings = field(default_factory=KernelSettings)

    def __post_init__(self) -> None:
        if self.fine_tuning == "kernel" and (self.negatives.are_any or self.pseudo.labels):
            raise SettingsError(
                "it is 'kernel', with weak negatives or pseudo-labels beside it",
                where="fine_tuning",
                rule="kernel logistic regression learns from rated pairs alone",
                remedy="leave these out, or fine-tune by gradient",
            )


def train_s2(
    build: Callable[[], nn.Module],
    strategy: S2,
    optimiser: Optimiser,
    loop: Loop,
    setup: Setup,
    *,
    final: bool,
) -> Position:
    """Train; returns where the search on V2 ended. `build` makes the untrained model."""
    rounds = _Rounds(build, strategy, optimiser, loop, setup, setup.pseudo(strategy.pseudo))
    watched = setup.watched(rounds.build_seeded())
    pretrained = rounds.pretrain("pretrain", ("train", "v1"), None, watched)
    found = rounds.fine_tune("v1", pretrained, ("v1",), None, watched)
    if final:
        again = rounds.pretrain(
            "pretrain-final", ("train", "v1", "v2"), 2 * pretrained.best_step, None
        )
        rounds.fine_tune("final", again, ("v1", "v2"), 2 * found.best_step, None)
    return found


@dataclass(frozen=True)
class _Rounds:
    """The two phases, for the search (watching V2) and for the final training (not watching)."""

    build: Callable[[], nn.Module]
    strategy: S2
    optimiser: Optimiser
    loop: Loop
    setup: Setup
    pseudo: PseudoLabels | None

    def pretrain(
        self,
        phase: str,
        splits: Sequence[Split],
        num_steps: int | None,
        watched: RatedSegments | None,
    ) -> Position:
        settings, setup = self.strategy.pretrain, self.setup
        loop = settings.loop(self.loop).of_length(num_steps)
        evaluate = None if watched is None else _watch_video_head(setup, watched)
        terms = Terms(segment_weight=0.0, sparsity=settings.sparsity)
        drawing = Drawing(settings.max_segments, settings.shift)
        work = video_work(phase, splits, (), terms, drawing, loop, setup, evaluate)
        return setup.fit(self.build_seeded(), work, settings.optimiser, loop)

    def build_seeded(self) -> nn.Module:
        return build_seeded(self.build, self.loop.seed, self.setup.team)

    def fine_tune(
        self,
        phase: str,
        pretrained: Position,
        splits: tuple[Split, ...],
        num_steps: int | None,
        watched: RatedSegments | None,
    ) -> Position:
        setup, loop = self.setup, self.loop.of_length(num_steps)
        model = self.build_seeded()
        load_weights(Folder(setup.run, pretrained.phase).weights, model)
        assert isinstance(model, Hierarchical)
        model.copy_video_head(video_rows(setup.corpus, setup.team.device))
        if self.strategy.fine_tuning == "kernel":
            seen = all_seen(("train", *splits), None)
            kernel = self.strategy.kernel
            return fit_kernel(phase, pretrained, model, kernel, seen, splits, watched, setup)
        model.requires_grad_(False)
        for parameter in model.segment_parameters():
            parameter.requires_grad_(True)
        negatives, pseudo = self.strategy.negatives, self.pseudo
        work = rated_work(phase, splits, model, negatives, pseudo, loop, setup, watched)
        seen = all_seen(("train", *splits), pseudo)  # what it goes on from has seen train
        work = replace(work, trained_on=seen)
        return setup.fit(model, work, self.optimiser, loop)


def _watch_video_head(setup: Setup, watched: RatedSegments) -> Evaluate:
    """mAP on V2 of segments classified by the video head's rows, as fine-tuning will start."""
    rows = video_rows(setup.corpus, setup.team.device)

    def evaluate(model: nn.Module) -> float:
        assert isinstance(model, Hierarchical)
        model.copy_video_head(rows)
        return watched_map(model, watched, setup.corpus.classes, setup.team)

    return evaluate
