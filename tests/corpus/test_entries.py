from __future__ import annotations

import numpy as np
import pytest

from corpus_writer import NARROW
from whenabouts.core.errors import RecordError
from whenabouts.corpus.dataset import PRESETS, DatasetSettings, FeatureList
from whenabouts.corpus.entries import ListPlace, build_entry
from whenabouts.records.examples import FrameList, SequenceExample

RGB, AUDIO = FrameList(7, 6, 100, 10), FrameList(7, 3, 300, 9)
EMPTY = FrameList(0, 0, 0, 0)
RATED = {
    "segment_start_times": np.array([0, 5]),
    "segment_end_times": np.array([5, 10]),
    "segment_labels": np.array([3, 4]),
    "segment_scores": np.array([1, 0], np.float32),
}


def record(lists: dict[str, FrameList] | None = None, **context: object) -> SequenceExample:
    lists = {"audio": AUDIO, "rgb": RGB} if lists is None else lists
    return SequenceExample({"id": (b"v",), **context}, lists)


def test_entry_of_a_record():
    entry = build_entry(record(labels=np.array([9, 3])), NARROW, "train")
    assert (entry.video_id, entry.split, entry.labels) == ("v", "train", [3, 9])
    assert entry.places == [ListPlace(100, 10, 7), ListPlace(300, 9, 7)], "in the data set's order"
    assert entry.rated is None
    assert entry.num_frames == 7
    assert not entry.is_uneven


# ---- the id ----


@pytest.mark.parametrize(
    ("context", "video_id"),
    [
        ({"id": (b"a",), "video_id": (b"b",)}, "a"),
        ({"video_id": (b"b",)}, "b"),
        ({"id": (), "video_id": (b"b",)}, "b"),
        ({"id": (b"",), "video_id": (b"b",)}, "b"),
        ({"id": (b"x", b"y"), "video_id": (b"b",)}, "b"),
        ({"id": np.array([7]), "video_id": (b"b",)}, "b"),
        ({"id": (b"x" * 256,), "video_id": (b"b",)}, "b"),
        ({"id": (b"x" * 255,)}, "x" * 255),
        ({"id": (b"x",)}, "x"),
        ({"id": ("ö €".encode(),)}, "ö €"),
    ],
)
def test_id_stands_under_id_or_video_id(context, video_id):
    entry = build_entry(SequenceExample(context, record().lists), NARROW, "v1")
    assert entry.video_id == video_id


@pytest.mark.parametrize(
    "context", [{}, {"id": ()}, {"id": (b"",)}, {"id": (b"x" * 256,)}, {"other": (b"a",)}]
)
def test_record_without_an_id(context):
    with pytest.raises(RecordError, match=r"^fields id, video_id: no id of 1 to 255 bytes$"):
        build_entry(SequenceExample(context, record().lists), NARROW, "v1")


def test_ids_under_the_keys_of_the_data_set():
    dataset = DatasetSettings("x", NARROW.features, id_keys=("key",))
    assert build_entry(record(key=(b"k",)), dataset, "v1").video_id == "k"
    with pytest.raises(RecordError, match="fields key: no id"):
        build_entry(record(), dataset, "v1")


@pytest.mark.parametrize(
    ("value", "message"), [(b"\xff", "the id is not UTF-8"), (b"a\0", "the id has a NUL byte")]
)
def test_id_that_is_no_text(value, message):
    with pytest.raises(RecordError, match=f"field 'id': {message}"):
        build_entry(record(id=(value,)), NARROW, "v1")


# ---- the feature lists ----


def test_audioset_names():
    found = FrameList(10, 128, 0, 140)
    entry = build_entry(record({"audio_embedding": found}), PRESETS["audioset"], "train")
    assert entry.places == [ListPlace(0, 140, 10)]
    named = FrameList(9, 128, 0, 140)
    both = record({"audio_embedding": found, "audio": named})
    assert build_entry(both, PRESETS["audioset"], "train").places == [ListPlace(0, 140, 9)]


def test_missing_list_is_named():
    with pytest.raises(RecordError, match=r"^feature list 'audio': it is missing"):
        build_entry(record({"rgb": RGB}), NARROW, "v1")


