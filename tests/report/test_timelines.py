import numpy as np
import pytest
from report_world import make_labels, make_scores, make_world, with_attention
from sklearn.metrics import average_precision_score

from whenabouts.report.rated import rated_pairs
from whenabouts.report.timelines import (
    BEST,
    MIDDLE,
    ONE_SIDED,
    RANKED,
    UNRATED,
    WORST,
    Choice,
    ap_and_place,
    best_to_worst,
    build_timeline,
    choose_videos,
    label_names,
    lines_to_show,
    video_ap,
)

NONE = make_labels([])


def test_video_ap_is_the_mean_over_topics_rated_both_ways():
    scores, truth = make_world(9, 30, 12, seed=1)
    found = video_ap(rated_pairs(truth, scores), 30)
    for video in range(30):
        of_topics = []
        mine = truth.take(truth.video == b"v%03d" % video)
        for class_id in np.unique(mine.class_id):
            pairs = rated_pairs(mine.take(mine.class_id == class_id), scores)
            if 0 < pairs.positive.mean() < 1:
                of_topics.append(average_precision_score(pairs.positive, pairs.score))
        expected = np.mean(of_topics) if of_topics else np.nan
        assert found[video] == pytest.approx(expected, nan_ok=True)


def world_of_ranked_videos(num_rated):
    """One class; video v has num_rated[v] ratings, its single positive at place v + 1 by score."""
    num_videos, num_segments = len(num_rated), 12
    values = np.tile(np.linspace(0.9, 0.1, num_segments), num_videos)[:, None]
    scores = make_scores(
        values,
        np.tile(np.arange(num_segments) * 5, num_videos),
        videos=np.repeat(np.arange(num_videos), num_segments),
        video_ids=[b"%c" % (ord("a") + v) for v in range(num_videos)],
    )
    rows = [
        (b"%c" % (ord("a") + v), k * 5, 10, float(k == v))
        for v, count in enumerate(num_rated)
        for k in range(count)
    ]
    return scores, make_labels(rows)


def shown(choices):
    return [(c.group, c.video, c.place) for c in choices]


def test_the_best_the_middle_and_the_worst_are_chosen_best_first():
    """AP is 1 / (v + 1): the videos stand in order; all are rated alike."""
    scores, truth = world_of_ranked_videos([10] * 10)
    choices = choose_videos(truth, scores, 5)
    assert shown(choices) == [
        (BEST, 0, 1), (BEST, 1, 2), (MIDDLE, 4, 5), (WORST, 8, 9), (WORST, 9, 10),
    ]  # fmt: skip
    assert [c.ap for c in choices] == pytest.approx([1, 1 / 2, 1 / 5, 1 / 9, 1 / 10])
    assert {c.num_ranked for c in choices} == {10}


def test_the_order_of_the_videos_changes_nothing_but_equals():
    scores, truth = world_of_ranked_videos([10] * 10)
    rows = np.random.default_rng(0).permutation(len(truth))
    assert choose_videos(truth.take(rows), scores, 5) == choose_videos(truth, scores, 5)


def test_only_the_half_with_the_most_rated_is_chosen_from():
    """Places are among all: the first and the last two have few ratings, and are not shown."""
    scores, truth = world_of_ranked_videos([2, 12, 12, 12, 11, 8, 8, 8])
    assert shown(choose_videos(truth, scores, 3)) == [(BEST, 1, 2), (MIDDLE, 2, 3), (WORST, 4, 5)]
    assert shown(choose_videos(truth, scores, 6))[0] == (BEST, 1, 2)
    assert len(choose_videos(truth, scores, 8)) == 8


def test_of_equal_ap_the_more_rated_is_shown_at_both_ends():
    ap, known = np.array([0.9, 0.9, 0.9, 0.5, 0.2, 0.2, 0.2]), np.array([5, 6, 5, 5, 5, 7, 5])
    found = best_to_worst(np.arange(7), ap, known, 2)
    assert shown(found) == [(BEST, 1, 1), (WORST, 5, 5)]
    found = best_to_worst(np.arange(7), ap, np.full(7, 5), 3)
    assert shown(found) == [(BEST, 0, 1), (MIDDLE, 3, 4), (WORST, 4, 5)]


