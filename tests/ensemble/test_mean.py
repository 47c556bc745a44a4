"""The weighted mean of Scores: by hand, by definition, itself, and in any order."""

from __future__ import annotations

import json
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from commandline import start
from ensemble_world import (
    CLASSES,
    averaged,
    mean_by_definition,
    random_scores,
    shuffled,
    with_values,
)
from fusion_world import scores_by_name, write_scores, write_videos
from ranking_oracle import table
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.scores import Scores, open_scores, partial_path
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble import mean as mean_module

KINDS = ("mean", "geometric", "rank")
POINTWISE = ("mean", "geometric")
TINY_HALF, TINY = 2.0**-24, 2.0**-149
BELOW_ONE_HALF, BELOW_ONE = 1 - 2.0**-11, 1 - 2.0**-24


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def single(path: Path, *scores: float, dtype: type = np.float32) -> Scores:
    """A class of as many segments."""
    rows = table(*(f"v{row:02d}:0" for row in range(len(scores))))
    return write_scores(path, rows, [7], np.array(scores, dtype)[:, None])


def singles(folder: Path, *columns: tuple[float, ...], dtype: type = np.float32) -> list[Scores]:
    return [single(folder / name, *column, dtype=dtype) for name, column in zip("abcde", columns)]


# ---- by hand, by definition ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "weights", "columns", "expected"),
    [
        ("mean", (), ((0.25, 0, 1), (0.75, 1, 1)), (0.5, 0.5, 1)),
        ("mean", (3, 1), ((0.25, 0, 1), (0.75, 1, 0)), (0.375, 0.25, 0.75)),
        ("mean", (2, 0, 2), ((0.5,), (0.1,), (0.25,)), (0.375,)),
        # odds 1 and 9, 9 and 1/9, 1/4 and 1/4; their root of the product
        ("geometric", (), ((0.5, 0.9, 0.2), (0.9, 0.1, 0.2)), (0.75, 0.5, 0.2)),
        # odds 1 and 27, with 1/3 and 2/3
        ("geometric", (1, 2), ((0.5,), (27 / 28,)), (0.9,)),
        ("rank", (), ((0.1, 0.3, 0.2, 0), (0.4, 0.3, 0.2, 0.1)), (0.75, 0.875, 0.625, 0.25)),
        ("rank", (3, 1), ((1, 0), (0, 1)), (0.875, 0.625)),
    ],
)
def test_by_hand(
    kind: str,
    weights: tuple[float, ...],
    columns: tuple[tuple[float, ...], ...],
    expected: tuple[float, ...],
    tmp_path: Path,
) -> None:
    found = averaged(singles(tmp_path, *columns), tmp_path / "o", kind, weights).values
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_by_definition(kind: str, dtype: type, levels: int, tmp_path: Path) -> None:
    """Also where rows, videos and classes stand in another order, and with many ties."""
    for seed, weights in enumerate([(1, 1, 1), (5, 0, 2), (0.2, 0.7, 0.1)]):
        members = random_scores(tmp_path / str(seed), seed, 3, dtype, levels)
        expected = mean_by_definition(kind, members, weights)
        rng = np.random.default_rng(seed)
        members[1:] = [shuffled(m, tmp_path / f"{seed}-{m.path.name}", rng) for m in members[1:]]
        found = scores_by_name(averaged(members, tmp_path / "o", kind, weights))
        assert list(found) == list(expected)
        np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_of_whole_videos(kind: str, tmp_path: Path) -> None:
    rng, ids = np.random.default_rng(0), [b"b", b"a", b"c"]
    members = [
        write_videos(tmp_path / name, order, CLASSES, rng.random((3, 4), np.float32))
        for name, order in (("x", ids), ("y", ids[::-1]))
    ]
    found = averaged(members, tmp_path / "o", kind)
    assert found.segments.has_whole_videos
    expected = mean_by_definition(kind, members, (1, 1))
    assert scores_by_name(found) == pytest.approx(expected, rel=1e-6)


# ---- one member, equal members -------------------------------------------------------------------


