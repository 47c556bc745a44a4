import csv
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ranking_oracle import (
    World,
    ap_by_definition,
    labels,
    lists_by_definition,
    random_world,
    table,
)
from whenabouts.core import submission_tokens
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError, SubmissionError
from whenabouts.core.segments import SegmentTable
from whenabouts.metrics.segment_map import (
    SegmentEvaluation,
    average_precision,
    evaluate_pairs,
    evaluate_scores,
    evaluate_submission,
    write_class_csv,
)
from whenabouts.submission import write_submission

ONE = ClassOrder.of([3])
KS = [1, 2, 17, 59, 60, 61, 100_000]  # 60 segments are scored in the random worlds


def of_world(world: World, k: int, **more: int) -> SegmentEvaluation:
    return evaluate_scores(*world, k=k, **more)


def of_file(world: World, k: int, path: Path) -> SegmentEvaluation:
    write_submission(path, *world[1:], k=k)
    return evaluate_submission(world.truth, path, k=k, classes=world.classes)


def assert_same(one: SegmentEvaluation, other: SegmentEvaluation) -> None:
    for field in fields(SegmentEvaluation):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_equal(a, b, err_msg=field.name, strict=isinstance(a, np.ndarray))


@pytest.mark.parametrize(
    ("ranked", "num_positives", "expected"),
    [
        ("1", 1, 1.0),
        ("", 0, np.nan),
        ("000", 0, np.nan),
        ("", 4, 0.0),
        ("000", 2, 0.0),
        ("111", 3, 1.0),
        ("111", 6, 0.5),  # three were not listed
        ("01", 1, 1 / 2),
        ("001", 1, 1 / 3),
        ("101", 2, (1 + 2 / 3) / 2),
        ("0110", 2, (1 / 2 + 2 / 3) / 2),
        ("0011", 2, (1 / 3 + 2 / 4) / 2),
        ("10010", 4, (1 + 2 / 4) / 4),
    ],
)
def test_average_precision_by_hand(ranked: str, num_positives: int, expected: float) -> None:
    relevant = np.array([c == "1" for c in ranked], bool)
    assert average_precision(relevant, num_positives) == pytest.approx(expected, nan_ok=True)


def test_more_hits_than_positives_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="more positives were ranked"):
        average_precision(np.ones(3, bool), 2)


def test_one_class_by_hand() -> None:
    segments = table("a:0", "a:5", "b:0", "b:5", "c:0")
    truth = labels(("a:5", 3, 1), ("b:0", 3, 0), ("c:0", 3, 1), ("z:0", 3, 1), ("a:0", 9, 1))
    values = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]], np.float32)
    # Rated, by score: a:5 (yes), b:0 (no), c:0 (yes); z:0 is a positive nobody scored.
    found = evaluate_scores(truth, segments, ONE, values)
    assert found.ap == pytest.approx([(1 + 2 / 3) / 3, 0])
    assert found.mean_ap == pytest.approx((1 + 2 / 3) / 6)
    # a:0 takes a place in the list though it is not rated for the class.
    assert evaluate_scores(truth, segments, ONE, values, k=1).ap[0] == 0
    assert evaluate_scores(truth, segments, ONE, values, k=2).ap[0] == pytest.approx(1 / 3)
    assert evaluate_scores(truth, segments, ONE, values, k=4).ap[0] == pytest.approx(1 / 3)
    assert evaluate_scores(truth, segments, ONE, values, k=5).ap[0] == found.ap[0]
    counts = (found.num_positives, found.num_rated, found.num_listed, found.num_found)
    assert [c.tolist() for c in counts] == [[3, 1], [4, 1], [3, 0], [2, 0]]
    assert found.classes.ids == (3, 9)
    assert found.k == 100_000


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", range(6))
def test_scores_against_the_definition(seed: int, k: int) -> None:
    world = random_world(seed)
    found = of_world(world, k)
    lists = lists_by_definition(world, k)
    expected = [ap_by_definition(world.truth, lists, k, c) for c in found.classes.ids]
    assert found.classes.ids == (7, 3, 11, 0, 5)
    assert found.ap == pytest.approx(expected, nan_ok=True, rel=1e-12)
    assert found.mean_ap == pytest.approx(np.nanmean(expected), rel=1e-12)
    in_list = {(v, s, c) for c, names in lists.items() for v, s in names}
    pairs = zip(world.truth.video.tolist(), world.truth.start_s, world.truth.class_id)
    assert found.num_listed.sum() == len(in_list & set(pairs))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", range(3))