@pytest.mark.parametrize("num", range(9))
@pytest.mark.parametrize("videos", range(6))
def test_no_video_is_shown_twice_and_none_of_the_worst_is_better_than_one_of_the_best(num, videos):
    rng = np.random.default_rng(num)
    ap, known = rng.integers(0, 3, videos) / 2, rng.integers(1, 4, videos)
    ranked = np.argsort(-ap, kind="stable")
    found = best_to_worst(ranked, ap, known, num)
    assert len({c.video for c in found}) == len(found) == min(num, videos)
    by_group = {group: [c.ap for c in found if c.group == group] for group in RANKED}
    assert min(by_group[BEST], default=1) >= max(by_group[WORST], default=0)
    for choice in found:
        assert (choice.ap, choice.num_ranked) == (ap[choice.video], videos)
        assert choice.place == 1 + (ap > choice.ap).sum()
    assert len(by_group[BEST]) >= len(by_group[WORST]) >= len(by_group[MIDDLE])


def test_ap_and_place_in_words():
    assert ap_and_place(Choice(0, 0.75, BEST, 3, 1200)) == "AP 0.750, place 3 of 1,200"
    assert ap_and_place(Choice(0, np.nan, UNRATED)) == ""


def test_fewer_videos_than_wanted_are_all_shown():
    scores, truth = world_of_ranked_videos([8, 9])
    assert [c.video for c in choose_videos(truth, scores, 12)] == [0, 1]
    assert choose_videos(truth, scores, 0) == []


def test_without_a_topic_rated_both_ways_the_most_rated_are_chosen():
    scores, _ = world_of_ranked_videos([1, 1, 1])
    truth = make_labels([(b"b", 0, 10, 1.0), (b"c", 0, 10, 1.0), (b"c", 5, 10, 1.0)])
    choices = choose_videos(truth, scores, 12)
    assert [(c.video, c.group) for c in choices] == [(2, ONE_SIDED), (1, ONE_SIDED)]
    assert np.isnan(choices[0].ap)


def test_without_ratings_videos_at_even_distances_are_chosen():
    scores, _ = world_of_ranked_videos([1] * 7)
    assert [(c.video, c.group) for c in choose_videos(NONE, scores, 3)] == [
        (0, UNRATED), (3, UNRATED), (6, UNRATED),
    ]  # fmt: skip
    assert len(choose_videos(NONE, scores, 12)) == 7


def test_a_video_without_segments_is_not_chosen():
    scores = make_scores([[0.1], [0.2]], [0, 0], videos=[0, 2], video_ids=[b"a", b"b", b"c"])
    assert [c.video for c in choose_videos(NONE, scores, 12)] == [0, 2]


def test_ratings_of_other_data_are_as_no_ratings():
    scores, _ = world_of_ranked_videos([1, 1])
    truth = make_labels([(b"else", 0, 10, 1.0)])
    assert [c.group for c in choose_videos(truth, scores, 1)] == [UNRATED]


def test_rated_topics_come_first_then_the_highest_peaks():
    values = np.array([[0.1, 0.9, 0.2, 0.8, 0.3], [0.5, 0.1, 0.2, 0.1, 0.3]])
    rated = np.array([2, 4, 4])
    assert lines_to_show(values, rated, 4) == ([4, 2], [4, 2, 1, 3])
    assert lines_to_show(values, rated, 1) == ([4, 2], [4, 2])
    assert lines_to_show(values, np.array([], np.int64), 2) == ([], [1, 3])


def test_equally_rated_topics_stand_by_peak_and_at_most_seven_are_shown():
    values = np.linspace(0.1, 0.9, 9)[None]
    rated, shown = lines_to_show(values, np.arange(9), 5)
    assert rated == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert shown == rated[:7]


def test_the_marks_of_a_timeline_are_the_rated_pairs_of_its_video():
    scores, truth = make_world(9, 12, 10, seed=2)
    for choice in choose_videos(truth, scores, 12):
        timeline = build_timeline(truth, scores, choice)
        drawn = {
            (line.class_id, int(start), bool(positive))
            for line in timeline.lines
            for start, positive in zip(line.rated_starts_s, line.rated_positive)
        }
        mine = truth.take(truth.video == timeline.video_id.encode())
        rated = zip(mine.class_id.tolist(), mine.start_s.tolist(), (mine.score > 0.5).tolist())
        assert drawn == set(rated)


def test_the_marks_stand_on_the_lines():
    scores, truth = make_world(9, 12, 10, seed=2)
    for choice in choose_videos(truth, scores, 12):
        timeline = build_timeline(truth, scores, choice)
        for line in timeline.lines:
            at = np.searchsorted(timeline.starts_s, line.rated_starts_s)
            np.testing.assert_array_equal(line.scores[at], line.rated_scores)


