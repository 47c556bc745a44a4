"""AP per class, of segments or of videos, with what it is to be read beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.report.inputs import ReportInputs
from whenabouts.report.ranking import random_order_ap


@dataclass(frozen=True)
class ClassResults:
    """Arrays over `classes` [C]; ap is NaN without positives.

    num_ranked: items that the class's order is judged by; ranked: what is ordered; num_segments, k:
    how many segments there are, and how many a list holds (None: all).
    """

    ap: NDArray[np.float64]
    num_positives: NDArray[np.int64]
    num_ranked: NDArray[np.int64]
    classes: ClassOrder
    ranked: str
    num_segments: int | None = None
    k: int = 0

    @cached_property
    def random_ap(self) -> NDArray[np.float64]:
        return random_order_ap(self.num_ranked, self.num_positives, self.num_segments, self.k)

    @property
    def topics(self) -> list[str]:
        return [self.classes.topic(c) for c in range(len(self.classes))]


def class_results(inputs: ReportInputs) -> ClassResults | None:
    """Of the videos where the page is of a video classifier, else of the rated segments."""
    if inputs.videos is not None:
        found = inputs.videos.evaluation
        every = np.full(len(found.classes), found.num_videos)
        return ClassResults(found.ap, found.num_positives, every, found.classes, "videos")
    if inputs.evaluation is None:
        return None
    of = inputs.evaluation
    return ClassResults(
        of.ap, of.num_positives, of.num_rated, of.classes, "segments", inputs.num_segments, of.k
    )
