from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandline import start
from fusion_world import (
    CLASSES,
    World,
    candidates_by_definition,
    order_by_definition,
    order_of,
    random_world,
    scores_by_name,
    write_scores,
    write_videos,
)
from ranking_oracle import table
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.scores import Scores, open_scores, partial_path
from whenabouts.core.segments import SegmentTable
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import (
    PUBLISHED,
    Exponents,
    FusionSettings,
    below_candidates,
    fuse,
    fused,
)
from whenabouts.submission import read_submission, write_submission

TINY = float(np.finfo(np.float32).smallest_subnormal)
TINY_HALF = float(np.finfo(np.float16).smallest_subnormal)
EXPONENTS = [(1, 1), (1, 2), (2, 1), (0, 1), (1, 0), (3, 2)]
FILTER = CandidateFilter(top_topics=3, top_videos=5, min_video_score=0.25)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def of(a: float, b: float, video: object, segment: object, dtype: type = np.float32) -> np.ndarray:
    return fused(Exponents(a, b), np.asarray(video, dtype), np.asarray(segment, dtype))


def written(world: World, out: Path, settings: FusionSettings, **more: object) -> Scores:
    fuse(*world, out, settings, **more)
    return open_scores(out)


# ---- a pair --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "video", "segment", "expected"),
    [
        (1, 1, 0.25, 0.64, 0.4),
        (1, 2, 0.216, 0.512, (0.6**3 * 0.8**6) ** (1 / 3)),
        (2, 1, 0.512, 0.216, (0.8**6 * 0.6**3) ** (1 / 3)),
        (0.5, 1.5, 0.0625, 0.4096, 0.5**1 * 0.8**3),
        (1, 0, 0.3, 0.9, 0.3),
        (7, 0, 0.3, 0.9, 0.3),
        (1, 1, 0, 1, 0),
        (1, 1, 1, 0, 0),
        (0, 1, 0, 0.5, 0.5),  # 0^0 is 1
        (1, 0, 0.5, 0, 0.5),
        (1, 1, 1, 1, 1),
    ],
)
def test_a_pair_by_hand(a: float, b: float, video: float, segment: float, expected: float) -> None:
    found = of(a, b, [video], [segment])
    assert found.dtype == np.float32
    assert found == pytest.approx([expected], rel=1e-6)


def test_the_published_exponents() -> None:
    assert [(e.video, e.segment) for e in PUBLISHED] == [(1, 1), (1, 2), (2, 1)]
    assert FusionSettings().exponents == PUBLISHED[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_without_the_video_it_is_the_segment_score_bit_for_bit(dtype: type) -> None:
    rng = np.random.default_rng(0)
    bits = {np.float32: np.uint32, np.float16: np.uint16}[dtype]
    segment = rng.integers(0, int(np.array(1, dtype).view(bits)) + 1, 5000).astype(bits).view(dtype)
    segment = np.concatenate([segment, np.array([0, 1, 1e-7, np.finfo(dtype).tiny], dtype)])
    video = rng.random(len(segment)).astype(dtype)
    video[:3] = 0, 1, np.nan
    for b in (1, 2, 0.3):
        found = fused(Exponents(0, b), video, segment)
        np.testing.assert_array_equal(found, segment.astype(np.float32), strict=True)
    unscored = fused(Exponents(2, 1), np.full_like(segment, np.nan), segment)
    np.testing.assert_array_equal(unscored, segment.astype(np.float32), strict=True)


def test_only_the_ratio_of_the_exponents_matters() -> None:
    video, segment = np.random.default_rng(1).random((2, 1000), np.float32)
    for a, b in EXPONENTS:
        expected = of(a, b, video, segment)
        np.testing.assert_allclose(of(a * 3, b * 3, video, segment), expected, rtol=2e-7)
        np.testing.assert_allclose(of(a * 1e200, b * 1e200, video, segment), expected, rtol=2e-7)


probability = st.floats(0, 1, width=32)
exponent = st.sampled_from([0, 1e-3, 0.5, 1, 2, 3, 100])


@given(exponent, exponent, probability, probability, probability)
def test_it_rises_with_both_and_lies_between_them(
    a: float, b: float, video: float, segment: float, other: float
) -> None:
    b = b if a + b else 1
    low, high = sorted((segment, other))
    between = of(a, b, [video, video, low, high], [low, high, video, video]).tolist()
    assert between[0] <= between[1]
    assert between[2] <= between[3]
    assert min(video, segment) <= of(a, b, [video], [segment])[0] <= max(video, segment)


@given(probability, probability, probability, probability)
def test_a_pair_whose_product_is_higher_is_never_lower(
    v: float, s: float, w: float, t: float
) -> None:
    for a, b in ((1, 1), (1, 2), (2, 1)):
        one, other = (Fraction(p) ** a * Fraction(q) ** b for p, q in ((v, s), (w, t)))
        first, second = of(a, b, [v, w], [s, t]).tolist()
        if abs(one - other) > max(one, other) * (a + b) * Fraction(12, 10**8):
            subnormal = max(first, second) < np.finfo(np.float32).tiny
            may_tie = subnormal and first == second
            assert may_tie or (first > second) == (one > other)
        else:
            assert first == pytest.approx(second, rel=1.3e-7, abs=TINY)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 2), (2, 1)])
