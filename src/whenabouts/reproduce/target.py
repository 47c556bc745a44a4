"""What is scored, and where Scores and numbers lie in the folder of the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.ensemble.fusion import PUBLISHED
from whenabouts.reproduce.cost import Size

V2 = "v2"
VIDEO = "video"  # the Scores of the video classifier
EXPONENTS = tuple((int(e.video), int(e.segment)) for e in PUBLISHED)


@dataclass(frozen=True)
class Target:
    """Splits of an index. name: of the folder of its Scores; length: of the lists that are
    evaluated and submitted."""

    name: str
    index: Path
    splits: tuple[str, ...]
    size: Size
    length: ListLength = OF_CHALLENGE

    @property
    def may_be_cut(self) -> bool:
        """Whether its lists may not hold all of its segments: shards that are not indexed yet are
        known by their bytes, and in part not by their split."""
        return self.length.may_cut(self.size.most_segments(self.splits))

    @property
    def is_v2(self) -> bool:
        return self.name == V2


def scores(target: Target, name: str) -> Path:
    return Path("scores", target.name, name)


def numbers(name: str) -> Path:
    """What `evaluate` finds of Scores of V2."""
    return Path("numbers", name)
