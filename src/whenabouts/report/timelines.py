"""Timelines: which videos a report shows and, for each, its lines and its rated segments.

Nothing is drawn here; `plot_timeline` draws what this file selects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.labels import SegmentLabels
from whenabouts.core.scores import Attention, Scores
from whenabouts.report.rated import RatedPairs, grouped_ap, rated_pairs, ratio

BEST, MIDDLE, WORST = RANKED = ("Best videos", "Videos in the middle", "Worst videos")
ONE_SIDED = "Most rated segments"  # no topic is rated both ways within any video
UNRATED = "At even distances in the table"
MOST_LINES = 7  # as many colours as can be told apart


@dataclass(frozen=True)
class Choice:
    """A video to show: its row in `video_ids`, its AP (NaN where none) and the group it is in.

    place: 1 is the best AP, and equals share it; of so many with an AP (0 where it has none).
    """

    video: int
    ap: float
    group: str
    place: int = 0
    num_ranked: int = 0


@dataclass(frozen=True)
class Line:
    """A topic's score over a video [n], and the segments [m] in which the topic was rated.

    rated_scores is NaN where the rated segment has no score (it starts past the video's end).
    """

    class_id: int
    topic: str
    scores: NDArray[np.float64]
    rated_starts_s: NDArray[np.int64]
    rated_scores: NDArray[np.float64]
    rated_positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Lane:
    """An attention over a video: values [n], each from its start to its end."""

    name: str
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """A video's segments [n] in order of time, and its lines: rated topics first.

    lanes: the attention on segments and on frames; none where it was not kept.
    """

    video_id: str
    choice: Choice
    labels: tuple[str, ...]
    starts_s: NDArray[np.int64]
    ends_s: NDArray[np.int64]
    lines: tuple[Line, ...]
    num_rated_hidden: int
    lanes: tuple[Lane, ...] = ()


def choose_videos(truth: SegmentLabels, scores: Scores, num: int) -> list[Choice]:
    """The rule: of the videos with many rated pairs those with the best AP, those around the middle
    and those with the worst.

    A video's AP is the mean, over its topics rated both ways in it, of the AP of that topic's
    rated segments within the video. Without such videos the most rated are shown; without any
    rated pair, videos at even distances in the table.
    """
    pairs = rated_pairs(truth, scores)
    num_videos = len(scores.segments.video_ids)
    if not len(pairs):
        scored = np.unique(scores.segments.video)
        even = np.linspace(0, len(scored) - 1, min(num, len(scored))).round().astype(np.int64)
        return [Choice(int(v), np.nan, UNRATED) for v in scored[even]]
    num_rated = np.bincount(pairs.video, minlength=num_videos)
    ap = video_ap(pairs, num_videos)
    ranked = np.lexsort((scores.segments.video_ids, -ap))[: np.isfinite(ap).sum()]
    if not len(ranked):
        most = np.lexsort((scores.segments.video_ids, -num_rated))[:num]
        return [Choice(int(v), np.nan, ONE_SIDED) for v in most if num_rated[v]]
    return best_to_worst(ranked, ap, num_rated, num)


def best_to_worst(
    ranked: NDArray[np.int64], ap: NDArray[np.float64], num_known: NDArray[np.int64], num: int
) -> list[Choice]:
    """The best, the middle and the worst of the videos `ranked`, best first; of equal AP those with
    the most known of them.

    ap and num_known (rated pairs, or labels) are over all videos. An AP of few is chance: only the
    half with the most known (all equals, and as many as are shown) is chosen from.
    """
    if not len(ranked):
        return []
    of_all = np.sort(-ap[ranked])
    most_known = np.sort(num_known[ranked])[::-1]
    enough = most_known[: max(num, -(-len(ranked) // 2))][-1]
    candidates = ranked[num_known[ranked] >= enough]
    # Both orders prefer the more known of equals: from the worst end they come first too.
    from_best = candidates[np.lexsort((-num_known[candidates], -ap[candidates]))]
    from_worst = candidates[np.lexsort((-num_known[candidates], ap[candidates]))]
    most, fewer, fewest = (
        len(part) for part in np.array_split(range(min(num, len(candidates))), 3)
    )
    best = from_best[:most]
    worst = from_worst[~np.isin(from_worst, best)][:fewer][::-1]
    rest = from_best[~np.isin(from_best, [*best, *worst])]
    middle = rest[(len(rest) - fewest) // 2 :][:fewest]
    return [
        Choice(int(v), float(ap[v]), group, 1 + int(np.searchsorted(of_all, -ap[v])), len(ranked))
        for group, chosen in zip(RANKED, (best, middle, worst))
        for v in chosen
    ]


def ap_and_place(choice: Choice) -> str:
    """'AP 0.750, place 3 of 120'; nothing without an AP."""
    if not np.isfinite(choice.ap):
        return ""
    return f"AP {choice.ap:.3f}, place {choice.place:,} of {choice.num_ranked:,}"


def video_ap(pairs: RatedPairs, num_videos: int) -> NDArray[np.float64]:
    """The mean of AP over the topics rated both positive and negative in each video; else NaN."""
    key = np.stack([pairs.video, pairs.column])
    groups, group = np.unique(key, axis=1, return_inverse=True)
    group = group.reshape(-1)
    ap = grouped_ap(group, pairs, groups.shape[1])
    share = np.bincount(group, pairs.positive) / np.bincount(group)
    both = (share > 0) & (share < 1)
    video = groups[0][both]
    total = np.bincount(video, ap[both], num_videos)
    return ratio(total, np.bincount(video, np.ones(len(video)), num_videos))


def build_timeline(
    truth: SegmentLabels,
    scores: Scores,
    choice: Choice,
    num_lines: int = 5,
    segment_s: int = 5,
    labels: Sequence[str] = (),
) -> Timeline:
    """The timeline of one video: every topic rated in it, filled up to `num_lines` with those of
    the highest peak; never more than `MOST_LINES`."""
    rows = np.flatnonzero(scores.segments.video == choice.video)
    rows = rows[np.argsort(scores.segments.starts_s[rows], kind="stable")]
    video_id = scores.segments.video_ids[choice.video]
    pairs = rated_pairs(truth.take(truth.video == video_id), scores)
    values = np.asarray(scores.values[rows], np.float64)
    rated, columns = lines_to_show(values, pairs.column, num_lines)
    starts = scores.segments.starts_s[rows]
    ends = np.minimum(starts + segment_s, np.append(starts[1:], np.iinfo(np.int64).max))
    return Timeline(
        video_id=video_id.decode("utf-8", "replace"),
        choice=choice,
        labels=tuple(labels),
        starts_s=starts,
        ends_s=ends,
        lines=tuple(_line(scores, values, pairs, column) for column in columns),
        num_rated_hidden=max(len(rated) - len(columns), 0),
        lanes=_lanes(scores.attention, rows, starts, ends, segment_s),
    )


def _lanes(
    attention: Attention | None,
    rows: NDArray[np.int64],
    starts_s: NDArray[np.int64],
    ends_s: NDArray[np.int64],
    segment_s: int,
) -> tuple[Lane, ...]:
    """A value a segment, then a value a frame: frame t of T begins t / T of a segment's length
    after the segment does. Frames that a last segment lacks are left out."""
    if attention is None:
        return ()
    segments = np.asarray(attention.segments[rows], np.float64)
    frames = np.asarray(attention.frames[rows], np.float64)
    frame_s = segment_s / frames.shape[1]
    begins = starts_s[:, None] + frame_s * np.arange(frames.shape[1])
    real = np.isfinite(frames)
    first = begins[real]
    return (
        Lane("segments", starts_s.astype(np.float64), ends_s.astype(np.float64), segments),
        Lane("frames", first, first + frame_s, frames[real]),
    )


def lines_to_show(
    values: NDArray[np.float64], rated_columns: NDArray[np.int64], num_lines: int
) -> tuple[list[int], list[int]]:
    """(columns rated in the video, columns to show); `values` [n, C] are the video's scores,
    `rated_columns` holds a column once a rated pair.

    Rated columns come first, most rated first; equals, and the others, by falling peak.
    """
    peak = np.nan_to_num(values, nan=0.0).max(axis=0, initial=0.0)
    num_rated = np.bincount(rated_columns, minlength=len(peak))
    order = np.lexsort((-peak, -num_rated)).tolist()
    rated = order[: int((num_rated > 0).sum())]
    return rated, order[: min(max(num_lines, len(rated)), MOST_LINES)]


def _line(scores: Scores, values: NDArray[np.float64], pairs: RatedPairs, column: int) -> Line:
    pairs = pairs.take(pairs.column == column)
    return Line(
        class_id=scores.classes.ids[column],
        topic=scores.classes.topic(column),
        scores=values[:, column],
        rated_starts_s=pairs.start_s,
        rated_scores=pairs.score,
        rated_positive=pairs.positive,
    )


def label_names(
    video_labels: Mapping[bytes, Sequence[int]] | None,
    vocabulary: Mapping[int, str],
    video_id: bytes,
) -> tuple[str, ...]:
    """The names of a video's labels, `class N` where the vocabulary has none."""
    known = video_labels.get(video_id, ()) if video_labels else ()
    return tuple(vocabulary.get(int(c)) or f"class {c}" for c in known)
