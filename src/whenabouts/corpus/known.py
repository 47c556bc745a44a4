"""What is known of videos that are packed: labels of whole videos, ratings of segments.

Both are tables by the id of the video. What would be lost without an error later (a rating off the
grid, ids of another spelling than the files) is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from whenabouts.core.classes import MAX_CLASS, are_class_ids
from whenabouts.core.errors import LabelsError
from whenabouts.core.labels import SegmentLabels
from whenabouts.core.tables import TableError, checked, read_any, video_ids

VIDEO_LABELS = pa.schema({"video": pa.string(), "class": pa.int64()})


@dataclass(frozen=True)
class Labelled:
    """What is known of the videos: video: ids [N] and class_id [N] of video labels, a row a pair;
    ratings: of segments; sources: where both are from, for messages."""

    video: NDArray[np.bytes_]
    class_id: NDArray[np.int64]
    ratings: SegmentLabels
    sources: tuple[object, object] = ("labels", "ratings")


def read_video_labels(path: Path) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """(ids, class ids) of a .csv or .parquet with the columns video and class: a row a pair.

    Raises LabelsError where it is none.
    """
    try:
        table = checked(read_any(path), VIDEO_LABELS)
        ids, classes = video_ids(table["video"]), table["class"].to_numpy()
    except TableError as error:
        rule = "labels of videos have the columns video and class (an integer), a row a pair"
        raise LabelsError(str(error), where=path, rule=rule) from error
    wrong = ~are_class_ids(classes)
    if wrong.any():
        rule = f"classes are 0 to {MAX_CLASS}"
        raise LabelsError(f"class {classes[wrong][0]}", where=path, rule=rule)
    return ids, classes


def refuse_ratings(known: Labelled, segment_s: int) -> None:
    """Raise LabelsError, naming the video, for what `index` would leave out."""
    start_s = known.ratings.start_s
    off = (start_s < 0) | (start_s % segment_s > 0)
    if off.any():
        at = int(off.argmax())
        raise LabelsError(
            f"a rated segment of video '{known.ratings.video[at].decode()}' starts at "
            f"{start_s[at]} s",
            where=known.sources[1],
            rule=f"segments start at multiples of {segment_s} s from 0 on (--segment-s)",
        )


def refuse_strangers(
    known: Labelled, places: tuple[NDArray[np.int64], NDArray[np.int64]], name: str
) -> None:
    """Raise LabelsError where no label, or no rating, has a place among the files (-1): ids of
    another spelling would lose all. name: of one file."""
    of_each = (known.video, known.ratings.video)
    for where, of, found in zip(known.sources, of_each, places):
        if len(of) and (found < 0).all():
            raise LabelsError(
                f"none of its {len(np.unique(of)):,} videos has a file, such as '{of[0].decode()}'",
                where=where,
                rule=f"a video's id is the name of its file without the ending ('{name}')",
            )
