"""Pseudo-labels by clusters: on a planted world, without leaks, the same for any chunk and team."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from corpus_writer import Video, make_small_corpus
from small_corpus import make_small, take_out_ratings
from toy_work import ALONE
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError, UsageError
from whenabouts.core.labels import SegmentLabels, clusters_path, read_labels, read_labels_made_by
from whenabouts.corpus.corpus import Corpus, Ragged
from whenabouts.corpus.splits import SPLITS
from whenabouts.strategies import pseudo_cluster as module
from whenabouts.strategies.cluster_features import Clustering
from whenabouts.strategies.cluster_tally import most_frames_in
from whenabouts.strategies.cluster_votes import Voting
from whenabouts.strategies.pseudo import Pseudo, open_pseudo
from whenabouts.strategies.pseudo_cluster import (
    ClusterLabelling,
    in_large_parts,
    label_by_clusters,
)
from whenabouts.train.distributed import Team

CPU = torch.device("cpu")
SETTINGS = ClusterLabelling(Clustering(k=24, dims=16, iterations=6), Voting())
Pair = tuple[str, int, int]


def labelled(
    corpus: Corpus,
    out: Path,
    settings: ClusterLabelling = SETTINGS,
    team: Team = ALONE,
    *,
    is_judged: bool = False,
) -> dict[str, Any]:
    return label_by_clusters(corpus, out, settings, team, is_judged=is_judged)


def pairs_of(labels: SegmentLabels) -> dict[Pair, tuple[float, float]]:
    keys = zip(labels.video.tolist(), labels.start_s.tolist(), labels.class_id.tolist())
    values = zip(labels.score.tolist(), labels.weight.tolist())
    return {(v.decode(), s, c): x for (v, s, c), x in zip(keys, values)}


def same_tables(left: Path, right: Path) -> bool:
    return bool(pq.read_table(left).equals(pq.read_table(right)))


# ---- a planted world -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Topics in scenes of about 12 s, video labels that miss some and make some up."""
    return make_small(
        tmp_path_factory.mktemp("planted") / "corpus",
        num_train=120,
        num_validate=80,
        num_test=0,
        num_classes=12,
        num_rated_classes=8,
        zipf_exponent=0.3,
        mean_scene_s=12,
        videos_per_shard=200,
    )


def shown(corpus: Corpus) -> set[Pair]:
    """(video, start in s, class) of every segment most of which shows the class."""
    scenes = pq.read_table(corpus.path.parent / "truth" / "topics.parquet").to_pydict()
    seconds: dict[Pair, int] = {}
    for video, class_id, first, end in zip(
        *(scenes[n] for n in ("video", "class", "start_s", "end_s"))
    ):
        for second in range(first, end):
            key = video, second // 5 * 5, class_id
            seconds[key] = seconds.get(key, 0) + 1
    return {key for key, count in seconds.items() if count >= 3}


def base_rate(corpus: Corpus, truth: set[Pair], splits: Sequence[str]) -> float:
    """Of all (segment, label of its video) pairs of evaluated classes, the share that is shown."""
    table = corpus.segments(corpus.rows(splits))  # type: ignore[arg-type]
    row = corpus.rows_of(table.video_ids)
    right = [
        (table.video_ids[v].decode(), start, int(c)) in truth
        for v, start in zip(table.video.tolist(), table.starts_s.tolist())
        for c in corpus.labels.of(int(row[v]))
        if int(c) in corpus.classes.ids
    ]
    return float(np.mean(right))


def test_labels_are_true_well_above_the_base_rate(planted: Corpus, tmp_path: Path) -> None:
    """Worlds of the seeds 0 to 3: base rate 0.29 to 0.31, precision 0.70 to 0.81."""
    labelled(planted, tmp_path / "hard.parquet", replace(SETTINGS, clustering=Clustering(k=64)))
    truth, found = shown(planted), pairs_of(read_labels(tmp_path / "hard.parquet"))
    precision = np.mean([pair in truth for pair in found])
    assert len(found) > 500
    assert precision > base_rate(planted, truth, ("train", "v1")) + 0.3


def test_soft_labels_rank_what_is_shown_above_what_is_not(planted: Corpus, tmp_path: Path) -> None:
    """Worlds of the seeds 0 to 3: means 0.29 to 0.38 apart, 0.83 to 0.91 of the pairs in order."""
    settings = ClusterLabelling(Clustering(k=64), Voting(soft=True))
    labelled(planted, tmp_path / "soft.parquet", settings)
    truth, found = shown(planted), pairs_of(read_labels(tmp_path / "soft.parquet"))
    is_shown = np.array([pair in truth for pair in found])
    score = np.array([score for score, _ in found.values()])
    assert len(np.unique(score)) > 50
    assert score[is_shown].mean() > score[~is_shown].mean() + 0.25
    in_order = np.mean(score[is_shown][:, None] > score[~is_shown])
    assert in_order > 0.8


