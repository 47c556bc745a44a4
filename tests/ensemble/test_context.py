"""Scores refined by those around them: by hand, by definition, invariances, refusals."""

from __future__ import annotations

import json
import sys
from itertools import product
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest

from commandline import start
from ensemble_world import CLASSES, shuffled, with_values
from fusion_world import Pair, scores_by_name, write_scores, write_videos
from ranking_oracle import table
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.scores import Scores, open_scores, partial_path
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble import context as context_module
from whenabouts.ensemble.context import AS_IT_IS, Context, VideoRows, cuts, refine

SETTINGS = [Context(0.3, 0), Context(0, 0.7), Context(0.4, 0.5), Context(1, 1), Context(0.5, 3)]
ALIKE = [Context(alike=0.5), Context(0.4, 0.5, 0.25), Context(0, 1, 4)]
EDGES = (2.0**-149, 1 - 2.0**-24)  # of float32: the smallest score above 0, the largest below 1
HALF_EDGES = (2.0**-24, 1 - 2.0**-11)


def approx(expected: dict[Pair, float]) -> object:
    """How alike segments are is a sum over classes, in the order of the columns."""
    return pytest.approx(expected, rel=1e-6)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def column(path: Path, *named: tuple[str, float], dtype: type = np.float32) -> Scores:
    """One class, of segments ('video:start', score)."""
    values = np.array([score for _, score in named], dtype)[:, None]
    return write_scores(path, table(*(name for name, _ in named)), [7], values)


def refined(scores: Scores, out: Path, settings: Context, **more: object) -> Scores:
    refine(scores, out, settings, **more)
    return open_scores(out)


def videos_of_all_sizes(folder: Path, seed: int = 0, dtype: type = np.float32) -> Scores:
    """Videos of 1, 2, 3, 1, 9 and 14 segments (some of them gaps apart), in the order of a corpus;
    one video of the list has none. Scores k / 64, 0 and 1 among them."""
    rng = np.random.default_rng(seed)
    counts = (1, 2, 0, 3, 1, 9, 14)
    ids = np.array([b"d", b"a", b"none", b"b:5", b"\xc3\xa9", b"q" * 30, b"0"])
    video = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([np.sort(rng.choice(20, n, replace=False)) * 5 for n in counts])
    values = (rng.integers(0, 65, (len(video), len(CLASSES))) / 64).astype(dtype)
    return write_scores(folder / "s", SegmentTable(ids, video, starts), CLASSES, values)


def by_definition(scores: Scores, settings: Context) -> dict[Pair, float]:
    """Segment by segment, by name."""
    lowest, highest = EDGES if scores.values.dtype == np.float32 else HALF_EDGES
    logits = {}
    for pair, p in scores_by_name(scores).items():
        p = min(max(p, lowest / 4), 1 - (1 - highest) / 4)
        logits[pair] = log(p / (1 - p))
    logits = by_alike(scores_by_name(scores), logits, settings.alike)
    found = {}
    for pair, own in logits.items():
        video, at_s, class_id = pair
        starts = sorted(s for v, s, c in logits if (v, c) == (video, class_id))
        at = starts.index(at_s)
        beside = [starts[k] for k in (at - 1, at + 1) if 0 <= k < len(starts)] or [at_s]
        n = sum(logits[video, s, class_id] for s in beside) / len(beside)
        m = sum(logits[video, s, class_id] for s in starts) / len(starts)
        logit = (1 - settings.smooth) * own + settings.smooth * n - settings.centre * m
        found[pair] = 1 / (1 + exp(-logit)) if logit > -700 else 0.0
    return found


