import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.segments import SegmentTable
from whenabouts.metrics import video as video_module
from whenabouts.metrics.video import (
    class_ap,
    evaluate_videos,
    gap,
    hit_at_one,
    mean_ap,
    perr,
    video_scores_from_segments,
    video_truth,
)

CLASSES = ClassOrder.of([7, 3, 11, 0])


def ragged(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(row) for row in rows]
    return np.array([c for row in rows for c in row], np.int64), np.cumsum([0, *lengths])


def random_case(seed: int) -> tuple[list[set[int]], ClassOrder, np.ndarray]:
    """Integer scores with many ties; the labels are columns."""
    rng = np.random.default_rng(seed)
    columns = [set(rng.choice(9, rng.integers(0, 5), replace=False).tolist()) for _ in range(25)]
    classes = ClassOrder.of(rng.permutation(40)[:9])
    return columns, classes, rng.integers(-2, 2, (25, 9)).astype(np.float32)


def truth_of(columns: list[set[int]], classes: ClassOrder) -> video_module.VideoTruth:
    return video_truth(*ragged([[classes.ids[c] for c in row] for row in columns]), classes)


def ranked(row: np.ndarray) -> list[int]:
    return sorted(range(len(row)), key=lambda c: (-row[c], c))


def gap_by_definition(labels: list[set[int]], values: np.ndarray, top_n: int) -> float:
    pool = [(-values[v, c], v, c) for v in range(len(labels)) for c in ranked(values[v])[:top_n]]
    hits, total = 0, 0.0
    for rank, (_, v, c) in enumerate(sorted(pool), 1):
        if c in labels[v]:
            hits += 1
            total += hits / rank
    return total / sum(map(len, labels))


@pytest.mark.parametrize("top_n", [1, 3, 8, 9, 20])
@pytest.mark.parametrize("seed", range(5))
def test_gap_against_the_definition(seed: int, top_n: int) -> None:
    labels, classes, values = random_case(seed)
    expected = gap_by_definition(labels, values, top_n)
    assert gap(truth_of(labels, classes), values, top_n) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_hit_at_one_and_perr_against_the_definition(seed: int) -> None:
    labels, classes, values = random_case(seed)
    labelled = [(row, ranked(v)) for row, v in zip(labels, values) if row]
    assert len(labelled) < len(labels)
    truth = truth_of(labels, classes)
    hits = [order[0] in row for row, order in labelled]
    assert hit_at_one(truth, values) == pytest.approx(np.mean(hits))
    precisions = [len(row & set(order[: len(row)])) / len(row) for row, order in labelled]
    assert perr(truth, values) == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("seed", range(3))
def test_ap_against_scikit_learn(seed: int) -> None:
    labels, classes, _ = random_case(seed)
    values = np.random.default_rng(seed).permutation(25 * 9).reshape(25, 9).astype(np.float32)
    truth = truth_of(labels, classes)
    dense = truth.dense(0, 25)
    expected = [average_precision_score(d, v) for d, v in zip(dense.T, values.T)]
    assert class_ap(truth, values) == pytest.approx(expected)
    assert mean_ap(truth, values) == pytest.approx(np.mean(expected))
    # GAP over all classes is the AP of all predictions in one list.
    assert gap(truth, values, 9) == pytest.approx(
        average_precision_score(dense.ravel(), values.ravel())
    )


def test_by_hand() -> None:
    labels = ragged([[7, 3], [11], [], [0, 99]])
    values = np.array(
        [
            [0.9, 0.1, 0.8, 0.2],  # best: 7 (yes), 11 (no)
            [0.3, 0.4, 0.7, 0.6],  # best: 11 (yes), 0 (no)
            [0.5, 0.0, 0.0, 0.0],  # no labels
            [0.95, 0.0, 0.0, 0.5],  # best: 7 (no), 0 (yes)
        ],
        np.float32,
    )
    found = evaluate_videos(*labels, CLASSES, values, top_n=2)
    # The pool: .95 no, .9 YES, .8 no, .7 YES, .6 no, .5 no, .5 YES, 0 no; four labels in all.
    assert found.gap == pytest.approx((1 / 2 + 2 / 4 + 3 / 7) / 4)
    assert found.hit_at_one == pytest.approx(2 / 3)
    assert found.perr == pytest.approx((1 / 2 + 1 + 0) / 3)
    # Class 7: .95 no, .9 YES. Class 3: .4 no, .1 YES. 11: .8 no, .7 YES. 0: .6 no, .5 YES.
    assert found.ap == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1 / 2])
    assert found.mean_ap == pytest.approx(1 / 2)
    assert found.num_positives.tolist() == [1, 1, 1, 1]
    assert json.loads(json.dumps(found.to_dict())) == {
        "gap": pytest.approx(found.gap),
        "mean_ap": pytest.approx(found.mean_ap),
        "hit_at_one": pytest.approx(found.hit_at_one),
        "perr": pytest.approx(found.perr),
        "top_n": 2,
        "num_videos": 4,
        "num_classes": 4,
        "num_positives": 4,
        "num_ignored_labels": 1,
    }


