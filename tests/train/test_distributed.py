"""One process or several: the same result. The shares of a batch, the blocks of a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from commandline import run, start, torchrun
from tiny_training import PHASES, Training, in_a_team, odd_step, save_step
from toy_work import ALONE, log_lines
from whenabouts.core.errors import UsageError
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.embedding import NormedLinear
from whenabouts.models.table import build_model
from whenabouts.recipes.logistic import f_logi
from whenabouts.recipes.table import RECIPES
from whenabouts.train.checkpoint import load_weights
from whenabouts.train.distributed import Team, join_team, share_statistics
from whenabouts.train.run import build_for

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 5, 12, 100])
def test_blocks_cut_a_table_without_gaps(total: int, size: int) -> None:
    blocks = [Team(rank, size, CPU).block(total) for rank in range(size)]
    assert [row for block in blocks for row in block] == list(range(total))
    lengths = [len(block) for block in blocks]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_cut_a_batch(size: int) -> None:
    batch = np.arange(10) ** 2
    shares = [Team(rank, size, CPU).share(batch) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == batch.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Team(1, 3, CPU).share(batch).tolist() == [1, 16, 49]


def test_the_first_process_is_the_main_one() -> None:
    assert [Team(rank, 2, CPU).is_main for rank in range(2)] == [True, False]


def test_alone_nothing_is_summed() -> None:
    """No process group is there: any call into torch.distributed would fail."""
    with join_team("cpu") as team:
        assert (team.rank, team.size, team.device) == (0, 1, CPU)
        tensor = torch.tensor([1.0, 2.0])
        assert team.sum(tensor) is tensor
        model = torch.nn.Linear(1, 1)
        model.weight.grad = torch.ones(1, 1)
        team.sum_gradients(model)
        team.wait()
        assert model.weight.grad.item() == 1


def test_alone_batch_norms_stay_as_they_are() -> None:
    model = NormedLinear(2, 3)
    assert share_statistics(model, ALONE) is model
    assert model.sum_over_shares is None


def test_in_a_team_every_batch_norm_sums_over_it() -> None:
    model, team = (
        nn.Sequential(NormedLinear(2, 3), nn.Sequential(NormedLinear(3, 1))),
        Team(1, 2, CPU),
    )
    share_statistics(model, team)
    assert [m.sum_over_shares == team.sum for m in (model[0], model[1][0])] == [True, True]


@pytest.mark.parametrize("name", RECIPES)
def test_no_model_has_batch_norms_that_a_team_cannot_share(name: str, corpus: Corpus) -> None:
    """torch's own would normalise each share by itself."""
    settings = RECIPES[name]().model
    model = build_for(settings, corpus.dataset, corpus.classes, corpus.video_classes)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]


def noise(rank: int, size: int, seed: int, step: int) -> float:
    """The first number that a process draws in a step."""
    torch.manual_seed(99)
    Team(rank, size, CPU).seed_noise(seed, step)
    return float(torch.rand(1))


def test_noise_of_a_step() -> None:
    """Another for each process, seed and step; the same again; one process draws on."""
    drawn = {noise(r, 2, seed, step) for r in (0, 1) for seed in (0, 7) for step in (0, 1, 500)}
    assert len(drawn) == 12
    assert noise(1, 2, 7, 500) == noise(1, 2, 7, 500)
    assert noise(0, 1, 0, 0) == noise(0, 1, 7, 500) == noise(0, 1, 0, 1) not in drawn


def test_devices() -> None:
    with join_team() as team:
        assert team.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match=r"no device 'gpu'; use auto, cpu, cuda or cuda:N"):
        join_team("gpu").__enter__()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available")
def test_no_cuda() -> None:
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match=r"CUDA is not available here; use --device cpu"):
            join_team(name).__enter__()


# ---- several processes ---------------------------------------------------------------------------

SETTINGS = (
    *("--loop.batch-size", 15, "--loop.max-steps", 24, "--loop.evaluate-every", 4),
    *("--optimiser.learning-rate", 0.1, "--optimiser.clip-norm", 0.05),
)


def weights(corpus: Corpus, path: Path) -> torch.Tensor:
    model = build_model(f_logi().model, corpus.dataset.width, len(corpus.classes))
    load_weights(path / "v1.safetensors", model)
    return model.linear.weight.detach()