def test_extreme_scores_keep_their_order(a: float, b: float) -> None:
    rising = [0, TINY, 16 * TINY, 3e-38, 1e-20, 0.5, 1 - 2**-20, 1]
    for other in (TINY, 1e-30, 1):
        for video, segment in (([other] * 8, rising), (rising, [other] * 8)):
            found = of(a, b, video, segment)
            assert found[0] == 0
            assert (np.diff(found) > 0).all()
    plain = np.array(rising, np.float32)[1:4] * np.float32(TINY)
    assert not plain.any(), "what a plain product would make of them"


def test_high_exponents_keep_the_order() -> None:
    found = of(1000, 1, [0, TINY, 1e-20, 0.01, 0.5, 1], [0.5] * 6)
    assert found[0] == 0
    assert (np.diff(found) > 0).all()


def test_scores_next_to_one_keep_their_order() -> None:
    rising = (1 - np.arange(6, -1, -1) * 2.0**-23).astype(np.float32)
    assert (np.diff(of(1, 1, rising, rising)) > 0).all()
    assert (np.diff(of(1, 2, [1] * 7, rising)) > 0).all()


def test_half_precision_is_not_multiplied_in_half_precision() -> None:
    rising = np.array([0, TINY_HALF, 2 * TINY_HALF, 1e-4, 0.5, 1], np.float16)
    assert not (rising[:4] * np.float16(TINY_HALF)).any(), "what a plain product would make of them"
    found = of(2, 1, [TINY_HALF] * 6, rising, np.float16)
    assert found.dtype == np.float32
    assert found[0] == 0
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize(
    ("a", "b"), [(0, 0), (-1, 2), (1, -0.5), (np.inf, 1), (np.nan, 1), (1e308, 1e308)]
)
def test_exponents_that_mean_nothing(a: float, b: float) -> None:
    with pytest.raises(SettingsError, match=r"the exponents are .* at least 0, finite, and one"):
        Exponents(a, b)


# ---- below the candidates ------------------------------------------------------------------------


def test_below_candidates_by_hand() -> None:
    found = below_candidates(np.array([0, 1, 0.5, 2.0**-126], np.float32))
    assert found.tolist() == [-2, -(2.0**-126), -(2.0**-125), -1]
    assert found.dtype == np.float32


def test_below_candidates_keeps_every_step() -> None:
    """Neighbours among all floats in [0, 1]: in order, apart, negative, finite, not subnormal."""
    rng = np.random.default_rng(2)
    one = int(np.float32(1).view(np.uint32))
    bits = np.unique(np.concatenate([[0, 1, one - 1], rng.integers(0, one, 100_000)]))
    scores = np.stack([bits, bits + 1], axis=1).astype(np.uint32).view(np.float32)
    below = below_candidates(scores)
    assert (np.diff(scores, axis=1) > 0).all()
    assert (np.diff(below, axis=1) > 0).all()
    assert (np.diff(below[:, 0]) > 0).all()
    assert np.isfinite(below).all()
    assert below.max() <= -np.finfo(np.float32).tiny
    assert (below[scores > 1e-30] > -1e-7).all()


# ---- Scores in, Scores out -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(2))
def test_the_ranking_against_exact_products(seed: int, dtype: type, tmp_path: Path) -> None:
    world = random_world(tmp_path, seed, dtype)
    for (a, b), chosen in product(EXPONENTS, (CandidateFilter(), FILTER)):
        num_candidates = fuse(*world, tmp_path / "out", FusionSettings(Exponents(a, b), chosen))
        assert num_candidates == sum(candidates_by_definition(world, chosen).values())
        scores = open_scores(tmp_path / "out")
        assert order_of(scores) == order_by_definition(world, a, b, chosen)
        assert scores.values.dtype == np.float32
        assert scores.classes == world.segments.classes
        np.testing.assert_array_equal(scores.segments.starts_s, world.segments.segments.starts_s)


