"""K, how many segments a class's list may hold: a number, or a share of the segments there are.

The 3rd YouTube-8M challenge took 100,000 of the 2.06 M segments of its test set, 4.85 %. Which of
the segments reach the list is part of its metric. A corpus with fewer than 100,000 segments lists
them all, and its mAP is of their order alone; the same share of them keeps both parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from whenabouts.core.errors import UsageError

K = 100_000


@dataclass(frozen=True)
class ListLength:
    """text: as it was given, for commands and tables; one of entries and share is None."""

    text: str
    entries: int | None = None
    share: Decimal | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What commands are told, who take K by themselves."""
        return () if self == OF_CHALLENGE else ("--k", self.text)

    def may_cut(self, num_segments: int) -> bool:
        """Whether a list may not hold all segments, of which there are about so many."""
        if self.share is not None:
            return self.share < 1
        return self.of(num_segments) < num_segments

    def of(self, num_segments: int) -> int:
        """K where so many segments are ranked; at least 1."""
        if self.entries is not None:
            return self.entries
        assert self.share is not None
        return max(1, round(self.share * num_segments))


LONGEST = ListLength("100%", share=Decimal(1))
OF_CHALLENGE = ListLength(str(K), entries=K)


def list_length(text: str, name: str = "--k") -> ListLength:
    """Of '100000' or '4.85%'. Raises UsageError, naming the argument, where it is neither."""
    found = re.fullmatch(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%", text.strip())
    entries = int(found[1]) if found and found[1] else None
    share = Decimal(found[2]) / 100 if found and found[2] else None
    if not (entries or (share and share <= 1)):
        raise UsageError(
            f"'{text}' is no length of a list",
            where=name,
            rule="a number of segments from 1 up, or a share of them up to 100%",
            remedy="write a share as 4.85%",
        )
    return ListLength(text.strip(), entries, share)
