"""metrics.jsonl: a line an event, cut back when a run goes on from an earlier checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from whenabouts.core.errors import UsageError
from whenabouts.train import log as log_module
from whenabouts.train.log import MetricsLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[MetricsLog]:
    with closing(MetricsLog(tmp_path)) as log:
        yield log


def text(tmp_path: Path) -> str:
    return (tmp_path / "metrics.jsonl").read_text()


def test_a_line_an_event(tmp_path: Path, log: MetricsLog) -> None:
    log.write("train", 20, loss=0.5, phase="v1")
    log.write("evaluate", 20, mean_ap=0.25)
    log.close()
    assert text(tmp_path) == (
        '{"kind": "train", "step": 20, "loss": 0.5, "phase": "v1"}\n'
        '{"kind": "evaluate", "step": 20, "mean_ap": 0.25}\n'
    )


def test_position_is_in_bytes_and_on_the_disk(tmp_path: Path, log: MetricsLog) -> None:
    assert log.position() == 0
    log.write("train", 1, note="größer")
    assert log.position() == len((tmp_path / "metrics.jsonl").read_bytes()) > 20


def test_rewind_cuts_what_came_after(tmp_path: Path, log: MetricsLog) -> None:
    log.write("train", 1)
    position, kept = log.position(), text(tmp_path)
    log.write("train", 2)  # still in the buffer when the log is rewound
    log.rewind(position)
    assert text(tmp_path) == kept
    log.write("train", 3)
    assert log.position() == 2 * position
    assert [json.loads(line)["step"] for line in text(tmp_path).splitlines()] == [1, 3]


def test_rewind_to_where_it_is_changes_nothing(tmp_path: Path, log: MetricsLog) -> None:
    log.write("train", 1)
    log.rewind(log.position())
    assert [json.loads(line)["step"] for line in text(tmp_path).splitlines()] == [1]


def test_a_log_that_was_removed_is_not_filled_with_zeros(tmp_path: Path) -> None:
    with closing(MetricsLog(tmp_path)) as log:
        log.write("train", 1)
        position = log.position()
    (tmp_path / "metrics.jsonl").unlink()
    with closing(MetricsLog(tmp_path)) as log:
        log.rewind(position)
        log.write("train", 2)
    assert text(tmp_path) == '{"kind": "train", "step": 2}\n'


def test_it_is_appended_to(tmp_path: Path) -> None:
    for step in (1, 2):
        with closing(MetricsLog(tmp_path)) as log:
            log.write("train", step)
    assert [json.loads(line)["step"] for line in text(tmp_path).splitlines()] == [1, 2]


def test_tensorboard_gets_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Board:
        def __init__(self, folder: str) -> None:
            calls.append(folder)

        def add_scalar(self, *values: Any) -> None:
            calls.append(values)

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr(log_module, "SummaryWriter", Board)
    with closing(MetricsLog(tmp_path)) as log:
        log.write("train", 1, loss=0.5)
    assert calls == []
    with closing(MetricsLog(tmp_path, tensorboard=True)) as log:
        log.write("train", 20, loss=0.5, phase="v1", count=3)
    folder = str(tmp_path / "tensorboard")
    assert calls == [folder, ("train/loss", 0.5, 20), ("train/count", 3, 20), "closed"]


def test_tensorboard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SummaryWriter", None)
    with closing(MetricsLog(tmp_path)) as log:  # without it nothing is missed
        log.write("train", 1)
    with pytest.raises(UsageError, match=r"TensorBoard is not installed; pip install"):
        MetricsLog(tmp_path, tensorboard=True)


def test_whoever_listens_hears_each_line_and_may_end_it(tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []

    def listen(line: dict[str, object]) -> None:
        heard.append(line)
        if line["step"] == 2:
            raise ZeroDivisionError

    log = MetricsLog(tmp_path, on_line=listen)
    log.write("train", 1, loss=0.5)
    with pytest.raises(ZeroDivisionError):
        log.write("evaluate", 2, mean_ap=0.25)
    log.close()
    written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == heard
    assert heard == [
        {"kind": "train", "step": 1, "loss": 0.5},
        {"kind": "evaluate", "step": 2, "mean_ap": 0.25},
    ]
