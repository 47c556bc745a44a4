"""S1 against a plain loop: what it trains on, for how long, by which loss, and what it watches."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_corpus import make_small, take_out_ratings
from toy_work import ALONE, log_lines
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, SettingsError
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS, Split
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedSegments
from whenabouts.feed.segments import SegmentChunks
from whenabouts.losses import rated_bce, rated_bce_with_unrated
from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.models.table import FAMILIES, build_model
from whenabouts.strategies import setup as shared_part
from whenabouts.strategies.s1 import S1, train_s1
from whenabouts.strategies.setup import Negatives, Setup, segment_loss, watched_map
from whenabouts.train.checkpoint import Position, load_weights
from whenabouts.train.distributed import Team
from whenabouts.train.log import MetricsLog
from whenabouts.train.settings import Loop, Optimiser

LOOP = Loop(batch_size=8, max_steps=24, evaluate_every=4, patience=100, seed=5)
LOGISTIC = ("s-logi", "f-logi")
FAST = Optimiser(learning_rate=0.2)


def build(corpus: Corpus, family: str = "s-logi") -> nn.Module:
    return build_model(FAMILIES[family](), corpus.dataset.width, len(corpus.classes))


def train(
    corpus: Corpus,
    run: Path,
    loop: Loop = LOOP,
    strategy: S1 = S1(),  # noqa: B008 - frozen
    family: str = "s-logi",
    resident_bytes: int = 1 << 30,
    *,
    final: bool = False,
) -> Position:
    (run / "checkpoints").mkdir(parents=True)
    with closing(MetricsLog(run)) as log:
        setup = Setup(corpus, run, log, ALONE, resident_bytes)
        return train_s1(lambda: build(corpus, family), strategy, FAST, loop, setup, final=final)


def weights(corpus: Corpus, path: Path) -> dict[str, Tensor]:
    model = build(corpus)
    load_weights(path, model)
    return model.state_dict()


def rated(corpus: Corpus, *splits: Split) -> RatedSegments:
    labels = corpus.rated(corpus.rows(splits))
    return RatedSegments(corpus, labels, corpus.classes, ALONE.device)


def plain(corpus: Corpus, splits: tuple[Split, ...], steps: int) -> dict[str, Tensor]:
    """S1 written out: the rated loss of shuffled batches of the splits, Adam, nothing else."""
    segments = rated(corpus, *splits)
    order = ShuffledOrder(len(segments), LOOP.batch_size, LOOP.seed)
    torch.manual_seed(LOOP.seed)
    model = build(corpus)
    optimiser = torch.optim.Adam(model.parameters(), lr=FAST.learning_rate, fused=True)
    for step in range(steps):
        batch = segments.batch(order.batch(step))
        optimiser.param_groups[0]["lr"] = 0.2 * 0.95 ** (step * 8 / 4_000_000)
        logits = model(batch.features, batch.mask)[batch.pair_segment, batch.pair_class]
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, batch.pair_label, reduction="sum"
        )
        optimiser.zero_grad()
        (loss / LOOP.batch_size).backward()
        optimiser.step()
    return model.state_dict()


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


# ---- what is trained on, and for how long --------------------------------------------------------


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Position]:
    run = tmp_path_factory.mktemp("s1") / "run"
    return run, train(corpus, run, final=True)


def test_the_search_trains_on_v1_alone(corpus: Corpus, finished: tuple[Path, Position]) -> None:
    run, found = finished
    expected = plain(corpus, ("v1",), found.best_step)
    assert_close(weights(corpus, run / "v1.safetensors"), expected)
    assert load_weights(run / "v1.safetensors", build(corpus)) == {
        "phase": "v1",
        "step": found.best_step,
        "trained_on": ["v1"],
    }


def test_final_trains_anew_on_v1_and_v2_for_twice_the_best_step(
    corpus: Corpus, finished: tuple[Path, Position]
) -> None:
    run, found = finished
    assert 0 < found.best_step < LOOP.max_steps  # else twice of another length would do as well
    expected = plain(corpus, ("v1", "v2"), 2 * found.best_step)
    assert_close(weights(corpus, run / "final.safetensors"), expected)
    assert load_weights(run / "final.safetensors", build(corpus)) == {
        "phase": "final",
        "step": 2 * found.best_step,
        "trained_on": ["v1", "v2"],
    }


def test_the_log_of_both_phases(corpus: Corpus, finished: tuple[Path, Position]) -> None:
    run, found = finished
    looks = [line for line in log_lines(run) if line["kind"] == "evaluate"]
    assert {line["phase"] for line in looks} == {"v1"}
    assert tuple(line["mean_ap"] for line in looks) == found.history
    assert max(found.history) == found.best
    last = {line["phase"]: line for line in log_lines(run) if line["kind"] == "train"}
    num_v1, num_both = len(rated(corpus, "v1")), len(rated(corpus, "v1", "v2"))
    assert num_both > 1.5 * num_v1
    for phase, steps, number in (
        ("v1", LOOP.max_steps, num_v1),
        ("final", 2 * found.best_step, num_both),
    ):
        assert last[phase]["step"] == steps
        assert last[phase]["epoch"] == pytest.approx(steps * 8 / number, abs=1e-4)


def test_without_final_there_is_one_phase(corpus: Corpus, tmp_path: Path) -> None:
    train(corpus, tmp_path / "run")
    assert {each.name for each in (tmp_path / "run").iterdir()} == {
        "checkpoints",
        "metrics.jsonl",
        "v1.safetensors",
    }


def test_ratings_of_other_splits_are_not_touched(corpus: Corpus, tmp_path: Path) -> None:
    """Whatever stands in V2, the steps on V1 are the same: compare the last checkpoints."""
    without = []
    keep = np.ones(len(corpus.rated_class.values), bool)
    in_v2 = np.flatnonzero(corpus.split[corpus.rated_class.rows] == SPLITS.index("v2"))
    for name, drop in (("all", in_v2[:0]), ("half", in_v2[::2])):
        keep[drop] = False
        train(take_out_ratings(corpus, keep), tmp_path / name)
        without.append((tmp_path / name / "checkpoints" / "v1.safetensors").read_bytes())
    start = [int.from_bytes(b[:8], "little") + 8 for b in without]
    assert without[0][start[0] :] == without[1][start[1] :]


# ---- does it learn -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", LOGISTIC)
def test_it_overfits_8_planted_videos(family: str, tmp_path: Path) -> None:
    corpus = make_small(tmp_path / "eight", num_train=0, num_validate=16, num_test=0)
    assert len(corpus.rows(["v1"])) == 8
    loop = replace(LOOP, batch_size=64, max_steps=400, evaluate_every=10)
    train(corpus, tmp_path / "run", loop, family=family)
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert losses[-1] < 0.02 < 0.1 < losses[0]
    model = build(corpus, family)
    checkpoint = tmp_path / "run" / "v1.safetensors"
    load_weights(checkpoint, model)
    with torch.inference_mode():
        assert watched_map(model, rated(corpus, "v1"), corpus.classes, ALONE) > 0.99


@pytest.mark.parametrize("family", LOGISTIC)
def test_it_generalises(family: str, corpus: Corpus, tmp_path: Path) -> None:
    """Rated pairs in random order give about 0.5."""
    found = train(corpus, tmp_path / "run", replace(LOOP, max_steps=60), family=family)
    assert found.best > 0.7


# ---- the same again ------------------------------------------------------------------------------


def test_one_seed_one_result(corpus: Corpus, tmp_path: Path) -> None:
    """Bit for bit, in memory or gathered batch by batch, whatever was drawn before."""
    results = []
    for number, resident_bytes in enumerate((1 << 30, 1 << 30, 0)):
        torch.manual_seed(number)
        run = tmp_path / str(number)
        train(corpus, run, final=True, resident_bytes=resident_bytes)
        files = [(run / f"{phase}.safetensors").read_bytes() for phase in ("v1", "final")]
        results.append((files, log_lines(run, without_times=True)))
    assert results[0] == results[1] == results[2]


def test_another_seed_is_another_start_and_another_order(corpus: Corpus, tmp_path: Path) -> None:
    one_step = replace(LOOP, max_steps=1)
    frozen = replace(FAST, learning_rate=0.0)
    starts, ends = [], []
    for seed in (5, 6):
        loop = replace(one_step, seed=seed)
        for name, settings, found in (("start", frozen, starts), ("end", FAST, ends)):
            run = tmp_path / f"{name}-{seed}"
            (run / "checkpoints").mkdir(parents=True)
            with closing(MetricsLog(run)) as log:
                setup = Setup(corpus, run, log, ALONE)
                maker = build if name == "start" else constant
                train_s1(lambda m=maker: m(corpus), S1(), settings, loop, setup, final=False)
            found.append(weights(corpus, run / "v1.safetensors")["linear.weight"])
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(ends[0], ends[1])


def constant(corpus: Corpus) -> nn.Module:
    """A model whose start no seed can change."""
    model = build(corpus)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", LOGISTIC)
def test_the_loss_by_its_two_definitions(family: str, corpus: Corpus) -> None:
    """Weights other than 1, a batch that is a share of a larger one."""
    segments = rated(corpus, "v1")
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.2, 3, len(segments.labels)).astype(np.float32)
    segments.labels = replace(segments.labels, weight=weight)
    batch = segments.batch(np.arange(1, 12), num_segments=30)
    model = build(corpus, family)
    logits = model(batch.features, batch.mask)
    pairs = batch.pair_segment, batch.pair_class
    rates = batch.pair_label, batch.pair_weight
    torch.testing.assert_close(
        segment_loss(model, batch, Negatives()), rated_bce(*rates, logits[pairs], 30)
    )
    torch.testing.assert_close(
        segment_loss(model, batch, Negatives(0.5)),
        rated_bce_with_unrated(*rates, logits, *pairs, 0.5, 30),
    )
    assert segment_loss(model, batch, Negatives(0.5)) > segment_loss(model, batch, Negatives())


@pytest.mark.parametrize("family", LOGISTIC)
def test_classes_that_are_not_rated_get_exactly_no_gradient(family: str, corpus: Corpus) -> None:
    segments = rated(corpus, "v1")
    batch = segments.batch(np.arange(1))
    model = build(corpus, family)
    segment_loss(model, batch, Negatives()).backward()
    is_rated = torch.zeros(len(corpus.classes), dtype=torch.bool)
    is_rated[batch.pair_class] = True
    assert 0 < is_rated.sum() < len(corpus.classes)
    for parameter in model.parameters():
        assert (parameter.grad[~is_rated] == 0).all()
        assert (parameter.grad[is_rated] != 0).any()
    segment_loss(model, batch, Negatives(0.1)).backward()
    assert (model.linear.bias.grad != 0).all()


def test_unrated_weight_reaches_the_training(corpus: Corpus, tmp_path: Path) -> None:
    """Negatives everywhere push the scores down."""
    means = []
    for weight in (0.0, 1.0):
        run = tmp_path / str(weight)
        train(corpus, run, replace(LOOP, max_steps=40), S1(negatives=Negatives(unrated=weight)))
        means.append(weights(corpus, run / "v1.safetensors")["linear.bias"].mean())
    assert means[1] < means[0] - 0.1


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"unrated: the value is -0.1.*at least 0"):
        Negatives(unrated=-0.1)
    with pytest.raises(SettingsError, match=r"outside: the value is -0.1.*at least 0"):
        Negatives(outside=-0.1)


# ---- what is watched -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 4096])
@pytest.mark.parametrize("family", LOGISTIC)
def test_the_watched_map_is_that_of_the_whole_scores(
    family: str, batch_size: int, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Score every segment of V2 and evaluate that: the slow way round."""
    torch.manual_seed(1)
    model = build(corpus, family)
    rows = corpus.rows(["v2"])
    chunks = SegmentChunks(corpus, rows, ALONE.device)
    monkeypatch.setattr(shared_part, "WATCH_BATCH", batch_size)
    with torch.inference_mode():
        values = [model(c.features, c.mask) for c in chunks.chunks(0, len(chunks.table))]
        found = watched_map(model, rated(corpus, "v2"), corpus.classes, ALONE)
    truth = corpus.rated(rows)
    expected = evaluate_scores(truth, chunks.table, corpus.classes, torch.cat(values).numpy())
    assert found == pytest.approx(expected.mean_ap, abs=1e-9)
    assert 0.2 < found < 0.95


