"""Predict: a run or a bundle over every segment of a corpus -> Scores, written as a stream.

Memory stays flat however many videos there are; under torchrun each process writes its own rows; an
interrupted call goes on where it was. Attention on segments needs a video whole: where it is kept,
a process has the videos that begin in its block of rows, and its marks stand where a video begins.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whenabouts import __version__
from whenabouts.core.atomic import write_json
from whenabouts.core.errors import UsageError
from whenabouts.core.progress import progress
from whenabouts.core.scores import ScoresWriter, partial_path
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.segments import SegmentChunk, SegmentChunks
from whenabouts.feed.whole_videos import VideoChunk, VideoChunks
from whenabouts.models.hierarchical import Hierarchical, HierarchicalSettings
from whenabouts.models.table import FAMILIES
from whenabouts.train.bundle import Bundle
from whenabouts.train.distributed import Team
from whenabouts.train.run import Run
from whenabouts.train.settings import refuse_below

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SAVE_EVERY_S = 15.0


@dataclass(frozen=True)
class PredictSettings:
    """chunk_size: segments computed at once; dtype: of the scores on the disk; attention: keep the
    attention on frames and segments beside them."""

    chunk_size: int = 512
    dtype: str = "float32"
    attention: bool = False

    def __post_init__(self) -> None:
        refuse_below("chunk_size", self.chunk_size, 1)


def predict(
    scorer: Run | Bundle,
    corpus: Corpus,
    rows: NDArray[np.int64],
    out: Path,
    settings: PredictSettings,
    team: Team,
    made_by: dict[str, Any],
) -> int:
    """Write Scores of every segment of the given videos to `out`; returns how many there are.

    Video classifiers score the videos as wholes, for the video classes. Raises UsageError where
    attention is to be kept and there is none, or that of several models.
    """
    scorer.check_fits(corpus)
    model, facts = scorer.load_model()
    if settings.attention:
        _refuse_without_attention(scorer, model)
    model.to(team.device)
    chunks: SegmentChunks | VideoChunks
    if scorer.scores_videos:
        chunks = VideoChunks(corpus, rows, team.device)
    else:
        chunks = SegmentChunks(corpus, rows, team.device, settings.chunk_size)
    classes = scorer.scored_classes
    frames = corpus.dataset.grid.num_frames if settings.attention else None
    if not team.is_main:
        team.wait()  # for the main process, which sees that no other call writes here
    writer = ScoresWriter(out, chunks.table, classes, settings.dtype, frames, is_main=team.is_main)
    if team.is_main:
        team.wait()
    with closing(writer):
        mark = _Mark(partial_path(out), team, _key(scorer, corpus, rows, settings))
        block = team.block(len(chunks.table))
        _predict_block(model, chunks, block, writer, mark, attention=settings.attention)
        writer.flush()
        team.wait()
        if team.is_main:
            kind = "bundle" if isinstance(scorer, Bundle) else "run"
            writer.commit({kind: str(scorer.path), "corpus": str(corpus.path), **facts, **made_by})
    team.wait()
    return len(chunks.table)


def _refuse_without_attention(scorer: Run | Bundle, model: nn.Module) -> None:
    if isinstance(scorer, Bundle):
        raise UsageError(
            "a bundle has no attention to keep",
            where=scorer.path,
            rule="attention is that of one model",
            remedy=f"predict with a run in it, such as {scorer.members[0].path}",
        )
    if not isinstance(model, Hierarchical):
        families = [n for n, kind in FAMILIES.items() if kind in get_args(HierarchicalSettings)]
        raise UsageError(
            f"the model of the run, {scorer.recipe['model']['family']}, has no attention to keep",
            where=scorer.path,
            rule=f"models with attention are {', '.join(families)}",
            remedy="predict without --attention",
        )


def _predict_block(
    model: nn.Module,
    chunks: SegmentChunks | VideoChunks,
    block: range,
    writer: ScoresWriter,
    mark: _Mark,
    *,
    attention: bool,
) -> None:
    """Score this process's rows, from the first that no earlier attempt has written."""
    at = mark.read(block)
    write = _write_with_attention if attention else _write_chunks
    with progress("predict", len(block), chunks.unit) as bar, torch.inference_mode():
        bar.advance(at - block.start)
        for end in write(model, chunks, range(at, block.stop), writer):
            bar.advance(end - at)
            mark.write(end, writer)
            at = end