def test_labels_are_of_unrated_segments_and_labels_of_their_videos(
    planted: Corpus, tmp_path: Path
) -> None:
    labelled(planted, tmp_path / "labels.parquet")
    found = read_labels(tmp_path / "labels.parquet")
    row = planted.rows_of(found.video)
    assert {SPLITS[k] for k in planted.split[row].tolist()} == {"train", "v1"}
    assert all(c in planted.labels.of(r) for c, r in zip(found.class_id, row))
    rated = planted.rated(np.arange(len(planted)))
    segments = set(zip(rated.video.tolist(), rated.start_s.tolist()))
    assert not segments & set(zip(found.video.tolist(), found.start_s.tolist()))
    assert (found.score == 1).all()
    sixtieths = set((found.weight * 60).round().tolist())
    assert {36, 48, 60} <= sixtieths <= {36, 40, 45, 48, 60}  # more than half of 3, 4 or 5 frames
    assert open_pseudo(Pseudo(str(tmp_path / "labels.parquet")), planted) is not None


def test_judgement_agrees_with_the_planted_truth(planted: Corpus, tmp_path: Path) -> None:
    settings = replace(SETTINGS, clustering=Clustering(k=64))
    told = labelled(planted, tmp_path / "labels.parquet", settings, is_judged=True)["judged"]
    assert told["precision"] > told["base_rate"] + 0.2
    assert told["concordance"] > 0.65
    assert 0.1 < told["coverage"] < 1


# ---- leaks ---------------------------------------------------------------------------------------


def with_v2_ratings(corpus: Corpus, change: Callable[[np.ndarray[Any, Any]], Any]) -> Corpus:
    """The corpus with the scores of V2's rated pairs changed."""
    in_v2 = corpus.split[corpus.rated_score.rows] == SPLITS.index("v2")
    assert in_v2.any()
    score = corpus.rated_score.values.copy()
    score[in_v2] = change(score[in_v2])
    return replace(corpus, rated_score=Ragged(score, corpus.rated_score.offsets))


@pytest.mark.parametrize("soft", [False, True])
def test_ratings_of_v2_change_no_byte(planted: Corpus, tmp_path: Path, soft: bool) -> None:
    settings = replace(SETTINGS, voting=Voting(soft=soft))
    in_v2 = planted.split[planted.rated_score.rows] == SPLITS.index("v2")
    corpora = {
        "as-it-is": planted,
        "turned": with_v2_ratings(planted, lambda score: 1 - score),
        "without": take_out_ratings(planted, ~in_v2),
    }
    for name, corpus in corpora.items():
        labelled(corpus, tmp_path / f"{name}.parquet", settings)
    for suffix in (".parquet", ".clusters.json"):
        files = {(tmp_path / name).with_suffix(suffix).read_bytes() for name in corpora}
        assert len(files) == 1


def test_ratings_of_v1_do_change_labels(planted: Corpus, tmp_path: Path) -> None:
    """So that the test above is about something."""
    in_v1 = planted.split[planted.rated_score.rows] == SPLITS.index("v1")
    fewer = take_out_ratings(planted, ~in_v1 | (np.arange(len(in_v1)) % 3 > 0))
    for name, corpus in (("all", planted), ("fewer", fewer)):
        labelled(corpus, tmp_path / f"{name}.parquet")
    assert not same_tables(tmp_path / "all.parquet", tmp_path / "fewer.parquet")


def test_judging_changes_no_byte_of_the_labels(planted: Corpus, tmp_path: Path) -> None:
    labelled(planted, tmp_path / "a.parquet")
    told = labelled(planted, tmp_path / "b.parquet", is_judged=True)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    kept = json.loads(clusters_path(tmp_path / "b.parquet").read_text())
    assert kept["judged"] == told["judged"]


def test_frames_of_v2_are_not_clustered(planted: Corpus, tmp_path: Path) -> None:
    """Without the videos of V2 the labels are the same."""
    hidden = replace(
        planted, split=np.where(planted.split == SPLITS.index("v2"), -1, planted.split)
    )
    for name, corpus in (("all", planted), ("hidden", hidden)):
        labelled(corpus, tmp_path / f"{name}.parquet")
    assert same_tables(tmp_path / "all.parquet", tmp_path / "hidden.parquet")


