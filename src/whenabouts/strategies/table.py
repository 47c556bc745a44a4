"""All strategies on one screen: settings -> program."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from whenabouts.corpus.corpus import Corpus
from whenabouts.strategies.pseudo import PseudoLabels, open_pseudo
from whenabouts.strategies.s1 import S1, train_s1
from whenabouts.strategies.s2 import S2, train_s2
from whenabouts.strategies.s3 import S3, train_s3
from whenabouts.strategies.setup import Setup, refuse_unrated
from whenabouts.strategies.video_labels import VideoLabels, labelled_rows, train_video_labels
from whenabouts.train.checkpoint import Position
from whenabouts.train.settings import Loop, Optimiser

Strategy = S1 | S2 | S3 | VideoLabels


def refuse_untrainable(corpus: Corpus, strategy: Strategy) -> PseudoLabels | None:
    """Raise CorpusError unless the corpus has what the strategy learns from and is watched on.

    Raises as `open_pseudo` where its pseudo-labels cannot be learned from; returns them, as they
    are opened here already: `Setup.opened`.
    """
    if isinstance(strategy, VideoLabels):
        for splits in (("train", "v1"), ("v2",)):
            labelled_rows(corpus, splits)
        return None
    corpus.grid  # noqa: B018 - it raises where a corpus has no segments
    refuse_unrated(corpus)
    return open_pseudo(strategy.pseudo, corpus)


def train_strategy(
    build: Callable[[], nn.Module],
    strategy: Strategy,
    optimiser: Optimiser,
    loop: Loop,
    setup: Setup,
    *,
    final: bool,
) -> Position:
    """Train as the strategy says; returns where the search on V2 ended."""
    match strategy:
        case S1():
            return train_s1(build, strategy, optimiser, loop, setup, final=final)
        case S2():
            return train_s2(build, strategy, optimiser, loop, setup, final=final)
        case S3():
            return train_s3(build, strategy, optimiser, loop, setup, final=final)
        case VideoLabels():
            return train_video_labels(build, strategy, optimiser, loop, setup, final=final)
