"""Files as their publishers wrote them, compared with what the protobuf library reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import protobuf_oracle as oracle
from whenabouts.records.examples import frames_of, parse_example, parse_sequence_example
from whenabouts.records.framing import Span, open_shard, scan_records
from whenabouts.records.reading import read_examples, read_sequence_examples
from whenabouts.records.writing import encode_sequence_example

SHARED = Path(__file__).parents[2].parent / "shared"
AT_MOST = 40  # records of a file that the oracle is asked about

pytestmark = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the real data does not lie beside the project"
)


def shards(pattern: str) -> list[Path]:
    return sorted((SHARED / "data").glob(pattern))


@pytest.fixture(scope="module")
def montage(tmp_path_factory):
    """Shards of made videos out of real features: 3 to train on, 4 with rated segments."""
    out = tmp_path_factory.mktemp("montage")
    tool, pool = SHARED / "tools/make_montage.py", SHARED / "data/montage/pool.npz"
    sizes = ["--train", "3", "--validate", "4"]
    subprocess.run([sys.executable, tool, pool, out, *sizes], check=True, capture_output=True)
    return out


def assert_as_protobuf_reads_it(path: Path) -> None:
    """Ids, labels and all other context, and every byte of every frame."""
    shard = open_shard(path)
    spans = list(scan_records(shard))
    assert all(isinstance(span, Span) for span in spans)
    for span in spans[:AT_MOST]:
        context, lists = oracle.read_sequence_example(payload_of(shard, span))
        found = parse_sequence_example(shard, span.offset, span.length)
        assert oracle.as_feature_values(found.context) == context
        assert set(found.lists) == set(lists)
        for key, frames in found.lists.items():
            assert frames.offsets is None
            rows = [row.tobytes() for row in frames_of(shard, frames)]
            assert [("bytes_list", (row,)) for row in rows] == lists[key]


def payload_of(shard: np.ndarray, span: Span) -> bytes:
    return shard[span.offset : span.offset + span.length].tobytes()


def test_audioset_segments():
    counts, ids, frames = {"train": 0, "validate": 0}, set(), 0
    for path in shards("audioset/*.tfrecord"):
        assert_as_protobuf_reads_it(path)
        for video in read_sequence_examples(path):
            counts[path.stem.rstrip("0123456789")] += 1
            ids.add(video.context["id"][0])
            assert video.lists["audio"].width == 128
            frames += video.lists["audio"].count
    assert counts == {"train": 26885, "validate": 7799}
    assert len(ids) == 26885 + 7799
    assert frames > 300_000


@pytest.mark.parametrize("path", shards("audioset-original/*"), ids=lambda p: p.name)
def test_audioset_as_published(path):
    assert_as_protobuf_reads_it(path)
    for video in read_sequence_examples(path):
        assert set(video.context) == {
            "video_id",
            "labels",
            "start_time_seconds",
            "end_time_seconds",
        }
        assert video.lists["audio_embedding"].width == 128


@pytest.mark.parametrize(("name", "count"), [("0_out", 184), ("1_out", 141)])
def test_frames_of_the_youtube_8m_extractor(name, count):
    path = SHARED / f"data/yt8m-frame/{name}.tfrecord"
    assert_as_protobuf_reads_it(path)
    [video] = read_sequence_examples(path)
    assert {key: (f.count, f.width) for key, f in video.lists.items()} == {
        "rgb": (count, 1024),
        "audio": (count, 128),
    }


def test_youtube_8m_videos():
    ids = []
    for path in shards("yt8m-video/*"):
        shard = open_shard(path)
        for k, (span, video) in enumerate(zip(scan_records(shard), read_examples(path))):
            ids += video["id"]
            assert (len(video["mean_rgb"]), len(video["mean_audio"])) == (1024, 128)
            if k < 10:
                again = parse_example(shard, span.offset, span.length)
                expected = oracle.read_example(payload_of(shard, span))
                assert oracle.as_feature_values(again) == expected
                assert oracle.as_feature_values(video) == expected
    assert len(ids) == len(set(ids)) == 5889


def test_montage(montage):
    paths = sorted(montage.glob("*/*.tfrecord"))
    assert [p.name for p in paths] == ["train0000.tfrecord", "v10000.tfrecord", "v20000.tfrecord"]
    for path in paths:
        assert_as_protobuf_reads_it(path)
    for video in read_sequence_examples(paths[1]):
        times = video.context["segment_start_times"]
        assert len(times) == len(video.context["segment_scores"]) > 0
        np.testing.assert_array_equal(video.context["segment_end_times"], times + 5)
        assert video.lists["rgb"].count == video.lists["audio"].count


def test_reencoding_gives_the_published_bytes(montage):
    from_montage = montage / "validate" / "v10000.tfrecord"
    for path in (from_montage, SHARED / "data/audioset/validate0000.tfrecord"):
        shard = open_shard(path)
        for span in list(scan_records(shard))[:AT_MOST]:
            video = parse_sequence_example(shard, span.offset, span.length)
            lists = {key: frames_of(shard, f) for key, f in video.lists.items()}
            payload = encode_sequence_example(video.context, lists)
            assert payload == payload_of(shard, span)
