"""What is drawn for a made corpus: classes, names, looks, labels, frames, cues."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from whenabouts.corpus.made_names import KINDS, SUBJECTS, topic_names
from whenabouts.corpus.made_settings import MAX_CLASSES, MAX_FAMILY, NARROW, NUM_IDS, MadeCorpus
from whenabouts.corpus.made_video import draw_video
from whenabouts.corpus.made_world import build_world, video_id
from whenabouts.records.quantize import ZERO_BYTE, dequantize, quantize

TINY = replace(NARROW, features=(("rgb", 6), ("audio", 2)))  # where no feature is looked at
STILL = replace(NARROW, look_norm=0.0, scene_norm=0.0, noise_sd=0.0, overlap_share=0.0)


# ---- classes, names, ids -----------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "num_rated"), [(3, 2), (4, 3), (60, 30)])
def test_rated_classes_are_neither_sorted_nor_contiguous(num_classes, num_rated):
    for seed in range(20):
        ids = build_world(
            replace(
                TINY,
                seed=seed,
                num_classes=num_classes,
                num_rated_classes=num_rated,
                num_companions=1,
                max_frames=60,
            )
        ).rated
        assert len(set(ids)) == num_rated
        assert set(ids) <= set(range(num_classes))
        assert list(ids) != sorted(ids)
        assert max(ids) - min(ids) >= num_rated


def test_all_classes_may_be_rated():
    ids = build_world(replace(TINY, num_classes=4, num_rated_classes=4)).rated
    assert sorted(ids) == [0, 1, 2, 3]
    assert ids != (0, 1, 2, 3)


def test_frequencies_have_a_long_tail():
    frequency = build_world(replace(TINY, zipf_exponent=1.5)).frequency
    assert frequency.sum() == pytest.approx(1)
    assert frequency[0] / frequency[3] == pytest.approx(8)  # 4 ** 1.5
    world = build_world(TINY)
    labels = np.concatenate([draw_video(world, "train", i).labels for i in range(400)])
    counts = np.bincount(labels, minlength=60)
    assert counts[:6].sum() > 0.25 * counts.sum()
    assert counts[30:].sum() < 0.35 * counts.sum()


@pytest.mark.parametrize("size", range(1, MAX_FAMILY + 1))
def test_every_vocabulary_has_distinct_names(size):
    rng = np.random.default_rng(0)
    family = rng.permutation(MAX_CLASSES) // size
    names = topic_names(rng, family)
    assert len(set(names)) == MAX_CLASSES
    subject = [name.split()[1] for name in names]
    assert len(set(zip(family, subject))) == family.max() + 1  # one subject a family


def test_word_lists_have_no_doubles():
    assert len(set(KINDS)) == len(KINDS)
    assert len(set(SUBJECTS)) == len(SUBJECTS)


def test_ids_are_a_one_to_one_map():
    numbers = [*range(20_000), *range(NUM_IDS - 20_000, NUM_IDS)]
    assert len({video_id(TINY, number) for number in numbers}) == len(numbers)
    first = [video_id(replace(TINY, seed=seed), 0) for seed in range(50)]
    steps = [(_code(video_id(replace(TINY, seed=s), 1)) - _code(first[s])) for s in range(50)]
    assert len(set(first)) == 50
    assert all(math.gcd(step, NUM_IDS) == 1 for step in steps)


def _code(name: bytes) -> int:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return sum(digits.index(chr(c)) * 62**place for place, c in enumerate(name))


# ---- looks -------------------------------------------------------------------------------------


def test_siblings_look_alike_and_others_do_not():
    world = build_world(replace(MadeCorpus(), max_frames=60))
    prototypes = world.looks[:60]
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 6, rtol=1e-5)
    seen = prototypes[:, :1024] / np.linalg.norm(prototypes[:, :1024], axis=1, keepdims=True)
    heard = prototypes[:, 1024:] / np.linalg.norm(prototypes[:, 1024:], axis=1, keepdims=True)
    alike = np.zeros((60, 60), bool)
    for c, siblings in enumerate(world.siblings):
        assert len(siblings) == 3
        assert c not in siblings
        alike[c, siblings] = True
    other = ~alike & ~np.eye(60, dtype=bool)
    assert (seen @ seen.T)[alike].mean() == pytest.approx(0.8, abs=0.02)
    assert abs((seen @ seen.T)[other]).max() < 0.2
    assert (heard @ heard.T)[alike].mean() < 0.3  # sounds have families of their own
    assert np.sort(heard @ heard.T, axis=1)[:, -4:-1].mean() == pytest.approx(0.8, abs=0.05)


def test_companions_are_others():
    for c, companions in enumerate(build_world(TINY).companions):
        assert len(set(companions)) == 3
        assert c not in companions


def test_topics_can_be_told_apart_but_not_without_error():
    """The default difficulty for a rule that knows the world; what must learn it reaches less."""
    world = build_world(replace(MadeCorpus(), max_frames=120))
    truth, margins = [], []
    for index in range(60):
        video = draw_video(world, "v1", index)
        frames = dequantize(video.frames)
        for start_s, class_id, score in video.ratings:
            segment = frames[start_s : start_s + 5].mean(axis=0) - frames.mean(axis=0)
            own = world.looks[class_id] - 0.8 * world.looks[world.siblings[class_id]].mean(axis=0)
            truth.append(score == 1)
            margins.append(segment @ own)
    assert 0.9 < area_under_curve(truth, margins) < 0.99


# ---- frames ------------------------------------------------------------------------------------


def test_frames_are_quantised_as_the_data_set_is():
    world = build_world(replace(STILL, topic_norm=0.0))
    assert (draw_video(world, "train", 0).frames == ZERO_BYTE).all()
    world = build_world(replace(STILL, faintest=1.0))
    video = draw_video(world, "v1", 0)
    for class_id, start_s, end_s in video.topics:
        expected = quantize(world.looks[class_id])
        assert (video.frames[start_s:end_s] == expected).all()
    assert len(video.topics) > 1


def test_features_that_leave_the_range_are_clipped():
    world = build_world(replace(STILL, faintest=1.0, topic_norm=40.0))
    video = draw_video(world, "v1", 0)
    class_id, start_s, _ = video.topics[0]
    assert (video.frames[start_s] == quantize(world.looks[class_id])).all()
    assert {0, 255} <= set(video.frames[start_s].tolist())


def test_strength_lies_in_its_range():
    world = build_world(replace(STILL, faintest=0.5))
    strengths = []
    for index in range(30):
        video = draw_video(world, "train", index)
        for class_id, start_s, _ in video.topics:
            look = world.looks[class_id]
            strengths.append(dequantize(video.frames[start_s]) @ look / (look @ look))
    assert min(strengths) == pytest.approx(0.5, abs=0.03)
    assert max(strengths) == pytest.approx(1.0, abs=0.03)


def test_noise_has_its_deviation_and_correlation():
    world = build_world(
        replace(STILL, topic_norm=0.0, noise_sd=0.4, noise_correlation=0.3, min_frames=300)
    )
    frames = dequantize(np.stack([draw_full(world, i) for i in range(20)]))
    assert frames.std() == pytest.approx(0.4, rel=0.02)
    lagged = (frames[:, 1:] * frames[:, :-1]).mean() / frames.var()
    assert lagged == pytest.approx(0.3, abs=0.01)
    assert len({video[:, 0].tobytes() for video in frames}) == 20  # each its own noise
    across = np.corrcoef(frames.reshape(-1, frames.shape[2]).T) - np.eye(frames.shape[2])
    assert abs(across).max() < 0.1


def draw_full(world, index):
    video = draw_video(world, "train", index)
    assert video.frames.shape == (300, 40)
    return video.frames


def test_looks_of_videos_and_scenes_have_their_norms():
    world = build_world(replace(STILL, topic_norm=0.0, look_norm=3.0))
    looks = [dequantize(draw_video(world, "train", i).frames) for i in range(100)]
    assert all((look == look[0]).all() for look in looks)
    norm = np.sqrt(np.mean([np.square(look[0]).sum() for look in looks]))
    assert norm == pytest.approx(3.0, rel=0.05)
    world = build_world(replace(STILL, topic_norm=0.0, scene_norm=3.0))
    video = draw_video(world, "train", 0)
    changes = np.flatnonzero((np.diff(video.frames.astype(int), axis=0) != 0).any(axis=1)) + 1
    assert set(changes) >= {start_s for _, start_s, _ in video.topics if start_s}
    scenes = dequantize(video.frames[[0, *changes]])
    assert np.sqrt(np.square(scenes).sum(axis=1).mean()) == pytest.approx(3.0, rel=0.15)


def test_lengths_reach_both_ends():
    world = build_world(replace(TINY, min_frames=60, max_frames=62))
    lengths = {len(draw_video(world, "train", i).frames) for i in range(40)}
    assert lengths == {60, 61, 62}


# ---- labels and ratings ------------------------------------------------------------------------


@pytest.mark.parametrize(("recall", "noise"), [(0.85, 0.05), (0.6, 0.3)])
def test_labels_are_as_incomplete_and_wrong_as_asked_for(recall, noise):
    world = build_world(replace(TINY, label_recall=recall, label_noise=noise))
    num_true = num_kept = num_wrong = 0
    for index in range(600):
        video = draw_video(world, "train", index)
        true, shown = classes_shown(video)
        labels = set(video.labels.tolist())
        assert len(labels) == len(video.labels)
        assert not labels & (shown - true)  # a topic shown for a moment is no label
        num_true += len(true)
        num_kept += len(true & labels)
        num_wrong += len(labels - shown)
    assert num_kept / num_true == pytest.approx(recall, abs=0.03)
    assert num_wrong / num_true == pytest.approx(noise, abs=0.03)


def classes_shown(video) -> tuple[set[int], set[int]]:
    """Classes shown for at least a tenth of the video, and all that are shown."""
    num_frames = len(video.frames)
    shown_s: dict[int, set[int]] = {}
    for class_id, start_s, end_s in video.topics:
        shown_s.setdefault(class_id, set()).update(range(start_s, end_s))
    return {c for c, s in shown_s.items() if 10 * len(s) >= num_frames}, set(shown_s)


def test_perfect_labels():
    world = build_world(replace(TINY, label_recall=1.0, label_noise=0.0))
    for index in range(100):
        video = draw_video(world, "train", index)
        assert set(video.labels.tolist()) == classes_shown(video)[0]
        assert video.labels.tolist() == sorted(video.labels.tolist())
        assert video.ratings == []


def test_negatives_are_hard():
    """Most negatives show a sibling or a companion of the topic in the same video."""
    world = build_world(TINY)
    num_negative = num_sibling = num_any = 0
    for index in range(150):
        video = draw_video(world, "v2", index)
        for start_s, class_id, score in video.ratings:
            if score == 0:
                shown = {c for c, a, b in video.topics if a < start_s + 5 and start_s < b}
                num_negative += 1
                num_any += bool(shown)
                num_sibling += bool(shown & set(world.siblings[class_id].tolist()))
    assert num_sibling > 0.4 * num_negative
    assert num_any > 0.7 * num_negative


def test_nothing_is_skipped_where_nothing_shall_be():
    world = build_world(replace(TINY, skip_first=0, skip_last=0, max_frames=150))
    starts, ends = [], []
    for index in range(40):
        video = draw_video(world, "v1", index)
        starts += [r.start_s for r in video.ratings]
        ends += [len(video.frames) // 5 * 5 - r.start_s for r in video.ratings]
    assert min(starts) == 0
    assert min(ends) == 5


@pytest.mark.parametrize("skip_last", [25, 1000])
def test_more_skipped_than_there_is_means_none(skip_last):
    world = build_world(replace(TINY, skip_last=skip_last, min_frames=120, max_frames=120))
    starts = [r.start_s for i in range(40) for r in draw_video(world, "v1", i).ratings]
    assert min(starts) == 0
    assert len(starts) >= 200


def test_parts_share_no_video():
    world = build_world(NARROW)
    drawn = [draw_video(world, part, 0).frames for part in ("train", "v1", "v2", "test")]
    assert len({frames.tobytes() for frames in drawn}) == 4


# ---- context -----------------------------------------------------------------------------------

CONTEXT = replace(NARROW, temporal_context=0.5)


def test_context_classes_are_pairs_of_one_look():
    world = build_world(CONTEXT)
    needy = np.flatnonzero(world.partner >= 0)
    assert len(needy) == 16  # half of the 15 pairs, rounded up
    assert set(needy) <= set(world.rated)
    for c in needy:
        partner = world.partner[c]
        assert partner != c
        assert world.partner[partner] == c
        assert (world.looks[c] == world.looks[partner]).all()
        assert (world.looks[world.cue_of(c)] != world.looks[world.cue_of(partner)]).any()
        assert world.companions[c].tolist() == world.companions[partner].tolist()
    assert not set(needy) & set(np.concatenate(world.companions + world.siblings))


def test_no_context_leaves_the_world_as_it_is():
    without, with_pairs = build_world(NARROW), build_world(CONTEXT)
    alone = np.flatnonzero(with_pairs.partner < 0)
    assert (without.partner == -1).all()
    assert (without.looks[:60][alone] == with_pairs.looks[:60][alone]).all()
    assert (without.looks[60:120] == 0).all()
    assert without.rated == with_pairs.rated
    assert without.names == with_pairs.names
    assert all(not draw_video(without, "v1", i).cues for i in range(10))


def test_only_the_cue_tells_partners_apart():
    """A detector of the cues is at chance on the rated segment and right on the whole video."""
    world = build_world(replace(CONTEXT, max_frames=150))
    by_segment, by_video, truth = [], [], []
    for index in range(400):
        video = draw_video(world, "v2", index)
        frames = dequantize(video.frames)
        for start_s, class_id, score in video.ratings:
            partner = int(world.partner[class_id])
            if partner < 0:
                continue
            cues = world.looks[[world.cue_of(class_id), world.cue_of(partner)]]
            seen = frames @ cues.T
            by_segment.append(np.diff(-seen[start_s : start_s + 5].mean(axis=0))[0])
            by_video.append(np.diff(-seen.max(axis=0))[0])
            truth.append(score == 1)
    assert len(truth) > 500
    assert 0.45 < np.mean(truth) < 0.55
    assert abs(area_under_curve(truth, by_segment) - 0.5) < 0.06
    assert area_under_curve(truth, by_video) > 0.97


def area_under_curve(truth, scores) -> float:
    truth, scores = np.array(truth), np.array(scores)
    return float((scores[truth][:, None] > scores[~truth]).mean())


def test_a_video_of_a_context_class_shows_its_cue_and_no_partner():
    world = build_world(CONTEXT)
    num_cues = 0
    for index in range(60):
        video = draw_video(world, "v1", index)
        shown = {class_id for class_id, _, _ in video.topics}
        needy = {c for c in shown if world.partner[c] >= 0}
        assert len(needy) <= 1
        assert {class_id for class_id, _, _ in video.cues} == needy
        num_cues += len(video.cues)
        for _, start_s, end_s in video.cues:  # alone in its scene
            assert all(b <= start_s or end_s <= a for _, a, b in video.topics)
    assert num_cues > 10
