"""Inserts of a made corpus: frames of any topic under a mark, in place of what the scene shows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from whenabouts.corpus.made import make_corpus
from whenabouts.corpus.made_settings import NARROW
from whenabouts.corpus.made_video import PARTS, MadeVideo, draw_video
from whenabouts.corpus.made_world import NUM_MARKS, World, build_world
from whenabouts.records.examples import frames_of
from whenabouts.records.quantize import dequantize, quantize
from whenabouts.records.reading import read_sequence_examples
from whenabouts.records.shards import open_shard

WITHOUT = replace(NARROW, num_classes=12, num_rated_classes=8, max_frames=90)
WITH = replace(WITHOUT, insert_share=0.6)
STILL = replace(WITH, look_norm=0.0, scene_norm=0.0, noise_sd=0.0, overlap_share=0.0, faintest=1.0)


def is_insert(video: MadeVideo) -> np.ndarray:
    """Of each frame [T]."""
    shown = np.zeros(len(video.frames), bool)
    shown[[start_s for _, start_s, _ in video.inserts]] = True
    return shown


def shows(video: MadeVideo, class_id: int) -> np.ndarray:
    """Whether each second [T] is of a scene of the class."""
    shown = np.zeros(len(video.frames), bool)
    for other, start_s, end_s in video.topics:
        shown[start_s:end_s] |= other == class_id
    return shown


# ---- where there are none ------------------------------------------------------------------------


def test_without_inserts_the_bytes_are_what_they_were(tmp_path: Path) -> None:
    """The hash is of a corpus that was made before there were inserts."""
    settings = replace(
        NARROW, features=(("rgb", 6), ("audio", 2)), num_train=1, num_validate=4, num_test=1,
        num_classes=8, num_rated_classes=6, max_frames=60, temporal_context=0.5,
    )  # fmt: skip
    make_corpus(tmp_path / "out", settings, processes=1)
    found = hashlib.sha256()
    for path in sorted((tmp_path / "out").rglob("*")):
        if path.suffix in (".tfrecord", ".csv"):
            found.update(path.read_bytes())
    assert found.hexdigest() == "62397f8bd5a4ac1e91a6a5378bb884ce309e103c90f8fcdbf4fdd2792d40ed60"
    assert not (tmp_path / "out" / "truth" / "inserts.parquet").exists()


@pytest.mark.parametrize("part", PARTS)
def test_scenes_and_labels_are_those_without_inserts(part: str) -> None:
    plain, with_inserts = build_world(WITHOUT), build_world(WITH)
    assert (plain.looks == with_inserts.looks).all()
    for index in range(10):
        one, other = (draw_video(world, part, index) for world in (plain, with_inserts))
        assert one.inserts == []
        assert other.inserts
        assert one.topics == other.topics
        assert (one.labels == other.labels).all()
        if part == "train":  # elsewhere other ratings mean other noise
            kept = ~is_insert(other)
            assert (one.frames[kept] == other.frames[kept]).all()


# ---- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [5.0, 2.0])
def test_an_insert_is_a_prototype_under_a_mark(norm: float) -> None:
    world = build_world(replace(STILL, insert_norm=norm))
    assert world.marks.shape == (NUM_MARKS, 40)
    np.testing.assert_allclose(np.linalg.norm(world.marks, axis=1), norm, rtol=1e-5)
    marks = set()
    for index in range(5):
        video = draw_video(world, "v1", index)
        for class_id, start_s, end_s in video.inserts:
            assert end_s == start_s + 1
            expected = quantize(world.looks[class_id] + world.marks)
            [mark] = np.flatnonzero((expected == video.frames[start_s]).all(axis=1))
            marks.add(int(mark))
    assert marks == set(range(NUM_MARKS))


def test_all_other_frames_show_their_scene() -> None:
    world = build_world(STILL)
    for index in range(5):
        video = draw_video(world, "v1", index)
        kept = ~is_insert(video)
        for class_id in {class_id for class_id, _, _ in video.topics}:
            shown = video.frames[kept & shows(video, class_id)]
            assert (shown == quantize(world.looks[class_id])).all()


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_inserts_know_nothing_of_the_video(share: float) -> None:
    """As many within scenes of the topic they show as elsewhere, and of every class as many."""
    world = build_world(replace(WITH, insert_share=share))
    videos = [draw_video(world, "train", index) for index in range(200)]
    inserts = np.concatenate([is_insert(video) for video in videos])
    assert inserts.mean() == pytest.approx(share, abs=0.02)
    for gap in (1, 5):
        both = (inserts[gap:] & inserts[:-gap]).mean()
        assert both == pytest.approx(share**2, abs=0.02)
    classes = np.array([class_id for video in videos for class_id, _, _ in video.inserts])
    counts = np.bincount(classes, minlength=12)
    assert abs(counts / counts.mean() - 1).max() < 0.25
    own = np.mean([shows(v, c)[s] for v in videos for c, s, _ in v.inserts])
    expected = np.mean([shows(video, c).mean() for video in videos for c in range(12)])
    assert own == pytest.approx(expected, abs=0.02)


def test_videos_have_inserts_of_their_own() -> None:
    world = build_world(WITH)
    drawn = {
        tuple(draw_video(world, part, index).inserts[:20]) for part in PARTS for index in range(5)
    }
    assert len(drawn) == 20


# ---- ratings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_positive_shows_its_topic_and_a_negative_has_no_scene_of_it(share: float) -> None:
    world = build_world(replace(WITH, insert_share=share))
    visible = {0.0: set(), 1.0: set()}
    hidden_by_all = 0
    for index in range(150):
        video = draw_video(world, "v2", index)
        inserts = is_insert(video)
        for start_s, class_id, score in video.ratings:
            segment = slice(start_s, start_s + 5)
            shown = shows(video, class_id)[segment]
            assert shown.sum() >= 3 if score else not shown.any()
            visible[score].add(int((shown & ~inserts[segment]).sum()))
            hidden_by_all += inserts[segment].all()
    assert visible == {0.0: {0}, 1.0: visible[1.0]}
    assert min(visible[1.0]) == 1
    assert hidden_by_all  # of negatives: nothing is asked of those


def test_the_mean_is_drowned_and_the_visible_frames_are_not() -> None:
    """A rule that knows the world, on all frames of a segment and on those that are no inserts."""
    by_share = {share: rates(build_world(replace(WITH, insert_share=share))) for share in (0, 0.6)}
    assert by_share[0][0] == by_share[0][1]
    assert by_share[0.6][0] < 0.78 < 0.88 < by_share[0.6][1] < by_share[0][0]


def rates(world: World) -> tuple[float, float]:
    """Chance of a positive to be above a negative: by all frames, by those that are no inserts."""
    truth, margins = [], []
    for index in range(120):
        video = draw_video(world, "v1", index)
        frames, inserts = dequantize(video.frames), is_insert(video)
        frames -= frames[~inserts].mean(axis=0)
        for start_s, class_id, score in video.ratings:
            segment, hidden = frames[start_s : start_s + 5], inserts[start_s : start_s + 5]
            own = world.looks[class_id] - 0.8 * world.looks[world.siblings[class_id]].mean(axis=0)
            own -= world.marks.T @ np.linalg.lstsq(world.marks.T, own)[0]  # blind to marks
            seen = segment[~hidden].mean(axis=0) @ own if not hidden.all() else 0.0
            truth.append(score == 1)
            margins.append((segment.mean(axis=0) @ own, seen))
    positive, values = np.array(truth), np.array(margins)
    above = values[positive][:, None] > values[~positive]
    return float(above[..., 0].mean()), float(above[..., 1].mean())


# ---- files ---------------------------------------------------------------------------------------


def test_the_truth_names_every_insert(tmp_path: Path) -> None:
    settings = replace(STILL, num_train=3, num_validate=4, num_test=2, videos_per_shard=2)
    make_corpus(tmp_path / "out", settings, processes=1)
    world, found = build_world(settings), {}
    expected = [quantize(world.looks[:12] + mark) for mark in world.marks]
    for path in (tmp_path / "out").glob("*/*.tfrecord"):
        buffer = open_shard(path)
        for example in read_sequence_examples(path):
            lists = [frames_of(buffer, at) for at in example.lists.values()]
            frames = np.concatenate(lists, axis=1)
            seen = np.stack([(frames[:, None] == each).all(axis=2) for each in expected]).any(0)
            video = example.context["id"][0].decode()
            found[video] = [(int(c), int(s)) for s, c in zip(*np.nonzero(seen))]
    table = pq.read_table(tmp_path / "out" / "truth" / "inserts.parquet")
    assert table.column_names == ["video", "class", "start_s", "end_s"]
    told: dict[str, list[tuple[int, int]]] = {}
    for video, class_id, start_s, end_s in zip(*table.to_pydict().values()):
        assert end_s == start_s + 1
        told.setdefault(video, []).append((class_id, start_s))
    assert told == found
    assert len(told) == 9
