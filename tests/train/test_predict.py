"""Prediction against a slow loop over segments; streamed, cut among processes, interrupted."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from commandline import start
from small_corpus import DATASET, make_small
from toy_work import ALONE, Clock, CrashError
from whenabouts.core.errors import RunError, ScoresError, SettingsError
from whenabouts.core.scores import ScoresWriter, open_scores, partial_path
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.logistic import FLogi, SLogi
from whenabouts.models.table import ModelSettings, build_model
from whenabouts.recipes.logistic import s_logi
from whenabouts.train import predict as predict_module
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.distributed import Team
from whenabouts.train.predict import PredictSettings, predict
from whenabouts.train.run import Run, create_run, open_run

FACTS = {"phase": "v1", "step": 40, "trained_on": ["v1"]}


@dataclass(frozen=True)
class WatchedRun(Run):
    """A run whose model notes how many segments it was asked for, and may crash."""

    asked: list[int] = field(default_factory=list)
    crash_after: int | None = None

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        model, facts = super().load_model()
        model.register_forward_pre_hook(self._note)
        return model, facts

    def _note(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.crash_after is not None and len(self.asked) >= self.crash_after:
            raise CrashError("before the next chunk")
        self.asked.append(len(inputs[0]))


class Pretend(Team):
    """One of several processes, without the others: does not wait for them."""

    def wait(self) -> None:
        pass


def make_run(path: Path, corpus: Corpus, seed: int = 0, family: ModelSettings | None = None) -> Run:
    """An untrained run with weights."""
    recipe = replace(s_logi(), model=family or FLogi())
    create_run(path, recipe, corpus, resume=False)
    torch.manual_seed(seed)
    model = build_model(recipe.model, corpus.dataset.width, len(corpus.classes))
    nn.init.normal_(model.linear.weight, std=3.0)
    save_weights(path / "v1.safetensors", model, FACTS)
    return open_run(path)


def watched(run: Run, crash_after: int | None = None) -> WatchedRun:
    return WatchedRun(
        run.path, run.recipe, run.dataset, run.classes, run.video_classes, [], crash_after
    )


@pytest.fixture
def run(tmp_path: Path, corpus: Corpus) -> Run:
    return make_run(tmp_path / "run", corpus)


def whole(
    run: Run, corpus: Corpus, out: Path, chunk_size: int = 10, team: Team = ALONE, **more: Any
) -> int:
    """Predict V1 and V2: 24 videos."""
    rows = corpus.rows(["v1", "v2"])
    settings = PredictSettings(chunk_size, more.pop("dtype", "float32"))
    return predict(run, corpus, rows, out, settings, team, more)


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


# ---- what is written -----------------------------------------------------------------------------


def by_hand(run: Run, corpus: Corpus, row: int) -> list[NDArray]:
    """Scores [C] of each segment of a video, frame by frame in float64."""
    model, _ = run.load_model()
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    frames = np.concatenate(corpus.frames(row), axis=1).astype(np.float64)
    x = frames * 4 / 255 + 4 / 512 - 2
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for first in range(0, len(x), 5):
        segment = x[first : first + 5]
        if run.recipe["model"]["family"] == "f-logi":
            found.append((1 / (1 + np.exp(-(segment @ weight.T + bias)))).mean(axis=0))
        else:
            found.append(1 / (1 + np.exp(-(segment.mean(axis=0) @ weight.T + bias))))
    return found


@pytest.mark.parametrize("family", [SLogi(), FLogi()])
def test_scores_against_a_slow_loop(family: ModelSettings, corpus: Corpus, tmp_path: Path) -> None:
    """V2, then train: videos in the corpus's order, partial last segments too."""
    run = make_run(tmp_path / "run", corpus, family=family)
    rows = corpus.rows(["train", "v2"])
    count = predict(run, corpus, rows, tmp_path / "s", PredictSettings(17), ALONE, {"more": 1})
    scores = open_scores(tmp_path / "s")
    expected = [(row, by_hand(run, corpus, row)) for row in rows]
    names = [(corpus.video_ids[row], 5 * k) for row, found in expected for k in range(len(found))]
    found = zip(scores.segments.video_ids[scores.segments.video], scores.segments.starts_s)
    assert list(found) == names
    assert count == len(names) == len(scores.values)
    assert (corpus.num_frames[rows] % 5 != 0).any()
    slow = np.concatenate([np.stack(of_video) for _, of_video in expected])
    np.testing.assert_allclose(scores.values, slow, atol=1e-5)
    assert scores.values.std() > 0.1
    assert scores.values.dtype == np.float32
    assert scores.classes == corpus.classes