def looks(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [s for s in range(4, 25, 4) for _ in range(2)]
    return lines


def test_two_processes_train_and_predict_as_one(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """15 segments a step: 8 for one process, 7 for the other."""
    words = "train", "f-logi", corpus.path, *SETTINGS, "-o"
    outcomes = (
        run(capsys, *words, tmp_path / "one"),
        start(torchrun(2), *words, tmp_path / "two"),
    )
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        assert outcome.out.count("V2 mAP") == 1  # one process speaks
    one, two = tmp_path / "one", tmp_path / "two"
    torch.testing.assert_close(weights(corpus, two), weights(corpus, one), rtol=0, atol=1e-5)
    for mine, theirs in zip(looks(one), looks(two)):
        name = "loss" if mine["kind"] == "train" else "mean_ap"
        assert theirs[name] == pytest.approx(mine[name], abs=1e-4)
    results = [json.loads((path / "run.json").read_text()) for path in (one, two)]
    assert results[0]["best_step"] == results[1]["best_step"]
    assert results[0]["best_v2_map"] == pytest.approx(results[1]["best_v2_map"], abs=1e-4)

    words = "predict", one, corpus.path, "--splits", "v2", "--chunk-size", 16, "-o"
    outcomes = (
        run(capsys, *words, tmp_path / "alone"),
        start(torchrun(2), *words, tmp_path / "together"),
    )
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        assert outcome.out.count("segments of 12 videos") == 1
    alone, together = (open_scores(tmp_path / name) for name in ("alone", "together"))
    assert np.array_equal(alone.segments.starts_s, together.segments.starts_s)
    np.testing.assert_allclose(together.values, alone.values, rtol=0, atol=1e-6)
    assert alone.made_by == together.made_by


# ---- two processes, batch norms and all phases of S2 and S3 --------------------------------------


@pytest.fixture(scope="module")
def teamwork(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of `in_a_team`."""
    out = tmp_path_factory.mktemp("team")
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    outcome = start(launch, in_a_team.__code__.co_filename, corpus.path, out)
    assert outcome.code == 0, outcome.err
    return out


@pytest.mark.parametrize("strategy", [*PHASES, "kernel"])
def test_two_processes_train_attention_models_as_one(
    strategy: str, corpus: Corpus, teamwork: Path, tmp_path: Path
) -> None:
    """Shares of 4 and 3 videos, of 5 and 4 segments; batch norms in the embedding and the block.

    A kernel is fitted by one process, and looked at by both.
    """
    training = Training(corpus, tmp_path, strategy)
    training.train()
    two = teamwork / strategy
    logs = (log_lines(path, without_times=True) for path in (two, tmp_path))
    for mine, theirs in zip(*logs, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    for phase in PHASES.get(strategy, PHASES["s2"]):
        expected = load_file(tmp_path / f"{phase}.safetensors")
        got = load_file(two / f"{phase}.safetensors")
        assert sum("running" in name for name in got) == 4
        is_fitted = strategy == "kernel" and not phase.startswith("pretrain")
        assert ("rated_kernel.width" in got) == is_fitted
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    for number, model in enumerate(training.models):
        first, other = (load_file(two / f"model-{number}-of-{rank}.safetensors") for rank in (0, 1))
        assert all(torch.equal(first[name], other[name]) for name in first)
        torch.testing.assert_close(first, dict(model.state_dict()), rtol=0, atol=1e-4)


def test_two_processes_stop_together_and_go_on(teamwork: Path) -> None:
    """One of them was asked to stop in several phases: the bytes are those of no stop, though each
    process draws noise of its own."""
    whole, stopped = teamwork / "noisy", teamwork / "stopped"
    assert log_lines(stopped, without_times=True) == log_lines(whole, without_times=True)
    for phase in PHASES["s2"]:
        name = f"{phase}.safetensors"
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_gradients_of_a_batch_that_one_process_has_alone(teamwork: Path, tmp_path: Path) -> None:
    """The other one has no row, and no gradient of its own where only pairs lead."""
    save_step(odd_step(ALONE), tmp_path / "step.safetensors")
    expected = load_file(tmp_path / "step.safetensors")
    names = {name.split("/")[0] for name in expected}
    assert names == {"embedding", "head", "pairs"}
    for rank in (0, 1):
        got = load_file(teamwork / f"step-of-{rank}.safetensors")
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
