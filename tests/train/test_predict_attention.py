"""Attention that is kept: against the model called on one whole video after the other."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from attention_run import make_attention_run, model_of
from commandline import start, torchrun
from toy_work import ALONE, CrashError
from whenabouts.core.errors import UsageError
from whenabouts.core.scores import ATTENTION_FILES, FILES, Scores, open_scores, partial_path
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.segments import SegmentChunks
from whenabouts.models.attention import AttentionSettings
from whenabouts.models.hierarchical import (
    FCFC,
    LSE,
    NL,
    SE,
    Att2,
    Hierarchical,
    HierarchicalSettings,
)
from whenabouts.recipes.logistic import f_logi, s_logi
from whenabouts.recipes.recipe import Recipe
from whenabouts.train import predict as predict_module
from whenabouts.train.checkpoint import save_weights
from whenabouts.train.distributed import Team
from whenabouts.train.predict import PredictSettings, predict
from whenabouts.train.run import Run, build_for, create_run, open_run

CHUNK = 40  # videos have 12 to 16 segments: a group is two or three of them
ROUNDING = 6e-4  # float16 near 1


@dataclass(frozen=True)
class WatchedRun(Run):
    """A run that notes how many segments were encoded at once, and may crash before one more."""

    asked: list[int] = field(default_factory=list)
    crash_after: int | None = None

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        model, facts = super().load_model()
        assert isinstance(model, Hierarchical)
        model.segment_module.register_forward_pre_hook(self._note)
        return model, facts

    def _note(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(self.asked) == self.crash_after:
            raise CrashError("before the next chunk")
        self.asked.append(len(inputs[0]))


class Pretend(Team):
    """One of several processes, without the others: does not wait for them."""

    def wait(self) -> None:
        pass


def watched(run: Run, crash_after: int | None = None) -> WatchedRun:
    return WatchedRun(
        run.path, run.recipe, run.dataset, run.classes, run.video_classes, [], crash_after
    )


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_attention_run(tmp_path_factory.mktemp("nl") / "run", corpus, NL())


def keep(
    run: Run, corpus: Corpus, out: Path, chunk_size: int = CHUNK, team: Team = ALONE,
    *, attention: bool = True,
) -> int:  # fmt: skip
    """Predict V1 and V2: 24 videos."""
    settings = PredictSettings(chunk_size, attention=attention)
    return predict(run, corpus, corpus.rows(["v1", "v2"]), out, settings, team, {})


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def kept(out: Path) -> tuple[Scores, NDArray[np.float64], NDArray[np.float64]]:
    """Scores, frame attention [S, T], segment attention [S]."""
    scores = open_scores(out)
    assert scores.attention is not None
    return scores, *(
        array.astype(np.float64) for array in (scores.attention.frames, scores.attention.segments)
    )


# ---- what is kept --------------------------------------------------------------------------------


def by_hand(run: Run, corpus: Corpus) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Scores [S, C], frame attention [S, T] and segment attention [S] of each video alone."""
    model = model_of(run)
    for row in corpus.rows(["v1", "v2"]):
        frames = np.concatenate(corpus.frames(row), axis=1).astype(np.float64)
        x = frames * 4 / 255 + 4 / 512 - 2
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        num_segments = -(-len(x) // 5)
        padded = np.zeros((num_segments * 5, x.shape[1]), np.float32)
        padded[: len(x)] = x
        mask = np.arange(num_segments * 5) < len(x)
        features = torch.from_numpy(padded).view(num_segments, 5, -1)
        with torch.inference_mode():
            encoded, of_frames = model.encode_segments(
                features, torch.from_numpy(mask).view(num_segments, 5)
            )
            scores = model.segment_head(encoded).sigmoid()
            whole = torch.ones(1, num_segments, dtype=torch.bool)
            of_segments = model.video_logits(encoded.unsqueeze(0), whole)[1][0]
        of_frames = np.where(mask.reshape(-1, 5), of_frames.numpy(), np.nan)
        yield scores.numpy(), of_frames, of_segments.numpy()


SOFTMAX = AttentionSettings(weights="softmax", num_heads=2)


@pytest.mark.parametrize(
    "settings",
    [Att2(), Att2(segment_attention=SOFTMAX, video_attention=SOFTMAX), NL(), SE(), FCFC(), LSE()],
    ids=["att2", "softmax", "nl", "se", "fcfc", "lse"],
)
def test_attention_of_whole_videos(
    settings: HierarchicalSettings, corpus: Corpus, tmp_path: Path
) -> None:
    """Videos of another length, in one group; NL and softmax would tell a part from the whole."""
    run = make_attention_run(tmp_path / "run", corpus, settings)
    count = keep(run, corpus, tmp_path / "s")
    slow = [np.concatenate(parts) for parts in zip(*by_hand(run, corpus))]
    scores, of_frames, of_segments = kept(tmp_path / "s")
    assert count == len(scores.segments)
    np.testing.assert_allclose(scores.values, slow[0], atol=1e-5)
    np.testing.assert_allclose(of_frames, slow[1], atol=ROUNDING, equal_nan=True)
    np.testing.assert_allclose(of_segments, slow[2], atol=ROUNDING)
    assert np.isnan(of_frames).any()
    assert of_segments.std() > 0.02
    if isinstance(settings, FCFC):
        assert set(of_frames[np.isfinite(of_frames)]) == {1.0}
    else:
        assert np.nanstd(of_frames) > 0.02


def test_each_segment_is_encoded_once(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    """And never more at once than a chunk, however long a video is."""
    for chunk_size in (10, CHUNK):
        once = watched(run)
        assert keep(once, corpus, tmp_path / "s", chunk_size) == sum(once.asked)
        assert chunk_size / 2 < max(once.asked) <= chunk_size
    assert (np.bincount(open_scores(tmp_path / "s").segments.video) > 10).all()


def test_scores_are_those_without_attention(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    keep(run, corpus, tmp_path / "s")
    keep(run, corpus, tmp_path / "plain", attention=False)
    plain, scores = open_scores(tmp_path / "plain"), open_scores(tmp_path / "s")
    assert plain.attention is None
    np.testing.assert_allclose(scores.values, plain.values, atol=1e-6, rtol=0)
    mine, theirs = content(tmp_path / "s"), content(tmp_path / "plain")
    assert theirs.keys() == {*FILES}
    assert mine.keys() == {*FILES, *ATTENTION_FILES}
    assert all(mine[name] == theirs[name] for name in FILES if name != "scores.npy")


def test_without_attention_chunks_have_their_size(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    """Byte for byte the model's answer to one chunk after the other, whatever a video's end."""
    plain = watched(run)
    count = keep(plain, corpus, tmp_path / "s", attention=False)
    assert plain.asked == [CHUNK] * (count // CHUNK) + [count % CHUNK] * (count % CHUNK > 0)
    model, chunks = model_of(run), SegmentChunks(
        corpus, corpus.rows(["v1", "v2"]), ALONE.device, CHUNK
    )  # fmt: skip
    with torch.inference_mode():
        found = [model(c.features, c.mask).sigmoid().numpy() for c in chunks.chunks(0, count)]
    expected = io.BytesIO()
    np.save(expected, np.concatenate(found))
    assert (tmp_path / "s" / "scores.npy").read_bytes() == expected.getvalue()


@pytest.mark.parametrize("chunk_size", [1, 10, 4096])
def test_chunk_size_never_changes_attention(
    chunk_size: int, run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    keep(run, corpus, tmp_path / "s")
    keep(run, corpus, tmp_path / "other", chunk_size)
    same(tmp_path / "s", tmp_path / "other")


def same(one: Path, other: Path) -> None:
    """Up to the last bit or so: sums run in another order."""
    for mine, theirs in zip(kept(one)[1:], kept(other)[1:]):
        np.testing.assert_allclose(theirs, mine, atol=ROUNDING, rtol=0, equal_nan=True)
    np.testing.assert_allclose(kept(other)[0].values, kept(one)[0].values, atol=1e-6, rtol=0)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [s_logi(), f_logi()], ids=["s-logi", "f-logi"])
def test_a_model_without_attention(recipe: Recipe, corpus: Corpus, tmp_path: Path) -> None:
    create_run(tmp_path / "run", recipe, corpus, resume=False)
    model = build_for(recipe.model, corpus.dataset, corpus.classes, corpus.video_classes)
    save_weights(tmp_path / "run" / "v1.safetensors", model, {})
    told = (
        rf"run: the model of the run, {recipe.model.family}, has no attention to keep; "
        "models with attention are att2, loss2, nl, se, fcfc, lse; predict without --attention"
    )
    with pytest.raises(UsageError, match=told):
        keep(open_run(tmp_path / "run"), corpus, tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# ---- interrupted ---------------------------------------------------------------------------------


@pytest.fixture
def expected(run: Run, corpus: Corpus, tmp_path: Path) -> dict[str, bytes]:
    keep(run, corpus, tmp_path / "expected")
    return content(tmp_path / "expected")


def interrupted(run: Run, corpus: Corpus, out: Path, after: int, **how: Any) -> None:
    with pytest.raises(CrashError):
        keep(watched(run, after), corpus, out, **how)
    assert not out.exists()


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_it_goes_on_where_it_was(
    after: int, run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A mark after each group, here a chunk: none of the segments is computed twice."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", after)
    once, again = watched(run), watched(run)
    keep(once, corpus, tmp_path / "once")
    keep(again, corpus, tmp_path / "s")
    assert content(tmp_path / "s") == expected
    assert again.asked == once.asked[after:]


def test_a_mark_is_where_a_video_begins(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Interrupted and gone on with in chunks of 3, where most videos are in parts, then of 40."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", 7, chunk_size=3)
    interrupted(run, corpus, tmp_path / "s", 4, chunk_size=3)
    again = watched(run)
    assert sum(again.asked) < keep(again, corpus, tmp_path / "s")
    same(tmp_path / "expected", tmp_path / "s")


@pytest.mark.parametrize("attention", [True, False])
def test_rows_of_the_other_kind_are_not_used(
    attention: bool, run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With attention after without, and the other way round."""
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    interrupted(run, corpus, tmp_path / "s", 4, attention=not attention)
    assert partial_path(tmp_path / "s").is_dir()
    again = watched(run)
    assert keep(again, corpus, tmp_path / "s", attention=attention) == sum(again.asked)
    keep(run, corpus, tmp_path / "t", attention=attention)
    assert content(tmp_path / "s") == content(tmp_path / "t")


# ---- several processes ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 40])
def test_processes_write_whole_videos(
    size: int, run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path
) -> None:
    asked = []
    for rank in reversed(range(size)):
        part = watched(run)
        keep(part, corpus, tmp_path / "s", team=Pretend(rank, size, ALONE.device))
        asked.append(sum(part.asked))
        assert (tmp_path / "s").exists() == (rank == 0)
    scores = open_scores(tmp_path / "s")
    lengths = np.unique(scores.segments.video, return_counts=True)[1]
    assert sum(asked) == len(scores.segments)
    assert max(asked) - len(scores.segments) / size <= lengths.max()
    assert content(tmp_path / "s").keys() == expected.keys()
    same(tmp_path / "expected", tmp_path / "s")


def test_one_of_two_processes_goes_on(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "SAVE_EVERY_S", 0)
    first, second = (Pretend(rank, 2, ALONE.device) for rank in range(2))
    interrupted(run, corpus, tmp_path / "s", 3, team=second)
    again = watched(run)
    keep(again, corpus, tmp_path / "s", team=second)
    keep(run, corpus, tmp_path / "s", team=first)
    keep(run, corpus, tmp_path / "t")
    same(tmp_path / "t", tmp_path / "s")
    assert sum(again.asked) < len(open_scores(tmp_path / "s").segments) / 2


def test_two_processes_at_once(
    run: Run, corpus: Corpus, expected: dict[str, bytes], tmp_path: Path
) -> None:
    words = "predict", run.path, corpus.path, "--attention", "--splits", "v1", "v2"
    outcome = start(torchrun(2), *words, "--chunk-size", CHUNK, "-o", tmp_path / "s")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("segments of 24 videos x 4 classes, with attention, in") == 1
    assert content(tmp_path / "s").keys() == expected.keys()
    same(tmp_path / "expected", tmp_path / "s")
