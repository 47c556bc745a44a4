"""What a data set's records look like: feature lists, their widths and ranges, the segment grid."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from whenabouts.core.errors import SettingsError, suggest
from whenabouts.core.segments import SegmentGrid
from whenabouts.core.settings import from_dict


@dataclass(frozen=True)
class FeatureList:
    """One feature list: `width` bytes a frame under the key `name` (or one of `aliases`)."""

    name: str
    width: int
    aliases: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class DatasetSettings:
    """Settings of a data set; a frame's feature vector is its feature lists side by side.

    low, high: the range that bytes 0..255 stand for. segment_s: length of a segment in seconds.
    """

    name: str
    features: tuple[FeatureList, ...]
    id_keys: tuple[str, ...] = ("id", "video_id")
    low: float = -2.0
    high: float = 2.0
    segment_s: int = 5
    frames_per_s: int = 1

    def __post_init__(self) -> None:
        if not self.features or min(f.width for f in self.features) < 1:
            raise SettingsError(
                "no feature list, or one of width 0",
                where=f"data set '{self.name}'",
                rule="a data set has feature lists of at least one byte a frame",
            )
        if len({f.name for f in self.features}) < len(self.features):
            raise SettingsError("two feature lists of one name", where=f"data set '{self.name}'")
        if self.segment_s < 1 or self.frames_per_s < 1 or not -inf < self.low < self.high < inf:
            raise SettingsError(
                f"segment_s {self.segment_s}, frames_per_s {self.frames_per_s}, "
                f"range [{self.low}, {self.high}]",
                where=f"data set '{self.name}'",
                rule="lengths and rates are at least 1 and low < high, both finite",
            )

    @property
    def width(self) -> int:
        """Features (bytes) of a frame, over all lists."""
        return sum(f.width for f in self.features)

    @property
    def grid(self) -> SegmentGrid:
        return SegmentGrid(self.segment_s, self.frames_per_s)


PRESETS = {
    "yt8m": DatasetSettings("yt8m", (FeatureList("rgb", 1024), FeatureList("audio", 128))),
    "audioset": DatasetSettings("audioset", (FeatureList("audio", 128, ("audio_embedding",)),)),
}


def dataset_settings(name: str) -> DatasetSettings:
    """The preset of that name, or the settings in the JSON file at that path."""
    if name in PRESETS:
        return PRESETS[name]
    if Path(name).suffix == ".json":
        return from_dict(DatasetSettings, _read_json(Path(name)), name)
    raise SettingsError(
        f"no data set '{name}'",
        rule="a data set is a preset or a .json file of its settings",
        remedy=suggest(name, PRESETS),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"no JSON: {error}", where=path) from error
    if not isinstance(values, dict):
        raise SettingsError("no JSON object", where=path, rule="its keys are names of settings")
    return values


def detect_preset(widths: dict[str, int], where: object) -> DatasetSettings:
    """The preset that fits a record with feature lists of these names and widths."""
    for preset in PRESETS.values():
        if all(_has(feature, widths) for feature in preset.features):
            return preset
    raise SettingsError(
        f"the first record has the feature lists {_listing(widths.items())}",
        where=where,
        rule=f"the presets are {', '.join(PRESETS)}",
        remedy="describe the data set in a JSON file and pass it with --dataset FILE.json",
    )


def _has(feature: FeatureList, widths: dict[str, int]) -> bool:
    return any(widths.get(key) == feature.width for key in feature.keys)


def _listing(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({width} bytes)" for name, width in pairs) or "none"
