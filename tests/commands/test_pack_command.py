"""Features of one's own videos become a corpus: what comes out is what was put in."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commandline import run
from whenabouts.core.classes import ClassOrder
from whenabouts.core.labels import write_labels
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.records.quantize import QuantizeRange, dequantize

Capture = pytest.CaptureFixture[str]


def packed(capsys: Capture, *words: object) -> dict[str, Any]:
    found = run(capsys, "pack", *words, "--json")
    assert found.code == 0, found.err
    told: dict[str, Any] = json.loads(found.out)
    return told


def indexed(capsys: Capture, told: dict[str, Any]) -> Corpus:
    """By the command that `pack` names."""
    words = shlex.split(told["index"])
    assert words[:2] == ["whenabouts", "index"]
    assert run(capsys, *words[1:]).code == 0
    return open_corpus(words[-1])


def put(folder: Path, **videos: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in videos.items():
        np.save(folder / f"{name}.npy", frames)
    return folder


def noise(num_frames: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, width)).astype(np.float32)


def num_outside(frames: np.ndarray, low: float, high: float) -> int:
    """Values that are further than half a step from what any byte stands for."""
    ends = dequantize(np.array([0, 255], np.uint8), QuantizeRange(low, high)).astype(np.float64)
    half = (high - low) / 255 / 2
    return int(((frames < ends[0] - half) | (frames > ends[1] + half)).sum())


GOOD = noise(6)


# ---- what comes out ------------------------------------------------------------------------------


def test_a_corpus_taken_apart_and_packed_is_the_same_corpus(
    corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """Frames bit for bit, as the floats that its bytes stand for; labels; ratings; splits."""
    features, limits = tmp_path / "features", QuantizeRange(corpus.dataset.low, corpus.dataset.high)
    (features / "deep").mkdir(parents=True)
    lines = ["video,class"]
    for row, name in enumerate(corpus.video_ids.tolist()):
        frames = (dequantize(each, limits) for each in corpus.frames(row))
        lists = {f.name: each for f, each in zip(corpus.dataset.features, frames)}
        np.savez(features / ("deep" if row % 2 else "") / f"{name.decode()}.npz", **lists)
        lines += [f"{name.decode()},{label}" for label in corpus.labels.of(row).tolist()]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "dataset.json").write_text(json.dumps(to_dict(corpus.dataset)))
    ratings = corpus.rated(np.arange(len(corpus)))
    write_labels(tmp_path / "ratings.parquet", ratings)

    known = ("--labels", tmp_path / "labels.csv", "--ratings", tmp_path / "ratings.parquet")
    words = (features, "-o", tmp_path / "p", *known, "--dataset", tmp_path / "dataset.json")
    told = packed(capsys, *words)
    assert (told["videos"], told["ratings"]) == (len(corpus), len(ratings))
    assert (told["labels"], told["clipped"], told["unknown"]) == (len(lines) - 1, 0, 0)
    found = indexed(capsys, told)
    assert found.dataset == corpus.dataset
    assert found.video_ids.tolist() == sorted(corpus.video_ids.tolist())
    rows = corpus.rows_of(found.video_ids)
    assert sorted(rows.tolist()) == list(range(len(corpus)))
    for row, before in enumerate(rows.tolist()):
        for ours, theirs in zip(found.frames(row), corpus.frames(before), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for name in ("labels", "rated_start_s", "rated_class", "rated_score"):
            ours, theirs = (getattr(c, name).of(r) for c, r in ((found, row), (corpus, before)))
            np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
    assert found.classes.ids == tuple(sorted(corpus.classes.ids))
    assert len(found.rows(["v1"])) + len(found.rows(["v2"])) == len(set(ratings.video.tolist()))


def test_the_range_is_what_the_features_have(tmp_path: Path, capsys: Capture) -> None:
    """No value moves by more than half a step, and the 512th of the range that is the bias."""
    videos = {"a": 0.01 * noise(7), "b": 0.01 * noise(12, seed=1) + 3}
    told = packed(capsys, put(tmp_path / "f", **videos), "-o", tmp_path / "p")
    low = min(float(frames.min()) for frames in videos.values())
    high = max(float(frames.max()) for frames in videos.values())
    assert told["range"] == [low, high]
    assert "--test" in told["index"]
    found = indexed(capsys, told)
    assert found.video_ids.tolist() == [b"a", b"b"]
    assert found.num_frames.tolist() == [7, 12]
    assert (found.dataset.features[0].name, found.dataset.width) == ("features", 4)
    for row, frames in enumerate(videos.values()):
        seen = dequantize(found.frames(row)[0], QuantizeRange(low, high))
        assert np.abs(seen - frames).max() <= (high - low) * (0.5 / 255 + 1 / 512)


def test_other_videos_are_packed_as_the_first_were(tmp_path: Path, capsys: Capture) -> None:
    """So that its models fit; what lies outside the range is clipped and counted."""
    first = packed(capsys, put(tmp_path / "f", a=noise(9)), "-o", tmp_path / "p")
    new = noise(6, seed=1)
    new[2, :3] = 100
    words = (put(tmp_path / "g", b=new), "-o", tmp_path / "q")
    told = packed(capsys, *words, "--dataset", tmp_path / "p" / "dataset.json")
    assert told["range"] == first["range"]
    assert told["clipped"] == num_outside(new, *first["range"]) >= 3
    one, other = indexed(capsys, first), indexed(capsys, told)
    assert one.dataset == other.dataset
    assert (other.frames(0)[0][2, :3] == 255).all()


def test_bytes_stay_bytes(tmp_path: Path, capsys: Capture) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (11, 128), np.uint8)
    told = packed(capsys, put(tmp_path / "f", a=frames), "-o", tmp_path / "p")
    assert (told["range"], told["clipped"]) == ([-2, 2], 0)
    np.testing.assert_array_equal(indexed(capsys, told).frames(0)[0], frames)
    words = (tmp_path / "f", "-o", tmp_path / "q", "--dataset", "audioset")
    told = packed(capsys, *words)
    assert "--dataset" not in told["index"]
    assert indexed(capsys, told).dataset.name == "audioset"


def test_grid_and_range_of_ones_own(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "r.csv").write_text("video,start,class,score\na,2,7,1\na,4,7,0\n")
    words = (put(tmp_path / "f", a=noise(20)), "-o", tmp_path / "p", "--segment-s", 2)
    words = (*words, "--frames-per-s", 4, "--range", -1, 1, "--ratings", tmp_path / "r.csv")
    told = packed(capsys, *words)
    assert told["range"] == [-1, 1]
    assert told["clipped"] == num_outside(noise(20), -1, 1) > 10
    found = indexed(capsys, told)
    assert (found.grid.length_s, found.grid.frames_per_s) == (2, 4)
    assert found.classes == ClassOrder.of([7])
    assert found.rated_start_s.of(0).tolist() == [2, 4]
    assert found.rated_score.of(0).tolist() == [1, 0]


def test_what_counts_as_clipped(tmp_path: Path, capsys: Capture) -> None:
    """What is further than half a step from the last byte at either end."""
    ends = dequantize(np.array([0, 255], np.uint8), QuantizeRange(-1, 1))
    lowest, highest = map(float, ends)
    half = 1 / 255
    near = [lowest - 0.9 * half, highest + 0.9 * half, -1.0, 1.0]
    far = [lowest - 1.1 * half, highest + 1.1 * half, -3.0, 3.0]
    words = ("-o", tmp_path / "p", "--range", -1, 1)
    told = packed(capsys, put(tmp_path / "f", a=np.array([near, far], np.float64)), *words)
    assert told["clipped"] == 4
    assert indexed(capsys, told).frames(0)[0].tolist() == [[0, 255, 0, 255]] * 2


def test_ratings_from_the_least_class_to_the_largest(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "f", a=GOOD)
    rows = ("a,0,0,1", f"a,0,{2**31 - 1},0")
    (tmp_path / "r.csv").write_text("\n".join(("video,start,class,score", *rows)) + "\n")
    words = ("-o", tmp_path / "p", "--ratings", tmp_path / "r.csv", "--json")
    assert json.loads(run(capsys, "pack", tmp_path / "f", *words).out)["ratings"] == 2
    (tmp_path / "r.csv").write_text(f"video,start,class,score\na,0,{2**31},1\n")
    code, _, err = run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "q", *words[2:])
    assert code == 1
    assert "has class 2147483648; classes are 0 to 2147483647" in err


def test_labels_from_the_least_class_to_the_largest(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "f", a=GOOD)
    for class_id, code in ((0, 0), (2**31 - 1, 0), (2**31, 1)):
        (tmp_path / "l.csv").write_text(f"video,class\na,{class_id}\na,{class_id}\n")
        out = tmp_path / str(class_id)
        words = (tmp_path / "f", "-o", out, "--labels", tmp_path / "l.csv", "--json")
        found = run(capsys, "pack", *words)
        assert found.code == code
        if code == 0:
            assert indexed(capsys, json.loads(found.out)).labels.of(0).tolist() == [class_id]


def test_many_shards_by_several_processes(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whenabouts.corpus.packing.AT_ONCE", 3)
    put(tmp_path / "f", **{f"v{k}": noise(3 + k, seed=k) for k in range(8)})
    for name, processes in (("one", 1), ("two", 2)):
        packed(capsys, tmp_path / "f", "-o", tmp_path / name, "--processes", processes)
    one, two = (sorted((tmp_path / name / "shards").iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [f"{k:05d}.tfrecord" for k in range(3)]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_words_for_people(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "l.csv").write_text("video,class\na,3\na,5\nnobody,3\n")
    words = (put(tmp_path / "f", a=noise(9)), "-o", tmp_path / "p", "--labels", tmp_path / "l.csv")
    code, out, err = run(capsys, "pack", *words)
    assert code == 0
    assert "1 videos, 9 frames of features (4 bytes) in [" in out
    assert "2 labels, 0 ratings" in out
    assert f"next: whenabouts index {tmp_path}/p/shards --dataset {tmp_path}/p/dataset.json" in out
    assert "note: 1 labelled or rated videos have no file here, such as nobody" in err


# ---- what is refused -----------------------------------------------------------------------------

BAD = GOOD.copy()
BAD[4, 1] = np.nan


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (BAD, "b.npy: array 'features': frame 4 has a NaN or an infinity"),
        (GOOD[0], r"its shape is (4,); features are [T frames, D values], at least one of each"),
        (GOOD[:0], "its shape is (0, 4)"),
        (GOOD[:, :0], "its shape is (6, 0)"),
        (GOOD[:, :3], "b.npy: it has features (3 bytes); each video has features (4 bytes)"),
        (GOOD.astype(np.int64), "its type is int64; it is uint8 or floats"),
        (GOOD.astype(np.uint8), "b.npy: it is of another type than "),
        (
            np.array([[{}]]),
            "b.npy: it cannot be read (Array can't be memory-mapped",
        ),
    ],
)
def test_a_file_that_cannot_be_used(
    frames: np.ndarray, told: str, tmp_path: Path, capsys: Capture
) -> None:
    put(tmp_path / "f", a=GOOD, b=frames, c=GOOD)
    code, out, err = run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "p")
    assert (code, out) == (1, "")
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_lists_that_differ_by_more_than_a_second(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "f").mkdir()
    np.savez(tmp_path / "f" / "a.npz", rgb=noise(5), audio=noise(7))
    words = ("pack", tmp_path / "f", "-o", tmp_path / "p")
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "a.npz: arrays differ in frames: 'rgb' 5, 'audio' 7; lists of a video" in err
    assert run(capsys, *words, "--frames-per-s", 2).code == 0


def test_lists_that_differ_by_a_second_are_cut_to_the_shortest(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "f").mkdir()
    rgb, audio = noise(5), noise(6)
    np.savez(tmp_path / "f" / "a.npz", rgb=rgb, audio=audio)
    np.savez(tmp_path / "f" / "b.npz", rgb=rgb, audio=audio[:5])
    code, out, _ = run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "p")
    assert code == 0
    assert "2 videos, 10 frames of " in out
    assert "lists of 1 videos differed by a second at most, and were cut to the shortest\n" in out
    shards = tmp_path / "p" / "shards"
    words = (shards, "--dataset", tmp_path / "p" / "dataset.json", "-o", tmp_path / "index")
    assert run(capsys, "index", "--test", *words).code == 0
    corpus = open_corpus(tmp_path / "index")
    assert corpus.num_frames.tolist() == [5, 5]
    for one, other in zip(corpus.frames(0), corpus.frames(1)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_rubbish(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04rubbish")
    code, _, err = run(capsys, "pack", tmp_path / name, "-o", tmp_path / "p")
    assert code == 1
    assert f"{name}: it cannot be read" in err


def test_a_name_that_is_not_utf8(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "f", a=GOOD)
    (tmp_path / "f" / "a.npy").rename(tmp_path / "f" / os.fsdecode(b"b\xffd.npy"))
    code, _, err = run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "p")
    assert code == 2
    assert "cannot be the id of a video" in err


def test_ratings_are_on_the_grid_of_the_data_set_given(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "f", a=GOOD)
    assert run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "p").code == 0
    (tmp_path / "r.csv").write_text("video,start,class,score\na,3,7,1\n")
    words = ("--dataset", tmp_path / "p" / "dataset.json", "--ratings", tmp_path / "r.csv")
    code, _, err = run(capsys, "pack", tmp_path / "f", "-o", tmp_path / "q", *words)
    assert code == 1
    assert "r.csv: a rated segment of video 'a' starts at 3 s; segments start at multiples" in err
    assert not (tmp_path / "q").exists()


def test_wrong_use(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "f", a=GOOD)
    put(tmp_path / "f" / "g", a=GOOD)
    put(tmp_path / "space", **{"a b": GOOD})
    (tmp_path / "none").mkdir()
    (tmp_path / "x.txt").touch()
    (tmp_path / "r.csv").write_text("video,start,class,score\na,3,7,1\n")
    (tmp_path / "n.csv").write_text("video,start,class,score\na,-5,7,1\n")
    (tmp_path / "c.csv").write_text("video,start,class,score\na,0,-7,1\n")
    (tmp_path / "s.csv").write_text("video,start,class,score\na.npy,0,7,1\n")
    (tmp_path / "o.csv").write_text("video,class\nx,1\ny,1\n")
    (tmp_path / "l.csv").write_text("video,class\na,-1\n")
    out = ("-o", tmp_path / "p")
    for words, code, told in (
        ((tmp_path / "f", *out), 2, "a.npy has the same name; the name of a file is the id of its"),
        ((tmp_path / "space", *out), 2, "'a b' cannot be the id of a video"),
        ((tmp_path / "none", *out), 2, f"{tmp_path / 'none'}: no feature file there; a video is"),
        ((tmp_path / "gone", *out), 2, f"{tmp_path / 'gone'}: no such file or folder"),
        ((tmp_path / "x.txt", *out), 2, "x.txt: no feature file; they end in .npy or .npz"),
        ((tmp_path / "f" / "g", "-o", tmp_path / "f"), 2, "f: there is something already"),
        ((tmp_path / "f" / "g", *out, "--range", 1, 1), 2, "data set 'own': segment_s"),
        ((tmp_path / "f" / "g", *out, "--segment-s", 0), 2, "lengths and rates are at least 1"),
        ((tmp_path / "f" / "g", *out, "--dataset", "yt8m"), 1, "it has features (4 bytes)"),
        ((tmp_path / "f" / "g", *out, "--dataset", "yt8m-video"), 2, "packed are frames"),
        ((tmp_path / "f" / "g", *out, "--dataset", "yt8m", "--segment-s", 3), 2, "says all of it"),
        ((tmp_path / "f" / "g", *out, "--ratings", tmp_path / "r.csv"), 1, "starts at 3 s"),
        (
            (tmp_path / "f" / "g", *out, "--ratings", tmp_path / "n.csv"),
            1,
            "n.csv: a rated segment ",
        ),
        ((tmp_path / "f" / "g", *out, "--ratings", tmp_path / "n.csv"), 1, "starts at -5 s"),
        ((tmp_path / "f" / "g", *out, "--ratings", tmp_path / "c.csv"), 1, "has class -7"),
        (
            (tmp_path / "f" / "g", *out, "--ratings", tmp_path / "s.csv"),
            1,
            "s.csv: none of its 1 videos has a file, such as 'a.npy'; a video's id is the name of",
        ),
        ((tmp_path / "f" / "g", *out, "--labels", tmp_path / "o.csv"), 1, "o.csv: none of its 2"),
        ((tmp_path / "f" / "g", *out, "--labels", tmp_path / "g.csv"), 1, "g.csv: no such file"),
        ((tmp_path / "f" / "g", *out, "--labels", tmp_path / "l.csv"), 1, "l.csv: class -1"),
        ((tmp_path / "f" / "g", *out, "--labels", tmp_path / "x.txt"), 1, "x.txt: Empty CSV file"),
    ):
        found = run(capsys, "pack", *words)
        assert (found.code, found.out) == (code, ""), words
        assert told in found.err
    assert not (tmp_path / "p").exists()
