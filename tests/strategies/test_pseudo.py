"""Pseudo-labels beside ratings: the loss by hand, who wins, what is refused, what a run says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pseudo_world import Pair, labels_of, pairs_of, random_labels, write_random
from toy_work import ALONE
from whenabouts.core.errors import LabelsError, RunError, SettingsError, UsageError
from whenabouts.core.labels import SegmentLabels, write_labels
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.mixed import MixedBatch, MixedSegments
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedBatch, RatedSegments
from whenabouts.feed.videos import Drawing, Videos
from whenabouts.models.hierarchical import Att2, Hierarchical, scaled
from whenabouts.models.logistic import SLogi
from whenabouts.strategies.pseudo import Pseudo, open_pseudo, without_rated
from whenabouts.strategies.s1 import S1, rated_work
from whenabouts.strategies.s2 import S2, Pretrain
from whenabouts.strategies.s3 import S3
from whenabouts.strategies.setup import Negatives, Setup, build_seeded, segment_loss, video_rows
from whenabouts.strategies.table import Strategy, refuse_untrainable, train_strategy
from whenabouts.strategies.videos import Terms, both_losses
from whenabouts.train.checkpoint import load_weights
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for
from whenabouts.train.settings import Loop, Optimiser

LOOP = Loop(batch_size=8, max_steps=4, evaluate_every=2, seed=3)
RATE = Optimiser(name="adamw", learning_rate=1e-3)
PRETRAIN = Pretrain(optimiser=RATE, batch_size=8, max_steps=2, evaluate_every=1)
ATT2 = scaled(Att2(), "tiny")


def build(corpus: Corpus, model: Any = ATT2) -> nn.Module:
    return build_for(model, corpus.dataset, corpus.classes, corpus.video_classes)


def seeded(corpus: Corpus) -> Hierarchical:
    model = build_seeded(lambda: build(corpus), 0, ALONE)
    assert isinstance(model, Hierarchical)
    return model


def train(
    corpus: Corpus, run: Path, strategy: Strategy, *, model: Any = ATT2, final: bool = False,
    resident_bytes: int = 1 << 30,
) -> dict[str, Any]:  # fmt: skip
    """Train; returns the facts stored with the weights, by phase."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    with closing(MetricsLog(run)) as log:
        setup = Setup(corpus, run, log, ALONE, resident_bytes)
        train_strategy(lambda: build(corpus, model), strategy, RATE, LOOP, setup, final=final)
    paths = run.glob("*.safetensors")
    return {path.stem: load_weights(path, build(corpus, model)) for path in paths}