def test_only_the_ratio_of_the_exponents_matters_in_a_file(tmp_path: Path) -> None:
    """Also where they sum to less than 1."""
    world = random_world(tmp_path, 3, levels=1000)
    one, other = (
        written(world, tmp_path / "o", FusionSettings(Exponents(a, b)))
        for a, b in ((1, 2), (0.1, 0.2))
    )
    for name, score in scores_by_name(one).items():
        assert scores_by_name(other)[name] == pytest.approx(score, rel=1e-6)


def test_each_pair_gets_the_scores_of_its_own_video_and_class(tmp_path: Path) -> None:
    world = random_world(tmp_path, 3, levels=1000)
    of_videos = {(v, c): s for (v, _, c), s in scores_by_name(world.videos).items()}
    for name, score in scores_by_name(written(world, tmp_path / "o", FusionSettings())).items():
        product = of_videos[name[0], name[2]] * scores_by_name(world.segments)[name]
        assert score == pytest.approx(product**0.5, rel=1e-6)


@pytest.mark.parametrize("chosen", [CandidateFilter(), FILTER])
def test_the_order_of_rows_and_columns_is_irrelevant(
    chosen: CandidateFilter, tmp_path: Path
) -> None:
    world, rng = random_world(tmp_path, 4), np.random.default_rng(0)
    settings = FusionSettings(Exponents(1, 2), chosen)
    expected = scores_by_name(written(world, tmp_path / "out", settings))
    for turn in range(3):
        moved = []
        for scores in world:
            rows, ids = rng.permutation(len(scores.segments)), scores.segments.video_ids
            new = rng.permutation(len(ids))
            segments = SegmentTable(
                ids[new], np.argsort(new)[scores.segments.video[rows]],
                scores.segments.starts_s[rows],
            )  # fmt: skip
            # Ties among topics go by the column of the segment scores, which must stay.
            still = scores is world.segments
            columns = np.arange(5) if still else rng.permutation(len(scores.classes))
            classes = np.array(scores.classes.ids)[columns]
            values = np.asarray(scores.values)[rows][:, columns]
            path = tmp_path / f"{scores.path.name}-{turn}"
            moved.append(write_scores(path, segments, classes.tolist(), values))
        again = written(World(*moved), tmp_path / f"again-{turn}", settings)
        assert scores_by_name(again) == expected


@pytest.mark.parametrize("chunk_bytes", [1, 7 * 5 * 4, 1 << 20])
def test_chunks_are_irrelevant(chunk_bytes: int, tmp_path: Path) -> None:
    world = random_world(tmp_path, 5, levels=1000)
    settings = FusionSettings(Exponents(2, 1), FILTER)
    table = world.segments.segments
    row = [world.videos.segments.video_ids.tolist().index(v) for v in table.video_ids.tolist()]
    column = [world.videos.classes.ids.index(c) for c in CLASSES]
    video = world.videos.values[np.argsort(world.videos.segments.video)][row][:, column]
    whole = fused(settings.exponents, video[table.video], world.segments.values)
    seen: list[int] = []
    num_candidates = fuse(
        *world, tmp_path / "o", settings, chunk_bytes=chunk_bytes, on_rows=seen.append
    )
    found = open_scores(tmp_path / "o").values
    kept = found >= 0
    np.testing.assert_array_equal(found, np.where(kept, whole, below_candidates(whole)))
    assert 0 < num_candidates == kept.sum() < kept.size
    assert sum(seen) == 40
    assert len(seen) == {1: 40, 140: 6}.get(chunk_bytes, 1)


def test_filtered_pairs_come_last_in_a_submission(tmp_path: Path) -> None:
    """A list cut at K holds candidates first; a longer one goes on with the others, in order."""
    world = random_world(tmp_path, 6, levels=1000)
    scores = written(world, tmp_path / "o", FusionSettings(Exponents(1, 1), FILTER))
    expected = order_by_definition(world, 1, 1, FILTER)
    for k in (5, 100):
        write_submission(tmp_path / "s.csv", scores.segments, scores.classes, scores.values, k)
        for class_id, tokens in read_submission(tmp_path / "s.csv"):
            assert tokens == [b"%b:%d" % name for name in expected[class_id][:k]]


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_nothing_to_fuse(shape: tuple[int, int], tmp_path: Path) -> None:
    segments = table("a:0", "b:0") if shape[0] else table()
    classes, values = (7, 3)[: shape[1]], np.zeros(shape, np.float32)
    world = World(
        write_scores(tmp_path / "s", segments, classes, values),
        write_videos(tmp_path / "v", [b"b", b"a"], (3, 7), np.zeros((2, 2), np.float32)),
    )
    scores = written(world, tmp_path / "o", FusionSettings(candidates=FILTER))
    assert scores.values.shape == shape


