from __future__ import annotations

import numpy as np
import pytest
import torch

from corpus_writer import NARROW, Video, make_small_corpus, slow_features
from whenabouts.core.classes import ClassOrder
from whenabouts.core.errors import CorpusError
from whenabouts.core.labels import SegmentLabels
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.feed import rated
from whenabouts.feed.rated import RatedBatch, RatedSegments

CPU = torch.device("cpu")
RATED_ROWS = np.array([0, 1, 2, 6, 7])
# (row, start in s) of the rated segments of `odd_corpus`, in its order
SEGMENTS = [(0, 0), (0, 5), (0, 10), (1, 0), (2, 5), (2, 10), (6, 0), (6, 10), (7, 0)]


def labels_of(corpus: Corpus) -> SegmentLabels:
    """The rated pairs with a weight of its own for each."""
    labels = corpus.rated(RATED_ROWS)
    weight = 1 + np.arange(len(labels), dtype=np.float32) / 8
    return SegmentLabels(labels.video, labels.start_s, labels.class_id, labels.score, weight)


def rated_segments(
    corpus: Corpus, labels: SegmentLabels | None = None, **settings
) -> RatedSegments:
    labels = labels_of(corpus) if labels is None else labels
    return RatedSegments(corpus, labels, **{"classes": corpus.classes, "device": CPU, **settings})


def expected_features(videos: list[Video], segments: list[tuple[int, int]]) -> np.ndarray:
    features = np.zeros((len(segments), 5, 9))
    for k, (row, start_s) in enumerate(segments):
        frames = slow_features(videos[row])[start_s : start_s + 5]
        features[k, : len(frames)] = frames
    return features


def pairs_of(batch: RatedBatch) -> list[tuple[int, int, float, float]]:
    columns = (batch.pair_segment, batch.pair_class, batch.pair_label, batch.pair_weight)
    return list(zip(*(c.tolist() for c in columns)))


def expected_pairs(
    corpus: Corpus, videos: list[Video], segments: list[tuple[int, int]]
) -> list[tuple[int, int, float, float]]:
    labels = labels_of(corpus)
    keys = zip(labels.video.tolist(), labels.start_s.tolist(), labels.class_id.tolist())
    values = zip(labels.score.tolist(), labels.weight.tolist())
    rated = dict(zip(keys, values))
    return [
        (k, corpus.classes.ids.index(class_id), *rated[videos[row].id.encode(), start_s, class_id])
        for k, (row, start_s) in enumerate(segments)
        for class_id in corpus.classes.ids
        if (videos[row].id.encode(), start_s, class_id) in rated
    ]


@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
@pytest.mark.parametrize("chosen", [list(range(9)), [3], [8, 0, 3, 0, 5], [2, 5, 7]])
def test_batch_of_segments(odd_corpus, odd_videos, chosen, resident_bytes):
    segments = rated_segments(odd_corpus, resident_bytes=resident_bytes)
    assert len(segments) == len(SEGMENTS)
    batch = segments.batch(np.array(chosen))
    picked = [SEGMENTS[k] for k in chosen]
    expected = expected_features(odd_videos, picked)
    np.testing.assert_allclose(batch.features.numpy(), expected, atol=3e-7)
    assert batch.mask.tolist() == (np.abs(expected).sum(-1) > 0).tolist()
    assert (batch.features[~batch.mask] == 0).all()
    assert pairs_of(batch) == expected_pairs(odd_corpus, odd_videos, picked)
    assert batch.num_segments == len(chosen)


def test_types_of_a_batch(odd_corpus):
    batch = rated_segments(odd_corpus).batch(np.array([0, 1]))
    assert (batch.features.dtype, batch.mask.dtype) == (torch.float32, torch.bool)
    assert (batch.pair_segment.dtype, batch.pair_class.dtype) == (torch.int64, torch.int64)
    assert (batch.pair_label.dtype, batch.pair_weight.dtype) == (torch.float32, torch.float32)