@pytest.fixture(scope="module")
def path(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft pseudo-labels of train, V1 and test: some of pairs that are rated."""
    folder = tmp_path_factory.mktemp("labels")
    return write_random(folder / "labels.parquet", corpus, trained_on=["v1"])


@pytest.fixture(scope="module")
def pseudo(path: Path) -> Pseudo:
    return Pseudo(str(path), weight=0.3, share=0.25)


# ---- the loss ------------------------------------------------------------------------------------


def bce(label: float, logit: float) -> float:
    """By definition, of a label in [0, 1]."""
    p = 1 / (1 + np.exp(-logit))
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)))


def mean_over_segments(batch: RatedBatch, logits: NDArray[np.float64]) -> float:
    pairs = (batch.pair_segment, batch.pair_class, batch.pair_label, batch.pair_weight)
    rows = zip(*(each.tolist() for each in pairs))
    return sum(w * bce(y, logits[s, c]) for s, c, y, w in rows) / len(batch.mask)


def mixed_batch(corpus: Corpus, settings: Pseudo, *, with_outside: bool = False) -> MixedBatch:
    opened = open_pseudo(settings, corpus)
    assert opened is not None
    setup = Setup(corpus, Path(), None, ALONE)  # type: ignore[arg-type]
    model = build(corpus)
    rated = setup.rated(["v1"], model, with_outside=with_outside)
    others = setup.segments(opened.beside(rated.labels, corpus), model, 1 << 30)
    return MixedSegments(rated, others, 12, opened.share, 0).batch(0)


def both_logits(model: nn.Module, batch: MixedBatch) -> tuple[NDArray[Any], NDArray[Any]]:
    parts = (model(part.features, part.mask) for part in (batch.rated, batch.pseudo))
    rated, pseudo = (part.detach().double().numpy() for part in parts)
    return rated, pseudo


def test_each_kind_is_a_mean_over_its_own_segments(corpus: Corpus, path: Path) -> None:
    batch = mixed_batch(corpus, Pseudo(str(path), weight=0.3, share=0.25))
    assert (len(batch.rated.mask), len(batch.pseudo.mask)) == (9, 3)
    assert not set(batch.pseudo.pair_label.tolist()) <= {0.0, 1.0}
    model = seeded(corpus).eval()
    rated, pseudo = both_logits(model, batch)
    expected = mean_over_segments(batch.rated, rated) + mean_over_segments(batch.pseudo, pseudo)
    found = segment_loss(model, batch, Negatives())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_weight_is_a_factor_on_their_part(corpus: Corpus, path: Path) -> None:
    model, parts = seeded(corpus).eval(), {}
    for weight in (0.0, 0.5, 2.0):
        batch = mixed_batch(corpus, Pseudo(str(path), weight=weight))
        parts[weight] = float(segment_loss(model, batch, Negatives()).detach())
    alone = float(segment_loss(model, batch.rated, Negatives()).detach())
    assert parts[0.0] == pytest.approx(alone, rel=1e-5)
    assert parts[2.0] - alone == pytest.approx(4 * (parts[0.5] - alone), rel=1e-4)
    assert parts[2.0] > alone + 0.1


def test_negatives_are_those_of_rated_segments(corpus: Corpus, pseudo: Pseudo) -> None:
    """Which classes a pseudo-labelled segment does not show, its Labels say."""
    negatives = Negatives(unrated=0.25, outside=0.5)
    batch = mixed_batch(corpus, pseudo, with_outside=True)
    model = seeded(corpus).eval()
    _, logits = both_logits(model, batch)
    expected = float(segment_loss(model, batch.rated, negatives).detach())
    expected += mean_over_segments(batch.pseudo, logits)
    assert float(segment_loss(model, batch, negatives).detach()) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_batch_norm_sees_both_kinds_at_once(corpus: Corpus, pseudo: Pseudo) -> None:
    batch, model = mixed_batch(corpus, pseudo), seeded(corpus).train()
    name, norm = next((n, m) for n, m in model.named_modules() if hasattr(m, "running_mean"))
    before = norm.running_mean.clone()
    features = torch.cat([batch.rated.features, batch.pseudo.features])
    mask = torch.cat([batch.rated.mask, batch.pseudo.mask])
    twin = seeded(corpus).train()
    twin(features, mask)
    segment_loss(model, batch, Negatives())
    assert not torch.equal(norm.running_mean, before)
    torch.testing.assert_close(norm.running_mean, twin.get_submodule(name).running_mean)


def test_both_kinds_are_shuffled_by_the_seed(
    corpus: Corpus, pseudo: Pseudo, tmp_path: Path
) -> None:
    with closing(MetricsLog(tmp_path)) as log:
        setup, model = Setup(corpus, tmp_path, log, ALONE), build(corpus)
        opened = open_pseudo(pseudo, corpus)
        one, other = (
            rated_work(
                "v1", ("v1",), model, Negatives(), opened, replace(LOOP, seed=seed), setup, None
            ).batch(0)
            for seed in (0, 1)
        )
    assert not torch.equal(one.rated.features, other.rated.features)
    assert not torch.equal(one.pseudo.features, other.pseudo.features)


def s3_videos(corpus: Corpus, settings: Pseudo, max_segments: int = 0) -> Videos:
    opened = open_pseudo(settings, corpus)
    assert opened is not None
    rows = corpus.rows(["train", "v1"])
    order = ShuffledOrder(len(rows), 6, 0)
    rated = corpus.rated(corpus.rows(["v1"]))
    return Videos(
        corpus, rows, corpus.classes, corpus.video_classes, order, ALONE.device, rated,
        Drawing(max_segments), opened.beside(rated, corpus),
    )  # fmt: skip


@pytest.mark.parametrize("max_segments", [0, 4])
def test_both_losses_at_once_by_hand(corpus: Corpus, pseudo: Pseudo, max_segments: int) -> None:
    """The pseudo-labels of the segments drawn, over how many of those have one."""
    batch = s3_videos(corpus, pseudo, max_segments).batch(1)
    pairs, model = batch.pseudo, seeded(corpus).eval()
    assert pairs is not None
    assert pairs.num_segments == len(set(pairs.segment.tolist())) > 5
    logits = model(batch.features, batch.mask).detach().double().numpy()
    columns = (pairs.segment, pairs.column, pairs.label, pairs.weight)
    rows = list(zip(*(each.tolist() for each in columns)))
    expected = sum(w * bce(y, logits[s, c]) for s, c, y, w in rows) / pairs.num_segments
    head_rows, without = video_rows(corpus, ALONE.device), replace(batch, pseudo=None)
    for negatives in (Negatives(), Negatives(unrated=0.5)):
        terms = Terms(0.7, negatives=negatives)
        with_them, alone = (
            float(both_losses(model, each, terms, head_rows).detach()) for each in (batch, without)
        )
        assert with_them - alone == pytest.approx(0.7 * expected, rel=1e-3)
    no_segments = Terms(0.0)
    assert both_losses(model, batch, no_segments, head_rows) == both_losses(
        model, without, no_segments, head_rows
    )


def test_the_pairs_of_a_video_batch(corpus: Corpus, path: Path) -> None:
    """All unrated ones of its videos, each at its segment."""
    rows = corpus.rows(["train", "v1"])
    batch = s3_videos(corpus, Pseudo(str(path), weight=1.0)).batch(0)
    videos = corpus.video_ids[rows[ShuffledOrder(len(rows), 6, 0).batch(0)]]
    assert batch.pseudo is not None
    video, index = np.divmod(batch.place.numpy(), batch.segment_mask.shape[1])
    at, column = batch.pseudo.segment.numpy(), batch.pseudo.column.numpy()
    found = SegmentLabels(
        videos[video[at]],
        index[at] * 5,
        np.array(corpus.classes.ids)[column],
        batch.pseudo.label.numpy(),
        batch.pseudo.weight.numpy(),
    )
    given = random_labels(corpus, ["train", "v1", "test"])
    unrated = pairs_of(without_rated(given, corpus.rated(corpus.rows(["v1"])), corpus))
    expected = {pair: v for pair, v in unrated.items() if pair[0].encode() in videos.tolist()}
    assert pairs_of(found) == expected


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_a_video_batch(size: int, corpus: Corpus, pseudo: Pseudo) -> None:
    """Their losses add up to that of one process."""
    videos, model = s3_videos(corpus, pseudo, 3), seeded(corpus).eval()
    rows = video_rows(corpus, ALONE.device)

    def loss(rank: int, size: int) -> float:
        return float(both_losses(model, videos.batch(0, rank, size), Terms(1.0), rows).detach())

    assert sum(loss(rank, size) for rank in range(size)) == pytest.approx(loss(0, 1), rel=1e-5)


# ---- rated pairs win -----------------------------------------------------------------------------


def test_a_rated_pair_wins(corpus: Corpus) -> None:
    rated = corpus.rated(corpus.rows(["v1"]))
    video, start, class_id = rated.video[5].decode(), int(rated.start_s[5]), int(rated.class_id[5])
    others = [c for c in corpus.classes.ids if (video, start, c) not in pairs_of(rated)]
    given: dict[Pair, tuple[float, float]] = {
        (video, start, class_id): (0.5, 1.0),
        (video, start, others[0]): (0.25, 1.0),
    }
    left = without_rated(labels_of(given), rated, corpus)
    assert pairs_of(left) == {(video, start, others[0]): (0.25, 1.0)}
    nothing = rated.take(np.zeros(len(rated), bool))
    assert pairs_of(without_rated(labels_of(given), nothing, corpus)) == given


def test_against_sets(corpus: Corpus) -> None:
    rated = corpus.rated(corpus.rows(["v1"]))
    pseudo = random_labels(corpus, ["train", "v1"])
    kept, is_rated = pairs_of(without_rated(pseudo, rated, corpus)), pairs_of(rated)
    given = pairs_of(pseudo)
    assert kept == {pair: value for pair, value in given.items() if pair not in is_rated}
    assert len(kept) < len(given)


@pytest.mark.parametrize("which", range(3))
def test_nothing_but_rated_pairs(which: int, corpus: Corpus, tmp_path: Path) -> None:
    write_labels(tmp_path / "l.parquet", corpus.rated(corpus.rows(["v1"])))
    strategy = strategies(Pseudo(str(tmp_path / "l.parquet")))[which]
    with pytest.raises(LabelsError, match="every pair of it is rated"):
        train(corpus, tmp_path / "run", strategy)


# ---- what is refused -----------------------------------------------------------------------------


def strategies(pseudo: Pseudo) -> tuple[Strategy, ...]:
    return S1(pseudo=pseudo), S2(pretrain=PRETRAIN, pseudo=pseudo), S3(pseudo=pseudo)


LEAK = "what is watched on V2 has not seen V2; make pseudo-labels of train and v1"


@pytest.mark.parametrize("which", range(3))
def test_labels_of_v2_are_refused(which: int, corpus: Corpus, tmp_path: Path) -> None:
    """One segment is enough, also with --final, and also if its class is not evaluated."""
    labels = random_labels(corpus, ["train", "v1"])
    table = corpus.segments(corpus.rows(["v2"]))
    one = labels_of({(table.video_ids[0].decode(), 0, 10**6): (1.0, 1.0)})
    write_labels(tmp_path / "l.parquet", joined(labels, one))
    strategy = strategies(Pseudo(str(tmp_path / "l.parquet")))[which]
    for refuse in refusers(corpus, tmp_path, strategy):
        with pytest.raises(LabelsError, match=f"it has segments of V2; {LEAK}"):
            refuse()
    assert not list(tmp_path.glob("run/*.safetensors"))


@pytest.mark.parametrize("which", range(3))
def test_makers_that_saw_v2_are_refused(which: int, corpus: Corpus, tmp_path: Path) -> None:
    write_random(tmp_path / "l.parquet", corpus, ["train"], trained_on=["train", "v1", "v2"])
    strategy = strategies(Pseudo(str(tmp_path / "l.parquet")))[which]
    for refuse in refusers(corpus, tmp_path, strategy):
        with pytest.raises(LabelsError, match=f"what made it has seen V2; {LEAK}"):
            refuse()
    assert not list(tmp_path.glob("run/*.safetensors"))


def joined(*parts: SegmentLabels) -> SegmentLabels:
    names = ("video", "start_s", "class_id", "score", "weight")
    return SegmentLabels(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def refusers(
    corpus: Corpus, folder: Path, strategy: Strategy
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Before there is a run, and in the training itself."""
    return (
        lambda: refuse_untrainable(corpus, strategy),
        lambda: train(corpus, folder / "run", strategy, final=True),
    )


def test_needed_and_not_given(corpus: Corpus) -> None:
    for strategy in strategies(Pseudo(needed=True)):
        with pytest.raises(
            UsageError,
            match=r"--strategy\.pseudo\.labels: no pseudo-labels are given; this recipe learns",
        ):
            refuse_untrainable(corpus, strategy)
    assert open_pseudo(Pseudo(), corpus) is None


@pytest.mark.parametrize(
    "change", [{"video": "nobody"}, {"start": 5000}, {"start": -5}, {"start": 3}]
)
def test_segments_that_the_corpus_lacks(
    change: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    video = corpus.video_ids[corpus.rows(["train"])[0]].decode()
    at = {"video": video, "start": 0} | change
    pair = (at["video"], at["start"], corpus.classes.ids[0])
    write_labels(tmp_path / "l.parquet", labels_of({pair: (1.0, 1.0)}))
    with pytest.raises(LabelsError, match=f"has no segment {pair[0]}:{pair[1]}; pseudo-labels"):
        open_pseudo(Pseudo(str(tmp_path / "l.parquet")), corpus)


def test_no_pair_of_an_evaluated_class(corpus: Corpus, tmp_path: Path) -> None:
    video = corpus.video_ids[corpus.rows(["train"])[0]].decode()
    write_labels(tmp_path / "l.parquet", labels_of({(video, 0, 10**6): (1.0, 1.0)}))
    with pytest.raises(LabelsError, match="no pair of an evaluated class"):
        open_pseudo(Pseudo(str(tmp_path / "l.parquet")), corpus)


def test_other_classes_are_left_out(corpus: Corpus, tmp_path: Path) -> None:
    video = corpus.video_ids[corpus.rows(["train"])[0]].decode()
    pairs = {(video, 0, c): (1.0, 2.0) for c in (10**6, corpus.classes.ids[0])}
    write_labels(tmp_path / "l.parquet", labels_of(pairs))
    opened = open_pseudo(Pseudo(str(tmp_path / "l.parquet"), weight=0.25), corpus)
    assert opened is not None
    assert pairs_of(opened.labels) == {(video, 0, corpus.classes.ids[0]): (1.0, 0.5)}


@pytest.mark.parametrize(
    "wrong", [{"weight": -0.1}, {"weight": float("nan")}, {"share": 0.0}, {"share": 1.0}]
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))}: the value is"):
        Pseudo(**wrong)


