"""What every strategy shares: the corpus and this process, the segment loss, the watched mAP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError
from whenabouts.core.labels import SegmentLabels
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import Split
from whenabouts.feed.mixed import MixedBatch
from whenabouts.feed.rated import RESIDENT_BYTES, RatedBatch, RatedSegments, evaluated_pairs
from whenabouts.losses import rated_bce, rated_bce_with_unrated
from whenabouts.metrics.segment_map import POSITIVE, evaluate_pairs
from whenabouts.metrics.watched import Measure
from whenabouts.strategies.pseudo import Pseudo, PseudoLabels, keep_for_resume, open_pseudo
from whenabouts.train.checkpoint import Position
from whenabouts.train.distributed import Team, share_statistics
from whenabouts.train.fit import Batch, Work, fit
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser, refuse_below

WATCH_BATCH = 4096


@dataclass(frozen=True)
class Ended:
    """How a phase ended: where, which splits it trained on, what was watched on V2, more facts."""

    position: Position
    trained_on: tuple[str, ...]
    measure: Measure
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Setup:
    """What a training works with and on: the corpus, this process, where files go.

    ended: how each phase ended, by name, as they come. opened: the strategy's pseudo-labels, where
    `refuse_untrainable` has opened them: a file of millions of pairs is read once.
    """

    corpus: Corpus
    run: Path
    log: MetricsLog
    team: Team
    resident_bytes: int = RESIDENT_BYTES
    ended: dict[str, Ended] = field(default_factory=dict)
    opened: PseudoLabels | None = None

    def rated(
        self, splits: Sequence[Split], model: nn.Module, *, with_outside: bool = False
    ) -> RatedSegments:
        """The rated segments of the splits, as this model reads them."""
        labels = self.corpus.rated(self.corpus.rows(splits))
        return self.segments(labels, model, self.resident_bytes, with_outside=with_outside)

    def segments(
        self,
        labels: SegmentLabels,
        model: nn.Module,
        resident_bytes: int,
        *,
        with_outside: bool = False,
    ) -> RatedSegments:
        """The segments of these labels, as this model reads them."""
        return RatedSegments(
            self.corpus,
            labels,
            self.corpus.classes,
            self.team.device,
            resident_bytes,
            averaged=getattr(model, "reads_mean", False),
            with_outside=with_outside,
        )

    def pseudo(self, settings: Pseudo) -> PseudoLabels | None:
        """The pseudo-labels to learn from, if any. Raises RunError if the run began with others."""
        pseudo = self.opened or open_pseudo(settings, self.corpus)
        if pseudo is not None:
            keep_for_resume(pseudo, self.run, is_main=self.team.is_main)
        return pseudo

    def watched(self, model: nn.Module) -> RatedSegments:
        """The rated segments of V2. Raises CorpusError as `refuse_unrated` does."""
        refuse_unrated(self.corpus)
        return self.rated(["v2"], model)

    def fit(
        self, model: nn.Module, work: Work[Batch], optimiser: Optimiser, loop: Loop
    ) -> Position:
        position = fit(model, work, optimiser, loop, self.run, self.log, self.team)
        self.ended[work.phase] = Ended(position, work.trained_on, work.measure, work.facts)
        return position


def refuse_unrated(corpus: Corpus) -> None:
    """Raise CorpusError unless V1 and V2 have rated segments, and V2 a positive one."""
    _rated_of(corpus, "v1")
    if not (_rated_of(corpus, "v2").score >= POSITIVE).any():
        raise CorpusError(
            "no rated segment of V2 is positive",
            where=corpus.path,
            rule="the mAP on V2 decides when to stop",
            remedy="index more validate shards, or split them otherwise",
        )


def _rated_of(corpus: Corpus, split: Split) -> SegmentLabels:
    """The rated pairs of evaluated classes. Raises CorpusError if there is none."""
    labels = corpus.rated(corpus.rows([split]))
    return evaluated_pairs(corpus, labels, corpus.classes, split.upper())[0]


@dataclass(frozen=True)
class Negatives:
    """Unrated classes of rated segments as weak negatives, by weight."""

    unrated: float = 0.0
    """Weight of every unrated class."""
    outside: float = 0.0
    """Of those that the labels of the segment's video leave out, where that is more (0.5 at the
    challenge's 2nd and 7th places)."""

    def __post_init__(self) -> None:
        for name in ("unrated", "outside"):
            refuse_below(name, getattr(self, name), 0)

    @property
    def are_any(self) -> bool:
        return max(self.unrated, self.outside) > 0

    def weights(self, outside: Tensor | None) -> float | Tensor:
        """outside: where a class is outside the labels [B, C]; None where that was not asked."""
        if outside is None or self.outside <= self.unrated:
            return self.unrated
        return torch.where(outside, self.outside, self.unrated)