def by_alike(scores: dict[Pair, float], logits: dict[Pair, float], alike: float) -> dict:
    """u of every z, segment by segment."""
    if not alike:
        return logits
    segments = {(video, at_s) for video, at_s, _ in logits}
    classes = {class_id for _, _, class_id in logits}
    weights = {}
    for (video, s), (other, t) in product(segments, segments):
        if video == other:
            pairs = [(scores[video, s, c], scores[video, t, c]) for c in classes]
            apart = sum(1 - sqrt(p * q) - sqrt((1 - p) * (1 - q)) for p, q in pairs)
            weights[video, s, t] = exp(-apart / alike)
    found = {}
    for video, at_s, class_id in logits:
        beside = {t: w for (v, s, t), w in weights.items() if (v, s) == (video, at_s)}
        total = sum(w * logits[video, t, class_id] for t, w in beside.items())
        found[video, at_s, class_id] = total / sum(beside.values())
    return found


# ---- by hand, by definition ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "odds"),
    [
        # Odds 1, 16, 1 in one video: n is 16, 1, 16 and m the root 16^(1/3) = 2^(4/3).
        (Context(0.5, 0), (4, 4, 4)),
        (Context(1, 0), (16, 1, 16)),
        (Context(0.25, 0), (2, 8, 2)),
        (Context(0, 0.75), (0.5, 8, 0.5)),
        (Context(0.25, 1.5), (0.5, 2, 0.5)),
    ],
)
def test_by_hand(settings: Context, odds: tuple[float, ...], tmp_path: Path) -> None:
    named = (("a:0", 1 / 2), ("a:5", 16 / 17), ("a:10", 1 / 2))
    found = refined(column(tmp_path / "s", *named), tmp_path / "o", settings)
    expected = [each / (1 + each) for each in odds]
    assert found.values[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


def test_neighbours_are_of_one_video_and_one_class(tmp_path: Path) -> None:
    """In the rows a video ends where the next begins; alone, a segment is its own neighbour."""
    named = (("a:0", 0.9), ("b:0", 0.5), ("b:5", 0.8), ("c:0", 0.1))
    found = refined(column(tmp_path / "s", *named), tmp_path / "o", Context(1, 0))
    assert found.values[:, 0].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.1], rel=1e-6)
    centred = refined(column(tmp_path / "s", *named), tmp_path / "o", Context(0, 1))
    assert centred.values[:, 0].tolist() == pytest.approx([0.5, 1 / 3, 2 / 3, 0.5], rel=1e-6)


