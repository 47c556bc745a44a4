"""Cleaning of a teacher's scores: by hand on five segments, against a slow definition on many."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus_writer import Video, make_small_corpus
from pseudo_world import Pair, pairs_of, teacher_scores
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError, SettingsError, UsageError
from whenabouts.core.labels import read_labels, read_labels_made_by
from whenabouts.core.scores import Scores, new_scores, open_scores
from whenabouts.core.segments import SegmentTable
from whenabouts.corpus.corpus import Corpus, Ragged
from whenabouts.corpus.splits import Split
from whenabouts.strategies import pseudo_teacher
from whenabouts.strategies.pseudo_teacher import Cleaned, Cleaning, label_by_teacher, num_readings

NEVER = {"threshold": 2.0, "top_share": 0.0}  # no positive at all
LABELLED: tuple[Split, ...] = ("train", "v1")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Videos a (3 segments), b (2), c (2, the first one rated), d without labels, and e in V2."""
    a, b = Video("a", 15, (7, 8)), Video("b", 10, (8,))
    c = Video("c", 10, (7, 9), ((0, 9, 1),))
    e = Video("e", 10, (7, 8), ((0, 7, 1), (5, 8, 0)))
    return make_small_corpus(
        tmp_path_factory.mktemp("five"),
        ("train", [a, b, Video("d", 5, ())]),
        ("v1", [c]),
        ("v2", [e]),
        classes=ClassOrder.of((7, 8, 9)),
    )


#        7    8    9
VALUES = [
    [0.9, 0.2, 0.8],  # a:0
    [0.5, 0.4, 0.1],  # a:5
    [0.1, 0.4, 0.7],  # a:10
    [0.9, 0.6, 0.3],  # b:0
    [0.2, 0.1, 0.3],  # b:5
    [0.9, 0.9, 0.9],  # d:0, no labels
    [0.9, 0.9, 0.9],  # c:0, rated
    [0.3, 0.9, 0.2],  # c:5
]


def clean(
    corpus: Corpus, folder: Path, values: Any = VALUES, *, splits: tuple[Split, ...] = LABELLED,
    chunk_bytes: int = 1 << 20, **settings: Any,
) -> tuple[dict[Pair, tuple[float, float]], Cleaned]:  # fmt: skip
    array = values if isinstance(values, int) else np.array(values, np.float32)
    scores = teacher_scores(folder / "scores", corpus, LABELLED, array, trained_on=["v1"])
    return label(scores, corpus, folder / "l.parquet", splits, chunk_bytes, **settings)


def label(
    scores: Scores, corpus: Corpus, out: Path, splits: tuple[Split, ...] = LABELLED,
    chunk_bytes: int = 1 << 20, **settings: Any,
) -> tuple[dict[Pair, tuple[float, float]], Cleaned]:  # fmt: skip
    cleaned = label_by_teacher(
        scores, corpus, out, Cleaning(**settings), splits, chunk_bytes=chunk_bytes
    )
    return pairs_of(read_labels(out)), cleaned


def ones(*pairs: Pair, score: float = 1.0) -> dict[Pair, tuple[float, float]]:
    return dict.fromkeys(pairs, (score, 1.0))


# ---- by hand -------------------------------------------------------------------------------------


def test_positive_from_the_threshold_up_within_the_labels(five: Corpus, tmp_path: Path) -> None:
    found, cleaned = clean(five, tmp_path, top_share=0.0)
    assert found == ones(("a", 0, 7), ("a", 5, 7), ("b", 0, 8))
    assert cleaned.in_label.tolist() == [4, 5, 1]  # a a a c; a a a b b; c
    assert cleaned.positives.tolist() == [2, 1, 0]
    assert cleaned.to_dict() == {
        "segments": 3, "in_label": 10, "positives": 3, "negatives": 0, "outside": 0, "classes": 2,
    }  # fmt: skip


def test_the_top_share_of_a_class_is_rounded_up(five: Corpus, tmp_path: Path) -> None:
    """Of 4, 5 and 1 segments a quarter is 1, 2 and 1; of equals (0.4) the earlier one."""
    found, _ = clean(five, tmp_path, threshold=2.0, top_share=0.25)
    assert found == ones(("a", 0, 7), ("b", 0, 8), ("a", 5, 8), ("c", 5, 9))