def build_seeded(build: Callable[[], nn.Module], seed: int, team: Team) -> nn.Module:
    """The untrained model, the same for the same seed in every process; it trains as one."""
    torch.manual_seed(seed)
    return share_statistics(build().to(team.device), team)


def segment_loss(model: nn.Module, batch: RatedBatch | MixedBatch, negatives: Negatives) -> Tensor:
    """The loss of rated pairs, with their unrated classes as negatives of the given weights; and
    that of pseudo-labelled pairs, if there are any."""
    if isinstance(batch, MixedBatch):
        return _mixed_loss(model, batch.rated, batch.pseudo, negatives)
    if negatives.are_any:
        return rated_bce_with_unrated(
            batch.pair_label,
            batch.pair_weight,
            model(batch.features, batch.mask),
            batch.pair_segment,
            batch.pair_class,
            negatives.weights(batch.outside),
            batch.num_segments,
        )
    logits = pair_logits(model, batch)
    return rated_bce(batch.pair_label, batch.pair_weight, logits, batch.num_segments)


def _mixed_loss(
    model: nn.Module, rated: RatedBatch, pseudo: RatedBatch, negatives: Negatives
) -> Tensor:
    """Each kind over the number of its own segments; the model sees both at once, so that a batch
    norm has one mean of them."""
    features = torch.cat([rated.features, pseudo.features])
    mask, num_rated = torch.cat([rated.mask, pseudo.mask]), len(rated.mask)
    if negatives.are_any:
        logits = model(features, mask)
        loss = rated_bce_with_unrated(
            rated.pair_label,
            rated.pair_weight,
            logits[:num_rated],
            rated.pair_segment,
            rated.pair_class,
            negatives.weights(rated.outside),
            rated.num_segments,
        )
        of_pseudo = logits[num_rated:][pseudo.pair_segment, pseudo.pair_class]
    else:
        segment = torch.cat([rated.pair_segment, pseudo.pair_segment + num_rated])
        column = torch.cat([rated.pair_class, pseudo.pair_class])
        logits = model.pair_logits(features, mask, segment, column)  # type: ignore[operator]
        of_rated, of_pseudo = logits.tensor_split([len(rated.pair_label)])
        loss = rated_bce(rated.pair_label, rated.pair_weight, of_rated, rated.num_segments)
    return loss + rated_bce(pseudo.pair_label, pseudo.pair_weight, of_pseudo, pseudo.num_segments)


def pair_logits(model: nn.Module, batch: RatedBatch) -> Tensor:
    logits: Tensor = model.pair_logits(  # type: ignore[operator]
        batch.features, batch.mask, batch.pair_segment, batch.pair_class
    )
    return logits


def watched_map(model: nn.Module, watched: RatedSegments, classes: ClassOrder, team: Team) -> float:
    """mAP over the rated pairs of the watched split; each process scores its part."""
    return evaluate_pairs(watched.labels, watched_scores(model, watched, team), classes).mean_ap


def watched_scores(model: nn.Module, watched: RatedSegments, team: Team) -> NDArray[np.floating]:
    """The logits of the watched pairs, in their order [P]."""
    scores = torch.zeros(len(watched.labels), device=team.device)
    block = team.block(len(watched))
    for first in range(block.start, block.stop, WATCH_BATCH):
        segments = np.arange(first, min(first + WATCH_BATCH, block.stop))
        pairs = watched.pairs_of(int(segments[0]), int(segments[-1]) + 1)
        scores[pairs] = pair_logits(model, watched.batch(segments))
    values: NDArray[np.floating] = team.sum(scores).cpu().numpy()
    return values


def video_rows(corpus: Corpus, device: torch.device) -> Tensor:
    """The row of the video head of each evaluated class; -1 where it has none [C]."""
    rows = corpus.video_classes.columns(np.asarray(corpus.classes.ids, np.int64))
    return torch.from_numpy(rows).to(device)
