"""Video-level shards through the commands: `index`, and `evaluate` of Scores of whole videos."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from commandline import run
from corpus_writer import VECTORS, make_small_corpus, vector_record, write_shard
from whenabouts.core.classes import ClassOrder
from whenabouts.core.scores import ScoresWriter, open_scores
from whenabouts.core.segments import WHOLE_VIDEO, SegmentTable
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.metrics.video import evaluate_videos

Capture = pytest.CaptureFixture[str]
SHARDS = Path(__file__).parents[2].parent / "shared" / "data" / "yt8m-video"
WIDE = {"mean_rgb": np.linspace(-2, 2, 1024), "mean_audio": np.linspace(0, 1, 128)}

# video: (split, labels); one has no label, and class 99 is not scored.
VIDEOS = {
    "b": ("v2", (3, 7)),
    "a": ("v2", (7,)),
    "e": ("v2", ()),
    "d": ("v1", (11,)),
    "c": ("v2", (11, 99)),
    "f": ("v1", (3,)),
}
CLASSES = ClassOrder.of([7, 3, 11], {7: "Dog"})


# ---- index ---------------------------------------------------------------------------------------


def test_video_level_shards_are_recognised(tmp_path: Path, capsys: Capture) -> None:
    for name, ids in (("a", "pqr"), ("b", "s")):
        write_shard(tmp_path / f"{name}.tfrecord", [vector_record(i, **WIDE) for i in ids])
    out = tmp_path / "video.index"
    words = ("--train", tmp_path / "a.tfrecord", "--v2", tmp_path / "b.tfrecord", "-o", out)
    code, told, _ = run(capsys, "index", *words, "--json", "--processes", 1)
    assert code == 0
    result = json.loads(told)
    assert result["dataset"] == "yt8m-video"
    assert result["videos"] == {"train": 3, "v1": 0, "v2": 1, "test": 0}
    assert (result["frames"], result["rated_pairs"], result["left_out"]) == (4, 0, 0)
    by_name = ("--dataset", "yt8m-video", "-o", tmp_path / "named.index", "--processes", 1)
    assert run(capsys, "index", tmp_path, *by_name).code == 0
    assert open_corpus(tmp_path / "named.index").dataset == open_corpus(out).dataset


@pytest.mark.skipif(not SHARDS.is_dir(), reason="the real shards do not lie beside the project")
def test_real_shards(tmp_path: Path, capsys: Capture) -> None:
    """Two shards, cut by the hash of the id, so that a part can be held out."""
    shards = sorted(SHARDS.glob("*.tfrecord"))[:2]
    words = ("--validate", *shards, "-o", tmp_path / "video.index", "--processes", 1)
    code, told, _ = run(capsys, "index", *words, "--json")
    assert code == 0
    result = json.loads(told)
    videos = result["videos"]
    assert result["dataset"] == "yt8m-video"
    assert result["left_out"] == videos["train"] == videos["test"] == 0
    assert videos["v1"] + videos["v2"] == result["frames"] == 589
    assert abs(videos["v1"] - videos["v2"]) < 96, "four standard deviations"


def test_segment_models_refuse_a_video_level_corpus(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    records = [vector_record("a")]
    corpus = make_small_corpus(tmp_path, ("v1", records), dataset=VECTORS, classes=CLASSES)
    code, _, err = run(capsys, "train", "f-logi", corpus.path, "-o", tmp_path / "run")
    assert code == 1
    assert "data set 'vectors' has one vector a video, and so no segments" in err
    code, _, err = run(capsys, "predict", trained, corpus.path, "-o", tmp_path / "scores")
    assert code == 1
    assert "the corpus has features mean_rgb (6 floats), mean_audio (3 floats)" in err


# ---- evaluate ------------------------------------------------------------------------------------


@pytest.fixture
def vectors(tmp_path: Path) -> Corpus:
    shards = {
        split: [vector_record(v, labels) for v, (s, labels) in VIDEOS.items() if s == split]
        for split in ("v1", "v2")
    }
    return make_small_corpus(tmp_path, *shards.items(), dataset=VECTORS)


def write_scores(path: Path, table: SegmentTable, **made_by: object) -> np.ndarray:
    values = np.random.default_rng(5).random((len(table), 3), np.float32)
    writer = ScoresWriter(path, table, CLASSES)
    writer.write(0, values)
    writer.commit(made_by)
    return values


def of_videos(*names: str) -> SegmentTable:
    return SegmentTable.of_videos(np.array([name.encode() for name in names]))


def test_scores_of_videos_against_the_metrics_themselves(
    vectors: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """In another order than the corpus, with a video it does not have."""
    names = ("f", "c", "x", "a", "e", "b", "d")
    values = write_scores(tmp_path / "scores", of_videos(*names))
    for splits in (("v2",), ("v1",), ("v1", "v2")):
        kept = [k for k, n in enumerate(names) if n in VIDEOS and VIDEOS[n][0] in splits]
        kept = [k for k in kept if VIDEOS[names[k]][1]]
        labels = [VIDEOS[names[k]][1] for k in kept]
        offsets = np.cumsum([0, *map(len, labels)])
        expected = evaluate_videos(np.concatenate(labels), offsets, CLASSES, values[kept])
        words = ("evaluate", tmp_path / "scores", vectors.path, "--splits", *splits)
        code, told, err = run(capsys, *words, "--json")
        assert (code, err) == (0, "")
        assert json.loads(told) == {"videos": expected.to_dict()}
        assert expected.num_videos == len(kept) > 0
        assert run(capsys, *words).out == (
            f"videos: GAP@20 {expected.gap:.4f}, mAP {expected.mean_ap:.4f}, "
            f"Hit@1 {expected.hit_at_one:.4f}, PERR {expected.perr:.4f} over {len(kept)} videos\n"
        )


def test_scores_of_videos_of_a_frame_level_corpus(
    corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """Rated segments of the split are no concern of a row that is a whole video."""
    rows = corpus.rows(["v2"])
    table = SegmentTable.of_videos(corpus.video_ids[rows])
    writer = ScoresWriter(tmp_path / "scores", table, corpus.video_classes)
    values = np.random.default_rng(5).random((len(rows), len(corpus.video_classes)), np.float32)
    writer.write(0, values)
    writer.commit({"trained_on": ["v2"]})
    code, told, err = run(capsys, "evaluate", tmp_path / "scores", corpus.path, "--json")
    labels = corpus.labels.take(rows)
    expected = evaluate_videos(labels.values, labels.offsets, corpus.video_classes, values)
    assert (code, json.loads(told)) == (0, {"videos": expected.to_dict()})
    assert err == "note: the model was trained on v2: these numbers flatter it\n"


def test_rows_in_any_order_of_the_ids(vectors: Corpus, tmp_path: Path, capsys: Capture) -> None:
    """As another tool may write the table: the rows are c, a, b."""
    table = SegmentTable(np.array([b"a", b"b", b"c"]), np.array([2, 0, 1]), np.full(3, WHOLE_VIDEO))
    values = write_scores(tmp_path / "turned", table)
    labels = [VIDEOS[name][1] for name in "cab"]
    expected = evaluate_videos(np.concatenate(labels), np.array([0, 2, 3, 5]), CLASSES, values)
    told = run(capsys, "evaluate", tmp_path / "turned", vectors.path, "--json").out
    assert json.loads(told) == {"videos": expected.to_dict()}


def test_files(vectors: Corpus, tmp_path: Path, capsys: Capture) -> None:
    write_scores(tmp_path / "scores", of_videos("a", "b", "c"))
    words = ("evaluate", tmp_path / "scores", vectors.path, "--out", tmp_path / "numbers", "--json")
    told = json.loads(run(capsys, *words).out)
    assert json.loads((tmp_path / "numbers/evaluation.json").read_text()) == told
    with (tmp_path / "numbers/classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["Index"], r["Name"], r["Positives"]) for r in rows] == [
        ("7", "Dog", "2"),
        ("3", "", "1"),
        ("11", "", "1"),
    ]
    mean_ap = np.mean([float(r["AP"]) for r in rows])
    assert mean_ap == pytest.approx(told["videos"]["mean_ap"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "no labels given; pass INDEX: it holds those of the videos"),
        (("index", "--truth", "t.csv"), 2, "--truth holds rated segments, and these Scores are of"),
        (("index", "--splits", "train"), 2, "no scored video in splits train has labels; choose"),
        (("index", "--splits", "v3"), 2, "no split 'v3'"),
    ],
)
def test_wrong_use(
    vectors: Corpus, tmp_path: Path, capsys: Capture, words: tuple[str, ...], code: int, told: str
) -> None:
    write_scores(tmp_path / "scores", of_videos("a", "b"))
    words = tuple(str(vectors.path) if word == "index" else word for word in words)
    outcome = run(capsys, "evaluate", tmp_path / "scores", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert told in outcome.err


@pytest.mark.parametrize(
    ("video", "starts_s", "told"),
    [
        ([0, 1, 1], [-1, 0, -1], "row 1 is a segment, and others are whole videos"),
        ([0, 1, 0], [-1, -1, -1], "segment a:-1 stands in row 0 and in row 2"),
    ],
)
def test_rows_that_are_no_videos(
    vectors: Corpus,
    tmp_path: Path,
    capsys: Capture,
    video: list[int],
    starts_s: list[int],
    told: str,
) -> None:
    table = SegmentTable(np.array([b"a", b"b"]), np.array(video), np.array(starts_s))
    write_scores(tmp_path / "scores", table)
    code, _, err = run(capsys, "evaluate", tmp_path / "scores", vectors.path)
    assert code == 1
    assert told in err


def test_videos_that_the_index_does_not_have(
    vectors: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    write_scores(tmp_path / "scores", of_videos("x", "y"))
    code, _, err = run(capsys, "evaluate", tmp_path / "scores", vectors.path)
    assert code == 1
    assert "it has none of the videos that were scored" in err


def test_what_is_made_of_segments_refuses_videos(
    corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    videos = corpus.video_ids[corpus.rows(["v2"])]
    write_scores(tmp_path / "scores", SegmentTable.of_videos(videos))
    assert (open_scores(tmp_path / "scores").segments.starts_s == WHOLE_VIDEO).all()
    code, _, err = run(capsys, "submit", tmp_path / "scores", "-o", tmp_path / "s.csv")
    assert code == 1
    assert f"{tmp_path / 'scores'}: scores of whole videos; a submission lists segments" in err