@pytest.mark.parametrize("width", [5, 7])
def test_list_of_another_width_is_named(width):
    lists = {"rgb": FrameList(7, width, 0, 10), "audio": AUDIO}
    with pytest.raises(RecordError, match=f"'rgb': frames have {width} bytes, not 6"):
        build_entry(record(lists), NARROW, "v1")


def test_video_without_frames():
    with pytest.raises(RecordError, match=r"^video 'v': it has no frames"):
        build_entry(record({"rgb": EMPTY, "audio": AUDIO}), NARROW, "v1")


@pytest.mark.parametrize("audio", [FrameList(6, 3, 0, 9), FrameList(8, 3, 0, 9), EMPTY])
def test_lists_of_different_length_are_kept(audio):
    entry = build_entry(record({"rgb": RGB, "audio": audio}), NARROW, "v1")
    assert entry.num_frames == 7, "the first list counts"
    assert entry.is_uneven
    assert [place.num_frames for place in entry.places] == [7, audio.count]


def test_list_that_is_not_evenly_spaced_has_no_stride():
    uneven = FrameList(3, 3, 300, 0, np.array([300, 311, 320]))
    entry = build_entry(record({"rgb": RGB, "audio": uneven}), NARROW, "v1")
    assert entry.places[1] == ListPlace(300, 0, 3)


def test_one_frame_is_enough():
    one = FrameList(1, 6, 0, 6)
    entry = build_entry(record({"rgb": one}), DatasetSettings("x", (FeatureList("rgb", 6),)), "v1")
    assert entry.num_frames == 1


# ---- labels ----


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (None, []),
        ((), []),
        ((b"3",), []),
        (np.array([3.0], np.float32), []),
        (np.array([], np.int64), []),
        (np.array([9, 0, 9, -1, 2**31 - 1, 2**31, 4]), [0, 4, 9, 2**31 - 1]),
    ],
)
def test_labels_rise_and_stand_once(value, labels):
    context = {} if value is None else {"labels": value}
    assert build_entry(record(**context), NARROW, "v1").labels == labels


# ---- ratings ----


def test_rated_segments_decide_the_split():
    entry = build_entry(record(**RATED), NARROW, "auto")
    assert entry.split in ("v1", "v2")
    assert [a.tolist() for a in entry.rated] == [[0, 5], [5, 10], [3, 4], [1, 0]]
    assert build_entry(record(), NARROW, "auto").split == "train"


def test_v1_and_v2_follow_the_id():
    splits = {i: build_entry(record(id=(i,)), NARROW, "validate").split for i in (b"a", b"xxxx")}
    assert splits == {b"a": "v2", b"xxxx": "v1"}


@pytest.mark.parametrize("empty", [np.zeros(0, np.int64), np.zeros(0, np.float32), ()])
def test_empty_rating_fields_are_no_ratings(empty):
    entry = build_entry(record(**dict.fromkeys(RATED, empty)), NARROW, "auto")
    assert entry.rated is None
    assert entry.split == "train"


@pytest.mark.parametrize("name", RATED)
def test_rating_fields_of_different_length(name):
    lengths = ", ".join(f"{field} {1 if field == name else 2}" for field in RATED)
    with pytest.raises(RecordError, match=f"video 'v': parallel lists .*: {lengths}"):
        build_entry(record(**{**RATED, name: RATED[name][:1]}), NARROW, "v1")
    missing = {k: v for k, v in RATED.items() if k != name}
    with pytest.raises(RecordError, match=f"{name} 0"):
        build_entry(record(**missing), NARROW, "v1")


@pytest.mark.parametrize("name", list(RATED)[:3])
def test_rating_fields_that_are_no_integers(name):
    floats = RATED[name].astype(np.float32)
    with pytest.raises(RecordError, match="video 'v': segment times and classes are no integers"):
        build_entry(record(**{**RATED, name: floats}), NARROW, "v1")


def test_scores_may_be_integers():
    entry = build_entry(record(**{**RATED, "segment_scores": np.array([1, 0])}), NARROW, "v1")
    assert entry.rated[3].tolist() == [1, 0]