def test_segment_rated_for_several_classes(odd_corpus):
    """Video nn from 0 s: classes 7 and 9; classes are (7, 8, 9)."""
    batch = rated_segments(odd_corpus).batch(np.array([0, 1]))
    assert batch.pair_segment.tolist() == [0, 0, 1]
    assert batch.pair_class.tolist() == [0, 2, 0]
    assert batch.pair_label.tolist() == [1, 1, 0]


def test_resident_or_not_is_the_same(odd_corpus):
    resident = rated_segments(odd_corpus)
    streamed = rated_segments(odd_corpus, resident_bytes=0)
    assert resident.is_resident
    assert not streamed.is_resident
    for chosen in ([0, 1, 2], [5, 4, 8, 8], [6]):
        one, other = (s.batch(np.array(chosen)) for s in (resident, streamed))
        for name in RatedBatch.__dataclass_fields__:
            if name not in ("num_segments", "outside"):
                assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
def test_averaged_segments_are_their_mean_frame(odd_corpus, resident_bytes):
    """Mean over the real frames of each segment (a partial one too), the same pairs."""
    whole = rated_segments(odd_corpus)
    averaged = rated_segments(odd_corpus, resident_bytes=resident_bytes, averaged=True)
    assert averaged.is_resident == bool(resident_bytes)
    for chosen in (np.arange(9), np.array([8, 0, 3, 0, 5])):
        one, other = whole.batch(chosen), averaged.batch(chosen)
        count = one.mask.sum(dim=1)[:, None]
        assert other.features.shape == (len(chosen), 1, one.features.shape[2])
        torch.testing.assert_close(other.features[:, 0], one.features.sum(dim=1) / count)
        assert other.mask.tolist() == [[True]] * len(chosen)
        assert pairs_of(other) == pairs_of(one)


def test_means_are_loaded_in_parts(odd_corpus, monkeypatch):
    at_once = rated_segments(odd_corpus, averaged=True).batch(np.arange(9)).features
    monkeypatch.setattr(rated, "LOAD_SIZE", 2)
    assert torch.equal(
        rated_segments(odd_corpus, averaged=True).batch(np.arange(9)).features, at_once
    )


def test_means_fit_the_budget_as_floats(odd_corpus):
    size = len(SEGMENTS) * 4 * 9
    assert rated_segments(odd_corpus, averaged=True).bytes == size
    assert rated_segments(odd_corpus, averaged=True, resident_bytes=size).is_resident
    assert not rated_segments(odd_corpus, averaged=True, resident_bytes=size - 1).is_resident


def test_batch_stays_as_it_was_when_the_next_is_made(odd_corpus):
    for resident_bytes in (0, 1 << 20):
        segments = rated_segments(odd_corpus, resident_bytes=resident_bytes)
        batch = segments.batch(np.array([0, 3]))
        before = batch.features.clone()
        segments.batch(np.array([5, 6, 7]))
        assert torch.equal(batch.features, before)


def test_what_fits_the_budget_is_resident(odd_corpus):
    size = len(SEGMENTS) * 5 * 9
    assert rated_segments(odd_corpus).bytes == size
    assert rated_segments(odd_corpus, resident_bytes=size).is_resident
    assert not rated_segments(odd_corpus, resident_bytes=size - 1).is_resident


def test_order_of_the_labels_is_irrelevant(odd_corpus):
    labels = labels_of(odd_corpus)
    sorted_ones = rated_segments(odd_corpus)
    for seed in range(5):
        shuffled = labels.take(np.random.default_rng(seed).permutation(len(labels)))
        segments = rated_segments(odd_corpus, shuffled)
        for name in ("video", "start_s", "class_id", "score", "weight"):
            np.testing.assert_array_equal(
                getattr(segments.labels, name), getattr(sorted_ones.labels, name)
            )
        one, other = (s.batch(np.arange(9)) for s in (segments, sorted_ones))
        assert torch.equal(one.features, other.features)
        assert pairs_of(one) == pairs_of(other)


