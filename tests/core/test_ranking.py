import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranking_oracle import table
from whenabouts.core import ranking
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import ScoresError
from whenabouts.core.ranking import (
    best_keys,
    class_blocks,
    cut_key,
    order_keys,
    refuse_misfit,
    refuse_nan,
    row_chunks,
    tie_ranks_of,
    top_k,
)

DTYPES = [np.float16, np.float32]
ORDER = ClassOrder.of([7, 3, 11])


def by_definition(scores: np.ndarray, tie_ranks: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda r: (-float(scores[r]), tie_ranks[r]))[:k]


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_any_scores_are_ordered_as_defined(dtype: type, data: st.DataObject) -> None:
    elements = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=False)
    repeated = st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.0, np.inf, -np.inf])
    scores = data.draw(hnp.arrays(dtype, st.integers(0, 20), elements=elements | repeated))
    ranks = np.array(data.draw(st.permutations(range(len(scores)))), np.uint32)
    k = data.draw(st.integers(1, 25))
    assert top_k(scores, ranks, k).tolist() == by_definition(scores, ranks, k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_float16_values_in_order(dtype: type) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    scores = every[~np.isnan(every)].astype(dtype)
    best = scores[top_k(scores, np.arange(len(scores), dtype=np.uint32), len(scores))]
    assert (np.diff(best[np.isfinite(best)].astype(np.float64)) <= 0).all()
    assert best[0] == np.inf
    assert best[-1] == -np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_and_negative_zero_by_hand(dtype: type) -> None:
    scores = np.array([0.0, -0.0, 1.0, -0.0, 0.0, -1.0, 1.0], dtype)
    ranks = np.array([4, 2, 6, 0, 1, 3, 5], np.uint32)
    assert top_k(scores, ranks, 7).tolist() == [6, 2, 3, 4, 1, 0, 5]
    assert top_k(scores, ranks, 3).tolist() == [6, 2, 3]
    assert top_k(scores, ranks, 1).tolist() == [6]


def test_the_key_holds_the_tie_rank_and_zero_scores_of_both_signs_share_a_key() -> None:
    highest = np.array([2**32 - 2], np.uint32)
    assert tie_ranks_of(order_keys(np.ones(1, np.float32), highest)).tolist() == [2**32 - 2]
    zero, minus = (order_keys(np.array([z], np.float32), highest) for z in (0.0, -0.0))
    assert zero == minus


def test_the_scores_are_not_changed() -> None:
    scores = np.array([-0.0, 1.0, -2.0], np.float32)
    top_k(scores, np.arange(3, dtype=np.uint32), 2)
    assert np.signbit(scores).tolist() == [True, False, True]


@pytest.mark.parametrize("size", [200, 20_000])
@pytest.mark.parametrize("seed", range(3))
def test_best_and_cut_against_a_full_sort(seed: int, size: int) -> None:
    keys = np.random.default_rng(seed).permutation(size).astype(np.uint64)
    for k in (1, 2, 3, 7, size // 3, size // 2, size - 1, size):
        assert np.array_equal(best_keys(keys, k), np.arange(k))
        assert cut_key(keys, k) == k - 1
    assert np.array_equal(best_keys(keys, size + 1), np.arange(size))
    assert best_keys(np.stack([keys, keys[::-1]]), 3).tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("budget_bytes", [1, 8 * 7 - 1, 8 * 7, 8 * 7 * 2, 8 * 7 * 3, 1 << 20])
@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 512])
def test_class_blocks_turn_the_array(
    budget_bytes: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "ROWS_AT_ONCE", rows_at_once)
    values = np.arange(35, dtype=np.float32).reshape(7, 5)
    blocks = list(class_blocks(values, budget_bytes))
    assert np.array_equal(np.concatenate([b for _, b in blocks]), values.T)
    for columns, block in blocks:
        assert block.flags.c_contiguous
        assert np.array_equal(block, values[:, columns].T)
        assert len(block) == 1 or 2 * block.nbytes <= budget_bytes
    # Wide enough, too: one column more would not have fitted.
    assert len(blocks[0][1]) == min(5, max(1, budget_bytes // (2 * 28)))


def test_class_blocks_of_nothing() -> None:
    assert list(class_blocks(np.empty((5, 0), np.float32))) == []
    assert [b.shape for _, b in class_blocks(np.empty((0, 2), np.float32))] == [(2, 0)]


@pytest.mark.parametrize("chunk_bytes", [1, 12, 24, 30, 1000])
def test_row_chunks_cover_the_array(chunk_bytes: int) -> None:
    values = np.arange(21, dtype=np.float32).reshape(7, 3)
    chunks = list(row_chunks(values, chunk_bytes))
    assert np.array_equal(np.concatenate([rows for _, rows in chunks]), values)
    assert all(values[first, 0] == rows[0, 0] for first, rows in chunks)
    assert all(len(rows) == 1 or rows.nbytes <= chunk_bytes for _, rows in chunks)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_letting_go_of_a_mapped_array_loses_nothing(mode: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)
    if mode != "r":
        mapped[0, 0] = 9  # in mode "c" this change is in memory alone
    ranking.let_go(mapped)
    assert mapped.ravel().tolist() == [9 if mode != "r" else 0, 1, 2, 3, 4, 5]


def test_only_maps_for_reading_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = []

    class SpyMap(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            let_go.append(advice)

    monkeypatch.setattr(mmap, "mmap", SpyMap)
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    for mode, count in (("c", 0), ("r+", 0), ("r", 1)):
        ranking.let_go(np.load(tmp_path / "a.npy", mmap_mode=mode)[1:])
        assert let_go == [(mmap.MADV_DONTNEED,)] * count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_nan_is_refused_by_class_and_row(dtype: type, nan: float) -> None:
    values = np.zeros((4, 3), dtype)
    values[:, 1] = [np.inf, -np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny]
    refuse_nan(values, ORDER)
    values[2, 2] = nan
    with pytest.raises(ScoresError, match="score of class 11 in row 2 is NaN"):
        refuse_nan(values, ORDER)


def test_nan_in_a_later_chunk_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BUDGET_BYTES", 1)
    values = np.zeros((4, 3), np.float32)
    values[3, 0] = np.nan
    with pytest.raises(ScoresError, match="class 7 in row 3"):
        refuse_nan(values, ORDER)


def test_what_cannot_be_ranked_is_refused() -> None:
    segments = table("a:0", "a:5")
    refuse_misfit(segments, ORDER, np.zeros((2, 3), np.float16))
    with pytest.raises(ScoresError, match=r"the scores are \(3, 2\); .*\(2, 3\)"):
        refuse_misfit(segments, ORDER, np.zeros((3, 2), np.float32))
    for dtype in (np.float64, np.int32, ">f4"):
        with pytest.raises(ScoresError, match="scores are float32 or float16"):
            refuse_misfit(segments, ORDER, np.zeros((2, 3), dtype))
    with pytest.raises(ScoresError, match="is NaN"):
        refuse_misfit(segments, ORDER, np.full((2, 3), np.nan, np.float32))


def test_a_segment_in_two_rows_is_refused() -> None:
    segments = table("b:0", "a:5", "b:5", "a:0", "b:0")
    with pytest.raises(ScoresError, match="segment b:0 stands in row 0 and in row 4"):
        refuse_misfit(segments, ORDER, np.zeros((5, 3), np.float32))


def test_reading_ahead_changes_nothing(tmp_path):
    """Also past the end, of slices, and of what is not mapped at all."""
    values = np.random.default_rng(0).random((500, 7)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    for rows in (slice(0, 500), slice(490, 600), slice(500, 500), slice(3, 4)):
        ranking.read_ahead(mapped, rows)
        ranking.read_ahead(values, rows)
        ranking.read_ahead(mapped[:, 2:], rows)
    np.testing.assert_array_equal(mapped, values)


@pytest.mark.parametrize("k", [1, 32, 33, 34, 50, 99, 100, 200])
def test_to_cut_first_or_to_sort_all_is_the_same(k):
    keys = np.random.default_rng(k).permutation(100).astype(np.uint64).reshape(2, 50)
    np.testing.assert_array_equal(ranking.best_keys(keys, k), np.sort(keys, axis=1)[:, :k])