def every_score(dtype: type) -> np.ndarray:
    """All of float16 in [0, 1]; of float32 some of every size, and the edges."""
    bits = {np.float32: np.uint32, np.float16: np.uint16}[dtype]
    one = int(np.array(1, dtype).view(bits))
    if dtype == np.float16:
        return np.arange(one + 1, dtype=bits).view(dtype)
    some = np.random.default_rng(0).integers(0, one, 20_000)
    edges = [*range(100), *range(one - 100, one + 1)]
    return np.concatenate([some, edges]).astype(bits).view(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", POINTWISE)
def test_one_member_is_itself_bit_for_bit(kind: str, dtype: type, tmp_path: Path) -> None:
    values = every_score(dtype)
    one, same, other = singles(tmp_path, values, values, 1 - values, dtype=dtype)
    for members, weights in (([one], ()), ([one], (0.3,)), ([other, one], (0, 7))):
        found = averaged(members, tmp_path / "o", kind, weights, "members").values
        np.testing.assert_array_equal(found, one.values, strict=True)
        wide = averaged(members, tmp_path / "o", kind, weights).values
        np.testing.assert_array_equal(wide, one.values.astype(np.float32), strict=True)
    both = averaged([one, same], tmp_path / "o", kind, (3, 1), "members").values
    np.testing.assert_array_equal(both, one.values, strict=True)


def test_ranks_of_one_member_keep_its_order(tmp_path: Path) -> None:
    scores = random_scores(tmp_path, 0, 1)[0]
    found = averaged([scores], tmp_path / "o", "rank")
    for had, has in zip(scores.values.T, found.values.T):
        assert (np.diff(has[np.argsort(had)]) >= 0).all() or len(np.unique(had)) < len(had)
        assert sorted(has.tolist()) == pytest.approx([(row + 1) / 30 for row in range(30)])


# ---- what must not matter ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_members_is_irrelevant(kind: str, tmp_path: Path) -> None:
    members, weights = random_scores(tmp_path, 1, 4), (0.1, 0.2, 0.3, 0.4)
    expected = averaged(members, tmp_path / "o", kind, weights).values
    for order in permutations(range(4)):
        turned = [members[k] for k in order], tmp_path / "o", kind, [weights[k] for k in order]
        np.testing.assert_array_equal(averaged(*turned).values, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_and_columns_is_irrelevant(kind: str, tmp_path: Path) -> None:
    members, weights = random_scores(tmp_path, 2, levels=5), (1, 2, 3)
    expected = scores_by_name(averaged(members, tmp_path / "o", kind, weights))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        moved = [shuffled(m, tmp_path / str(seed) / m.path.name, rng) for m in members]
        found = averaged(moved, tmp_path / "o", kind, weights)
        assert scores_by_name(found) == expected
        np.testing.assert_array_equal(found.segments.starts_s, moved[0].segments.starts_s)
        assert found.classes.ids == moved[0].classes.ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget_bytes", [1, 3 * 7 * 16, 30 * 12 * 3, 1 << 20])
def test_streaming_is_as_in_memory(
    kind: str, budget_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = random_scores(tmp_path, 3)
    members[2] = shuffled(members[2], tmp_path / "moved", np.random.default_rng(0))
    expected = averaged(members, tmp_path / "o", kind, (1, 2, 3)).values
    for strip in (1, 5 * 4, 1 << 17):
        monkeypatch.setattr(mean_module, "STRIP_SCORES", strip)
        seen: list[float] = []
        more = {"budget_bytes": budget_bytes, "on_rows": seen.append}
        found = averaged(members, tmp_path / "o", kind, (1, 2, 3), **more).values
        np.testing.assert_array_equal(found, expected)
        assert sum(seen) == pytest.approx(30)
        assert (len(seen) == 1) == (budget_bytes == 1 << 20)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_ratio_of_the_weights_matters(kind: str, tmp_path: Path) -> None:
    members = random_scores(tmp_path, 4)
    expected = averaged(members, tmp_path / "o", kind, (0.5, 0.25, 0.25)).values
    for factor in (4, 2.0**-900, 2.0**900):
        weights = (2 * factor, factor, factor)
        found = averaged(members, tmp_path / "o", kind, weights).values
        np.testing.assert_array_equal(found, expected)


# ---- geometric -----------------------------------------------------------------------------------


def test_odds_treat_a_class_and_its_absence_alike(tmp_path: Path) -> None:
    a, b = np.random.default_rng(0).integers(1, 4096, (2, 500)) / 4096
    members = singles(tmp_path, a, b)
    mirrored = singles(tmp_path / "m", 1 - a, 1 - b)
    found = averaged(members, tmp_path / "o", "geometric", (2, 1)).values
    other = averaged(mirrored, tmp_path / "p", "geometric", (2, 1)).values
    np.testing.assert_allclose(other, 1 - found, atol=2e-7)
    low, high = np.minimum(a, b)[:, None], np.maximum(a, b)[:, None]
    assert ((found > low - 1e-7) & (found < high + 1e-7)).all()


@pytest.mark.parametrize(
    ("dtype", "tiny", "below_one"),
    [(np.float16, TINY_HALF, BELOW_ONE_HALF), (np.float32, TINY, BELOW_ONE)],
)
def test_a_zero_is_no_veto_and_a_one_no_proof(
    dtype: type, tiny: float, below_one: float, tmp_path: Path
) -> None:
    """Each stands a quarter of a step from it, which is less than the scores next to it."""
    edges = (0, tiny, 2 * tiny, 0.25, below_one - (1 - below_one), below_one, 1)
    for other in (0.5, 0.001, 0.999):
        members = singles(tmp_path, edges, (other,) * 7, dtype=dtype)
        found = averaged(members, tmp_path / "o", "geometric").values[:, 0]
        assert (np.diff(found) > 0).all()
        assert 0 < found[0] < found[-1] < 1
    one = np.float64(dtype(0.5))
    odds = (tiny / 4) / (1 - tiny / 4) * one / (1 - one)
    found = averaged(singles(tmp_path, (0,), (0.5,), dtype=dtype), tmp_path / "o", "geometric")
    assert found.values[0, 0] == pytest.approx(odds**0.5 / (1 + odds**0.5), rel=1e-6)
    certain = (1 - (1 - below_one) / 4) / ((1 - below_one) / 4)
    found = averaged(singles(tmp_path, (1,), (0.5,), dtype=dtype), tmp_path / "o", "geometric")
    assert found.values[0, 0] == pytest.approx(certain**0.5 / (1 + certain**0.5), rel=1e-6)


def test_zero_against_one_is_even(tmp_path: Path) -> None:
    """As far as the type is as fine at both ends."""
    members = singles(tmp_path, (0, 1), (1, 0), dtype=np.float16)
    found = averaged(members, tmp_path / "o", "geometric").values[:, 0]
    assert found[0] == found[1] > 0
    assert np.isfinite(found).all()


# ---- ranks ---------------------------------------------------------------------------------------


def test_only_the_order_counts_in_ranks(tmp_path: Path) -> None:
    a, b = random_scores(tmp_path, 5, 2, levels=6)
    expected = averaged([a, b], tmp_path / "o", "rank").values
    stretched = with_values(a, np.asarray(a.values) ** 3 * 20 - 7)
    np.testing.assert_array_equal(averaged([stretched, b], tmp_path / "o", "rank").values, expected)


def test_equals_rank_by_video_and_start(tmp_path: Path) -> None:
    rows = table("b:0", "a:10", "a:5", "c:0")
    scores = write_scores(tmp_path / "a", rows, [7], np.full((4, 1), 0.5, np.float32))
    found = averaged([scores], tmp_path / "o", "rank").values[:, 0]
    assert found.tolist() == [0.5, 0.75, 1, 0.25]


# ---- what is written -----------------------------------------------------------------------------


def test_types(tmp_path: Path) -> None:
    wide, half = single(tmp_path / "a", 1 / 3), single(tmp_path / "b", 1 / 3, dtype=np.float16)
    for members, dtype, expected in (
        ([half, half], "float32", np.float32),
        ([half, half], "members", np.float16),
        ([half, wide], "members", np.float32),
        ([wide, wide], "float16", np.float16),
    ):
        for kind in KINDS:
            found = averaged(members, tmp_path / "o", kind, (), dtype).values
            assert found.dtype == expected
    third = averaged([wide], tmp_path / "o", "mean", (), "float16").values
    assert third[0, 0] == np.float16(1 / 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_nothing_to_average(shape: tuple[int, int], kind: str, tmp_path: Path) -> None:
    rows = table("a:0", "b:0") if shape[0] else table()
    scores = write_scores(tmp_path / "s", rows, (7, 3)[: shape[1]], np.zeros(shape, np.float32))
    assert averaged([scores, scores], tmp_path / "o", kind).values.shape == shape


def test_who_made_it(tmp_path: Path) -> None:
    one = np.ones((1, 1), np.float32)
    a = write_scores(tmp_path / "a", table("a:0"), [3], one, run="r", trained_on=["v1"])
    b = write_scores(tmp_path / "b", table("a:0"), [3], one, run="q", trained_on=["train", "v2"])
    c = write_scores(tmp_path / "c", table("a:0"), [3], one)
    told = averaged([a, b, c], tmp_path / "o", "geometric", (3, 1, 0), made_by={"more": 1}).made_by
    assert json.loads(json.dumps(told)) == {
        "format": 1,
        "ensemble": {"kind": "geometric"},
        "members": [
            {"scores": str(tmp_path / "a"), "weight": 0.75, **a.made_by},
            {"scores": str(tmp_path / "b"), "weight": 0.25, **b.made_by},
            {"scores": str(tmp_path / "c"), "weight": 0, **c.made_by},
        ],
        "trained_on": ["train", "v1", "v2"],
        "more": 1,
    }


# ---- what does not fit, what fails ---------------------------------------------------------------


@pytest.mark.parametrize("score", [np.nan, np.inf, -1e-3, 1.001])
@pytest.mark.parametrize("kind", POINTWISE)
def test_what_is_no_probability_is_refused(kind: str, score: float, tmp_path: Path) -> None:
    a, b, c = random_scores(tmp_path, 6)
    values = np.array(b.values)
    values[6, 1] = score
    told = r"b: the score of class 3 in row 6 is .* in \[0, 1\]; .*negative"
    with pytest.raises(ScoresError, match=told):
        averaged([a, with_values(b, values), c], tmp_path / "o", kind)
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_wrong_score_is_named_where_its_own_member_has_it(tmp_path: Path) -> None:
    a, b = random_scores(tmp_path, 6, 2)
    moved = shuffled(b, tmp_path / "moved", np.random.default_rng(0))
    values = np.array(moved.values)
    values[6, 1] = np.nan
    told = f"moved: the score of class {moved.classes.ids[1]} in row 6 is nan"
    with pytest.raises(ScoresError, match=told):
        averaged([a, with_values(moved, values)], tmp_path / "o")


def test_ranks_refuse_what_is_no_number(tmp_path: Path) -> None:
    a, b, _ = random_scores(tmp_path, 6)
    values = np.array(b.values)
    values[6, 1] = np.nan
    with pytest.raises(ScoresError, match=r"b: the score of class 3 in row 6 is NaN"):
        averaged([a, with_values(b, values)], tmp_path / "o", "rank")
    assert names(tmp_path) == ["a", "b", "c"]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    members = random_scores(tmp_path, 6)
    with pytest.raises(SettingsError, match="2 weights for 3 members"):
        averaged(members, tmp_path / "o", "mean", (1, 1))
    assert names(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_attempt_that_fails_leaves_what_was_there(
    error: type[BaseException], kind: str, tmp_path: Path
) -> None:
    members, out = random_scores(tmp_path, 7), tmp_path / "o"
    before = np.array(averaged(members, out, kind).values)

    def fail(count: float) -> None:
        assert partial_path(out).is_dir()
        raise error

    with pytest.raises(error):
        averaged(members, out, kind, (1, 0, 0), on_rows=fail)
    assert names(tmp_path) == ["a", "b", "c", "o"]
    np.testing.assert_array_equal(open_scores(out).values, before)
    assert (averaged(members, out, kind, (1, 0, 0)).values != before).any()
    assert names(out) == ["classes.csv", "made-by.json", "scores.npy", "segments.parquet"]


# ---- memory --------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path

import psutil

from whenabouts.core.scores import open_scores
from whenabouts.ensemble.mean import EnsembleSettings, average
from whenabouts.ensemble.members import match_members

folder, process = Path(sys.argv[1]), psutil.Process()
members = {
    size: match_members(open_scores(folder / f"{name}-{size}") for name in "ab")
    for size in ("quarter", "all")
}
for kind in ("mean", "rank"):
    for size in ("quarter", "all"):
        used = []
        average(members[size], folder / "out", EnsembleSettings(kind), budget_bytes=1 << 20,
                on_rows=lambda count: used.append(process.memory_info().rss))
        print(max(used) // 1024)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Of 12 MB more in each of two members, and as much written, less than half may stay."""
    rng = np.random.default_rng(0)
    for size, num_videos in (("quarter", 100), ("all", 400)):
        video, starts = np.divmod(np.arange(num_videos * 10), 10)
        ids = np.array([b"%05d" % v for v in range(num_videos)])
        values = rng.random((len(video), 1000), np.float32)
        for name in "ab":
            rows = SegmentTable(ids, video, starts * 5)
            write_scores(tmp_path / f"{name}-{size}", rows, range(1000), values)
    outcome = start((sys.executable, "-c", MEASURE), tmp_path)
    assert outcome.code == 0, outcome.err
    more_kb = values.nbytes * 3 // 4 // 1024
    quarters_kb = [int(line) for line in outcome.out.split()]
    for quarter_kb, all_kb in zip(quarters_kb[::2], quarters_kb[1::2], strict=True):
        assert all_kb - quarter_kb < 3 * more_kb / 2