def test_labels_stand_in_the_order_of_the_segments(odd_corpus, odd_videos):
    segments = rated_segments(odd_corpus)
    batch = segments.batch(np.arange(len(segments)))
    of_pair = [SEGMENTS[k] for k in batch.pair_segment.tolist()]
    assert [odd_videos[row].id.encode() for row, _ in of_pair] == segments.labels.video.tolist()
    assert [start_s for _, start_s in of_pair] == segments.labels.start_s.tolist()
    assert batch.pair_label.tolist() == segments.labels.score.tolist()
    for first, end in ((0, 9), (0, 1), (1, 4), (8, 9), (4, 4)):
        pairs = segments.pairs_of(first, end)
        within = [k for k, s in enumerate(batch.pair_segment.tolist()) if first <= s < end]
        assert list(range(pairs.start, pairs.stop)) == within


def test_batch_of_one_process_knows_the_whole_batch(odd_corpus):
    batch = rated_segments(odd_corpus).batch(np.array([1, 2]), num_segments=64)
    assert batch.num_segments == 64
    assert len(batch.features) == 2


def test_empty_share_of_a_batch(odd_corpus):
    for resident_bytes in (0, 1 << 20):
        segments = rated_segments(odd_corpus, resident_bytes=resident_bytes)
        batch = segments.batch(np.zeros(0, np.int64), num_segments=3)
        assert batch.features.shape == (0, 5, 9)
        assert batch.mask.shape == (0, 5)
        assert pairs_of(batch) == []


def test_columns_follow_the_given_order_of_classes(odd_corpus):
    segments = rated_segments(odd_corpus, classes=ClassOrder.of([9, 100, 7]))
    batch = segments.batch(np.arange(len(segments)))
    class_ids = np.array([9, 100, 7])[batch.pair_class.numpy()]
    assert class_ids.tolist() == segments.labels.class_id.tolist()
    assert 8 not in segments.labels.class_id
    assert len(segments) == len(SEGMENTS) - 1, "the segment that is rated for class 8 alone is gone"


def test_no_rated_segment_can_be_used(odd_corpus):
    with pytest.raises(CorpusError, match="index: no rated segment of an evaluated class in the"):
        rated_segments(odd_corpus, labels_of(odd_corpus).take(np.zeros(0, np.int64)))
    with pytest.raises(CorpusError, match="no rated segment of an evaluated class"):
        rated_segments(odd_corpus, classes=ClassOrder.of([100]))


@pytest.mark.parametrize(
    ("video", "start_s"), [("nn", 15), ("nn", -5), ("k", 11), ("k", 12), ("b", 5), ("gone", 0)]
)
def test_label_of_a_segment_that_is_not_there(odd_corpus, video, start_s):
    good = labels_of(odd_corpus).take(np.array([0]))
    labels = SegmentLabels(
        np.concatenate([good.video, [video.encode()]]),
        np.append(good.start_s, start_s),
        *(np.repeat(c, 2) for c in (good.class_id, good.score, good.weight)),
    )
    with pytest.raises(
        CorpusError, match=f"index: it has no segment {video}:{start_s}; labels are"
    ):
        rated_segments(odd_corpus, labels)


def test_grid_of_another_data_set(tmp_path):
    """Segments of 2 s, 3 frames a second: the last one of 14 frames has 2."""
    dataset = DatasetSettings("x", NARROW.features, segment_s=2, frames_per_s=3)
    video = Video("a", 14, ratings=((2, 1, 1), (4, 1, 1)))
    corpus = make_small_corpus(tmp_path, ("v1", [video]), dataset=dataset)
    segments = RatedSegments(corpus, corpus.rated(np.array([0])), corpus.classes, CPU)
    batch = segments.batch(np.array([0, 1]))
    assert batch.mask.tolist() == [[True] * 6, [True] * 2 + [False] * 4]
    frames = slow_features(video)
    np.testing.assert_allclose(batch.features[0].numpy(), frames[6:12], atol=3e-7)
    np.testing.assert_allclose(batch.features[1, :2].numpy(), frames[12:], atol=3e-7)
