"""A teacher: the scores that another model, or an ensemble, gave to the same videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import ScoresError, UsageError
from whenabouts.core.scores import Scores, open_scores
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.corpus.corpus import Corpus

REMEDY = "predict the splits train and v1 with a run of a video model"


@dataclass(frozen=True)
class Teacher:
    """Scores of some videos in the order of the corpus's video classes.

    row: where each video stands in the Scores [N]; column: where each video class does [V].
    """

    opened: Scores
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    def scores(self, videos: NDArray[np.int64]) -> NDArray[np.float32]:
        """What it says of the given videos (places among the N) [B, V]."""
        rows = self.opened.values[self.row[videos]]
        found: NDArray[np.float32] = rows[:, self.column].astype(np.float32)
        return found


def open_teacher(path: str | Path, corpus: Corpus, rows: NDArray[np.int64]) -> Teacher:
    """The teacher of the given videos of a corpus.

    Raises ScoresError if it has not scored one of them, lacks a class, or has itself seen V2: then
    V2 could no longer tell anything about its pupil.
    """
    opened = open_scores(path)
    refuse_seen_v2(opened)
    ids = corpus.video_ids[rows]
    row = opened.segments.rows_of(ids, np.full(len(ids), WHOLE_VIDEO))
    refuse_missing(opened, "video", row, ids, REMEDY)
    class_ids = np.asarray(corpus.video_classes.ids)
    column = opened.classes.columns(class_ids)
    refuse_missing(opened, "class", column, class_ids, REMEDY)
    return Teacher(opened, row, column)


def refuse_to_label_v2(splits: Sequence[str]) -> None:
    """Raise UsageError if V2 is among the splits that are to get pseudo-labels."""
    if "v2" in splits:
        raise UsageError(
            "V2 is among the splits to label",
            where="--splits",
            rule="what is watched on V2 has not seen V2",
            remedy="label train and v1",
        )


def has_seen_v2(made_by: Mapping[str, Any]) -> bool:
    """Whether what made Scores or Labels says that it has seen V2."""
    return "v2" in made_by.get("trained_on", ())


def refuse_seen_v2(scores: Scores) -> None:
    """Raise ScoresError if the model that gave the scores was trained on V2."""
    if has_seen_v2(scores.made_by):
        raise ScoresError(
            "its model was trained on V2",
            where=scores.path,
            rule="what is watched on V2 has not seen V2",
            remedy="predict with a run that was trained without --final",
        )


def refuse_missing(
    opened: Scores, what: str, places: NDArray[np.int64], names: NDArray[np.generic], remedy: str
) -> None:
    """Raise ScoresError if one of the named videos or classes has no place in the scores."""
    missing = np.flatnonzero(places < 0)
    if len(missing):
        name = names[missing[0]]
        shown = name.decode() if isinstance(name, bytes) else name
        raise ScoresError(
            f"no score of {what} {shown} ({len(missing):,} of {len(names):,} are missing)",
            where=opened.path,
            rule=f"a teacher has scored every {what} that its pupil learns from",
            remedy=remedy,
        )
