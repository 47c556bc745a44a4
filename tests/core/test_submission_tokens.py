import random
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whenabouts.core import submission_tokens
from whenabouts.core.submission_tokens import (
    fault,
    find_tokens,
    first_malformed,
    first_repeat,
    split_tokens,
)

FORMS = [
    (b"a:0", ""),
    (b":::9", ""),
    (b"\xff\x00:1234567", ""),
    (b"x" * 1016 + b":1234567", ""),
    (b"x" * 1017 + b":1234567", "it is longer than 1024 bytes"),
    (b"a", "it has no colon"),
    (b"12345678", "it has no colon"),
    (b":5", "it has no video id"),
    (b"a:", "its start is no whole number"),
    (b"a:b:", "its start is no whole number"),
    (b"a:-5", "its start is no whole number"),
    (b"a:5.0", "its start is no whole number"),
    (b"a:5\r", "its start is no whole number"),
    (b"a:\xb2", "its start is no whole number"),
    (b"a:12345678", "its start has more than 7 digits"),
    (b"a:05", "its start is not written plainly"),
    (b"a:00", "its start is not written plainly"),
    (b"ab:0000000", "its start is not written plainly"),
]
tokens_like = st.text(alphabet=":059/a\r\x00\x7f;é", min_size=1, max_size=20).map(str.encode)
BAD_HASHES = {
    "all equal": lambda hashes, words: np.zeros_like(hashes),
    "four values": lambda hashes, words: (hashes ^ words) & np.uint64(3) << np.uint64(62),
    "first byte": lambda hashes, words: words << np.uint64(56),
}


@pytest.fixture(params=["good", *BAD_HASHES])
def any_hash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "good":
        monkeypatch.setattr(submission_tokens, "mix", BAD_HASHES[request.param])


@pytest.mark.parametrize(("token", "what"), FORMS)
def test_what_a_token_is(token: bytes, what: str) -> None:
    assert fault(token) == what
    # The same of many at once, wherever the token stands.
    for before, after in ((b"", b""), (b"a:0 ", b" b:5"), (b"abc:1234567 ", b" 1:1")):
        place = before.count(b" ")
        assert first_malformed(split_tokens(before + token + after)) == (place if what else None)


@given(st.lists(tokens_like, max_size=8))
@example([b"a:0", b":0"])
@example([b"b:1234567", b"12345678"])
def test_many_at_once_finds_what_the_definition_finds(tokens: list[bytes]) -> None:
    wrong = [i for i, token in enumerate(tokens) if fault(token)]
    assert first_malformed(split_tokens(b" ".join(tokens))) == (wrong[0] if wrong else None)


@pytest.mark.parametrize("place", [0, 8191, 8192, 19_999])
def test_one_malformed_token_in_many(place: int) -> None:
    tokens = [b"v:%d" % i for i in range(20_000)]
    tokens[place] = b"v"
    assert first_malformed(split_tokens(b" ".join(tokens))) == place


@pytest.mark.parametrize(
    "field", [b"", b" ", b"a:0", b"a:0 b:5", b" a:0  b:5 ", b"   ", b"a:0 " * 3 + b"longer:0"]
)
def test_split_is_that_of_bytes(field: bytes) -> None:
    tokens = split_tokens(field)
    words = [w for w in field.split(b" ") if w]
    assert list(tokens) == words
    assert [tokens.token(i) for i in range(len(tokens))] == words


@given(st.lists(st.binary(max_size=30).map(lambda b: re.sub(rb" ", b"_", b) or b"_"), min_size=1))
def test_equal_tokens_have_equal_hashes_wherever_they_stand(words: list[bytes]) -> None:
    here = split_tokens(b" ".join(words))
    there = split_tokens(b" ".join([b"other:0", *reversed(words)]))
    assert here.hashes.tolist() == there.hashes[:0:-1].tolist()


def test_hashes_tell_tokens_apart() -> None:
    ids = [b"", b"x", b"abcdefgh", b"abcdefgi", b"abcdefgh" * 5, b"bbcdefgh" + b"abcdefgh" * 4]
    tokens = split_tokens(b" ".join(i + b"%d:%d" % n for i in ids for n in np.ndindex(50, 60)))
    assert len(set(tokens.hashes.tolist())) == len(tokens) == 18_000
    # The table by which `find_tokens` passes tokens: few of them share one of its 2**18 places.
    assert len(set(submission_tokens._slots(tokens).tolist())) > 16_500
    assert len({hash for n in range(1, 34) for hash in _hashes_of_two_that_end_apart(n)}) == 66


def _hashes_of_two_that_end_apart(length: int) -> list[int]:
    stem = b"x" * (length - 1)
    return split_tokens(stem + b"0 " + stem + b"1").hashes.tolist()


@pytest.mark.usefixtures("any_hash")
@pytest.mark.parametrize("seed", range(5))
def test_repeats_whatever_the_hash(seed: int) -> None:
    rng = random.Random(seed)
    tokens = [b"%b:%d" % (v, s) for v in (b"a", b"b:0", b"q" * 40) for s in range(30)]
    rng.shuffle(tokens)
    assert first_repeat(split_tokens(b" ".join(tokens))) is None
    first, again = sorted(rng.sample(range(len(tokens)), 2))
    tokens[again] = tokens[first]
    assert first_repeat(split_tokens(b" ".join(tokens))) == (first, again)


def test_the_repeat_that_ends_first_is_named() -> None:
    assert first_repeat(split_tokens(b"a:0 b:0 c:0 c:0 b:0 a:0 a:0")) == (2, 3)
    assert first_repeat(split_tokens(b"")) is None


def test_tokens_that_differ_in_a_zero_byte_are_two() -> None:
    tokens = split_tokens(b"a:5 a\x00:5 \x00a:5 a:5\x00 a:5\x00\x00")
    assert first_repeat(tokens) is None
    assert len(set(tokens.hashes.tolist())) == 5


@pytest.mark.usefixtures("any_hash")
@pytest.mark.parametrize("seed", range(5))
def test_found_tokens_whatever_the_hash(seed: int) -> None:
    rng = random.Random(seed)
    every = [b"%b:%d" % (v, s) for v in (b"a", b"b:0", b"q" * 40) for s in range(30)]
    listed, wanted = rng.sample(every, 60), rng.sample(every, 40)
    found = find_tokens(split_tokens(b" ".join(listed)), {w: i for i, w in enumerate(wanted)})
    expected = [(p, wanted.index(t)) for p, t in enumerate(listed) if t in wanted]
    assert list(found) == expected
    assert len(expected) > 10


def test_nothing_is_found_in_nothing() -> None:
    assert list(find_tokens(split_tokens(b"a:0 b:5"), {})) == []
    assert list(find_tokens(split_tokens(b""), {b"a:0": 1})) == []
    # A wanted id that no file can hold is found nowhere.
    assert list(find_tokens(split_tokens(b"a b:5"), {b"a b:5": 1})) == []
    # 0 is a value like any other.
    assert list(find_tokens(split_tokens(b"a:0"), {b"a:0": 0})) == [(0, 0)]
