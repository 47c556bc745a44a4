"""What a data set's records look like: feature lists, their widths and ranges, the segment grid.

Features are bytes (uint8: frame-level records, a `SequenceExample` with a list of frames) or floats
(float32: video-level records, an `Example` with one vector a video, as its only frame).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

from whenabouts.core.errors import SettingsError, suggest
from whenabouts.core.segments import SegmentGrid
from whenabouts.core.settings import from_dict

FeatureType = Literal["uint8", "float32"]


@dataclass(frozen=True)
class FeatureList:
    """One feature list: `width` values a frame under the key `name` (or one of `aliases`)."""

    name: str
    width: int
    aliases: tuple[str, ...] = ()
    dtype: FeatureType = "uint8"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class DatasetSettings:
    """Settings of a data set; a frame's feature vector is its feature lists side by side.

    low, high: the range that bytes 0..255 stand for; floats are taken as they are. segment_s:
    length of a segment in seconds.
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
                rule="a data set has feature lists of at least one value a frame",
            )
        if len({f.dtype for f in self.features}) > 1:
            raise SettingsError(
                f"feature lists of two types: {listing(self.features)}",
                where=f"data set '{self.name}'",
                rule="all are uint8 (frame-level records) or all are float32 (video-level records)",
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
        """Values of a frame, over all lists."""
        return sum(f.width for f in self.features)

    @property
    def dtype(self) -> FeatureType:
        return self.features[0].dtype

    @property
    def is_video_level(self) -> bool:
        """True where a record holds one vector of floats for its whole video."""
        return self.dtype == "float32"

    @property
    def grid(self) -> SegmentGrid:
        return SegmentGrid(self.segment_s, self.frames_per_s)


PRESETS = {
    "yt8m": DatasetSettings("yt8m", (FeatureList("rgb", 1024), FeatureList("audio", 128))),
    "audioset": DatasetSettings("audioset", (FeatureList("audio", 128, ("audio_embedding",)),)),
    "yt8m-video": DatasetSettings(
        "yt8m-video",
        (
            FeatureList("mean_rgb", 1024, dtype="float32"),
            FeatureList("mean_audio", 128, dtype="float32"),
        ),
    ),
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


def detect_preset(found: Iterable[FeatureList]) -> DatasetSettings | None:
    """The first preset all of whose feature lists are among those of a record; None if none is."""
    keys = {(f.name, f.width, f.dtype) for f in found}
    for preset in PRESETS.values():
        if all(any((k, f.width, f.dtype) in keys for k in f.keys) for f in preset.features):
            return preset
    return None


def listing(features: Iterable[FeatureList]) -> str:
    """For people: each list by name, with its width and type."""
    return ", ".join(f"{f.name} ({f.width} {TYPE_NAMES[f.dtype]})" for f in features) or "none"


TYPE_NAMES: dict[FeatureType, str] = {"uint8": "bytes", "float32": "floats"}