def test_equal_scores_rank_by_video_then_by_column() -> None:
    values = np.zeros((2, 4), np.float32)
    for labels, expected in ([[7], []], 1), ([[], [0]], 1 / 8), ([[0], [7]], (1 / 4 + 2 / 5) / 2):
        assert gap(video_truth(*ragged(labels), CLASSES), values) == pytest.approx(expected)
    assert hit_at_one(video_truth(*ragged([[7], [3]]), CLASSES), values) == 1 / 2
    by_class = class_ap(video_truth(*ragged([[7], [3]]), CLASSES), values)
    assert by_class == pytest.approx([1, 1 / 2, np.nan, np.nan], nan_ok=True)


def test_gap_divides_by_all_labels_also_those_past_top_n() -> None:
    truth = video_truth(*ragged([[7, 3, 11, 0]]), CLASSES)
    assert gap(truth, np.array([[4, 3, 2, 1]], np.float32), top_n=1) == 1 / 4


def test_perfect_and_worst() -> None:
    labels, classes, _ = random_case(0)
    truth = truth_of(labels, classes)
    perfect = truth.dense(0, 25).astype(np.float32)
    assert [m(truth, perfect) for m in (gap, hit_at_one, perr, mean_ap)] == [1, 1, 1, 1]
    assert hit_at_one(truth, 1 - perfect) == 0


def test_labels_given_twice_count_once() -> None:
    once = video_truth(*ragged([[7, 3], [0]]), CLASSES)
    twice = video_truth(*ragged([[3, 7, 7, 3], [0, 0]]), CLASSES)
    assert once.video.tolist() == twice.video.tolist() == [0, 0, 1]
    assert once.column.tolist() == twice.column.tolist() == [0, 1, 3]


def test_offsets_that_do_not_begin_at_zero() -> None:
    values, offsets = ragged([[11], [7, 5], [0]])
    truth = video_truth(values, offsets[1:], CLASSES)
    assert (truth.num_videos, truth.num_ignored) == (2, 1)
    assert (truth.video.tolist(), truth.column.tolist()) == ([0, 1], [0, 3])


def test_nothing_labelled() -> None:
    found = evaluate_videos(*ragged([[], [99]]), CLASSES, np.zeros((2, 4), np.float32))
    totals = found.to_dict()
    assert [totals[n] for n in ("gap", "mean_ap", "hit_at_one", "perr")] == [None] * 4
    assert (totals["num_ignored_labels"], totals["num_positives"]) == (1, 0)


def test_what_is_refused() -> None:
    labels = ragged([[7], [3]])
    with pytest.raises(ScoresError, match=r"the scores are \(3, 4\); .*\(2, 4\)"):
        evaluate_videos(*labels, CLASSES, np.zeros((3, 4), np.float32))
    values = np.zeros((2, 4), np.float16)
    values[1, 2] = np.nan
    with pytest.raises(ScoresError, match="class 11 in row 1 is NaN"):
        evaluate_videos(*labels, CLASSES, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_chunks_and_maps_are_irrelevant(
    dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, classes, values = random_case(1)
    values = values.astype(dtype)
    pairs = ragged([[classes.ids[c] for c in row] for row in labels])
    expected = evaluate_videos(*pairs, classes, values).to_dict()
    np.save(tmp_path / "scores.npy", values)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    for budget_bytes in (1, 32 * 9 * 2 * 7):
        monkeypatch.setattr(video_module, "BUDGET_BYTES", budget_bytes)
        assert evaluate_videos(*pairs, classes, mapped).to_dict() == expected


def segments_of(video: list[int], num_videos: int) -> SegmentTable:
    ids = np.array([b"v%d" % v for v in range(num_videos)], np.bytes_)
    return SegmentTable(ids, np.array(video, np.int64), np.arange(len(video)) * 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("chunk_bytes", [1, 6 * 4, 6 * 4 * 7, 1 << 20])
@pytest.mark.parametrize("grouped", [True, False])
def test_videos_take_the_highest_of_their_segments(
    grouped: bool, chunk_bytes: int, dtype: type
) -> None:
    rng = np.random.default_rng(0)
    video = rng.choice([0, 1, 3, 4, 6], 40)
    video = np.sort(video) if grouped else video
    values = rng.standard_normal((40, 6)).astype(dtype)
    found = video_scores_from_segments(segments_of(video, 8), values, chunk_bytes)
    assert found.dtype == dtype
    for v, row in enumerate(found):
        assert np.array_equal(
            row, values[video == v].max(axis=0, initial=-9) if v in video else [0] * 6
        )


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 4 * 2, 1 << 20])
@pytest.mark.parametrize("video", [[0, 1, 2, 2], [2, 0, 2, 1]])
def test_no_segment_is_passed_over(video: list[int], chunk_bytes: int) -> None:
    # Segment k alone has class k.
    found = video_scores_from_segments(segments_of(video, 3), np.eye(4, dtype="f4"), chunk_bytes)
    assert found.tolist() == [[float(v == row) for v in video] for row in range(3)]


def test_videos_without_any_segment() -> None:
    found = video_scores_from_segments(segments_of([], 2), np.empty((0, 3), np.float32))
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]
