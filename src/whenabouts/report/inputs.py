"""What a report is made of. Any part may be missing; the page then says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.scores import Scores
from whenabouts.metrics.segment_map import SegmentEvaluation
from whenabouts.metrics.video import VideoEvaluation, VideoTruth
from whenabouts.report.pseudo_labels import PseudoLabels
from whenabouts.report.tables_file import SystemTables

NO_LABELS = segment_labels(
    np.array([], "S1"), np.array([], np.int64), np.array([], np.int64), np.array([], np.float32)
)


@dataclass(frozen=True)
class LabelledVideos:
    """What a video classifier made of the videos that have labels.

    ids: [V]; values: scores [V, C], perhaps mapped; truth and evaluation are of the same rows, and
    the columns are `evaluation.classes`.
    """

    ids: NDArray[np.bytes_]
    truth: VideoTruth
    values: NDArray[np.floating]
    evaluation: VideoEvaluation


@dataclass(frozen=True)
class ReportInputs:
    """The artefacts a page reads.

    run: a run folder (`metrics.jsonl`, `recipe.json`); truth: the rated segments the evaluation
    counted; video_metrics: the totals of `VideoEvaluation.to_dict()`; videos: instead of scores,
    truth and evaluation, where the scores are of whole videos;
    video_labels: class ids by video id, and vocabulary: topics by class id (for the labels outside
    the evaluated classes); labels: pseudo-labels to tell of; tables: of the whole system that the
    scores are the outcome of; facts: what else the head of the page should state, by name.
    """

    title: str
    run: Path | None = None
    scores: Scores | None = None
    truth: SegmentLabels | None = None
    evaluation: SegmentEvaluation | None = None
    videos: LabelledVideos | None = None
    video_metrics: Mapping[str, float | int | None] | None = None
    video_labels: Mapping[bytes, Sequence[int]] | None = None
    labels: PseudoLabels | None = None
    tables: SystemTables | None = None
    vocabulary: Mapping[int, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_segments(self) -> int | None:
        """How many are ranked in each class, where that is known."""
        return None if self.scores is None else len(self.scores.segments)


@dataclass(frozen=True)
class ReportSettings:
    """num_timelines: videos shown; num_topics: lines a timeline (more where more are rated), or
    topics of the highest scores a video;
    num_extremes: classes in each of best and worst, half as many of those that gain or lose most;
    pr_classes: class ids of the precision-recall curves (none: the best, quartile and worst
    classes of at least min_positives rated positives); segment_s: length of a segment;
    few_rated: a class with pseudo-labels and fewer rated positives
    is a class gained.
    """

    num_timelines: int = 12
    num_topics: int = 5
    num_extremes: int = 20
    pr_classes: tuple[int, ...] = ()
    min_positives: int = 5
    segment_s: int = 5
    few_rated: int = 10