def test_who_made_it(tmp_path: Path) -> None:
    one = np.ones((1, 1), np.float32)
    world = World(
        write_scores(tmp_path / "s", table("a:0"), [3], one, run="r", trained_on=["v1"]),
        write_videos(tmp_path / "v", [b"a"], [3], one, run="q", trained_on=["train", "v1"]),
    )
    settings = FusionSettings(Exponents(1, 2), CandidateFilter(top_topics=20))
    told = written(world, tmp_path / "o", settings, made_by={"more": 1}).made_by
    assert json.loads(json.dumps(told)) == {
        "format": 1,
        "fused": {
            "exponents": {"video": 1, "segment": 2},
            "candidates": {"top_topics": 20, "top_videos": None, "min_video_score": None},
        },
        "segments": {"scores": str(tmp_path / "s"), **world.segments.made_by},
        "videos": {"scores": str(tmp_path / "v"), **world.videos.made_by},
        "trained_on": ["train", "v1"],
        "more": 1,
    }


# ---- what does not fit ---------------------------------------------------------------------------


def test_segments_that_stand_twice(tmp_path: Path) -> None:
    two = np.ones((2, 1), np.float32)
    world = World(
        write_scores(tmp_path / "s", table("a:0", "a:0"), [3], two),
        write_videos(tmp_path / "v", [b"a"], [3], two[:1]),
    )
    with pytest.raises(ScoresError, match="segment a:0 stands in row 0 and in row 1"):
        written(world, tmp_path / "o", FusionSettings())
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ((1, 0), "no score of video .*; each video of the segment scores needs a video score; "),
        ((0, 1), "no score of class 7; each class of the segment .*pass --keep-unscored to leave"),
        ((0, 3), "no score of class 7 and 2 more; "),
    ],
)
def test_a_video_or_class_without_video_scores(
    lacking: tuple[int, int], told: str, tmp_path: Path
) -> None:
    world = random_world(tmp_path, 0, lacking=lacking)
    with pytest.raises(ScoresError, match=told) as caught:
        fuse(*world, tmp_path / "o", FusionSettings())
    assert caught.value.where == str(tmp_path / "videos")
    if lacking[0]:
        assert f"video {world.segments.segments.video_ids[0].decode()};" in str(caught.value)
    assert names(tmp_path) == ["segments", "videos"]


@pytest.mark.parametrize("chosen", [CandidateFilter(), FILTER])
@pytest.mark.parametrize("lacking", [(2, 0), (0, 2), (3, 1), (8, 0), (0, 5)])
def test_what_has_no_video_score_can_be_kept(
    lacking: tuple[int, int], chosen: CandidateFilter, tmp_path: Path
) -> None:
    world = random_world(tmp_path, 1, lacking=lacking)
    settings = FusionSettings(Exponents(1, 2), chosen)
    scores = written(world, tmp_path / "o", settings, keep_unscored=True)
    assert order_of(scores) == order_by_definition(world, 1, 2, chosen)
    table = scores.segments
    kept = np.isin(table.video, np.arange(lacking[0]))[:, None] | (np.arange(5) < lacking[1])
    assert kept.any()
    np.testing.assert_array_equal(scores.values[kept], world.segments.values[kept])


def test_a_video_without_segments_needs_no_score(tmp_path: Path) -> None:
    segments = SegmentTable(np.array([b"none", b"a"]), np.array([1]), np.array([0]))
    one = np.ones((1, 1), np.float32)
    world = World(
        write_scores(tmp_path / "s", segments, [3], one),
        write_videos(tmp_path / "v", [b"a"], [3], one / 4),
    )
    assert written(world, tmp_path / "o", FusionSettings()).values.tolist() == [[0.5]]


def test_scores_of_the_wrong_kind(tmp_path: Path) -> None:
    world, out = random_world(tmp_path, 2), tmp_path / "o"
    with pytest.raises(ScoresError, match=r"videos: scores of whole videos; .* come first, then"):
        fuse(world.videos, world.segments, out, FusionSettings())
    with pytest.raises(ScoresError, match=r"segments: row 0 is segment .*:\d+; .* with start -1"):
        fuse(world.segments, world.segments, out, FusionSettings())
    twice = SegmentTable(np.array([b"a"]), np.array([0, 0]), np.array([-1, -1]))
    videos = write_scores(tmp_path / "twice", twice, [7], np.zeros((2, 1), np.float32))
    with pytest.raises(ScoresError, match="segment a:-1 stands in row 0 and in row 1"):
        fuse(world.segments, videos, out, FusionSettings())


