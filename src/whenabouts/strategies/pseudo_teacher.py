"""Teacher's pseudo-labels: a model's scores of unrated segments, cleaned by the video labels.

Of a segment that nobody rated, in a video with labels, and an evaluated class c with the score p:

    positive   c is a label of the video, and p >= threshold or the pair is among the best
               ceil(top_share n_c) of the class; of these the best per_class_max, if that is set
    negative   c is a label of the video, not positive, and p <= low_threshold or the pair is among
               the worst floor(low_share n_c) of the class
    negative   c could be a label of the video and is not: of every segment with one of the labels
               above, the `negatives` classes of the highest p
    unknown    all else: not in the file

Where labels are too incomplete for that, within_labels = False lets every class be a label of every
video, also of one without labels: then the scores alone decide.

n_c: unrated segments, among those scored, of videos that have the label c. Equal scores stand in
the order of (video id, start), and in a segment in the order of the classes. A rated segment is not
labelled again, for any class, and no segment of V2 is ever labelled.

Labels are 1 and 0; soft ones are p within the labels of the video, and 0 outside. Weights are 1, or
how sure the teacher is: 1 - |y - p| of a hard label y, |2p - 1| of a soft one.

The scores are read in order, a chunk at a time: once for the best and the worst of each class, if
any are asked for, and once to write. Memory is that of the table of segments and of those best and
worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.labels import LabelsWriter, SegmentLabels, new_labels
from whenabouts.core.ranking import (
    best_keys,
    order_keys,
    refuse_repeated_segments,
    row_chunks,
    tie_ranks_of,
)
from whenabouts.core.scores import Scores
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import Split
from whenabouts.ensemble.video_scores import refuse_out_of_range
from whenabouts.feed.labels import may_be_labelled, outside_labels
from whenabouts.strategies.class_bounds import NO_BOUND, ClassBounds
from whenabouts.strategies.teacher import refuse_missing, refuse_seen_v2, refuse_to_label_v2

CHUNK_BYTES = 4 << 20
OnRows = Callable[[float], object]


@dataclass(frozen=True)
class Cleaning:
    """Which scores become labels, and how; see the head of the file."""

    threshold: float = 0.5
    """From this score up a pair within the labels of the video is positive."""
    top_share: float = 0.01
    """So is this share of a class, its best, whatever their scores."""
    low_threshold: float | None = None
    """Down from this score a pair within the labels of the video is negative."""
    low_share: float = 0.0
    """So is this share of a class, its worst, whatever their scores."""
    negatives: int = 0
    """Classes outside the labels of its video, the highest scored, as negatives of a segment."""
    per_class_max: int = 0
    """Positives of a class at most, its best; 0 is no limit."""
    within_labels: bool = True
    """Only labels of the video can be positive, or negative by a low score; else any class can."""
    soft: bool = False
    """The score is the label, not 1 or 0."""
    weights: Literal["one", "confidence"] = "one"
    """confidence: how sure the teacher is of the label."""

    def __post_init__(self) -> None:
        for name in ("top_share", "low_share"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise SettingsError(f"the value is {value}", where=name, rule="it is in [0, 1]")
        for name in ("negatives", "per_class_max"):
            if (value := getattr(self, name)) < 0:
                raise SettingsError(f"the value is {value}", where=name, rule="it is 0 or more")
        if self.negatives and not self.within_labels:
            raise SettingsError(
                f"the value is {self.negatives}", where="negatives",
                rule="it is 0 where every class counts as a label: nothing is outside",
            )  # fmt: skip
        for name in ("threshold", "low_threshold"):
            value = getattr(self, name)
            if value is not None and np.isnan(value):
                raise SettingsError("the value is NaN", where=name, rule="it is a score")


@dataclass(frozen=True)
class Cleaned:
    """How many pairs were labelled, by class [C].

    in_label: unrated segments of videos with the label, n_c; positives, negatives: labelled ones
    among them; outside: negatives of videos without the label. num_segments: with a label.
    """

    classes: ClassOrder
    in_label: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    outside: NDArray[np.int64]
    num_segments: int

    def to_dict(self) -> dict[str, int]:
        """The totals, ready for JSON; classes: those with a positive."""
        return {
            "segments": self.num_segments,
            "in_label": int(self.in_label.sum()),
            "positives": int(self.positives.sum()),
            "negatives": int(self.negatives.sum()),
            "outside": int(self.outside.sum()),
            "classes": int((self.positives > 0).sum()),
        }


def label_by_teacher(
    scores: Scores,
    corpus: Corpus,
    out: Path,
    cleaning: Cleaning,
    splits: Sequence[Split],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    on_rows: OnRows | None = None,
) -> Cleaned:
    """Write Labels of the unrated segments of these splits; `out` appears when it is whole.

    on_rows(n) is called for every chunk of n rows, once for each time they are read. Raises
    UsageError for V2; ScoresError where the scores are not those of all evaluated classes for
    segments of these splits, are not in [0, 1], or are of a model that has seen V2.
    """
    within, on_rows = cleaning.within_labels, on_rows or (lambda rows: None)
    unrated = _Unrated(scores, corpus, splits, within, chunk_bytes, on_rows)
    rules = _Rules.of(cleaning, unrated)
    made_by = {
        "method": "teacher",
        "settings": to_dict(cleaning),
        "splits": list(splits),
        "trained_on": list(scores.made_by.get("trained_on", ())),
        "corpus": str(corpus.path),
        "scores": {"scores": str(scores.path), **scores.made_by},
    }
    with new_labels(out, made_by) as writer:
        return _write(unrated, rules, writer)


def num_readings(cleaning: Cleaning) -> int:
    """How often the scores are read: a second time to find the best and the worst of a class."""
    return 1 + bool(cleaning.top_share or cleaning.low_share or cleaning.per_class_max)


# ---- what may be labelled ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chunk:
    """n unrated segments of videos with labels: rows of the scores [n], the corpus's rows of their
    videos [n], scores of the evaluated classes [n, C]; places [P] and columns [P] of the pairs
    within the labels, their scores [P] and keys [P]."""

    row: NDArray[np.int64]
    video: NDArray[np.int64]
    scores: NDArray[np.floating]
    place: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.floating]
    key: NDArray[np.uint64]


class _Unrated:
    """The scored segments that may be labelled, a chunk at a time."""

    def __init__(
        self,
        scores: Scores,
        corpus: Corpus,
        splits: Sequence[Split],
        within_labels: bool,
        chunk_bytes: int,
        on_rows: OnRows,
    ) -> None:
        _refuse_unusable(scores, splits)
        self._within_labels = within_labels
        self.scores, self.corpus, self.classes = scores, corpus, corpus.classes
        self._chunk_bytes, self._on_rows = chunk_bytes, on_rows
        class_ids = np.asarray(corpus.classes.ids, np.int64)
        column = scores.classes.columns(class_ids)
        refuse_missing(scores, "class", column, class_ids, "predict with a run of this corpus")
        self._columns = None if scores.classes.ids == corpus.classes.ids else column
        rows = corpus.rows(splits)
        self._video = corpus.rows_of(scores.segments.video_ids)
        wanted = np.isin(self._video, rows[corpus.has_labels(rows)] if within_labels else rows)
        self._is_wanted = wanted[scores.segments.video]
        rated = corpus.rated(rows)
        row = scores.segments.rows_of(rated.video, rated.start_s)
        self._is_wanted[row[row >= 0]] = False
        if not self._is_wanted.any():
            raise ScoresError(
                f"no unrated segment of a video with labels in {' + '.join(splits)}",
                where=scores.path,
                rule="a teacher labels what it has scored",
                remedy="predict these splits of this corpus",
            )

    def counts(self) -> NDArray[np.int64]:
        """n_c: segments that may be labelled, of videos with the label [C]."""
        if not self._within_labels:
            return np.full(len(self.classes), self._is_wanted.sum())
        video = self._video[self.scores.segments.video[self._is_wanted]]
        num_segments = np.bincount(video, minlength=len(self.corpus))
        labels = self.corpus.labels
        column, of_label = self.classes.columns(labels.values), num_segments[labels.rows]
        known = column >= 0
        totals = np.bincount(column[known], of_label[known], len(self.classes))
        return totals.astype(np.int64)

    def chunks(self) -> Iterator[_Chunk]:
        for first, rows in row_chunks(self.scores.values, self._chunk_bytes):
            kept = np.flatnonzero(self._is_wanted[first : first + len(rows)])
            if len(kept):
                refuse_out_of_range(self.scores, first, rows)
                scores = rows[kept] if self._columns is None else rows[kept][:, self._columns]
                yield self._chunk(first + kept, scores)
            self._on_rows(len(rows))

    def _chunk(self, row: NDArray[np.int64], scores: NDArray[np.floating]) -> _Chunk:
        table = self.scores.segments
        video = self._video[table.video[row]]
        place, column = np.nonzero(self._are_labels(video))
        score = scores[place, column]
        key = order_keys(score, table.tie_ranks[row[place]])
        return _Chunk(row, video, scores, place, column, score, key)

    def _are_labels(self, video: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which classes count as labels of these videos [n, C]."""
        videos, of_row = np.unique(video, return_inverse=True)
        return may_be_labelled(self.corpus, videos, within_labels=self._within_labels)[of_row]