# ---- what a run says -----------------------------------------------------------------------------


def test_what_a_model_has_seen(corpus: Corpus, path: Path, tmp_path: Path) -> None:
    """The splits of the pseudo-labels, and what their makers saw, beside its own."""
    seen = ["train", "v1", "test"]
    for k, strategy in enumerate(strategies(Pseudo(str(path)))):
        facts = train(corpus, tmp_path / str(k), strategy, final=True)
        assert facts["v1"]["trained_on"] == seen
        assert facts["final"]["trained_on"] == ["train", "v1", "v2", "test"]
        for phase in ("v1", "final"):
            told = facts[phase]["pseudo_labels"]
            assert (told["labels"], told["method"], told["weight"]) == (str(path), "teacher", 0.3)
        if "pretrain" in facts:
            assert facts["pretrain"]["trained_on"] == ["train", "v1"]
            assert "pseudo_labels" not in facts["pretrain"]


def test_makers_are_believed(corpus: Corpus, tmp_path: Path) -> None:
    """Labels of V1 made by what has seen train: so has the pupil."""
    write_random(tmp_path / "l.parquet", corpus, ["v1"], trained_on=["train"])
    strategy = S1(pseudo=Pseudo(str(tmp_path / "l.parquet")))
    facts = train(corpus, tmp_path / "run", strategy, model=SLogi())
    assert facts["v1"]["trained_on"] == ["train", "v1"]


