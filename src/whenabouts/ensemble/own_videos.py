"""Video scores that segment scores imply: in each class the best of the video's segments.

The multiple-instance view: a video shows a topic if one of its segments does. Where no video
classifier is better, fusion with it finds the segments of a topic among all videos by what else
their videos show.
"""

from __future__ import annotations

from dataclasses import replace

from whenabouts.core.ranking import row_chunks
from whenabouts.core.scores import Scores
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble.video_scores import refuse_out_of_range
from whenabouts.metrics.video import video_scores_from_segments

SCAN_BYTES = 16 << 20


def own_video_scores(segments: Scores) -> Scores:
    """Scores of the videos of these segments, in memory: as many bytes a video as a segment has.

    Raises ScoresError if they are of whole videos themselves, or not in [0, 1].
    """
    segments.refuse_whole_videos(
        rule="the best of its segments stands for a video", remedy="pass the Scores of segments"
    )
    for first, rows in row_chunks(segments.values, SCAN_BYTES):
        refuse_out_of_range(segments, first, rows)
    values = video_scores_from_segments(segments.segments, segments.values)
    table = SegmentTable.of_videos(segments.segments.video_ids)
    made_by = {**segments.made_by, "pooled": "best of the video's segments"}
    return replace(segments, segments=table, values=values, made_by=made_by, attention=None)
