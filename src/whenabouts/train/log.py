"""Metrics of a run: one JSON object a line, always; TensorBoard too where it is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whenabouts.core.errors import UsageError

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # an optional extra
    SummaryWriter = None  # type: ignore[assignment,misc]


class MetricsLog:
    """Appends to `metrics.jsonl`. After a resume, lines past the checkpoint are cut first.

    on_line(line) is called with each line written; an error it raises ends the training there.
    """

    def __init__(
        self,
        run_path: Path,
        *,
        tensorboard: bool = False,
        on_line: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        if tensorboard and SummaryWriter is None:
            raise UsageError("TensorBoard is not installed", remedy="pip install tensorboard")
        self._on_line = on_line
        self._path = run_path / "metrics.jsonl"
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run_path / "tensorboard")) if tensorboard else None

    def position(self) -> int:
        """Bytes written so far: what a checkpoint keeps."""
        self._file.flush()
        return os.fstat(self._file.fileno()).st_size

    def rewind(self, position: int) -> None:
        """Drop what was logged after `position`: it will be logged again."""
        # A log that was removed meanwhile must not be filled up with zero bytes.
        os.truncate(self._path, min(position, self.position()))

    def write(self, kind: str, step: int, **values: Any) -> None:
        line = {"kind": kind, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)
        if self._on_line is not None:
            self._on_line(line)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