def test_without_them_a_run_says_nothing_of_them(corpus: Corpus, tmp_path: Path) -> None:
    facts = train(corpus, tmp_path / "run", S1(), model=SLogi())
    assert facts["v1"] == {"phase": "v1", "step": facts["v1"]["step"], "trained_on": ["v1"]}
    assert not (tmp_path / "run" / "pseudo-labels.json").exists()


def test_a_run_goes_on_with_the_labels_it_began_with(corpus: Corpus, tmp_path: Path) -> None:
    path, run = write_random(tmp_path / "l.parquet", corpus), tmp_path / "run"
    strategy = S1(pseudo=Pseudo(str(path)))
    train(corpus, run, strategy, model=SLogi())
    kept = json.loads((run / "pseudo-labels.json").read_text())
    train(corpus, run, strategy, model=SLogi())
    assert json.loads((run / "pseudo-labels.json").read_text()) == kept
    write_random(path, corpus, ["train"])
    with pytest.raises(RunError, match=r"l\.parquet has changed since the run began; a resumed"):
        train(corpus, run, strategy, model=SLogi())


# ---- what is learned -----------------------------------------------------------------------------


def weights(corpus: Corpus, run: Path, model: Any = ATT2) -> dict[str, Tensor]:
    built = build(corpus, model)
    load_weights(run / "v1.safetensors", built)
    return built.state_dict()


