"""Predict: a run over every segment of a corpus -> Scores, written as a stream.

Memory stays flat however many videos there are; under torchrun each process writes its own rows; an
interrupted call goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whenabouts.core.atomic import write_json
from whenabouts.core.progress import progress
from whenabouts.core.scores import ScoresWriter, partial_path
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.segments import SegmentChunk, SegmentChunks
from whenabouts.train.distributed import Team
from whenabouts.train.run import Run
from whenabouts.train.settings import refuse_below

SAVE_EVERY_S = 15.0


@dataclass(frozen=True)
class PredictSettings:
    """chunk_size: segments computed at once; dtype: of the scores on the disk."""

    chunk_size: int = 512
    dtype: str = "float32"

    def __post_init__(self) -> None:
        refuse_below("chunk_size", self.chunk_size, 1)


def predict(
    run: Run,
    corpus: Corpus,
    rows: NDArray[np.int64],
    out: Path,
    settings: PredictSettings,
    team: Team,
    made_by: dict[str, Any],
) -> int:
    """Write Scores of every segment of the given videos to `out`; returns how many there are."""
    run.check_fits(corpus)
    model, facts = run.load_model()
    model.to(team.device)
    chunks = SegmentChunks(corpus, rows, team.device, settings.chunk_size)
    with closing(ScoresWriter(out, chunks.table, run.classes, settings.dtype)) as writer:
        mark = _Mark(partial_path(out), team, _key(run, corpus, rows, settings))
        _predict_block(model, chunks, team.block(len(chunks.table)), writer, mark)
        writer.flush()
        team.wait()
        if team.is_main:
            writer.commit({"run": str(run.path), "corpus": str(corpus.path), **facts, **made_by})
    team.wait()
    return len(chunks.table)


def _predict_block(
    model: nn.Module, chunks: SegmentChunks, block: range, writer: ScoresWriter, mark: _Mark
) -> None:
    """Score this process's rows, from the first that no earlier attempt has written."""
    first = mark.read(block)
    with progress("predict", len(block), "segments") as bar, torch.inference_mode():
        bar.advance(first - block.start)
        for chunk in chunks.chunks(first, block.stop):
            values = _scores(model, chunk)
            writer.write(chunk.first, values)
            bar.advance(len(values))
            mark.write(chunk.first + len(values), writer)


def _scores(model: nn.Module, chunk: SegmentChunk) -> NDArray[np.float32]:
    values: NDArray[np.float32] = model(chunk.features, chunk.mask).sigmoid_().cpu().numpy()
    return values


def _key(run: Run, corpus: Corpus, rows: NDArray[np.int64], settings: PredictSettings) -> str:
    """Says whether rows written earlier belong to the same prediction."""
    parts = hashlib.blake2b(run.weights_path.read_bytes(), digest_size=16)
    parts.update(corpus.video_ids[rows].tobytes() + corpus.num_frames[rows].tobytes())
    parts.update(settings.dtype.encode())
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