def test_either_is_enough(five: Corpus, tmp_path: Path) -> None:
    found, _ = clean(five, tmp_path, threshold=0.5, top_share=0.25)
    assert found == ones(("a", 0, 7), ("a", 5, 7), ("b", 0, 8), ("a", 5, 8), ("c", 5, 9))


def test_low_scores_within_the_labels(five: Corpus, tmp_path: Path) -> None:
    found, cleaned = clean(five, tmp_path, **NEVER, low_threshold=0.2)
    assert found == ones(("a", 10, 7), ("a", 0, 8), ("b", 5, 8), ("c", 5, 9), score=0.0)
    assert cleaned.negatives.tolist() == [1, 2, 1]


def test_the_low_share_is_rounded_down(five: Corpus, tmp_path: Path) -> None:
    """Half of 4, 5 and 1 is 2, 2 and 0."""
    found, _ = clean(five, tmp_path, **NEVER, low_share=0.5)
    assert found == ones(("a", 10, 7), ("c", 5, 7), ("b", 5, 8), ("a", 0, 8), score=0.0)


def test_a_positive_is_never_negative(five: Corpus, tmp_path: Path) -> None:
    found, _ = clean(five, tmp_path, threshold=0.4, top_share=0.0, low_threshold=0.6, low_share=1.0)
    positive = {pair for pair, (score, _) in found.items() if score == 1}
    assert positive == {("a", 0, 7), ("a", 5, 7), ("a", 5, 8), ("a", 10, 8), ("b", 0, 8)}
    assert len(found) == 10


def test_the_best_of_too_many_positives(five: Corpus, tmp_path: Path) -> None:
    """What the limit leaves out is unknown, not negative."""
    found, _ = clean(
        five, tmp_path, threshold=0.2, top_share=1.0, per_class_max=2, low_threshold=0.9
    )
    assert found == ones(("a", 0, 7), ("a", 5, 7), ("b", 0, 8), ("a", 5, 8), ("c", 5, 9))


def test_the_hardest_classes_outside_the_labels(five: Corpus, tmp_path: Path) -> None:
    """Of segments with a label alone."""
    settings: dict[str, Any] = {"threshold": 0.5, "top_share": 0.0}
    inside = ones(("a", 0, 7), ("a", 5, 7), ("b", 0, 8))
    found, cleaned = clean(five, tmp_path, **settings, negatives=1)
    outside = ones(("a", 0, 9), ("a", 5, 9), ("b", 0, 7), score=0.0)
    assert found == inside | outside
    assert cleaned.outside.tolist() == [1, 0, 2]
    found, _ = clean(five, tmp_path, **settings, negatives=2)
    assert found == inside | outside | ones(("b", 0, 9), score=0.0)
    assert clean(five, tmp_path, **settings, negatives=99)[0] == found


def test_soft_labels_are_the_scores_within_the_labels(five: Corpus, tmp_path: Path) -> None:
    found, _ = clean(
        five, tmp_path, threshold=0.5, top_share=0.0, low_threshold=0.1, negatives=1, soft=True
    )
    scores = {pair: round(score, 6) for pair, (score, _) in found.items()}
    assert scores == {
        ("a", 0, 7): 0.9, ("a", 5, 7): 0.5, ("b", 0, 8): 0.6, ("a", 10, 7): 0.1, ("b", 5, 8): 0.1,
        ("a", 0, 9): 0, ("a", 5, 9): 0, ("b", 0, 7): 0, ("a", 10, 9): 0, ("b", 5, 9): 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        (False, {("a", 0, 7): 0.9, ("b", 0, 8): 0.6, ("a", 10, 7): 0.9, ("a", 0, 9): 0.2}),
        (True, {("a", 0, 7): 0.8, ("b", 0, 8): 0.2, ("a", 10, 7): 0.8, ("a", 0, 9): 0.2}),
    ],
)
def test_weights_by_confidence(
    soft: bool, expected: dict[Pair, float], five: Corpus, tmp_path: Path
) -> None:
    """1 - |y - p| of hard labels, |2p - 1| of soft ones; outside the labels they are hard."""
    found, _ = clean(
        five, tmp_path, threshold=0.6, top_share=0.0, low_threshold=0.1, negatives=1, soft=soft,
        weights="confidence",
    )  # fmt: skip
    for pair, weight in expected.items():
        assert found[pair][1] == pytest.approx(weight, abs=1e-6), pair


