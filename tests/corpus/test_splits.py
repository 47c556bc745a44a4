from __future__ import annotations

import pytest

from whenabouts.corpus.splits import ROLES, SPLITS, half_of, split_of

# Ids and the last byte of their BLAKE2b with 8 bytes, odd or even: a video must never move.
HALVES = {
    b"a": "v2",
    b"b": "v2",
    b"c": "v2",
    b"-0yOcBkyBQs": "v1",
    b"xxxx": "v1",
    "ö".encode(): "v1",
}


@pytest.mark.parametrize(("video_id", "half"), HALVES.items())
def test_golden_halves(video_id, half):
    assert half_of(video_id) == half


def test_halves_are_about_equal():
    halves = [half_of(b"video%d" % k) for k in range(2000)]
    assert 900 < halves.count("v1") < 1100
    assert set(halves) == {"v1", "v2"}


@pytest.mark.parametrize("is_rated", [True, False])
@pytest.mark.parametrize("video_id", HALVES)
def test_split_follows_from_the_role(video_id, is_rated):
    for split in SPLITS:
        assert split_of(split, video_id, is_rated=is_rated) == split
    assert split_of("validate", video_id, is_rated=is_rated) == HALVES[video_id]
    expected = HALVES[video_id] if is_rated else "train"
    assert split_of("auto", video_id, is_rated=is_rated) == expected


def test_names_and_their_order():
    assert SPLITS == ("train", "v1", "v2", "test")
    assert ROLES == ("train", "v1", "v2", "test", "validate", "auto")