def test_v2_is_refused() -> None:
    with pytest.raises(UsageError, match="V2 is among the splits to label; what is watched on V2"):
        replace(SETTINGS, splits=("train", "v2"))


# ---- chunks, seeds, processes --------------------------------------------------------------------


def test_chunk_size_does_not_matter(planted: Corpus, tmp_path: Path) -> None:
    for size in (512, 37):
        labelled(planted, tmp_path / f"{size}.parquet", replace(SETTINGS, chunk_size=size))
    assert (tmp_path / "512.parquet").read_bytes() == (tmp_path / "37.parquet").read_bytes()
    told = [json.loads(clusters_path(tmp_path / f"{n}.parquet").read_text()) for n in (512, 37)]
    assert told[0] == told[1]


def test_same_seed_same_bytes(planted: Corpus, tmp_path: Path) -> None:
    other = replace(SETTINGS, clustering=replace(SETTINGS.clustering, seed=1))
    for name, settings in (("a", SETTINGS), ("b", SETTINGS), ("c", other)):
        labelled(planted, tmp_path / f"{name}.parquet", settings)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not same_tables(tmp_path / "a.parquet", tmp_path / "c.parquet")


@dataclass
class Meeting:
    """What threads that stand for processes have in common."""

    size: int
    parts: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=60)


@dataclass(frozen=True)
class ThreadTeam(Team):
    meeting: Meeting = field(default_factory=lambda: Meeting(1))

    def sum(self, tensor: Tensor) -> Tensor:
        self.meeting.parts[self.rank] = tensor.clone()
        self.meeting.barrier.wait()
        total = torch.stack([self.meeting.parts[r] for r in range(self.size)]).sum(0)
        self.meeting.barrier.wait()
        return tensor.copy_(total)

    def wait(self) -> None:
        self.meeting.barrier.wait()


def test_three_processes_write_what_one_does(planted: Corpus, tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone.parquet", tmp_path / "shared.parquet"
    expected, meeting = labelled(planted, alone), Meeting(3)
    with ThreadPoolExecutor(3) as pool:
        teams = [ThreadTeam(rank, 3, CPU, meeting) for rank in range(3)]
        found = list(pool.map(lambda team: labelled(planted, shared, SETTINGS, team), teams))
    assert same_tables(alone, shared)
    assert found[0]["totals"] == pytest.approx(expected["totals"])
    told = [json.loads(clusters_path(path).read_text()) for path in (alone, shared)]
    for name in ("clusters", "classes", "made_by"):
        assert told[0][name] == told[1][name], name
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("alone.clusters.json", "alone.parquet", "shared.clusters.json", "shared.parquet")
    ]


