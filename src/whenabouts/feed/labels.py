"""Video labels of some videos as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus


def video_labels(
    corpus: Corpus, rows: NDArray[np.int64], classes: ClassOrder
) -> NDArray[np.float32]:
    """Labels of the given videos as 0 and 1 [B, C]; other classes than `classes` are left out."""
    video, place = flat_places(corpus.labels.offsets, rows)
    column = classes.columns(corpus.labels.values[place])
    labels = np.zeros((len(rows), len(classes)), np.float32)
    labels[video[column >= 0], column[column >= 0]] = 1
    return labels


def may_be_labelled(
    corpus: Corpus, rows: NDArray[np.int64], *, within_labels: bool
) -> NDArray[np.bool_]:
    """What segments of the given videos may show, of the evaluated classes [B, C]: the labels of
    their video or, if these are not to be trusted, anything."""
    if not within_labels:
        return np.ones((len(rows), len(corpus.classes)), bool)
    return video_labels(corpus, rows, corpus.classes) > 0


def outside_labels(
    corpus: Corpus, rows: NDArray[np.int64], classes: ClassOrder
) -> NDArray[np.bool_]:
    """Where a class could be a label of the video and is not [B, C].

    Nothing is outside in a video without labels, nor a class that labels are never of.
    """
    can_be = corpus.video_classes.columns(np.asarray(classes.ids, np.int64)) >= 0
    is_label = video_labels(corpus, rows, classes) > 0
    outside: NDArray[np.bool_] = ~is_label & can_be & corpus.has_labels(rows)[:, None]
    return outside


def flat_places(
    offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(place of the row in `rows`, place of the value) of all values of the given rows.

    Row r has the values offsets[r] .. offsets[r + 1].
    """
    counts = offsets[rows + 1] - offsets[rows]
    video = np.repeat(np.arange(len(rows)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return video, np.repeat(offsets[rows], counts) + np.arange(len(video)) - first
