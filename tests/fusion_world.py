"""Small worlds of segment scores and video scores, and fusion and candidates by definition."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whenabouts.core.classes import ClassOrder
from whenabouts.core.scores import Scores, ScoresWriter, open_scores
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.ensemble.candidates import CandidateFilter

IDS = (b"a", b"b", b"b:5", b":", b"Zz09", b"\xc3\xa9t\xc3\xa9", b"q" * 40, b"0")
CLASSES = (7, 3, 11, 0, 5)
Pair = tuple[bytes, int, int]  # video id, start, class id


class World(NamedTuple):
    segments: Scores
    videos: Scores


def write_scores(
    path: Path,
    segments: SegmentTable,
    classes: Sequence[int],
    values: np.ndarray,
    **made_by: object,
) -> Scores:
    writer = ScoresWriter(path, segments, ClassOrder.of(classes), str(values.dtype))
    writer.write(0, values)
    writer.commit(made_by)
    return open_scores(path)


def write_videos(
    path: Path,
    ids: Sequence[bytes],
    classes: Sequence[int],
    values: np.ndarray,
    **made_by: object,
) -> Scores:
    """A row a video, in the order of `ids`."""
    starts = np.full(len(ids), WHOLE_VIDEO)
    table = SegmentTable(np.array(ids, np.bytes_), np.arange(len(ids)), starts)
    return write_scores(path, table, classes, values, **made_by)


def random_world(
    folder: Path,
    seed: int,
    dtype: type = np.float32,
    levels: int = 5,
    lacking: tuple[int, int] = (0, 0),
) -> World:
    """Scores k / (levels - 1) with many ties, 0 and 1 among them; 40 segments of 8 videos, 5
    classes; rows and columns in no order. The video scores have two videos and three classes more,
    and lack the first videos and classes of the segment scores, as many as `lacking` says."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (rng.integers(0, levels, shape) / (levels - 1)).astype(dtype)

    ids = [IDS[i] for i in rng.permutation(len(IDS))]
    video, start = np.divmod(rng.choice(len(ids) * 8, 40, replace=False), 8)
    table = SegmentTable(np.array(ids, np.bytes_), video, start * 5)
    segments = write_scores(folder / "segments", table, CLASSES, draw(40, 5))
    ids_scored = rng.permutation(np.array([*ids[lacking[0] :], b"more", b"A"], np.bytes_)).tolist()
    classes = rng.permutation([*CLASSES[lacking[1] :], 4, 99, 12]).tolist()
    values = draw(len(ids_scored), len(classes))
    return World(segments, write_videos(folder / "videos", ids_scored, classes, values))


def scores_by_name(scores: Scores) -> dict[Pair, float]:
    table = scores.segments
    names = zip(table.video_ids[table.video].tolist(), table.starts_s.tolist())
    return {
        (*name, class_id): score
        for name, row in zip(names, np.asarray(scores.values, np.float64).tolist())
        for class_id, score in zip(scores.classes.ids, row)
    }


def candidates_by_definition(world: World, chosen: CandidateFilter) -> dict[Pair, bool]:
    """By sorting everything: topics of a video by (score, column), videos of a class by (score,
    id); what has no video score is a candidate."""
    scored = {(v, c): s for (v, _, c), s in scores_by_name(world.videos).items()}
    pairs = list(scores_by_name(world.segments))
    classes, videos = world.segments.classes.ids, sorted({v for v, _, _ in pairs})
    threshold = world.videos.values.dtype.type(chosen.min_video_score or 0)
    passed = {}
    for video, start, class_id in pairs:
        topics = [c for c in classes if (video, c) in scored]
        topics.sort(key=lambda c: -scored[video, c])  # stable: then by column
        rivals = [v for v in videos if (v, class_id) in scored]
        rivals.sort(key=lambda v: -scored[v, class_id])
        passed[video, start, class_id] = (video, class_id) not in scored or (
            class_id in topics[: chosen.top_topics]
            and video in rivals[: chosen.top_videos]
            and scored[video, class_id] >= threshold
        )
    return passed


def order_by_definition(
    world: World, a: int, b: int, chosen: CandidateFilter | None = None
) -> dict[int, list[tuple[bytes, int]]]:
    """The segments of each class, best first: candidates before the others, then by the exact
    product, then by (video, start). Without a video score the product is segment^(a + b)."""
    scored = {(v, c): Fraction(s) for (v, _, c), s in scores_by_name(world.videos).items()}
    of_segments = scores_by_name(world.segments)
    passed = candidates_by_definition(world, chosen or CandidateFilter())

    def key(pair: Pair) -> tuple[bool, Fraction, bytes, int]:
        video, start, class_id = pair
        p = Fraction(of_segments[pair])
        return not passed[pair], -(scored.get((video, class_id), p) ** a) * p**b, video, start

    return {
        c: [pair[:2] for pair in sorted((p for p in of_segments if p[2] == c), key=key)]
        for c in world.segments.classes.ids
    }


def order_of(scores: Scores) -> dict[int, list[tuple[bytes, int]]]:
    """The segments of each class by score falling, then (video, start)."""
    named = scores_by_name(scores)
    return {
        c: [p[:2] for p in sorted((p for p in named if p[2] == c), key=lambda p: (-named[p], p))]
        for c in scores.classes.ids
    }