def test_a_file_gives_exactly_what_the_scores_give(
    seed: int, k: int, dtype: type, tmp_path: Path
) -> None:
    world = random_world(seed, dtype=dtype)
    assert_same(of_file(world, k, tmp_path / "s.csv"), of_world(world, k))


@pytest.mark.parametrize("k", KS)
def test_a_list_longer_than_k_is_cut(k: int, tmp_path: Path) -> None:
    world = random_world(1)
    write_submission(tmp_path / "s.csv", *world[1:])
    assert_same(
        evaluate_submission(world.truth, tmp_path / "s.csv", k, world.classes), of_world(world, k)
    )


@pytest.mark.parametrize("k", [1, 17, 60, 100])
def test_the_order_of_rows_is_irrelevant(k: int) -> None:
    world = random_world(2)
    expected = of_world(world, k)
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows, pairs = rng.permutation(60), rng.permutation(len(world.truth))
        ids = rng.permutation(len(world.segments.video_ids))
        segments = SegmentTable(
            world.segments.video_ids[ids],
            np.argsort(ids)[world.segments.video[rows]],
            world.segments.starts_s[rows],
        )
        shuffled = World(world.truth.take(pairs), segments, world.classes, world.values[rows])
        assert_same(of_world(shuffled, k), expected)


@pytest.mark.parametrize("k", [17, 59])
@pytest.mark.parametrize("budget_bytes", [1, 60 * 4 * 2, 60 * 4 * 4, 1 << 20])
def test_the_budget_is_irrelevant(k: int, budget_bytes: int) -> None:
    world = random_world(3)
    assert_same(of_world(world, k, budget_bytes=budget_bytes), of_world(world, k))


@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn_where_all_is_rated_and_listed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"v{i}:{5 * j}" for i in range(6) for j in range(5)]
    scores = rng.permutation(30).astype(np.float32)[:, None]
    positive = rng.random(30) < 0.4
    truth = labels(*((n, 3, float(p)) for n, p in zip(names, positive)))
    found = evaluate_scores(truth, table(*names), ONE, scores)
    assert found.mean_ap == pytest.approx(average_precision_score(positive, scores[:, 0]))


def test_perfect_reversed_constant_and_empty(tmp_path: Path) -> None:
    names = [f"v:{i}" for i in range(10)]
    truth = labels(*((n, 3, float(i < 4)) for i, n in enumerate(names)))

    def mean_ap(scores: list[int]) -> float:
        return evaluate_scores(truth, table(*names), ONE, np.array(scores, "f4")[:, None]).mean_ap

    assert mean_ap([1] * 4 + [0] * 6) == 1
    worst = sum((i + 1) / (i + 7) for i in range(4)) / 4
    assert mean_ap(list(range(10))) == pytest.approx(worst)
    assert mean_ap([0] * 10) == 1  # equal scores are in the order (video, start)
    write_submission(tmp_path / "s.csv", table(), ONE, np.empty((0, 1), np.float32))
    assert evaluate_submission(truth, tmp_path / "s.csv").mean_ap == 0
    assert evaluate_scores(truth, table(), ONE, np.empty((0, 1), np.float32)).mean_ap == 0


def test_a_positive_is_a_label_of_half_or_more() -> None:
    truth = labels(("a:0", 3, 0.5), ("a:5", 3, 0.49), ("a:10", 3, 0.51))
    values = np.array([[1], [2], [3]], np.float32)
    found = evaluate_scores(truth, table("a:0", "a:5", "a:10"), ONE, values)
    assert found.num_positives.tolist() == [2]
    assert found.mean_ap == pytest.approx((1 + 2 / 3) / 2)