def test_what_made_them(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    whole(run, corpus, tmp_path / "s", splits=["v1", "v2"])
    assert json.loads((tmp_path / "s" / "made-by.json").read_text()) == {
        "format": 1,
        "run": str(run.path),
        "corpus": str(corpus.path),
        **FACTS,
        "splits": ["v1", "v2"],
    }
    assert not partial_path(tmp_path / "s").exists()


def test_half_precision_is_the_same_rounded(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    whole(run, corpus, tmp_path / "s")
    whole(run, corpus, tmp_path / "half", dtype="float16")
    values, half = (open_scores(tmp_path / name).values for name in ("s", "half"))
    assert half.dtype == np.float16
    assert np.array_equal(half, values.astype(np.float16))


@pytest.mark.parametrize("chunk_size", [1, 7, 64, 4096])
def test_chunk_size_never_changes_the_result(
    chunk_size: int, run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    whole(run, corpus, tmp_path / "s", chunk_size=10)
    other = watched(run)
    count = whole(other, corpus, tmp_path / "other", chunk_size=chunk_size)
    assert sum(other.asked) == count
    assert max(other.asked) == min(chunk_size, count)
    values, found = (open_scores(tmp_path / name).values for name in ("s", "other"))
    np.testing.assert_allclose(found, values, atol=1e-6, rtol=0)


def test_a_chunk_size_of_0_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"chunk_size: the value is 0; it must be at least 1"):
        PredictSettings(0)


def test_a_corpus_with_other_features_is_refused(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    other = replace(corpus, dataset=replace(DATASET, segment_s=6))
    with pytest.raises(RunError, match="the run was trained on features"):
        whole(run, other, tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_something_else_is_not_overwritten(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="something else than Scores is here"):
        whole(run, corpus, run.path)


def test_earlier_scores_are_replaced(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    whole(make_run(tmp_path / "b", corpus, seed=1), corpus, tmp_path / "s")
    before = content(tmp_path / "s")
    whole(run, corpus, tmp_path / "s")
    whole(run, corpus, tmp_path / "t")
    assert content(tmp_path / "s") == content(tmp_path / "t") != before


# ---- interrupted ---------------------------------------------------------------------------------


@pytest.fixture
def expected(run: Run, corpus: Corpus, tmp_path: Path) -> dict[str, bytes]:
    whole(run, corpus, tmp_path / "expected")
    return content(tmp_path / "expected")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands still until it is told."""
    clock = Clock()
    monkeypatch.setattr(predict_module, "time", clock)
    return clock


def interrupted(run: Run, corpus: Corpus, out: Path, after: int, team: Team = ALONE) -> None:
    with pytest.raises(CrashError):
        whole(watched(run, after), corpus, out, team=team)
    assert not out.exists()


@pytest.mark.parametrize("after", [0, 1, 3, 20])
def test_it_goes_on_where_it_was(
    after: int, run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A mark after each chunk of 10: none of the segments is computed twice."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", after)
    again = watched(run)
    count = whole(again, corpus, tmp_path / "s")
    assert sum(again.asked) == count - 10 * after
    assert content(tmp_path / "s") == expected


def test_a_mark_every_15_seconds(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path, clock: Clock
) -> None:
    """A chunk takes 7.5 s: marks are written after two and after four of five."""

    class Slow(list[int]):
        def append(self, size: int) -> None:
            clock.now_s += 7.5
            super().append(size)

    with pytest.raises(CrashError):
        whole(replace(watched(run, 5), asked=Slow()), corpus, tmp_path / "s")
    again = watched(run)
    count = whole(again, corpus, tmp_path / "s")
    assert sum(again.asked) == count - 40
    assert content(tmp_path / "s") == expected


def test_without_a_mark_it_begins_again(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path, clock: Clock
) -> None:
    interrupted(run, corpus, tmp_path / "s", after=4)
    again = watched(run)
    assert sum(again.asked) == 0
    assert whole(again, corpus, tmp_path / "s") == sum(again.asked)
    assert content(tmp_path / "s") == expected


def test_rows_are_on_the_disk_before_their_mark(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, flush = [], ScoresWriter.flush
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(ScoresWriter, "flush", lambda self: done.append("rows") or flush(self))
    monkeypatch.setattr(predict_module, "write_json", lambda path, value: done.append("mark"))
    interrupted(run, corpus, tmp_path / "s", after=4)
    assert done[:4] == ["rows", "mark"] * 2


def test_interrupted_by_a_broken_mark(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path
) -> None:
    interrupted(run, corpus, tmp_path / "s", after=4)
    (partial_path(tmp_path / "s") / "done-0-of-1.json").write_text('{"key": "')
    whole(run, corpus, tmp_path / "s")
    assert content(tmp_path / "s") == expected


def test_rows_of_another_run_are_not_used(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(make_run(tmp_path / "b", corpus, seed=1), corpus, tmp_path / "s", after=6)
    again = watched(run)
    assert whole(again, corpus, tmp_path / "s") == sum(again.asked)
    assert content(tmp_path / "s") == expected


def test_rows_of_other_shards_are_not_used(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ids and lengths, and other features: the shards were written again."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    copies = []
    for path in corpus.shard_paths:
        copies.append(tmp_path / path.name)
        shutil.copy2(path, copies[-1])
    copied = replace(corpus, shard_paths=tuple(copies))
    interrupted(run, copied, tmp_path / "s", after=3)
    status = copies[-1].stat()
    os.utime(copies[-1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    again = watched(run)
    assert whole(again, copied, tmp_path / "s") == sum(again.asked)


@pytest.mark.parametrize("change", ["videos", "ids", "frames", "dtype", "weights"])
def test_rows_of_another_prediction_are_not_used(
    change: str, run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    rows, settings = corpus.rows(["v1", "v2"]), PredictSettings(10)
    with pytest.raises(CrashError):
        predict(watched(run, 6), corpus, rows, tmp_path / "s", settings, ALONE, {})
    if change == "videos":
        rows = corpus.rows(["v2", "test"])
    elif change == "ids":
        corpus = replace(corpus, video_ids=corpus.video_ids[::-1])
    elif change == "frames":
        corpus = replace(corpus, num_frames=corpus.num_frames - 1)
    elif change == "dtype":
        settings = PredictSettings(10, "float16")
    else:
        save_weights(run.weights_path, build_model(FLogi(), 40, 4), FACTS)
    again = watched(run)
    count = predict(again, corpus, rows, tmp_path / "s", settings, ALONE, {})
    assert sum(again.asked) == count
    predict(run, corpus, rows, tmp_path / "t", settings, ALONE, {})
    assert content(tmp_path / "s") == content(tmp_path / "t")


def test_a_mark_is_void_once_another_run_has_written_over_its_rows(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A is interrupted, B begins in its place and dies before its first mark, A comes back."""
    other = make_run(tmp_path / "b", corpus, seed=1)
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", after=6)
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 1e9)
    interrupted(other, corpus, tmp_path / "s", after=3)
    whole(run, corpus, tmp_path / "s")
    assert content(tmp_path / "s") == expected


# ---- several processes ---------------------------------------------------------------------------


def test_each_process_writes_its_own_rows(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path
) -> None:
    asked = []
    for rank in (2, 1, 0):
        part = watched(run)
        whole(part, corpus, tmp_path / "s", team=Pretend(rank, 3, ALONE.device))
        asked.append(sum(part.asked))
        assert (tmp_path / "s").exists() == (rank == 0)
    count = len(open_scores(tmp_path / "s").values)
    assert sum(asked) == count
    assert max(asked) - min(asked) <= 1
    assert content(tmp_path / "s").keys() == expected.keys()
    values = open_scores(tmp_path / "s").values
    np.testing.assert_allclose(values, open_scores(tmp_path / "expected").values, atol=1e-6)


def test_marks_are_of_a_process_among_so_many(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What process 1 of 2 has done is no work of process 0 of 2, nor of one that is alone."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    second = Pretend(1, 2, ALONE.device)
    interrupted(run, corpus, tmp_path / "s", after=3, team=second)
    interrupted(run, corpus, tmp_path / "s", after=2, team=Pretend(0, 2, ALONE.device))
    again = watched(run)
    whole(again, corpus, tmp_path / "s", team=second)
    count = sum(again.asked) + 30
    alone = watched(run)
    total = whole(alone, corpus, tmp_path / "s")
    assert count == total - total // 2
    assert sum(alone.asked) == total


def test_marks_of_several_processes_are_void_too(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B runs alone over the rows of A's two processes; A comes back as two."""
    second = Pretend(1, 2, ALONE.device)
    other = make_run(tmp_path / "b", corpus, seed=1)
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", after=3, team=second)
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 1e9)
    interrupted(other, corpus, tmp_path / "s", after=20)
    again = watched(run)
    total = whole(again, corpus, tmp_path / "s", team=second)
    assert sum(again.asked) == total - total // 2


# ---- memory --------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.nn.modules.module import register_module_forward_hook

from whenabouts.corpus.corpus import open_corpus
from whenabouts.train.distributed import Team
from whenabouts.train.predict import PredictSettings, predict
from whenabouts.train.run import open_run

torch.set_num_threads(1)
run, corpus, out = open_run(sys.argv[1]), open_corpus(sys.argv[2]), Path(sys.argv[3])
rows, team = np.tile(corpus.rows(["train"]), 40), Team(0, 1, torch.device("cpu"))
used, process = [], psutil.Process()
register_module_forward_hook(lambda *_: used.append(process.memory_info().rss))
for videos in (rows[: len(rows) // 4], rows):
    used.clear()
    predict(run, corpus, videos, out, PredictSettings(64), team, {})
    print(max(used) // 1024)
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Ten videos, 10 times and 40 times: of 29 MB more scores less than a third may stay."""
    corpus = make_small(
        tmp_path / "corpus", num_train=10, num_validate=0, num_test=0,
        max_frames=60, num_classes=2000, num_rated_classes=2000, zipf_exponent=0.0,
    )  # fmt: skip
    run = make_run(tmp_path / "run", corpus, family=SLogi())
    outcome = start((sys.executable, "-c", MEASURE), run.path, corpus.path, tmp_path / "scores")
    assert outcome.code == 0, outcome.err
    quarter_kb, all_kb = (int(line) for line in outcome.out.split())
    more_kb = open_scores(tmp_path / "scores").values.nbytes * 3 // 4 // 1024
    assert more_kb > 25_000
    assert all_kb - quarter_kb < more_kb / 3