def _refuse_unusable(scores: Scores, splits: Sequence[Split]) -> None:
    refuse_to_label_v2(splits)
    refuse_seen_v2(scores)
    scores.refuse_whole_videos(
        rule="pseudo-labels are of segments",
        remedy="predict with a run of a segment model",
    )
    refuse_repeated_segments(scores.segments)


# ---- which of it is labelled ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Rules:
    """The settings, and the bounds of keys that they mean in this corpus, by class [C].

    best: the class's top share lies below; most: its per_class_max best do; worst: its low share
    does, of the turned keys.
    """

    cleaning: Cleaning
    counts: NDArray[np.int64]
    best: NDArray[np.uint64]
    most: NDArray[np.uint64]
    worst: NDArray[np.uint64]

    @classmethod
    def of(cls, cleaning: Cleaning, unrated: _Unrated) -> _Rules:
        counts = unrated.counts()
        top = np.ceil(cleaning.top_share * counts).astype(np.int64)
        low = np.floor(cleaning.low_share * counts).astype(np.int64)
        most = np.full_like(counts, cleaning.per_class_max)
        best, worst = ClassBounds(np.maximum(top, most)), ClassBounds(low)
        if num_readings(cleaning) > 1:
            for chunk in unrated.chunks():
                best.take(chunk.column, chunk.key)
                if cleaning.low_share:
                    worst.take(chunk.column, ~chunk.key)
        capped = best.bounds(most) if cleaning.per_class_max else np.full(len(counts), NO_BOUND)
        return cls(cleaning, counts, best.bounds(top), capped, worst.bounds(low))

    def positive(self, chunk: _Chunk) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pairs within the labels are positive [P], and which negative [P]."""
        column, cleaning = chunk.column, self.cleaning
        high = (chunk.score >= cleaning.threshold) | (chunk.key < self.best[column])
        low = ~chunk.key < self.worst[column]
        if cleaning.low_threshold is not None:
            low |= chunk.score <= cleaning.low_threshold
        return high & (chunk.key < self.most[column]), low & ~high

    def outside(
        self, chunk: _Chunk, labelled: NDArray[np.int64], corpus: Corpus
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(place, column) of negatives outside the labels, of the labelled segments [n]."""
        videos, of_row = np.unique(chunk.video[labelled], return_inverse=True)
        outside = outside_labels(corpus, videos, corpus.classes)[of_row]
        keys = order_keys(chunk.scores[labelled], np.arange(outside.shape[1], dtype=np.uint64))
        keys[~outside] = NO_BOUND
        hardest = best_keys(keys, self.cleaning.negatives)
        place, rank = np.nonzero(hardest != NO_BOUND)
        return labelled[place], tie_ranks_of(hardest[place, rank])


