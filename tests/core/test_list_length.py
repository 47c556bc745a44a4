"""K as a number or as a share of the segments."""

from __future__ import annotations

import re

import pytest

from whenabouts.core.errors import UsageError
from whenabouts.core.list_length import LONGEST, OF_CHALLENGE, K, list_length


@pytest.mark.parametrize(
    ("text", "num_segments", "expected"),
    [
        ("100000", 7, 100_000),
        ("1", 7, 1),
        (" 20 ", 7, 20),
        ("4.85%", 27_817, 1_349),
        ("4.85%", 2_060_000, 99_910),
        ("50 %", 7, 4),  # 3.5, to the even number
        ("50%", 5, 2),
        ("0.001%", 10, 1),
        ("100%", 27_817, 27_817),
        ("100%", 0, 1),
    ],
)
def test_entries(text: str, num_segments: int, expected: int) -> None:
    assert list_length(text).of(num_segments) == expected


def test_what_may_be_cut() -> None:
    assert list_length("20").may_cut(21)
    assert not list_length("20").may_cut(20)
    for num_segments in (0, 1, 10**9):
        assert list_length("99%").may_cut(num_segments), "how many there are is known but roughly"
        assert not LONGEST.may_cut(num_segments)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e5", "100,000", "0%", "0.0%", "100.1%", "%", "5%%", "٣", "5.%", "k"]
)
def test_what_is_no_length(text: str) -> None:
    told = f"--many: '{text}' is no length of a list; a number of segments from 1 up, or a share"
    with pytest.raises(UsageError, match=re.escape(told)):
        list_length(text, "--many")


def test_what_commands_are_told() -> None:
    assert list_length(str(K)) == OF_CHALLENGE
    assert OF_CHALLENGE.words == ()
    assert list_length("4.85%").words == ("--k", "4.85%")
    assert LONGEST.words == ("--k", "100%")
    assert list_length("100%") == LONGEST