def _write_chunks(
    model: nn.Module, chunks: SegmentChunks | VideoChunks, rows: range, writer: ScoresWriter
) -> Iterator[int]:
    """Scores a chunk at a time; yields the row behind each."""
    for chunk in chunks.chunks(rows.start, rows.stop):
        values = _scores(model, chunk)
        writer.write(chunk.first, values)
        yield chunk.first + len(values)


def _write_with_attention(
    model: nn.Module, chunks: SegmentChunks | VideoChunks, rows: range, writer: ScoresWriter
) -> Iterator[int]:
    """Scores and attention a group of whole videos at a time; yields the row behind each."""
    assert isinstance(model, Hierarchical)
    assert isinstance(chunks, SegmentChunks)
    for group in chunks.groups(rows.start, rows.stop):
        parts = chunks.chunks(group.first, group.end)
        encoded = torch.cat([_write_encoded(model, chunk, writer) for chunk in parts])
        attention = segment_attention(model, encoded, group.segment_mask)
        writer.write_segment_attention(group.first, attention.cpu().numpy())
        yield group.end


def _write_encoded(model: Hierarchical, chunk: SegmentChunk, writer: ScoresWriter) -> Tensor:
    """Scores and frame attention of a chunk, from one encoding; returns its features [B, E]."""
    encoded, attention = model.encode_segments(chunk.features, chunk.mask)
    writer.write(chunk.first, model.segment_logits(encoded).sigmoid_().cpu().numpy())
    kept = attention.masked_fill(~chunk.mask, torch.nan)
    writer.write_frame_attention(chunk.first, kept.cpu().numpy())
    return encoded


def segment_attention(
    model: Hierarchical, encoded: Float[Tensor, "N E"], segment_mask: Bool[Tensor, "B S"]
) -> Float[Tensor, " N"]:
    """The attention on the N segments, one after another, of B whole videos."""
    padded = encoded.new_zeros(*segment_mask.shape, encoded.shape[1])
    padded[segment_mask] = encoded
    return model.video_logits(padded, segment_mask)[1][segment_mask]


def _scores(model: nn.Module, chunk: SegmentChunk | VideoChunk) -> NDArray[np.float32]:
    values: NDArray[np.float32] = model(chunk.features, chunk.mask).sigmoid_().cpu().numpy()
    return values


def _key(
    scorer: Run | Bundle, corpus: Corpus, rows: NDArray[np.int64], settings: PredictSettings
) -> str:
    """Says whether rows written earlier belong to the same prediction, of the same shards."""
    parts = hashlib.blake2b(scorer.fingerprint() + __version__.encode(), digest_size=16)
    for path in corpus.shard_paths:
        stat = path.stat()
        parts.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns} ".encode())
    parts.update(corpus.video_ids[rows].tobytes() + corpus.num_frames[rows].tobytes())
    parts.update(settings.dtype.encode() + b" attention" * settings.attention)
    return parts.hexdigest()


class _Mark:
    """How far this process has come, kept beside the unfinished array.

    Marks of another prediction are removed before a row is written: its rows are about to go.
    """

    def __init__(self, partial: Path, team: Team, key: str) -> None:
        self._path = partial / f"done-{team.rank}-of-{team.size}.json"
        self._key, self._written_s = key, time.monotonic()
        for path in partial.glob("done-*.json"):
            if self._next_row(path) is None:
                path.unlink(missing_ok=True)

    def read(self, block: range) -> int:
        """The first row to compute."""
        next_row = self._next_row(self._path)
        return block.start if next_row is None else next_row

    def _next_row(self, path: Path) -> int | None:
        """What the mark says; None if there is none, or it is of another prediction."""
        try:
            kept = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return int(kept["next"]) if kept["key"] == self._key else None

    def write(self, next_row: int, writer: ScoresWriter) -> None:
        if time.monotonic() - self._written_s < SAVE_EVERY_S:
            return
        writer.flush()
        write_json(self._path, {"key": self._key, "next": next_row})
        self._written_s = time.monotonic()