@pytest.mark.parametrize("part", [50, 333])
def test_labels_of_many_parts_are_those_of_one(
    part: int, planted: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More labels than are collected in one place, all in one row group of the file."""
    settings = ClusterLabelling(Clustering(k=64), Voting(soft=True))
    labelled(planted, tmp_path / "one.parquet", settings)
    monkeypatch.setattr(module, "PART", part)
    labelled(planted, tmp_path / "many.parquet", settings)
    expected = pairs_of(read_labels(tmp_path / "one.parquet"))
    assert len(expected) > 5 * part
    assert pairs_of(read_labels(tmp_path / "many.parquet")) == expected


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_large_parts_are_the_same_labels(size: int) -> None:
    rng = np.random.default_rng(0)
    lengths = [0, 2, 7, 1, 3, 12, 0]
    parts = [
        SegmentLabels(
            np.array([b"v%d" % v for v in rng.integers(0, 99, n)], "S3"),
            rng.integers(0, 9, n),
            rng.integers(0, 9, n),
            rng.random(n).astype(np.float32),
            rng.random(n).astype(np.float32),
        )
        for n in lengths
    ]
    whole = [pair for part in parts for pair in pairs_in(part)]
    found = [pairs_in(part) for part in in_large_parts(iter(parts), np.dtype("S3"), size)]
    assert [pair for part in found for pair in part] == whole
    assert all(len(part) == size for part in found[:-1])
    assert 0 < len(found[-1]) <= size


def pairs_in(labels: SegmentLabels) -> list[tuple[Any, ...]]:
    columns = (labels.video, labels.start_s, labels.class_id, labels.score, labels.weight)
    return list(zip(*(column.tolist() for column in columns)))


# ---- what is told --------------------------------------------------------------------------------


def test_labels_say_who_made_them(planted: Corpus, tmp_path: Path) -> None:
    labelled(planted, tmp_path / "labels.parquet", replace(SETTINGS, splits=("train",)))
    made_by = read_labels_made_by(tmp_path / "labels.parquet")
    assert made_by["method"] == "cluster"
    assert made_by["splits"] == ["train"]
    assert made_by["trained_on"] == ["train", "v1"]
    assert made_by["features"] == "frames"
    assert (made_by["settings"]["dims"], made_by["settings"]["min_votes"]) == (16, 3)


def test_clusters_are_described(planted: Corpus, tmp_path: Path) -> None:
    labelled(planted, tmp_path / "labels.parquet")
    told = json.loads(clusters_path(tmp_path / "labels.parquet").read_text())
    labels, totals, clusters = (
        read_labels(tmp_path / "labels.parquet"),
        told["totals"],
        told["clusters"],
    )
    rated = planted.rated(planted.rows(["v1"]))
    whole = planted.num_frames[planted.rows_of(rated.video)] - rated.start_s
    frames = np.minimum(whole, 5)
    assert totals["votes_for"] == frames[rated.score >= 0.5].sum() == sum(clusters["positive"])
    assert totals["votes_against"] == frames[rated.score < 0.5].sum() == sum(clusters["negative"])
    assert totals["labelled_pairs"] == len(labels) == sum(told["classes"]["segments"])
    assert totals["frames"] == sum(clusters["frames"])
    assert {len(column) for column in clusters.values()} == {24}
    assert told["classes"]["class"] == list(planted.classes.ids)
    for class_id, count in zip(told["classes"]["class"], told["classes"]["segments"]):
        assert count == (labels.class_id == class_id).sum()
    most = [max((p for _, p, _ in of), default=0) for of in clusters["classes"]]
    assert totals["purity"] == pytest.approx(sum(most) / sum(clusters["positive"]))
    for examples in clusters["examples"]:
        assert len({video for video, _ in examples}) == len(examples) <= 4
    assert (np.diff(told["inertia"]) <= 1e-5).all()


def test_segments_of_whose_frames_most_are_in_one_cluster() -> None:
    cluster = np.array([[3, 3, 3, 1, 2], [3, 3, 1, 1, 2], [2, -1, -1, -1, -1], [0, 1, -1, -1, -1]])
    segment, where = most_frames_in(cluster)
    assert (segment.tolist(), where.tolist()) == ([0, 2], [3, 2])


def test_videos_without_an_evaluated_label_are_not_read(tmp_path: Path) -> None:
    """Of the videos here, d has no label and e one that is not evaluated; V2 has f."""
    corpus = make_small_corpus(tmp_path, *tiny_world(), classes=ClassOrder.of([1, 2]))
    for within, frames in ((True, 12 + 12 + 7), (False, 12 + 12 + 7 + 9 + 9)):
        settings = ClusterLabelling(Clustering(k=4, dims=3), Voting(within_labels=within))
        labelled(corpus, tmp_path / "labels.parquet", settings)
        told = json.loads(clusters_path(tmp_path / "labels.parquet").read_text())
        assert sum(told["clusters"]["frames"]) == frames
        seen = {video for of in told["clusters"]["examples"] for video, _ in of}
        assert seen <= set("abc" if within else "abcde")


def tiny_world() -> list[tuple[Any, list[Video]]]:
    return [
        ("v1", [Video("a", 12, (1, 2), ((0, 1, 1), (5, 2, 0)))]),
        (
            "train",
            [Video("b", 12, (1,)), Video("c", 7, (2,)), Video("d", 9, ()), Video("e", 9, (5,))],
        ),
        ("v2", [Video("f", 12, (1,), ((0, 1, 1),))]),
    ]


# ---- what is refused -----------------------------------------------------------------------------


def test_without_a_positive_rating_there_are_no_votes(tmp_path: Path) -> None:
    corpus = make_small_corpus(tmp_path, ("v1", [Video("a", 40, (1,), ((0, 1, 0),))]))
    settings = ClusterLabelling(Clustering(k=2), Voting())
    with pytest.raises(CorpusError, match="no positive rated segment in v1; frames of rated"):
        labelled(corpus, tmp_path / "labels.parquet", settings)
    assert not (tmp_path / "labels.parquet").exists()


def test_splits_without_frames_are_refused(planted: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no frames in splits test; choose other --splits"):
        labelled(planted, tmp_path / "labels.parquet", replace(SETTINGS, splits=("test",)))
