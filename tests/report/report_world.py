"""A small made world for the report's tests: videos whose topics come and go, scores, ratings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import SegmentLabels, segment_labels
from whenabouts.core.scores import Attention, Scores
from whenabouts.core.segments import SegmentTable
from whenabouts.metrics.video import evaluate_videos, video_truth
from whenabouts.report.inputs import LabelledVideos

HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "$\\frac{1$ dollars",
    '</svg></title></style><img src=x onerror="alert(2)">',
    'id="pr-p1" href="#x" url(#y)',
    "line\nbreak \x00 \ud800 \u202e end",
    "日本語のトピック",
    "",
)


def make_scores(
    values: Any,
    starts: Any = None,
    names: tuple[str, ...] = (),
    ids: tuple[int, ...] = (),
    videos: Any = None,
    video_ids: Any = (b"vid0",),
) -> Scores:
    """Scores [S, C]; by default one video, starts 0, 5, ..., classes 10, 11, ..."""
    values = np.asarray(values, np.float32)
    num_rows, num_columns = values.shape
    ids = ids or tuple(range(10, 10 + num_columns))
    names = names or tuple(f"topic {i}" for i in ids)
    table = SegmentTable(
        np.array(video_ids, np.bytes_),
        np.zeros(num_rows, np.int64) if videos is None else np.array(videos, np.int64),
        np.arange(num_rows) * 5 if starts is None else np.array(starts, np.int64),
    )
    return Scores(Path("nowhere"), table, ClassOrder(ids, names), values, {})


def with_attention(scores: Scores, frames: Any, segments: Any) -> Scores:
    """The same Scores, with the attention on frames [S, T] and segments [S] beside them."""
    arrays = (np.asarray(values, np.float16) for values in (frames, segments))
    return replace(scores, attention=Attention(*arrays))


def make_labels(rows: list[tuple[bytes, int, int, float]]) -> SegmentLabels:
    """Labels from rows (video, start, class, score)."""
    video, start, class_id, score = zip(*rows) if rows else ((), (), (), ())
    return segment_labels(
        np.array(video, np.bytes_ if video else "S1"),
        np.array(start, np.int64),
        np.array(class_id, np.int64),
        np.array(score, np.float32),
    )


def make_world(
    num_classes: int, num_videos: int, num_segments: int, seed: int = 0
) -> tuple[Scores, SegmentLabels]:
    """Every video shows two topics in one stretch each; five segments of each are rated."""
    rng = np.random.default_rng(seed)
    ids = tuple(rng.permutation(num_classes * 3)[:num_classes].tolist())
    names = (*HOSTILE, *(f"topic {i}" for i in range(num_classes)))[:num_classes]
    values = rng.normal(-3, 1, (num_videos, num_segments, num_classes))
    rows = []
    for video in range(num_videos):
        for column in rng.choice(num_classes, min(2, num_classes), replace=False):
            shown = np.abs(np.arange(num_segments) - rng.integers(num_segments)) < 3
            values[video, :, column] = np.where(shown, 1, -1) + rng.normal(0, 1.2, num_segments)
            rated = rng.choice(num_segments, min(5, num_segments), replace=False).tolist()
            rows += [(b"v%03d" % video, k * 5, ids[column], float(shown[k])) for k in rated]
    scores = make_scores(
        1 / (1 + np.exp(-values.reshape(-1, num_classes))),
        np.tile(np.arange(num_segments) * 5, num_videos),
        names,
        ids,
        np.repeat(np.arange(num_videos), num_segments),
        [b"v%03d" % video for video in range(num_videos)],
    )
    return scores, make_labels(rows)


def make_videos(
    values: Any, labels: list[list[int]], ids: tuple[int, ...] = (), names: tuple[str, ...] = ()
) -> LabelledVideos:
    """Videos v000, v001, ... with scores [V, C] and labels (class ids); classes as in
    `make_scores`."""
    values = np.asarray(values, np.float32)
    classes = make_scores(values, ids=ids, names=names).classes
    flat = np.array([c for row in labels for c in row], np.int64)
    ragged = flat, np.cumsum([0, *map(len, labels)])
    return LabelledVideos(
        ids=np.array([b"v%03d" % v for v in range(len(values))], np.bytes_),
        truth=video_truth(*ragged, classes),
        values=values,
        evaluation=evaluate_videos(*ragged, classes, values),
    )


def make_video_world(num_classes: int, num_videos: int, seed: int = 0) -> LabelledVideos:
    """Every video has one to four labels, which are scored higher than the others."""
    rng = np.random.default_rng(seed)
    ids = tuple(rng.permutation(num_classes * 3)[:num_classes].tolist())
    names = (*HOSTILE, *(f"topic {i}" for i in range(num_classes)))[:num_classes]
    logits, labels = rng.normal(-3, 1, (num_videos, num_classes)), []
    for video in range(num_videos):
        columns = rng.choice(num_classes, rng.integers(1, 5), replace=False)
        logits[video, columns] += 2
        labels.append([ids[column] for column in columns])
    return make_videos(1 / (1 + np.exp(-logits)), labels, ids, names)


def train(step: int, loss: float = 0.5, phase: str = "s1", **more: Any) -> dict[str, Any]:
    return {"kind": "train", "phase": phase, "step": step, "loss": loss, **more}


def evaluate(
    step: int, value: float, phase: str = "s1", split: str = "v2", measure: str = "mean_ap"
) -> dict[str, Any]:
    return {"kind": "evaluate", "phase": phase, "step": step, "split": split, measure: value}


def write_run(path: Path, records: list[dict[str, Any]], tail: str = "") -> Path:
    """A run folder with these metrics and a recipe."""
    path.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(lines + tail)
    recipe = {"name": "<b>att2</b>", "model": {"hidden": 256, "lists": ["rgb", "audio"]}}
    (path / "recipe.json").write_text(json.dumps(recipe))
    return path