def test_a_timeline_is_in_order_of_time_whatever_the_order_of_rows():
    scores = make_scores(
        [[0.3, 0.0], [0.1, 0.0], [0.2, 0.0], [0.9, 0.9]],
        [10, 0, 5, 0],
        videos=[1, 1, 1, 0],
        video_ids=[b"other", b"mine"],
    )
    timeline = build_timeline(NONE, scores, Choice(1, np.nan, "x"), num_lines=1, labels=("a",))
    assert timeline.video_id == "mine"
    assert timeline.labels == ("a",)
    assert timeline.starts_s.tolist() == [0, 5, 10]
    assert timeline.ends_s.tolist() == [5, 10, 15]
    assert [line.class_id for line in timeline.lines] == [10]
    np.testing.assert_allclose(timeline.lines[0].scores, [0.1, 0.2, 0.3], rtol=1e-6)


def test_segments_end_where_the_next_begins_or_after_their_length():
    scores = make_scores([[0.1]] * 4, [0, 3, 10, 20])
    timeline = build_timeline(NONE, scores, Choice(0, np.nan, "x"), segment_s=6)
    assert timeline.ends_s.tolist() == [3, 9, 16, 26]


def test_a_rated_segment_past_the_end_has_no_score():
    truth = make_labels([(b"vid0", 5, 10, 1.0), (b"vid0", 50, 10, 1.0)])
    timeline = build_timeline(truth, make_scores([[0.1], [0.2]]), Choice(0, 1.0, "x"))
    np.testing.assert_allclose(timeline.lines[0].rated_scores, [0.2, np.nan], rtol=1e-6)


def test_rated_topics_beyond_the_colours_are_counted():
    truth = make_labels([(b"vid0", 0, 10 + c, 1.0) for c in range(9)])
    timeline = build_timeline(truth, make_scores([[0.5] * 9]), Choice(0, 1.0, "x"))
    assert (len(timeline.lines), timeline.num_rated_hidden) == (7, 2)
    few = make_labels([(b"vid0", 0, 10, 1.0)])
    assert build_timeline(few, make_scores([[0.5] * 9]), Choice(0, 1.0, "x")).num_rated_hidden == 0


def test_lanes_are_the_attention_of_the_video_in_order_of_time():
    """Segments of 6 s of 3 frames each; the middle one lacks a frame, the last one two."""
    scores = make_scores(
        [[0.5]] * 4, [6, 0, 0, 12], videos=[1, 1, 0, 1], video_ids=[b"other", b"mine"]
    )
    frames = [[4, 5, np.nan], [1, 2, 3], [9, 9, 9], [7, np.nan, np.nan]]
    scores = with_attention(scores, np.array(frames) / 10, [0.5, 0.25, 0.75, 1])
    timeline = build_timeline(NONE, scores, Choice(1, np.nan, "x"), segment_s=6)
    segments, of_frames = timeline.lanes
    assert (segments.name, of_frames.name) == ("segments", "frames")
    assert segments.values.tolist() == [0.25, 0.5, 1]
    assert segments.starts_s.tolist() == timeline.starts_s.tolist() == [0, 6, 12]
    assert segments.ends_s.tolist() == timeline.ends_s.tolist() == [6, 12, 18]
    np.testing.assert_allclose(of_frames.values, [0.1, 0.2, 0.3, 0.4, 0.5, 0.7], atol=1e-3)
    assert of_frames.starts_s.tolist() == [0, 2, 4, 6, 8, 12]
    assert of_frames.ends_s.tolist() == [2, 4, 6, 8, 10, 14]


def test_frames_of_less_than_a_second():
    scores = with_attention(make_scores([[0.5], [0.5]]), np.ones((2, 10)), [1, 1])
    frames = build_timeline(NONE, scores, Choice(0, np.nan, "x")).lanes[1]
    assert frames.starts_s.tolist() == (np.arange(20) / 2).tolist()
    assert frames.ends_s[-1] == 10


def test_without_attention_there_are_no_lanes():
    assert build_timeline(NONE, make_scores([[0.5]]), Choice(0, np.nan, "x")).lanes == ()


def test_label_names():
    labels = {b"v": [1, 2, 3]}
    assert label_names(labels, {1: "one", 2: ""}, b"v") == ("one", "class 2", "class 3")
    assert label_names(labels, {}, b"w") == ()
    assert label_names(None, {1: "one"}, b"v") == ()
