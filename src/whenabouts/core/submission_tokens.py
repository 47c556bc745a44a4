"""Tokens of a submission, `videoid:start`, many at once and not cut apart.

A list of 100,000 tokens is a megabyte of bytes. Cutting it into Python strings takes longer than
all that must be known of it: are the tokens well formed, does one stand twice, where are the few
hundred that are rated. Here tokens are read as 64-bit integers, 8 bytes at a time, and hashed;
whatever a hash suggests is then decided by the bytes, so that no collision changes a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_TOKEN_BYTES = 1024
MAX_DIGITS = 7
TOKENS_AT_ONCE = 8192  # so that what is worked out about them stays in the processor's cache
SPACE, COLON, ZERO = b" :0"
# Bytes that the id of a video cannot have: blanks, controls, and what CSV makes something of.
NOT_IN_IDS = frozenset((*range(33), 127, *b',"'))
WORD = 8


@dataclass(frozen=True)
class TokenList:
    """Tokens of one row, not cut apart: token i is text[starts[i]:ends[i]].

    8 bytes stand before the first token and after the last, so that 8 bytes can be read there.
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def token(self, i: int) -> bytes:
        return self.text[self.starts[i] : self.ends[i]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        text = self.text.tobytes()
        return (text[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist()))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """A number for each token: equal tokens have equal numbers; the reverse is only likely."""
        lengths = self.ends - self.starts
        hashes = mix(lengths.astype(np.uint64), self._words_at(self.starts, lengths))
        longer = np.flatnonzero(lengths > WORD)
        read = WORD
        while len(longer):
            words = self._words_at(self.starts[longer] + read, lengths[longer] - read)
            hashes[longer] = mix(hashes[longer], words)
            read += WORD
            longer = longer[lengths[longer] > read]
        return hashes

    def words_before(self, ends: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The 8 bytes before each end as an integer whose lowest byte is the last."""
        return self._words(">u8")[ends - WORD].astype(np.uint64)

    def _words_at(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """The 8 bytes at each start as an integer, zero past `lengths` bytes."""
        return self._words("<u8")[starts] & FIRST_BYTES.take(lengths, mode="clip")

    def _words(self, order: str) -> NDArray[np.uint64]:
        """View of the 8 bytes at every place of the text."""
        return np.ndarray((len(self.text) - WORD + 1,), order, self.text, strides=(1,))


FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(WORD + 1)], np.uint64)


def mix(hashes: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Fold one more word into each hash; the high bits of the result depend on all of the word."""
    mixed = (hashes ^ words) * np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
    return mixed ^ (mixed >> np.uint64(32))


def split_tokens(field: bytes) -> TokenList:
    """The tokens between the spaces of `field`, in order."""
    text = np.frombuffer(b"".join((bytes(WORD), field, b" ", bytes(WORD))), np.uint8)
    ends = np.flatnonzero(text == SPACE)
    starts = np.empty_like(ends)
    starts[0] = WORD
    starts[1:] = ends[:-1] + 1
    if (starts == ends).any():
        full = starts < ends
        starts, ends = starts[full], ends[full]
    return TokenList(text, starts, ends)


def fault(token: bytes) -> str:
    """What is wrong with one token ("" if nothing): the definition of a token."""
    video, colon, start = token.rpartition(b":")
    if len(token) > MAX_TOKEN_BYTES:
        return f"it is longer than {MAX_TOKEN_BYTES} bytes"
    if not colon:
        return "it has no colon"
    if not video:
        return "it has no video id"
    if not re.fullmatch(rb"[0-9]+", start):
        return "its start is no whole number"
    if len(start) > MAX_DIGITS:
        return f"its start has more than {MAX_DIGITS} digits"
    return "its start is not written plainly" if start != b"%d" % int(start) else ""


def first_malformed(tokens: TokenList) -> int | None:
    """The first token in which `fault` finds one."""
    for first in range(0, len(tokens), TOKENS_AT_ONCE):
        wrong = _malformed(tokens, slice(first, first + TOKENS_AT_ONCE))
        if wrong.any():
            return first + int(wrong.argmax())
    return None


def _malformed(tokens: TokenList, part: slice) -> NDArray[np.bool_]:
    """`fault` of many tokens at once: is there one?

    The last 8 bytes of each token are one integer whose lowest byte is the last. The lowest byte
    that is no digit must be a colon, inside the token, after a video id and before 1 to 7 digits.
    """
    lengths = tokens.ends[part] - tokens.starts[part]
    last = tokens.words_before(tokens.ends[part])
    digits = last ^ EACH * np.uint64(ZERO)  # 0..9 where the byte is a digit
    others = (((digits & EACH * np.uint64(0x7F)) + EACH * np.uint64(0x76)) | digits) & TOPS
    colon = (others & (~others + np.uint64(1))) >> np.uint64(7)  # 1 in the byte of the colon
    wrong: NDArray[np.bool_] = last & (colon * np.uint64(0xFF)) != colon * np.uint64(COLON)
    wrong |= (colon <= 1) | (colon > FURTHEST_COLON.take(lengths, mode="clip"))
    first_digit = colon >> np.uint64(8)
    led_by_zero = last & (first_digit * np.uint64(0xFF)) == first_digit * np.uint64(ZERO)
    wrong |= (led_by_zero & (first_digit > 1)) | (lengths > MAX_TOKEN_BYTES)
    return wrong


EACH = np.uint64(0x0101010101010101)
TOPS = np.uint64(0x8080808080808080)
# By the length of a token: 1 in the furthest byte from its end that may be the colon (0: none).
FURTHEST_COLON = np.array([0, 0] + [1 << 8 * (n - 2) for n in range(2, WORD + 2)], np.uint64)


def first_repeat(tokens: TokenList) -> tuple[int, int] | None:
    """(place of the first, place of the second) of the first token that stands twice.

    Only tokens whose hashes are equal are compared, but those byte by byte.
    """
    in_order = np.sort(tokens.hashes)
    shared = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(shared):
        return None
    place_of: dict[bytes, int] = {}
    for i in np.flatnonzero(np.isin(tokens.hashes, shared)).tolist():
        first = place_of.setdefault(tokens.token(i), i)
        if first != i:
            return first, i
    return None


def find_tokens(tokens: TokenList, wanted: dict[bytes, int]) -> Iterator[tuple[int, int]]:
    """Yield (place in the list, value) of each of the `wanted` tokens that the list holds.

    A table of hashes passes all that are wanted and few others; the bytes decide.
    """
    table = np.zeros(1 << TABLE_BITS, bool)
    table[_slots(split_tokens(b" ".join(wanted)))] = True
    for place in np.flatnonzero(table[_slots(tokens)]).tolist():
        value = wanted.get(tokens.token(place))
        if value is not None:
            yield place, value


TABLE_BITS = 18


def _slots(tokens: TokenList) -> NDArray[np.int64]:
    return (tokens.hashes >> np.uint64(64 - TABLE_BITS)).view(np.int64)
