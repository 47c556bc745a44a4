"""Rankings and their mAP by definition, and small random worlds to compare on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.segments import SegmentTable

IDS = [b"a", b"b", b"b:5", b":", b"::x", b"Zz09", b"a:1:2", b"\xc3\xa9t\xc3\xa9", b"q" * 40, b"0"]


class World(NamedTuple):
    truth: SegmentLabels
    segments: SegmentTable
    classes: ClassOrder
    values: np.ndarray


def table(*names: str) -> SegmentTable:
    """A SegmentTable of segments named 'video:start', in this order."""
    video, start = zip(*(name.rsplit(":", 1) for name in names)) if names else ((), ())
    ids, rows = np.unique(np.array([v.encode() for v in video], np.bytes_), return_inverse=True)
    return SegmentTable(ids, rows.astype(np.int64), np.array(start, np.int64))


def labels(*rated: tuple[str, int, float]) -> SegmentLabels:
    """Labels from ('video:start', class, score)."""
    video, start = zip(*(name.rsplit(":", 1) for name, _, _ in rated)) if rated else ((), ())
    return segment_labels(
        np.array([v.encode() for v in video], np.bytes_),
        np.array(start, np.int64),
        np.array([c for _, c, _ in rated], np.int64),
        np.array([s for *_, s in rated], np.float64),
    )


def random_world(seed: int, levels: int = 4, dtype: type = np.float32) -> World:
    """Integer scores with many ties; some rated segments and classes that nobody scored."""
    rng = np.random.default_rng(seed)
    ids = np.array(IDS, np.bytes_)[rng.permutation(len(IDS))]
    video, start = np.divmod(rng.choice(len(ids) * 8, 60, replace=False), 8)
    segments = SegmentTable(ids, video, start * 5)
    classes = ClassOrder.of([7, 3, 11, 0])
    values = rng.integers(-1, levels - 1, (len(segments), len(classes))).astype(dtype)
    rated_video, rest = np.divmod(rng.choice((len(ids) + 1) * 8 * 5, 120, replace=False), 40)
    rated_start, rated_class = np.divmod(rest, 5)
    truth = segment_labels(
        np.array([*ids.tolist(), b"unseen"], np.bytes_)[rated_video],
        rated_start * 5,
        np.array([7, 3, 11, 0, 5])[rated_class],
        rng.choice([0.0, 0.25, 0.5, 1.0], 120),
    )
    return World(truth, segments, classes, values)


def names_of(segments: SegmentTable) -> list[tuple[bytes, int]]:
    videos = segments.video_ids[segments.video].tolist()
    return list(zip(videos, segments.starts_s.tolist()))


def lists_by_definition(world: World, k: int) -> dict[int, list[tuple[bytes, int]]]:
    """The k best segments of each class: score falling, then (video, start) rising."""
    names = names_of(world.segments)
    return {
        class_id: [
            name for _, name in sorted((-s, n) for s, n in zip(column.astype(float), names))
        ][:k]
        for class_id, column in zip(world.classes.ids, world.values.T)
    }


def ap_by_definition(
    truth: SegmentLabels, lists: dict[int, list[tuple[bytes, int]]], k: int, class_id: int
) -> float:
    pairs = zip(truth.video.tolist(), truth.start_s.tolist(), truth.class_id.tolist(), truth.score)
    rated = {(v, s): score >= 0.5 for v, s, c, score in pairs if c == class_id}
    kept = [rated[name] for name in lists.get(class_id, [])[:k] if name in rated]
    precisions = [sum(kept[: i + 1]) / (i + 1) for i, positive in enumerate(kept) if positive]
    positives = sum(rated.values())
    return sum(precisions) / positives if positives else float("nan")
