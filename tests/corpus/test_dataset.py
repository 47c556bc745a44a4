from __future__ import annotations

import json
from dataclasses import replace

import pytest

from whenabouts.core.errors import SettingsError
from whenabouts.core.segments import SegmentGrid
from whenabouts.core.settings import to_dict
from whenabouts.corpus.dataset import (
    PRESETS,
    DatasetSettings,
    FeatureList,
    dataset_settings,
    detect_preset,
    listing,
)

YT8M, AUDIOSET = PRESETS["yt8m"], PRESETS["audioset"]


def test_presets_are_the_published_formats():
    assert [(f.name, f.width) for f in YT8M.features] == [("rgb", 1024), ("audio", 128)]
    assert YT8M.width == 1152
    assert [(f.keys, f.width) for f in AUDIOSET.features] == [(("audio", "audio_embedding"), 128)]
    videos = PRESETS["yt8m-video"]
    assert [(f.name, f.width) for f in videos.features] == [("mean_rgb", 1024), ("mean_audio", 128)]
    assert [(p.dtype, p.is_video_level) for p in (YT8M, AUDIOSET, videos)] == [
        ("uint8", False),
        ("uint8", False),
        ("float32", True),
    ]
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.grid == SegmentGrid(length_s=5, frames_per_s=1)
        assert (preset.low, preset.high) == (-2, 2)
        assert preset.id_keys == ("id", "video_id")


def test_width_and_grid_follow_the_settings():
    lists = (FeatureList("a", 3), FeatureList("b", 4))
    dataset = DatasetSettings("x", lists, segment_s=3, frames_per_s=2)
    assert dataset.width == 7
    assert dataset.grid == SegmentGrid(length_s=3, frames_per_s=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "'yt8m': no feature list, or one of width 0"),
        ({"features": (FeatureList("a", 4), FeatureList("b", 0))}, "one of width 0"),
        ({"features": (FeatureList("a", 4), FeatureList("a", 5))}, "two feature lists of one name"),
        (
            {"features": (FeatureList("a", 4), FeatureList("b", 5, dtype="float32"))},
            r"'yt8m': feature lists of two types: a \(4 bytes\), b \(5 floats\); all are uint8 ",
        ),
        ({"segment_s": 0}, "'yt8m': segment_s 0, frames_per_s 1, .*at least 1 and low < high"),
        ({"frames_per_s": 0}, "frames_per_s 0"),
        ({"low": 2.0}, r"range \[2.0, 2.0\]"),
        ({"low": float("-inf")}, "both finite"),
        ({"high": float("inf")}, "both finite"),
        ({"high": float("nan")}, "both finite"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(SettingsError, match=message):
        replace(YT8M, **changes)


def test_smallest_settings_that_make_sense():
    changes = {"features": (FeatureList("a", 1),), "segment_s": 1, "low": 1.0, "high": 1.5}
    assert replace(YT8M, **changes).width == 1


def test_preset_by_name():
    assert dataset_settings("audioset") is AUDIOSET


def test_settings_in_a_file(tmp_path):
    path = tmp_path / "x.json"
    lists = (FeatureList("a", 3, ("other",), "float32"), FeatureList("b", 4, dtype="float32"))
    dataset = DatasetSettings("x", lists, ("key",), -1, 1, 3, 2)
    path.write_text(json.dumps(to_dict(dataset)))
    assert dataset_settings(str(path)) == dataset
    path.write_text('{"name": "x", "features": [{"name": "a", "width": 3}]}')
    assert dataset_settings(str(path)) == DatasetSettings("x", (FeatureList("a", 3),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"x\.json: no JSON: "),
        ("\xff", r"x\.json: no JSON: "),
        ("[]", r"x\.json: no JSON object"),
        ('{"name": "x"}', r"x\.json: no features"),
        ('{"name": "x", "features": [{"name": "a", "width": "3"}]}', r"features\[0\].width: .*int"),
        (
            '{"name": "x", "features": [{"name": "a", "width": 3, "dtype": "float16"}]}',
            r"features\[0\].dtype: the value is 'float16'; it must be one of 'uint8', 'float32'",
        ),
        ('{"name": "x", "features": [], "lo": 1}', "no setting 'lo'; did you mean 'low'"),
        ('{"name": "x", "features": []}', "data set 'x': no feature list"),
    ],
)
def test_file_that_does_not_fit(tmp_path, text, message):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=message):
        dataset_settings(str(tmp_path / "x.json"))


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(SettingsError, match=r"no data set 'yt8n'.*\.json file.*mean 'yt8m'"):
        dataset_settings("yt8n")


@pytest.mark.parametrize(
    ("widths", "name"),
    [
        ({"rgb": 1024, "audio": 128}, "yt8m"),
        ({"audio": 128, "inc3": 5, "rgb": 1024}, "yt8m"),
        ({"audio_embedding": 128}, "audioset"),
        ({"audio": 128}, "audioset"),
        ({"audio": 128, "rgb": 2048}, "audioset"),
        ({"rgb": 1024, "audio": 129}, None),
        ({"rgb": 1024}, None),
        ({"mean_rgb": 1024, "mean_audio": 128}, None),
        ({}, None),
    ],
)
def test_preset_that_fits_lists_of_bytes(widths, name):
    preset = detect_preset([FeatureList(*each) for each in widths.items()])
    assert (preset and preset.name) == name


@pytest.mark.parametrize(
    ("widths", "name"),
    [
        ({"mean_rgb": 1024, "mean_audio": 128}, "yt8m-video"),
        ({"mean_audio": 128, "other": 3, "mean_rgb": 1024}, "yt8m-video"),
        ({"mean_rgb": 1024}, None),
        ({"mean_rgb": 1024, "mean_audio": 127}, None),
        ({"audio": 128}, None),
    ],
)
def test_preset_that_fits_floats(widths, name):
    preset = detect_preset([FeatureList(k, n, dtype="float32") for k, n in widths.items()])
    assert (preset and preset.name) == name


def test_listing_for_people():
    lists = (FeatureList("a", 3), FeatureList("b", 4, dtype="float32"))
    assert listing(lists) == "a (3 bytes), b (4 floats)"
    assert listing(()) == "none"
