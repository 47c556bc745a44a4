"""The V2 mAP of a trial on each half of V2's videos, so that the choice among trials can be judged.

The best of N trials looks better on V2 than it is, for V2 chose it. Chosen on one half of the
videos and measured on the other, both ways, it does not (see `ensemble.halves`).
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.metrics.segment_map import evaluate_pairs
from whenabouts.strategies.setup import Setup, watched_scores
from whenabouts.train.distributed import Team
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import open_run


def maps_of_halves(run: Path, corpus: Corpus, team: Team) -> tuple[float, float] | None:
    """mAP on the first half of V2 and on the second, of the run's best weights on V2.

    None of a video classifier, which is not watched by mAP, and where a half has no positive.
    """
    opened = open_run(run)
    if opened.scores_videos:
        return None
    model = opened.load_model()[0].to(team.device)
    with closing(MetricsLog(run)) as log, torch.inference_mode():
        watched = Setup(corpus, run, log, team).watched(model)
        scores = watched_scores(model, watched, team)
    labels, in_first = watched.labels, first_half(watched.labels.video)
    first, second = (
        evaluate_pairs(labels.take(half), scores[half], corpus.classes).mean_ap
        for half in (in_first, ~in_first)
    )
    return None if np.isnan([first, second]).any() else (first, second)