# ---- writing -------------------------------------------------------------------------------------


def _write(unrated: _Unrated, rules: _Rules, writer: LabelsWriter) -> Cleaned:
    num_classes, num_segments = len(unrated.classes), 0
    totals = np.zeros((3, num_classes), np.int64)  # positives, negatives, outside
    for chunk in unrated.chunks():
        positive, negative = rules.positive(chunk)
        labelled = np.unique(chunk.place[positive | negative])
        place, column = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if rules.cleaning.negatives and len(labelled):
            place, column = rules.outside(chunk, labelled, unrated.corpus)
        for total, columns in zip(totals, (chunk.column[positive], chunk.column[negative], column)):
            total += np.bincount(columns, minlength=num_classes)
        num_segments += len(labelled)
        writer.write(_labels(unrated, rules.cleaning, chunk, positive, negative, place, column))
    positives, negatives, outside = totals
    return Cleaned(unrated.classes, rules.counts, positives, negatives, outside, num_segments)


def _labels(
    unrated: _Unrated,
    cleaning: Cleaning,
    chunk: _Chunk,
    positive: NDArray[np.bool_],
    negative: NDArray[np.bool_],
    outside_place: NDArray[np.int64],
    outside_column: NDArray[np.int64],
) -> SegmentLabels:
    """The labelled pairs of a chunk, by segment and class."""
    kept = positive | negative
    hard = np.r_[positive[kept], np.zeros(len(outside_place), bool)].astype(np.float32)
    place = np.r_[chunk.place[kept], outside_place]
    column = np.r_[chunk.column[kept], outside_column]
    score = chunk.scores[place, column].astype(np.float32)
    is_soft = np.arange(len(place)) < (kept.sum() if cleaning.soft else 0)
    order = np.lexsort((column, place))
    row, table = chunk.row[place], unrated.scores.segments
    return SegmentLabels(
        table.video_ids[table.video[row]],
        table.starts_s[row],
        np.asarray(unrated.classes.ids, np.int64)[column],
        np.where(is_soft, score, hard),
        _weights(cleaning, score, hard, is_soft),
    ).take(order)


def _weights(
    cleaning: Cleaning,
    score: NDArray[np.float32],
    hard: NDArray[np.float32],
    is_soft: NDArray[np.bool_],
) -> NDArray[np.float32]:
    if cleaning.weights == "one":
        return np.ones(len(score), np.float32)
    return np.where(is_soft, np.abs(2 * score - 1), 1 - np.abs(hard - score))