def test_every_class_may_count_as_a_label(five: Corpus, tmp_path: Path) -> None:
    """Also of a video without labels; rated segments are left alone."""
    found, cleaned = clean(
        five, tmp_path, threshold=0.85, top_share=0.0, low_threshold=0.1, within_labels=False
    )
    assert {pair for pair, (score, _) in found.items() if score == 1} == {
        ("a", 0, 7), ("b", 0, 7), ("c", 5, 8), ("d", 0, 7), ("d", 0, 8), ("d", 0, 9),
    }  # fmt: skip
    assert {pair for pair, (score, _) in found.items() if score == 0} == {
        ("a", 10, 7), ("a", 5, 9), ("b", 5, 8),
    }  # fmt: skip
    assert cleaned.in_label.tolist() == [7, 7, 7]


def test_other_splits(five: Corpus, tmp_path: Path) -> None:
    found, _ = clean(five, tmp_path, top_share=1.0, splits=("v1",))
    assert found == ones(("c", 5, 7), ("c", 5, 9))


def test_the_maker(five: Corpus, tmp_path: Path) -> None:
    clean(five, tmp_path, soft=True)
    made_by = read_labels_made_by(tmp_path / "l.parquet")
    assert (made_by["method"], made_by["splits"]) == ("teacher", ["train", "v1"])
    assert made_by["trained_on"] == ["v1"]
    assert made_by["settings"]["soft"] is True
    assert made_by["scores"]["trained_on"] == ["v1"]
    assert made_by["scores"]["scores"] == str(tmp_path / "scores")


# ---- against a definition ------------------------------------------------------------------------


def by_definition(
    corpus: Corpus, values: NDArray[np.float32], s: Cleaning
) -> dict[Pair, tuple[float, float]]:
    """Pair by pair, as the head of the module says; thresholds are rounded as the scores are."""
    table = corpus.segments(corpus.rows(LABELLED))
    threshold, lowest = (float(values.dtype.type(t or -1)) for t in (s.threshold, s.low_threshold))
    ids, rated = corpus.classes.ids, corpus.rated(corpus.rows(LABELLED))
    is_rated = set(zip(rated.video.tolist(), rated.start_s.tolist()))
    labels = {v: set(corpus.labels.of(k).tolist()) for k, v in enumerate(corpus.video_ids.tolist())}
    segments = {}
    for row, (k, start) in enumerate(zip(table.video.tolist(), table.starts_s.tolist())):
        video = table.video_ids.tolist()[k]
        if (video, start) not in is_rated and (labels[video] or not s.within_labels):
            segments[video, start] = dict(zip(ids, values[row].tolist()))
    found: dict[Pair, tuple[float, float]] = {}
    for c in ids:
        inside = [k for k in segments if not s.within_labels or c in labels[k[0]]]
        best = sorted(inside, key=lambda k: (-segments[k][c], k))
        top = best[: math.ceil(s.top_share * len(inside))]
        low = best[len(best) - math.floor(s.low_share * len(inside)) :]
        high = [k for k in best if segments[k][c] >= threshold or k in top]
        for k in best:
            p = segments[k][c]
            is_low = k in low or p <= lowest
            if k in high[: s.per_class_max or None] or (is_low and k not in high):
                y = float(k in high)
                weight = abs(2 * p - 1) if s.soft else 1 - abs(y - p)
                weight = weight if s.weights == "confidence" else 1.0
                found[k[0].decode(), k[1], c] = (p if s.soft else y, weight)
    all_labels = set(corpus.labels.values.tolist()) | set(ids)
    for video, start in dict.fromkeys((v.encode(), t) for v, t, _ in list(found)):
        scores = segments[video, start]
        outside = [c for c in ids if c in all_labels and c not in labels[video]]
        for c in sorted(outside, key=lambda c: (-scores[c], ids.index(c)))[: s.negatives]:
            weight = 1 - scores[c] if s.weights == "confidence" else 1.0
            found[video.decode(), start, c] = (0.0, weight)
    return found