@pytest.mark.parametrize("score", [np.nan, np.inf, -1e-3, 1.001, -np.inf])
@pytest.mark.parametrize("kind", ["segments", "videos"])
def test_what_is_no_probability_is_refused(kind: str, score: float, tmp_path: Path) -> None:
    world = random_world(tmp_path, 3)
    broken: Scores = getattr(world, kind)
    values = np.array(broken.values)
    values[6, 1] = score
    class_id = broken.classes.ids[1]
    world = world._replace(**{kind: replace(broken, values=values)})
    told = rf"{kind}: the score of class {class_id} in row 6 is .* in \[0, 1\]; .*negative"
    for chunk_bytes in (1, 1 << 20):
        with pytest.raises(ScoresError, match=told):
            fuse(*world, tmp_path / "o", FusionSettings(), chunk_bytes=chunk_bytes)
        assert names(tmp_path) == ["segments", "videos"]


def test_what_a_filter_has_put_last_is_not_fused_again(tmp_path: Path) -> None:
    world = random_world(tmp_path, 4)
    once = written(world, tmp_path / "o", FusionSettings(candidates=FILTER))
    with pytest.raises(ScoresError, match="a candidate filter or a list has put last are negative"):
        fuse(once, world.videos, tmp_path / "again", FusionSettings())


# ---- whole or not there --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_attempt_that_fails_leaves_what_was_there(
    error: type[BaseException], tmp_path: Path
) -> None:
    world, out = random_world(tmp_path, 5), tmp_path / "o"
    before = np.array(written(world, out, FusionSettings()).values)

    def fail(count: int) -> None:
        assert partial_path(out).is_dir()
        raise error

    with pytest.raises(error):
        fuse(*world, out, FusionSettings(PUBLISHED[2]), chunk_bytes=1, on_rows=fail)
    assert names(tmp_path) == ["o", "segments", "videos"]
    np.testing.assert_array_equal(open_scores(out).values, before)
    after = written(world, out, FusionSettings(PUBLISHED[2])).values
    assert (after != before).any()


def test_what_an_interrupted_prediction_left_is_removed(tmp_path: Path) -> None:
    """Its marks would make the next prediction keep rows that are not its own."""
    world, out = random_world(tmp_path, 5), tmp_path / "o"
    partial_path(out).mkdir()
    (partial_path(out) / "done-0-of-1.json").write_text("{}")

    def look(count: int) -> None:
        assert names(partial_path(out)) == ["scores.npy"]

    fuse(*world, out, FusionSettings(), on_rows=look)


def test_other_things_are_not_replaced(tmp_path: Path) -> None:
    world, out = random_world(tmp_path, 5), tmp_path / "thesis"
    out.write_text("years of work")
    with pytest.raises(ScoresError, match="something else than Scores is here"):
        fuse(*world, out, FusionSettings())
    assert names(tmp_path) == ["segments", "thesis", "videos"]


# ---- memory --------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path

import psutil

from whenabouts.core.scores import open_scores
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import FusionSettings, fuse

folder, process = Path(sys.argv[1]), psutil.Process()
settings = FusionSettings(candidates=CandidateFilter(top_topics=20, top_videos=50))
for size in ("quarter", "all"):
    used = []
    fuse(open_scores(folder / f"segments-{size}"), open_scores(folder / f"videos-{size}"),
         folder / "out", settings, chunk_bytes=1 << 18,
         on_rows=lambda count: used.append(process.memory_info().rss))
    print(max(used) // 1024)
"""


def test_memory_does_not_grow_with_the_segments(tmp_path: Path) -> None:
    """Of 24 MB more read and as much written less than a third may stay."""
    rng = np.random.default_rng(0)
    for size, num_videos in (("quarter", 200), ("all", 800)):
        ids = [b"%05d" % v for v in range(num_videos)]
        video = np.repeat(np.arange(num_videos), 10)
        starts = np.tile(np.arange(10) * 5, num_videos)
        segments = SegmentTable(np.array(ids), video, starts)
        values = rng.random((len(video), 1000), np.float32)
        write_scores(tmp_path / f"segments-{size}", segments, range(1000), values)
        write_videos(tmp_path / f"videos-{size}", ids, range(1000), values[::10])
    outcome = start((sys.executable, "-c", MEASURE), tmp_path)
    assert outcome.code == 0, outcome.err
    quarter_kb, all_kb = (int(line) for line in outcome.out.split())
    more_kb = values.nbytes * 3 // 4 // 1024
    assert more_kb > 23_000
    assert all_kb - quarter_kb < more_kb / 3
