from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.feed.order import ShuffledOrder


def stream(order: ShuffledOrder, num_steps: int) -> list[int]:
    return np.concatenate([order.batch(step) for step in range(num_steps)]).tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 2**40))
def test_each_epoch_is_a_permutation(num_examples, batch_size, seed):
    order = ShuffledOrder(num_examples, batch_size, seed)
    num_steps = -(-3 * num_examples // batch_size)
    seen = stream(order, num_steps)
    assert len(seen) == num_steps * batch_size
    for epoch in range(3):
        one = seen[epoch * num_examples : (epoch + 1) * num_examples]
        assert sorted(one) == list(range(num_examples))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 12), st.lists(st.integers(0, 40), min_size=1))
def test_batch_depends_on_seed_and_step_alone(num_examples, batch_size, steps):
    used = ShuffledOrder(num_examples, batch_size, 5)
    for step in steps:
        fresh = ShuffledOrder(num_examples, batch_size, 5)
        assert used.batch(step).tolist() == fresh.batch(step).tolist()


def test_batches_are_cut_from_one_stream_whatever_their_size():
    whole = stream(ShuffledOrder(7, 84, 3), 1)
    for batch_size in (1, 2, 3, 7, 12):
        assert stream(ShuffledOrder(7, batch_size, 3), 84 // batch_size) == whole


def test_epochs_differ_and_seeds_differ():
    seen = {
        tuple(ShuffledOrder(50, 50, seed).batch(epoch).tolist())
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(seen) == 25


def test_golden_order():
    """A stored run goes on with the same examples in another version."""
    order = ShuffledOrder(6, 4, 7)
    assert [order.batch(step).tolist() for step in range(4)] == GOLDEN
    assert order.batch(0).dtype == np.int64


GOLDEN = [[5, 2, 0, 4], [1, 3, 3, 0], [2, 1, 4, 5], [2, 3, 0, 5]]


def test_epochs_seen():
    order = ShuffledOrder(8, 4, 0)
    assert [order.epoch(step) for step in (0, 1, 2, 7)] == [0, 0.5, 1, 3.5]


def test_permutation_is_made_once_an_epoch(monkeypatch):
    made = []
    default_rng = np.random.default_rng

    def counted(seed: list[int]) -> np.random.Generator:
        made.append(seed)
        return default_rng(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    order = ShuffledOrder(10, 3, 5)
    for step in range(10):
        order.batch(step)
    assert made == [[5, 0], [5, 1], [5, 2]]
    assert len(order._kept) <= 2, "memory does not grow with the epochs"


@pytest.mark.parametrize(("num_examples", "batch_size"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_nothing_to_order(num_examples, batch_size):
    with pytest.raises(AssertionError):
        ShuffledOrder(num_examples, batch_size, 0)


def test_one_example():
    assert ShuffledOrder(1, 3, 0).batch(2).tolist() == [0, 0, 0]


def test_two_epochs_at_most_are_kept_and_the_last_one_is_not_drawn_again():
    order = ShuffledOrder(7, 3, 0)
    kept = []
    for step in range(60):
        order.batch(step)
        kept.append(sorted(order._kept))
    last = [(step * 3 + 2) // 7 for step in range(60)]
    assert [max(epochs) for epochs in kept] == last
    assert all(epochs in ([end - 1, end], [end]) for epochs, end in zip(kept, last))
    order.batch(0)
    assert sorted(order._kept) == [0], "an earlier one begins anew"
