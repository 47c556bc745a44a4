"""What is scored, and where Scores and numbers lie in the folder of the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whenabouts.ensemble.fusion import PUBLISHED
from whenabouts.reproduce.cost import Size

V2 = "v2"
VIDEO = "video"  # the Scores of the video classifier
EXPONENTS = tuple((int(e.video), int(e.segment)) for e in PUBLISHED)


@dataclass(frozen=True)
class Target:
    """Splits of an index. name: of the folder of its Scores."""

    name: str
    index: Path
    splits: tuple[str, ...]
    size: Size

    @property
    def is_v2(self) -> bool:
        return self.name == V2


def scores(target: Target, name: str) -> Path:
    return Path("scores", target.name, name)


def numbers(name: str) -> Path:
    """What `evaluate` finds of Scores of V2."""
    return Path("numbers", name)