@pytest.mark.parametrize("which", range(3))
def test_they_change_what_is_learned(
    which: int, corpus: Corpus, pseudo: Pseudo, tmp_path: Path
) -> None:
    found = []
    for name, settings in (("with", pseudo), ("without", Pseudo())):
        train(corpus, tmp_path / name, strategies(settings)[which])
        found.append(weights(corpus, tmp_path / name)["segment_head.linear.weight"])
    assert not torch.equal(*found)


def test_they_have_what_the_rated_segments_leave_of_the_budget(
    corpus: Corpus, pseudo: Pseudo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for either alone: the pseudo-labelled segments are read from the disk."""
    made: list[RatedSegments] = []
    make = Setup.segments

    def noted(*args: Any, **settings: Any) -> RatedSegments:
        made.append(make(*args, **settings))
        return made[-1]

    monkeypatch.setattr(Setup, "segments", noted)
    train(corpus, tmp_path / "all", S1(pseudo=pseudo), model=SLogi())
    watched, rated, others = made
    assert [each.is_resident for each in made] == [True, True, True]
    made.clear()
    room = max(rated.bytes, others.bytes, watched.bytes)
    train(corpus, tmp_path / "few", S1(pseudo=pseudo), model=SLogi(), resident_bytes=room)
    assert [each.is_resident for each in made] == [True, True, False]


def test_resident_or_streamed_is_the_same(corpus: Corpus, pseudo: Pseudo, tmp_path: Path) -> None:
    for name, resident_bytes in (("resident", 1 << 30), ("streamed", 0)):
        train(corpus, tmp_path / name, S1(pseudo=pseudo), resident_bytes=resident_bytes)
    one, other = (tmp_path / name / "v1.safetensors" for name in ("resident", "streamed"))
    assert one.read_bytes() == other.read_bytes()