def test_neighbours_are_next_by_start_however_far(tmp_path: Path) -> None:
    named = (("a:100", 0.9), ("a:5", 0.2), ("a:20", 0.6))
    found = refined(column(tmp_path / "s", *named), tmp_path / "o", Context(1, 0)).values[:, 0]
    between = (9 * 0.25) ** 0.5
    expected = [0.6, 0.6, between / (1 + between)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("settings", SETTINGS + ALIKE)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_by_definition(dtype: type, settings: Context, tmp_path: Path) -> None:
    """Rows video by video and in no order; with scores of 0 and 1."""
    scores = videos_of_all_sizes(tmp_path, 1, dtype)
    assert {0.0, 1.0} <= set(np.asarray(scores.values, float).ravel())
    moved = shuffled(scores, tmp_path / "moved", np.random.default_rng(2))
    for each in (scores, moved):
        expected = by_definition(each, settings)
        found = refined(each, tmp_path / "o", settings)
        assert found.values.dtype == dtype
        named = scores_by_name(found)
        assert list(named) == list(expected)
        step = float(np.finfo(dtype).eps)
        tiny = float(np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose([*named.values()], [*expected.values()], rtol=step, atol=tiny)


# ---- the scores as they are ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_of_both_leaves_the_scores_bit_for_bit(dtype: type, tmp_path: Path) -> None:
    bits = {np.float32: np.uint32, np.float16: np.uint16}[dtype]
    one, rng = int(np.array(1, dtype).view(bits)), np.random.default_rng(0)
    values = rng.integers(0, one + 1, (300, 4)).astype(bits).view(dtype)
    values[:4, 0] = 0, 1, np.finfo(dtype).smallest_subnormal, 1 - np.finfo(dtype).epsneg
    rows = table(*(f"v{row % 7}:{row}" for row in range(300)))
    scores = write_scores(tmp_path / "s", rows, CLASSES, values)
    found = refined(scores, tmp_path / "o", Context(0, 0)).values
    np.testing.assert_array_equal(found.view(bits), values.view(bits), strict=True)
    assert AS_IT_IS == Context() == Context(0, 0)


# ---- what must not matter ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*SETTINGS[2:4], *ALIKE])
def test_the_order_of_rows_and_columns_is_irrelevant(settings: Context, tmp_path: Path) -> None:
    scores = videos_of_all_sizes(tmp_path, 3)
    expected = scores_by_name(refined(scores, tmp_path / "o", settings))
    for seed in range(3):
        moved = shuffled(scores, tmp_path / f"{seed}", np.random.default_rng(seed))
        found = refined(moved, tmp_path / "o", settings)
        assert scores_by_name(found) == (expected if not settings.alike else approx(expected))
        np.testing.assert_array_equal(found.segments.starts_s, moved.segments.starts_s)
        assert found.classes.ids == moved.classes.ids


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize("settings", [AS_IT_IS, Context(0.4, 0.5), *ALIKE])
def test_streaming_is_as_at_once(
    settings: Context, is_moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = videos_of_all_sizes(tmp_path, 4)
    if is_moved:
        scores = shuffled(scores, tmp_path / "moved", np.random.default_rng(0))
    expected = refined(scores, tmp_path / "o", settings).values
    calls = set()
    for strip, budget in ((1 << 17, 1), (1 << 17, 64 * 4 * 3), (4, 1 << 28), (12, 1 << 28)):
        monkeypatch.setattr(context_module, "STRIP_SCORES", strip)
        seen: list[int] = []
        more = {"budget_bytes": budget, "on_rows": seen.append}
        found = refined(scores, tmp_path / "o", settings, **more).values
        np.testing.assert_array_equal(found, expected)
        assert sum(seen) == 30
        calls.add(len(seen))
    assert len(calls) > 1 < min(calls)
    assert max(calls) == 6, "one video at a time"


def test_a_constant_of_a_video_is_nothing_where_the_mean_is_taken_off(tmp_path: Path) -> None:
    scores = videos_of_all_sizes(tmp_path, 5)
    values = np.clip(scores.values, 1 / 64, 63 / 64)
    shift = np.random.default_rng(0).normal(size=(7, len(CLASSES)))[scores.segments.video]
    moved = 1 / (1 + (1 / values - 1) * np.exp(-shift))
    for settings, same in (
        (Context(0, 1), True),
        (Context(0.4, 1), True),
        (Context(0, 0.9), False),
    ):
        first, second = (
            refined(with_values(scores, each.astype(np.float32)), tmp_path / "o", settings).values
            for each in (values, moved)
        )
        assert np.allclose(first, second, rtol=1e-5) == same


def test_smoothing_leaves_a_constant_video_and_centring_makes_it_even(tmp_path: Path) -> None:
    named = tuple((f"a:{at_s}", 0.8) for at_s in range(0, 30, 5))
    scores = column(tmp_path / "s", *named)
    for smooth, centre, expected in ((0.3, 0, 0.8), (1, 0, 0.8), (0.3, 1, 0.5), (0, 2, 0.2)):
        found = refined(scores, tmp_path / "o", Context(smooth, centre)).values
        assert found[:, 0].tolist() == pytest.approx([expected] * 6, rel=1e-6)


def test_a_class_and_its_absence_are_treated_alike(tmp_path: Path) -> None:
    scores = videos_of_all_sizes(tmp_path, 6)
    values = np.clip(scores.values, 1 / 64, 63 / 64)
    one, other = (
        refined(with_values(scores, each), tmp_path / "o", Context(0.4, 0.5)).values
        for each in (values, 1 - values)
    )
    np.testing.assert_allclose(one, 1 - other, atol=2e-7)


def test_the_largest_part_overflows_into_0_and_1(tmp_path: Path) -> None:
    scores = column(tmp_path / "s", ("a:0", 0.9), ("b:0", 0.1), ("c:0", 0.5))
    for centre in (1e4, 1.7e308):
        found = refined(scores, tmp_path / "o", Context(0.5, centre)).values
        assert found[:, 0].tolist() == [0, 1, 0.5]


# ---- parts ---------------------------------------------------------------------------------------


def test_rows_by_video_and_start() -> None:
    """Videos by their first row, whatever their place in the list of ids."""
    segments = SegmentTable(
        np.array([b"a", b"b", b"none", b"c"]),
        np.array([3, 0, 3, 1, 0, 3]),
        np.array([10, 5, 0, 0, 0, 5]),
    )
    videos = VideoRows.of(segments)
    assert videos.row.tolist() == [2, 5, 0, 4, 1, 3]
    assert videos.first.tolist() == [0, 3, 5, 6]
    assert not videos.is_as_stored
    in_order = VideoRows.of(table("c:0", "a:0", "a:5", "b:0"))
    assert in_order.row.tolist() == [0, 1, 2, 3]
    assert in_order.first.tolist() == [0, 1, 3, 4]
    assert in_order.is_as_stored


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (3, [(0, 2), (2, 3), (3, 4)]),
        (4, [(0, 2), (2, 3), (3, 4)]),
        (5, [(0, 2), (2, 4)]),
        (8, [(0, 4)]),
    ],
)
def test_cuts_by_hand(most: int, expected: list[tuple[int, int]]) -> None:
    """Sizes 1, 2, 4, 1."""
    found = [(cut.start, cut.stop) for cut in cuts(np.array([0, 1, 3, 7, 8]), most)]
    assert found == expected
    assert list(cuts(np.array([0]), most)) == []


# ---- what is written, what is refused ------------------------------------------------------------


@pytest.mark.parametrize("settings", [AS_IT_IS, Context(0.3, 0.5, 1)])
@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_nothing_to_refine(shape: tuple[int, int], settings: Context, tmp_path: Path) -> None:
    rows = table("a:0", "a:5") if shape[0] else table()
    scores = write_scores(tmp_path / "s", rows, (7, 3)[: shape[1]], np.zeros(shape, np.float32))
    assert refined(scores, tmp_path / "o", settings).values.shape == shape


def test_who_made_it(tmp_path: Path) -> None:
    half = np.full((1, 1), 0.5, np.float32)
    facts = {"run": "r", "trained_on": ["v1", "train"]}
    scores = write_scores(tmp_path / "s", table("a:0"), [3], half, **facts)
    told = refined(scores, tmp_path / "o", Context(0.25, 1), made_by={"more": 1}).made_by
    assert json.loads(json.dumps(told)) == {
        "format": 1,
        "refined": {"smooth": 0.25, "centre": 1, "alike": 0},
        "segments": {"scores": str(tmp_path / "s"), **scores.made_by},
        "trained_on": ["train", "v1"],
        "more": 1,
    }
    unknown = write_scores(tmp_path / "u", table("a:0"), [3], half)
    assert refined(unknown, tmp_path / "o", Context(0.25, 1)).made_by["trained_on"] == []


@pytest.mark.parametrize(
    ("smooth", "centre", "told"),
    [
        (-0.1, 0, r"smooth is -0.1; it is a share of the neighbours, in \[0, 1\]"),
        (1.1, 0, r"smooth is 1.1"),
        (np.nan, 0, r"smooth is nan"),
        (0, -1, r"centre is -1; it is a part of the video's mean: at least 0, and finite"),
        (0, np.inf, r"centre is inf"),
        (0, np.nan, r"centre is nan"),
    ],
)
def test_settings_that_mean_nothing(smooth: float, centre: float, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Context(smooth, centre)


@pytest.mark.parametrize("alike", [-0.1, np.inf, np.nan])
def test_alike_is_a_number_of_classes(alike: float) -> None:
    told = rf"alike is {alike}; it is a number of classes: at least 0, and finite"
    with pytest.raises(SettingsError, match=told):
        Context(alike=alike)


@pytest.mark.parametrize("settings", [AS_IT_IS, Context(0.3, 0), Context(0, 0.5), *ALIKE[:1]])
@pytest.mark.parametrize("score", [np.nan, np.inf, -1e-3, 1.001])
def test_what_is_no_probability_is_refused(score: float, settings: Context, tmp_path: Path) -> None:
    moved = shuffled(videos_of_all_sizes(tmp_path), tmp_path / "m", np.random.default_rng(0))
    values = np.array(moved.values)
    values[6, 1] = score
    told = rf"m: the score of class {moved.classes.ids[1]} in row 6 is .*refined.* in \[0, 1\]; "
    with pytest.raises(ScoresError, match=told):
        refined(with_values(moved, values), tmp_path / "o", settings)
    assert names(tmp_path) == ["m", "s"]


@pytest.mark.parametrize("settings", [AS_IT_IS, Context(0.3, 0.5)])
def test_rows_that_are_no_segments_are_refused(settings: Context, tmp_path: Path) -> None:
    half = np.full((2, 1), 0.5, np.float32)
    videos = write_videos(tmp_path / "v", [b"a", b"b"], [7], half)
    told = "v: scores of whole videos; what is refined are segments.*; refine segment scores"
    with pytest.raises(ScoresError, match=told):
        refined(videos, tmp_path / "o", settings)
    twice = write_scores(tmp_path / "t", table("a:5", "a:5"), [7], half)
    with pytest.raises(ScoresError, match="t: segment a:5 stands in row 0 and in row 1"):
        refined(twice, tmp_path / "o", settings)
    assert names(tmp_path) == ["t", "v"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_attempt_that_fails_leaves_what_was_there(
    error: type[BaseException], tmp_path: Path
) -> None:
    scores, out = videos_of_all_sizes(tmp_path, 7), tmp_path / "o"
    before = np.array(refined(scores, out, Context(0.3, 0)).values)

    def fail(count: int) -> None:
        assert partial_path(out).is_dir()
        raise error

    with pytest.raises(error):
        refined(scores, out, Context(0, 0.5), on_rows=fail)
    assert names(tmp_path) == ["o", "s"]
    np.testing.assert_array_equal(open_scores(out).values, before)
    assert (refined(scores, out, Context(0, 0.5)).values != before).any()
    assert names(out) == ["classes.csv", "made-by.json", "scores.npy", "segments.parquet"]


# ---- memory --------------------------------------------------------------------------------------

MEASURE = """
import os
import sys
from pathlib import Path

import psutil

from whenabouts.core.scores import open_scores
from whenabouts.ensemble.context import Context, refine

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # in one thread: nothing is being read
folder, process = Path(sys.argv[1]), psutil.Process()
for kind in ("rows", "mixed"):
    for size in ("quarter", "all"):
        used = []
        refine(open_scores(folder / f"{kind}-{size}"), folder / "out", Context(0.3, 0.5, 1),
               budget_bytes=1 << 20, on_rows=lambda n: used.append(process.memory_info().rss))
        print(max(used) // 1024)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Of 24 MB more read, and as much written, less than half of what is read may stay."""
    rng = np.random.default_rng(0)
    for size, num_videos in (("quarter", 200), ("all", 800)):
        video, starts = np.divmod(np.arange(num_videos * 10), 10)
        ids = np.array([b"%05d" % v for v in range(num_videos)])
        values = rng.random((len(video), 1000), np.float32)
        for kind, order in (
            ("rows", np.arange(len(video))),
            ("mixed", rng.permutation(len(video))),
        ):
            rows = SegmentTable(ids, video[order], starts[order] * 5)
            write_scores(tmp_path / f"{kind}-{size}", rows, range(1000), values)
    outcome = start((sys.executable, "-c", MEASURE), tmp_path)
    assert outcome.code == 0, outcome.err
    more_kb = values.nbytes * 3 // 4 // 1024
    quarters_kb = [int(line) for line in outcome.out.split()]
    for quarter_kb, all_kb in zip(quarters_kb[::2], quarters_kb[1::2], strict=True):
        assert all_kb - quarter_kb < more_kb / 2, quarters_kb