def test_each_process_scores_its_part(corpus: Corpus) -> None:
    """Over the processes every pair is scored once: the parts add up to the whole."""
    parts: list[Tensor] = []

    class Part(Team):
        def sum(self, tensor: Tensor) -> Tensor:
            parts.append(tensor.clone())
            return tensor

    torch.manual_seed(1)
    model, watched = build(corpus), rated(corpus, "v2")
    with torch.inference_mode():
        for rank, size in ((0, 1), (0, 3), (1, 3), (2, 3)):
            watched_map(model, watched, corpus.classes, Part(rank, size, ALONE.device))
    whole, *thirds = parts
    assert (torch.stack([part != 0 for part in thirds]).sum(dim=0) == 1).all()
    torch.testing.assert_close(torch.stack(thirds).sum(dim=0), whole)


# ---- corpora it cannot train on ------------------------------------------------------------------


def test_v2_without_a_positive_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    in_v2 = corpus.split[corpus.rated_class.rows] == SPLITS.index("v2")
    poor = take_out_ratings(corpus, ~in_v2 | (corpus.rated_score.values < 0.5))
    with pytest.raises(CorpusError, match=r"corpus\.index: no rated segment of V2 is positive"):
        train(poor, tmp_path / "run")
    one = np.flatnonzero(in_v2 & (corpus.rated_score.values >= 0.5))[:1]
    keep = ~in_v2
    keep[one] = True
    enough = take_out_ratings(corpus, keep)
    assert train(enough, tmp_path / "other", replace(LOOP, max_steps=1)).best == 1.0


@pytest.mark.parametrize("split", ["v1", "v2"])
def test_a_split_without_ratings_is_refused(split: Split, corpus: Corpus, tmp_path: Path) -> None:
    bare = take_out_ratings(corpus, corpus.split[corpus.rated_class.rows] != SPLITS.index(split))
    with pytest.raises(CorpusError, match=r"no rated segment of an evaluated class"):
        train(bare, tmp_path / "run")


def test_classes_that_nobody_rated_are_no_matter(corpus: Corpus, tmp_path: Path) -> None:
    more = replace(corpus, classes=ClassOrder.of((77, *corpus.classes.ids)))
    train(more, tmp_path / "run", replace(LOOP, max_steps=4))
    assert weights(more, tmp_path / "run" / "v1.safetensors")["linear.weight"].shape[0] == 5