SETTINGS = [
    {},
    {"threshold": 0.7, "top_share": 0.2, "negatives": 2, "weights": "confidence"},
    {"threshold": 0.9, "top_share": 0.1, "low_threshold": 0.1, "low_share": 0.25, "negatives": 1},
    {"threshold": 0.0, "top_share": 0.0, "soft": True, "weights": "confidence", "negatives": 1},
    {"threshold": 0.3, "per_class_max": 9, "low_share": 0.3},
    {"threshold": 0.8, "top_share": 0.05, "low_share": 0.1, "within_labels": False, "soft": True},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_against_the_definition_in_chunks_of_any_size(
    kind: str, settings: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    """Few different scores: many ties. The bytes do not depend on the chunks."""
    rng, table = np.random.default_rng(5), corpus.segments(corpus.rows(LABELLED))
    values = (rng.integers(0, 21, (len(table), len(corpus.classes))) / 20).astype(kind)
    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, values)
    expected = by_definition(corpus, values, Cleaning(**settings))
    written = set()
    for chunk_bytes in (1, 100, 1 << 20):
        out = tmp_path / "l.parquet"
        found, cleaned = label(scores, corpus, out, chunk_bytes=chunk_bytes, **settings)
        assert found.keys() == expected.keys()
        for pair, value in expected.items():
            assert found[pair] == pytest.approx(value, abs=1e-6)
        assert sum(each.sum() for each in (
            cleaned.positives, cleaned.negatives, cleaned.outside)) == len(found)  # fmt: skip
        assert cleaned.num_segments == len({pair[:2] for pair in found})
        written.add(out.read_bytes())
    assert len(written) == 1
    assert len(expected) > 20


def test_order_of_rows_and_classes_does_not_matter(corpus: Corpus, tmp_path: Path) -> None:
    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, 1)
    rng, table = np.random.default_rng(2), scores.segments
    rows, columns = rng.permutation(len(table)), rng.permutation(len(scores.classes))
    classes = ClassOrder.of(np.array(scores.classes.ids)[columns])
    turned = SegmentTable(table.video_ids, table.video[rows], table.starts_s[rows])
    with new_scores(tmp_path / "turned", turned, classes) as writer:
        writer.write(0, np.asarray(scores.values)[rows][:, columns])
        writer.commit({})
    settings: dict[str, Any] = {"top_share": 0.2, "low_share": 0.2, "negatives": 1}
    one, _ = label(scores, corpus, tmp_path / "one.parquet", **settings)
    other, _ = label(open_scores(tmp_path / "turned"), corpus, tmp_path / "o.parquet", **settings)
    assert one == other


# ---- V2 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_ratings_of_v2_change_nothing(
    settings: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    """Turned round and moved to other segments: the same bytes."""
    scores = teacher_scores(tmp_path / "scores", corpus, ("train", "v1", "v2"), 3)
    in_v2 = np.isin(corpus.rated_class.rows, corpus.rows(["v2"]))
    assert in_v2.sum() > 10
    written = set()
    for changed in (corpus, *(with_other_ratings(corpus, in_v2, shift) for shift in (0, 5, 20))):
        label(scores, changed, tmp_path / "l.parquet", **settings)
        written.add((tmp_path / "l.parquet").read_bytes())
    assert len(written) == 1
    v2 = set(corpus.video_ids[corpus.rows(["v2"])].tolist())
    assert not v2 & set(read_labels(tmp_path / "l.parquet").video.tolist())


def with_other_ratings(corpus: Corpus, which: NDArray[np.bool_], shift_s: int) -> Corpus:
    """These ratings turned round and moved to later segments."""
    start, score = (getattr(corpus, n).values.copy() for n in ("rated_start_s", "rated_score"))
    score[which], start[which] = 1 - score[which], start[which] + shift_s
    offsets = corpus.rated_class.offsets
    return replace(corpus, rated_start_s=Ragged(start, offsets), rated_score=Ragged(score, offsets))


