"""Which preset a data set is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus_writer import Video, flip_bit, payload, record_of, write_shard
from whenabouts.core.errors import CorpusError, SettingsError
from whenabouts.corpus import detect
from whenabouts.corpus.dataset import PRESETS
from whenabouts.corpus.detect import detect_dataset
from whenabouts.records.writing import encode_example, encode_sequence_example

YT8M, YT8M_VIDEO = PRESETS["yt8m"], PRESETS["yt8m-video"]
FRAMES = payload(Video("a", 2), YT8M)
WITHOUT_FRAMES = payload(Video("b", 0, ratings=((0, 7, 1.0),)), YT8M)
WITHOUT_LISTS = record_of(Video("c", ratings=((0, 7, 1.0),)), {})


def example(**features: object) -> bytes:
    return encode_example({"id": b"v", "labels": [1], **features})


VECTORS = example(mean_audio=np.zeros(128), mean_rgb=np.zeros(1024))


def detected(folder: Path, *records: bytes):
    return detect_dataset([str(write_shard(folder / "s.tfrecord", records))])


@pytest.mark.parametrize(
    "before", [[], [b"\xff"], [b""], [WITHOUT_FRAMES, WITHOUT_LISTS], [example(other=[0.5])]]
)
def test_first_record_with_features_decides(tmp_path, before):
    assert detected(tmp_path, *before, FRAMES, VECTORS) is YT8M
    assert detected(tmp_path, *before, VECTORS, FRAMES) is YT8M_VIDEO


def test_bytes_are_looked_at_before_the_floats_of_a_record(tmp_path):
    context = {"mean_rgb": np.zeros(1024), "mean_audio": np.zeros(128)}
    audio = {"audio": np.zeros((2, 128), np.uint8)}
    assert detected(tmp_path, encode_sequence_example(context, audio)).name == "audioset"


def test_damaged_shard_is_passed_over(tmp_path):
    damaged = write_shard(tmp_path / "a.tfrecord", [VECTORS])
    flip_bit(damaged, 30)
    whole = write_shard(tmp_path / "b.tfrecord", [FRAMES])
    assert detect_dataset([str(damaged), str(whole)]) is YT8M


@pytest.mark.parametrize(
    ("record", "listing"),
    [
        (payload(Video("a")), r"rgb \(6 bytes\), audio \(3 bytes\)"),
        (example(mean_rgb=np.zeros(8)), r"mean_rgb \(8 floats\)"),
        (example(x=[0.5], y=[0.5, 1.0]), r"x \(1 floats\), y \(2 floats\)"),
    ],
)
def test_record_that_no_preset_fits_is_described(tmp_path, record, listing):
    message = (
        rf"^{tmp_path}/s.tfrecord: the first record has the feature lists {listing}; "
        r"the presets are yt8m, audioset, yt8m-video; .*--dataset FILE.json"
    )
    with pytest.raises(SettingsError, match=message):
        detected(tmp_path, record)


@pytest.mark.parametrize(
    "records", [[], [b"\xff"], [example()], [example(x=np.zeros(0))], [payload(Video("a", 0))]]
)
def test_no_features_at_all(tmp_path, records):
    message = r"s.tfrecord: no readable record with frames; .*SequenceExample or of Example"
    with pytest.raises(CorpusError, match=message):
        detected(tmp_path, *records)


def test_search_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "LOOKED_AT", 3)
    unknown = example(x=[0.5])
    assert detected(tmp_path, unknown, unknown, FRAMES) is YT8M
    with pytest.raises(SettingsError, match=r"x \(1 floats\)"):
        detected(tmp_path, unknown, unknown, unknown, FRAMES)


def test_lists_of_another_type_are_not_those_of_a_preset(tmp_path):
    """mean_rgb as bytes and rgb as floats."""
    frames = {f.name: np.zeros((1, f.width), np.uint8) for f in YT8M_VIDEO.features}
    with pytest.raises(SettingsError, match=r"mean_rgb \(1024 bytes\)"):
        detected(tmp_path, encode_sequence_example({"id": b"a"}, frames))
    floats = {f.name: np.zeros(f.width) for f in YT8M.features}
    with pytest.raises(SettingsError, match=r"rgb \(1024 floats\)"):
        detected(tmp_path, example(**floats))