def test_classes_without_positives_are_out_of_the_mean() -> None:
    truth = labels(("a:0", 3, 1), ("a:0", 4, 0))
    classes = ClassOrder.of([4, 3, 8])
    found = evaluate_scores(truth, table("a:0"), classes, np.zeros((1, 3), np.float32))
    assert found.ap == pytest.approx([np.nan, 1, np.nan], nan_ok=True)
    assert found.mean_ap == 1
    assert found.num_rated.tolist() == [1, 1, 0]
    nothing = evaluate_scores(labels(), table("a:0"), classes, np.zeros((1, 3), np.float32))
    assert np.isnan(nothing.mean_ap)
    assert nothing.to_dict()["mean_ap"] is None


def test_classes_the_scores_lack_count_zero(tmp_path: Path) -> None:
    truth = labels(("a:0", 9, 1), ("a:0", 3, 1), ("a:0", 5, 1), ("a:5", 5, 0))
    expected = [1, 0, 0]
    found = evaluate_scores(truth, table("a:0"), ONE, np.zeros((1, 1), np.float32))
    assert (found.classes.ids, found.ap.tolist()) == ((3, 5, 9), expected)
    assert found.mean_ap == pytest.approx(1 / 3)
    path = tmp_path / "s.csv"
    path.write_bytes(b"Class,Segments\n3,a:0\n")
    assert_same(evaluate_submission(truth, path), found)
    classes = ClassOrder.of([9, 3], {3: "Three", 9: "Nine"})
    found = evaluate_submission(truth, path, classes=classes)
    assert (found.classes.ids, found.ap.tolist()) == ((9, 3, 5), [0, 1, 0])
    assert found.classes.names == ("Nine", "Three", "")


def test_classes_of_the_file_stand_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"Class,Segments\n8,b:5 a:0\n3,\n1,a:0\n")
    found = evaluate_submission(labels(("a:0", 8, 1), ("a:0", 2, 1), ("b:5", 8, 0)), path)
    assert found.classes.ids == (8, 3, 1, 2)
    assert found.ap == pytest.approx([0.5, np.nan, np.nan, 0], nan_ok=True)


