"""The second half of S2 without gradients: kernel logistic regression on the rated segments.

The segment module stays as pre-training left it; what rated segments add is the similarity to them
(`models/rated_kernel.py`), fitted in one go. Nothing is tuned on V2: it is looked at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whenabouts.core.progress import say
from whenabouts.corpus.splits import Split
from whenabouts.feed.rated import RatedSegments
from whenabouts.metrics.segment_map import POSITIVE
from whenabouts.models.hierarchical import Hierarchical
from whenabouts.models.rated_kernel import KernelSettings, RatedPairs
from whenabouts.strategies.setup import Ended, Setup, watched_map
from whenabouts.train.checkpoint import Position, load_weights, save_weights
from whenabouts.train.fit import Folder

AT_ONCE = 1024  # segments encoded at a time
FIT = 1  # the step of the log line: the phase has this one


def fit_kernel(
    phase: str,
    pretrained: Position,
    model: Hierarchical,
    settings: KernelSettings,
    trained_on: tuple[str, ...],
    rated_splits: tuple[Split, ...],
    watched: RatedSegments | None,
    setup: Setup,
) -> Position:
    """Fit on the rated segments of these splits; writes the weights of the phase.

    model: pre-trained, with the segment head filled. Under torchrun one process fits, and all
    look. A phase that has weights already is not fitted again; what it found is logged once.
    """
    folder, team = Folder(setup.run, phase), setup.team
    step = pretrained.best_step or pretrained.step  # none is best where nothing is watched
    is_new = not folder.weights.exists()
    team.wait()  # no process asks after the first one has written
    if is_new and team.is_main:
        setup.log.rewind(pretrained.log_position)  # a fit that was killed may have logged
        model.rated_kernel.fit(settings, rated_pairs(model, setup.rated(rated_splits, model)))
        facts = {"phase": phase, "step": step, "trained_on": trained_on}
        save_weights(folder.weights, model, facts)
    team.wait()
    load_weights(folder.weights, model)
    model.to(team.device).eval()
    found = Position(phase, step, is_done=True)
    if watched is not None:
        with torch.inference_mode():
            found.note(watched_map(model, watched, setup.corpus.classes, team))
    # Its one line is the first behind the pre-training: a process may have died in front of it.
    is_logged = setup.log.position() != pretrained.log_position
    if watched is not None and team.is_main and not is_logged:
        setup.log.write("evaluate", FIT, phase=phase, split="v2", mean_ap=found.best)
        if found.best < pretrained.best:
            say(
                f"note: V2 mAP is {found.best:.4f} with the kernel and was {pretrained.best:.4f} "
                "without it: too few rated segments to be like, or topics that are linear in the "
                "features; compare with --strategy.fine-tuning gradient"
            )
    setup.ended[phase] = Ended(found, trained_on, "mean_ap", {})
    return found


def rated_pairs(model: Hierarchical, rated: RatedSegments) -> RatedPairs:
    """The rated pairs of these segments, as the model sees them in evaluation; of a segment with
    windows, their mean.

    Weights of pairs are not looked at: those of rated ones are 1.
    """
    model.eval()
    parts = [
        _encoded(model, rated, np.arange(first, min(first + AT_ONCE, len(rated))))
        for first in range(0, len(rated), AT_ONCE)
    ]
    features, logits, segment, column, score = (torch.cat(part) for part in zip(*parts))
    return RatedPairs(features, segment, column, (score >= POSITIVE).float(), logits)


def _encoded(
    model: Hierarchical, rated: RatedSegments, segments: np.ndarray
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch = rated.batch(segments)
    with torch.no_grad():
        encoded = model.encode_segments(batch.features, batch.mask)[0]
        features = model.wholes_of(encoded)
        logits = model.segment_head(features)
    segment = batch.pair_segment + int(segments[0])
    return features, logits, segment, batch.pair_class, batch.pair_label
