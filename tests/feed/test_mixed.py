"""Batches of rated and of pseudo-labelled segments."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from pseudo_world import random_labels
from whenabouts.core.errors import SettingsError
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.mixed import MixedSegments, pseudo_count
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedBatch, RatedSegments

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sets(odd_corpus: Corpus) -> tuple[RatedSegments, RatedSegments]:
    rated = odd_corpus.rated(odd_corpus.rows(["v1", "v2"]))
    pseudo = random_labels(odd_corpus, ["train", "test"])
    made = [RatedSegments(odd_corpus, each, odd_corpus.classes, CPU) for each in (rated, pseudo)]
    return made[0], made[1]


def assert_same(found: RatedBatch, expected: RatedBatch) -> None:
    for name in ("features", "mask", "pair_segment", "pair_class", "pair_label", "pair_weight"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    assert found.num_segments == expected.num_segments


@pytest.mark.parametrize(
    ("batch_size", "share", "count"),
    [(10, 0.5, 5), (10, 0.01, 1), (10, 0.99, 9), (7, 0.3, 2), (2, 0.9, 1), (1000, 0.25, 250)],
)
def test_the_share_of_a_batch(batch_size: int, share: float, count: int) -> None:
    assert pseudo_count(batch_size, share) == count


def test_a_batch_of_one_has_no_room_for_both() -> None:
    with pytest.raises(SettingsError, match=r"batch_size: the value is 1; a batch has a rated and"):
        pseudo_count(1, 0.5)


def test_each_kind_is_shuffled_by_itself(sets: tuple[RatedSegments, RatedSegments]) -> None:
    """A function of the step: batches may be asked for in any order, again and again."""
    rated, pseudo = sets
    mixed = MixedSegments(rated, pseudo, 8, 0.375, seed=4)
    order = ShuffledOrder(len(rated), 5, 4)
    for step in (3, 0, 7, 3):
        batch = mixed.batch(step)
        assert_same(batch.rated, rated.batch(order.batch(step)))
        assert batch.pseudo.num_segments == len(batch.pseudo.mask) == 3
        assert_same(batch.pseudo, MixedSegments(rated, pseudo, 8, 0.375, 4).batch(step).pseudo)
    assert mixed.num_examples == len(rated) * 8 // 5


def test_an_epoch_has_every_segment_of_its_kind(sets: tuple[RatedSegments, RatedSegments]) -> None:
    rated, pseudo = sets
    count = 2 * len(pseudo)  # batches of one pseudo-labelled segment: two epochs
    mixed = MixedSegments(rated, pseudo, 3, 0.1, seed=0)
    seen = [mixed.batch(step).pseudo.pair_label.numpy().tobytes() for step in range(count)]
    once = [pseudo.batch(np.array([k])).pair_label.numpy().tobytes() for k in range(len(pseudo))]
    assert Counter(seen[: len(pseudo)]) == Counter(seen[len(pseudo) :]) == Counter(once)
    assert seen[: len(pseudo)] != seen[len(pseudo) :]


def test_the_two_orders_are_not_one(sets: tuple[RatedSegments, RatedSegments]) -> None:
    """The same segments as both kinds come at different times."""
    _, segments = sets
    batch = MixedSegments(segments, segments, 20, 0.5, seed=2).batch(0)
    assert not torch.equal(batch.rated.features, batch.pseudo.features)


def test_another_seed_is_another_order_of_both_kinds(
    sets: tuple[RatedSegments, RatedSegments],
) -> None:
    one, other = (MixedSegments(*sets, 8, 0.5, seed).batch(0) for seed in (1, 2))
    assert not torch.equal(one.rated.features, other.rated.features)
    assert not torch.equal(one.pseudo.features, other.pseudo.features)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_have_shares_of_both(
    size: int, sets: tuple[RatedSegments, RatedSegments]
) -> None:
    """Also where a process has no segment of one kind."""
    mixed = MixedSegments(*sets, 6, 0.2, seed=1)
    whole = mixed.batch(2)
    parts = [mixed.batch(2, rank, size) for rank in range(size)]
    assert len(parts[-1].pseudo.mask) == 0
    for kind in ("rated", "pseudo"):
        of_whole = getattr(whole, kind)
        for rank, part in enumerate(getattr(part, kind) for part in parts):
            assert part.num_segments == of_whole.num_segments
            torch.testing.assert_close(part.features, of_whole.features[rank::size])
        assert sum(len(getattr(p, kind).pair_label) for p in parts) == len(of_whole.pair_label)


def test_resident_or_streamed_is_the_same(
    odd_corpus: Corpus, sets: tuple[RatedSegments, RatedSegments]
) -> None:
    rated, pseudo = sets
    streamed = RatedSegments(odd_corpus, pseudo.labels, odd_corpus.classes, CPU, resident_bytes=0)
    assert pseudo.is_resident
    assert not streamed.is_resident
    for step in range(4):
        one = MixedSegments(rated, pseudo, 9, 0.6, 3).batch(step)
        other = MixedSegments(rated, streamed, 9, 0.6, 3).batch(step)
        assert_same(one.pseudo, other.pseudo)