def test_the_cap_is_met_exactly_and_counts_what_is_not_rated(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"Class,Segments\n3,u:0 u:5 a:0 u:10")
    truth = labels(("a:0", 3, 1))
    assert [evaluate_submission(truth, path, k).mean_ap for k in (1, 2, 3, 4)] == [0, 0, 1, 1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("last_end", [True, False])
def test_the_last_token_of_a_line_is_whole(end: bytes, last_end: bool, tmp_path: Path) -> None:
    truth = labels(("b:5", 3, 1), ("b:5", 4, 1))
    lines = [b"Class,Segments", b"3,a:0 b:5", b"4,b:5"]
    (tmp_path / "s.csv").write_bytes(end.join(lines) + end * last_end)
    assert evaluate_submission(truth, tmp_path / "s.csv").ap.tolist() == [1, 1]


@pytest.mark.parametrize("k", [3, 60])
def test_hash_collisions_change_nothing(
    k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = random_world(4)
    expected = of_world(world, k)
    monkeypatch.setattr(submission_tokens, "mix", lambda hashes, words: np.zeros_like(hashes))
    assert_same(of_file(world, k, tmp_path / "s.csv"), expected)


def test_long_ids_with_colons_that_differ_late(tmp_path: Path) -> None:
    stem = "a:b" * 12 + "xyz"
    names = [f"{stem}{end}:{s}" for end in "pq" for s in (0, 5)]
    assert len(stem) + 1 == 40
    truth = labels(*((n, 3, float(i == 2)) for i, n in enumerate(names)))
    path = tmp_path / "s.csv"
    path.write_text("Class,Segments\n3," + " ".join([names[0], names[2], names[1]]) + "\n")
    found = evaluate_submission(truth, path)
    assert found.mean_ap == pytest.approx(1 / 2)
    assert found.num_listed.tolist() == [3]


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    truth = labels(("a:0", 3, 1))
    path.write_bytes(b"Class,Segments\n3,a:0\n4,a:0 a:0\n")
    with pytest.raises(SubmissionError, match="line 3, class 4: token 2 'a:0' repeats token 1"):
        evaluate_submission(truth, path)
    path.write_bytes(b"Class,Segments\n3,a:0 b:0 c:0 b:0\n")
    with pytest.raises(SubmissionError, match="token 4 'b:0' repeats token 2"):
        evaluate_submission(truth, path, k=1)  # what stands after the cut is read, too
    path.write_bytes(b"Class,Segments\n3,a:0\n7,\n")
    with pytest.raises(SubmissionError, match=r"s\.csv, line 3: class 7 is not evaluated"):
        evaluate_submission(truth, path, classes=ONE)


@pytest.mark.parametrize("k", [1, 10])
def test_scores_that_cannot_be_ranked(k: int) -> None:
    truth = labels(("a:0", 3, 1))
    nan = np.array([[0.5], [np.nan]], np.float32)
    with pytest.raises(ScoresError, match="class 3 in row 1 is NaN"):
        evaluate_scores(truth, table("a:0", "a:5"), ONE, nan, k)
    with pytest.raises(ScoresError, match="stands in row 0 and in row 1"):
        evaluate_scores(truth, table("a:0", "a:0"), ONE, np.zeros((2, 1), np.float32), k)
    with pytest.raises(ScoresError, match=r"the scores are \(2, 2\)"):
        evaluate_scores(truth, table("a:0", "a:5"), ONE, np.zeros((2, 2), np.float32), k)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_the_pairs_alone_are_enough_while_no_list_is_full(seed: int, dtype: type) -> None:
    world = random_world(seed, dtype=dtype)
    rows = world.segments.rows_of(world.truth.video, world.truth.start_s)
    columns = world.classes.columns(world.truth.class_id)
    scored = (rows >= 0) & (columns >= 0)
    truth = world.truth.take(scored)
    pairs = evaluate_pairs(truth, world.values[rows[scored], columns[scored]], world.classes)
    assert_same(pairs, of_world(world._replace(truth=truth), 100_000))


def test_a_pair_without_a_score_is_refused() -> None:
    truth = labels(("a:0", 3, 1), ("a:5", 3, 0))
    with pytest.raises(ScoresError, match="score of segment a:5 for class 3 is NaN"):
        evaluate_pairs(truth, np.array([0, np.nan], np.float32), ONE)


def test_mapped_scores(tmp_path: Path) -> None:
    world = random_world(5)
    np.save(tmp_path / "scores.npy", world.values)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    for k in (10, 100):
        assert_same(of_world(world._replace(values=mapped), k), of_world(world, k))


def test_what_is_written_of_an_evaluation(tmp_path: Path) -> None:
    truth = labels(("a:0", 3, 1), ("a:5", 3, 1), ("b:0", 3, 1), ("a:5", 4, 0), ("z:0", 5, 1))
    classes = ClassOrder.of([4, 3], {3: 'Rock, "roll"', 4: "Été"})
    values = np.array([[1, 3], [2, 2], [3, 1]], np.float32)
    found = evaluate_scores(truth, table("a:0", "a:5", "b:0"), classes, values, k=2)
    assert json.loads(json.dumps(found.to_dict())) == {
        "mean_ap": pytest.approx(1 / 3),
        "k": 2,
        "num_classes": 2,
        "num_positives": 4,
        "num_rated": 5,
        "num_listed": 3,
        "num_found": 2,
    }
    write_class_csv(tmp_path / "classes.csv", found)
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["Index", "Name", "AP", "Positives", "Rated", "Listed"],
            ["4", "Été", "", "0", "1", "1"],
            ["3", 'Rock, "roll"', "0.666667", "3", "3", "2"],
            ["5", "", "0.000000", "1", "1", "0"],
        ]