def test_v1_ratings_do_count(corpus: Corpus, tmp_path: Path) -> None:
    """So that the test above could fail: the same change of V1's ratings shows."""
    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, 3)
    in_v1 = np.isin(corpus.rated_class.rows, corpus.rows(["v1"]))
    changed = with_other_ratings(corpus, in_v1, 5)
    found, _ = label(scores, corpus, tmp_path / "l.parquet")
    assert label(scores, changed, tmp_path / "l.parquet")[0] != found


def test_v2_is_never_labelled(corpus: Corpus, tmp_path: Path) -> None:
    scores = teacher_scores(tmp_path / "scores", corpus, ("train", "v1", "v2"), 3)
    with pytest.raises(UsageError, match=r"--splits: V2 is among the splits to label; what is"):
        label(scores, corpus, tmp_path / "l.parquet", ("v1", "v2"))
    assert not (tmp_path / "l.parquet").exists()


def test_a_teacher_that_saw_v2_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    saw = ["train", "v1", "v2"]
    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, 3, trained_on=saw)
    with pytest.raises(ScoresError, match=r"its model was trained on V2; what is watched on V2"):
        label(scores, corpus, tmp_path / "l.parquet")
    assert not (tmp_path / "l.parquet").exists()


# ---- what is refused -----------------------------------------------------------------------------


def test_scores_that_do_not_fit(corpus: Corpus, tmp_path: Path) -> None:
    def refused(scores: Scores, match: str, splits: tuple[Split, ...] = LABELLED) -> None:
        with pytest.raises(ScoresError, match=match):
            label(scores, corpus, tmp_path / "l.parquet", splits)
        assert not (tmp_path / "l.parquet").exists()

    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, 3)
    none = r"no unrated segment of a video with labels in test"
    refused(scores, none, ("test",))
    refused(teacher_scores(tmp_path / "test", corpus, ("test",), 3), none, ("test",))
    videos = SegmentTable.of_videos(corpus.video_ids[:2])
    refused(replace(scores, segments=videos), "scores of whole videos")
    fewer = replace(scores, classes=ClassOrder.of((10**6, *corpus.classes.ids[1:])))
    refused(fewer, rf"no score of class {corpus.classes.ids[0]} \(1 of 4 are missing\)")
    wrong = np.array(scores.values)
    wrong[-1, 0] = 1.5
    refused(replace(scores, values=wrong), "1.5")
    wrong[-1, 0] = np.nan
    refused(replace(scores, values=wrong), "nan")
    row = np.arange(len(scores.segments)) // 2
    table = scores.segments
    twice = SegmentTable(table.video_ids, table.video[row], table.starts_s[row])
    refused(replace(scores, segments=twice), "a segment has one row")


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_share": 1.5}, {"top_share": -0.1}, {"low_share": float("nan")}, {"negatives": -1},
        {"per_class_max": -1}, {"threshold": float("nan")}, {"low_threshold": float("nan")},
        {"negatives": 1, "within_labels": False},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))}: the value is"):
        Cleaning(**wrong)


# ---- how the scores are read ---------------------------------------------------------------------


def test_what_is_held_does_not_grow(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of one row, whatever the number of rows; each is told once a reading."""
    sizes: list[int] = []
    chunk = pseudo_teacher._Unrated._chunk

    def noted(self: Any, row: NDArray[np.int64], scores: NDArray[np.floating]) -> Any:
        sizes.append(len(row))
        return chunk(self, row, scores)

    monkeypatch.setattr(pseudo_teacher._Unrated, "_chunk", noted)
    scores = teacher_scores(tmp_path / "scores", corpus, LABELLED, 3)
    for settings, readings in ((Cleaning(top_share=0.0), 1), (Cleaning(), 2)):
        told: list[float] = []
        label_by_teacher(
            scores, corpus, tmp_path / "l.parquet", settings, LABELLED, chunk_bytes=1,
            on_rows=told.append,
        )  # fmt: skip
        assert set(sizes) == {1}
        assert sum(told) == readings * len(scores.segments)
        assert num_readings(settings) == readings
