"""Pseudo-labels beside rated pairs: Labels that a teacher or a clustering made.

The segment loss of a batch is a mean over its rated segments, as without pseudo-labels, plus
`weight` times a mean over its pseudo-labelled ones:

    L = 1/N_r sum_rated w BCE(y, z) + weight/N_p sum_pseudo w BCE(y, z)

y in [0, 1] (soft labels stay soft), w the pair's own weight, N_r and N_p the segments of each kind
in the batch over all processes. So how much pseudo-labels count depends neither on how many there
are nor on their share of a batch. A pair that is rated is never learned from its pseudo-label.

What is watched on V2 has not seen V2: Labels with a segment of V2, or whose makers have seen V2,
are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import write_json
from whenabouts.core.errors import LabelsError, RunError, SettingsError, UsageError
from whenabouts.core.labels import SegmentLabels, read_labels, read_labels_made_by
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS
from whenabouts.strategies.teacher import has_seen_v2
from whenabouts.train.run import read_object
from whenabouts.train.settings import refuse_below

KEPT = "pseudo-labels.json"  # in a run's folder


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-labels to learn from beside the ratings."""

    labels: str = ""
    """A file of Labels, Parquet or CSV, made by 'whenabouts pseudo-label'."""
    weight: float = 0.3
    """Of their part of the segment loss; that of the rated pairs has 1."""
    share: float = 0.5
    """Of the segments of a batch; S3, whose batches are videos, takes them as they come."""
    needed: bool = False
    """Training without them is refused."""

    def __post_init__(self) -> None:
        refuse_below("weight", self.weight, 0)
        if not 0 < self.share < 1:
            raise SettingsError(
                f"the value is {self.share}", where="share", rule="it must be above 0, below 1"
            )


@dataclass(frozen=True)
class PseudoLabels:
    """Opened pseudo-labels, their weights times that of the settings.

    share: of the segments of a batch. seen: splits of their videos, and those that their makers
    have seen. facts: what a run says of them.
    """

    labels: SegmentLabels
    share: float
    seen: tuple[str, ...]
    facts: dict[str, Any]

    def beside(self, rated: SegmentLabels, corpus: Corpus) -> SegmentLabels:
        """Those that are not among the rated pairs. Raises LabelsError if none is left."""
        left = without_rated(self.labels, rated, corpus)
        if not len(left):
            raise LabelsError("every pair of it is rated", where=self.facts["labels"])
        return left


def open_pseudo(settings: Pseudo, corpus: Corpus) -> PseudoLabels | None:
    """The pseudo-labels of the settings; None where there are none.

    Raises UsageError where they are needed and not given; LabelsError if a pair is of no segment of
    the corpus, if none is of an evaluated class, or if V2 is among what they are of or have seen.
    """
    if not settings.labels:
        if settings.needed:
            raise UsageError(
                "no pseudo-labels are given",
                where="--strategy.pseudo.labels",
                rule="this recipe learns from pseudo-labels beside the ratings",
                remedy="name a file that 'whenabouts pseudo-label' has made",
            )
        return None
    path = Path(settings.labels)
    made_by, labels = read_labels_made_by(path), read_labels(path)
    maker_saw = [str(split) for split in made_by.get("trained_on", ())]
    if has_seen_v2(made_by):
        raise _seen(path, "what made it has seen V2")
    row = _rows_on_the_grid(labels, corpus, path)
    splits = {SPLITS[k] for k in np.unique(corpus.split[row]).tolist()}
    if "v2" in splits:
        raise _seen(path, "it has segments of V2")
    labels = labels.take(corpus.classes.columns(labels.class_id) >= 0)
    if not len(labels):
        raise LabelsError("no pair of an evaluated class", where=path, rule="Labels fit the corpus")
    facts = {
        "labels": str(path),
        "method": made_by.get("method"),
        "digest": _digest(path),
        "weight": settings.weight,
    }
    weight = (labels.weight * settings.weight).astype(np.float32)
    seen = in_order({*splits, *maker_saw})
    return PseudoLabels(replace(labels, weight=weight), settings.share, seen, facts)


def in_order(splits: Iterable[str]) -> tuple[str, ...]:
    """Each once, in the order in which splits are named everywhere."""
    places = {split: place for place, split in enumerate(SPLITS)}
    return tuple(sorted(set(splits), key=lambda s: (places.get(s, len(places)), s)))  # type: ignore[call-overload]


def all_seen(splits: Sequence[str], pseudo: PseudoLabels | None) -> tuple[str, ...]:
    """What a model has seen that trained on these splits, and on the pseudo-labels if any."""
    return tuple(splits) if pseudo is None else in_order({*splits, *pseudo.seen})


def facts_of(pseudo: PseudoLabels | None) -> dict[str, object]:
    """What a run's weights say of the pseudo-labels it learned from, if any."""
    return {} if pseudo is None else {"pseudo_labels": pseudo.facts}


def without_rated(pseudo: SegmentLabels, rated: SegmentLabels, corpus: Corpus) -> SegmentLabels:
    """The pseudo-labels of (video, start, class) that are not rated."""
    if not len(rated):
        return pseudo
    most = 1 + max(int(labels.start_s.max(initial=0)) for labels in (pseudo, rated))

    def keys(labels: SegmentLabels) -> NDArray[np.int64]:
        row, column = corpus.rows_of(labels.video), corpus.classes.columns(labels.class_id)
        found: NDArray[np.int64] = (row * most + labels.start_s) * len(corpus.classes) + column
        return found

    return pseudo.take(~np.isin(keys(pseudo), keys(rated)))


def keep_for_resume(pseudo: PseudoLabels, run: Path, *, is_main: bool) -> None:
    """Note in the run's folder which Labels it learns from.

    Raises RunError if it began with others: a resumed run goes on as if it had never stopped.
    """
    path = run / KEPT
    if not path.is_file():
        if is_main:
            write_json(path, pseudo.facts)
        return
    if read_object(path).get("digest") != pseudo.facts["digest"]:
        raise RunError(
            f"{pseudo.facts['labels']} has changed since the run began",
            where=path,
            rule="a resumed run has the Labels it had",
            remedy="put them back, or choose another --out",
        )


def _rows_on_the_grid(labels: SegmentLabels, corpus: Corpus, path: Path) -> NDArray[np.int64]:
    """The video row of each pair. Raises LabelsError if one is of no segment of the corpus."""
    row, grid = corpus.rows_of(labels.video), corpus.grid
    frame = grid.first_frame(labels.start_s)
    off = (row < 0) | (labels.start_s < 0) | (labels.start_s % grid.length_s != 0)
    off |= frame >= corpus.num_frames[row]
    if off.any():
        at = int(off.argmax())
        raise LabelsError(
            f"{corpus.path} has no segment {labels.video[at].decode()}:{labels.start_s[at]}",
            where=path,
            rule="pseudo-labels are of segments of the corpus",
        )
    return row


def _seen(path: Path, fact: str) -> LabelsError:
    return LabelsError(
        fact,
        where=path,
        rule="what is watched on V2 has not seen V2",
        remedy="make pseudo-labels of train and v1, with a run that was trained without --final",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
