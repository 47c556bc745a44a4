"""`whenabouts evaluate`: Scores and submission files against the same truth; videos; refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commandline import run
from small_corpus import index_small
from whenabouts.core.scores import open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble.rated_pairs import first_half
from whenabouts.metrics.segment_map import evaluate_scores
from whenabouts.metrics.video import evaluate_videos

Capture = pytest.CaptureFixture[str]


def evaluated(capsys: Capture, *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "evaluate", *words, "--json")
    assert code == 0
    return json.loads(out)


@pytest.fixture
def submission(scored: Path, tmp_path: Path, capsys: Capture) -> Path:
    out = tmp_path / "submission.csv"
    assert run(capsys, "submit", scored, "-o", out).code == 0
    return out


def write_truth(path: Path, corpus: Corpus, splits: list) -> Path:
    truth = corpus.rated(corpus.rows(splits))
    columns = (truth.video, truth.start_s, truth.class_id, truth.score)
    with path.open("w", newline="") as file:
        csv.writer(file).writerow(("video", "start", "class", "score"))
        csv.writer(file).writerows((v.decode(), *rest) for v, *rest in zip(*columns))
    return path


# ---- numbers -------------------------------------------------------------------------------------


def test_scores_against_the_metrics_themselves(
    scored: Path, corpus: Corpus, capsys: Capture
) -> None:
    scores = open_scores(scored)
    rows = corpus.rows(["v2"])
    truth = corpus.rated(rows)
    segments = evaluate_scores(truth, scores.segments, scores.classes, scores.values)
    best = np.stack(
        [
            scores.values[scores.segments.video == corpus_row].max(axis=0)
            for corpus_row in scores.segments.videos_of(corpus.video_ids[rows])
        ]
    )
    labels = corpus.labels.take(rows)
    videos = evaluate_videos(labels.values, labels.offsets, scores.classes, best)
    result = evaluated(capsys, scored, corpus.path)
    assert result == {"segments": segments.to_dict(), "videos": videos.to_dict()}
    assert 0.6 < result["segments"]["mean_ap"] <= 1
    assert result["videos"]["num_videos"] == 12


def test_the_same_from_a_submission_file(
    scored: Path, submission: Path, corpus: Corpus, capsys: Capture
) -> None:
    for splits in (["v2"], ["v1"], ["v1", "v2"]):
        words = (corpus.path, "--splits", *splits)
        of_scores = evaluated(capsys, scored, *words)
        of_file = evaluated(capsys, submission, *words)
        assert of_file == {"segments": of_scores["segments"]}
    whole = evaluated(capsys, submission, corpus.path, "--splits", "v1", "v2")["segments"]
    parts = [
        evaluated(capsys, submission, corpus.path, "--splits", split)["segments"]
        for split in ("v1", "v2")
    ]
    assert whole["num_rated"] == sum(part["num_rated"] for part in parts)


def test_the_same_with_the_truth_from_a_file(
    scored: Path, submission: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    truth = write_truth(tmp_path / "truth.csv", corpus, ["v2"])
    expected = evaluated(capsys, scored, corpus.path)["segments"]
    for target in (scored, submission):
        assert evaluated(capsys, target, "--truth", truth) == {"segments": expected}


def test_a_truth_file_comes_before_the_index(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    truth = write_truth(tmp_path / "truth.csv", corpus, ["v1"])
    result = evaluated(capsys, scored, corpus.path, "--truth", truth, "--splits", "v2")
    expected = evaluated(capsys, scored, corpus.path, "--splits", "v1")
    assert result["segments"] == expected["segments"]
    assert result["videos"] != expected["videos"]


def test_k_cuts_the_lists(scored: Path, submission: Path, corpus: Corpus, capsys: Capture) -> None:
    whole = evaluated(capsys, scored, corpus.path)["segments"]
    for target in (scored, submission):
        cut = evaluated(capsys, target, corpus.path, "--k", 20)["segments"]
        assert cut["k"] == 20
        assert 0 < cut["num_listed"] < whole["num_listed"]
        assert cut["num_positives"] == whole["num_positives"]
        assert cut["mean_ap"] < whole["mean_ap"]


# ---- what is told --------------------------------------------------------------------------------


def test_the_result_in_words(scored: Path, corpus: Corpus, capsys: Capture) -> None:
    result = evaluated(capsys, scored, corpus.path)
    segments, videos = result["segments"], result["videos"]
    code, out, err = run(capsys, "evaluate", scored, corpus.path)
    assert (code, err) == (0, "")
    assert out == (
        f"mAP@100000: {segments['mean_ap']:.4f} over 4 classes, {segments['num_rated']} rated "
        f"pairs ({segments['num_positives']} positive)\n"
        f"videos: GAP@20 {videos['gap']:.4f}, mAP {videos['mean_ap']:.4f}, "
        f"Hit@1 {videos['hit_at_one']:.4f}, PERR {videos['perr']:.4f} over 12 videos\n"
    )


def test_halves_are_those_of_the_searches(
    scored: Path, submission: Path, corpus: Corpus, capsys: Capture
) -> None:
    scores, truth = open_scores(scored), corpus.rated(corpus.rows(["v2"]))
    in_first = first_half(truth.video)
    assert 0 < in_first.sum() < len(truth)
    parts = [truth.take(in_first), truth.take(~in_first)]
    of_parts = [
        evaluate_scores(part, scores.segments, scores.classes, scores.values) for part in parts
    ]
    first, second = (part.to_dict()["mean_ap"] for part in of_parts)
    plain = evaluated(capsys, scored, corpus.path)
    assert "mean_ap_of_halves" not in plain["segments"]
    for target in (scored, submission):
        told = evaluated(capsys, target, corpus.path, "--halves")["segments"]
        assert told == {**plain["segments"], "mean_ap_of_halves": [first, second]}
    lines = run(capsys, "evaluate", scored, corpus.path, "--halves").out.splitlines()
    assert lines[1] == f"halves of the videos: mAP {first:.4f} and {second:.4f}"
    assert [lines[0], lines[2]] == run(capsys, "evaluate", scored, corpus.path).out.splitlines()


def test_a_half_without_a_positive(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    ids = corpus.video_ids[corpus.rows(["v2"])]
    of_first = ids[first_half(ids)][0].decode()
    truth = tmp_path / "truth.csv"
    truth.write_text(f"video,start,class,score\n{of_first},0,{corpus.classes.ids[0]},1.0\n")
    words = (scored, "--truth", truth, "--halves")
    assert evaluated(capsys, *words)["segments"]["mean_ap_of_halves"] == [1.0, None]
    assert (
        "halves of the videos: mAP 1.0000 and no positives" in run(capsys, "evaluate", *words).out
    )


def test_a_note_where_the_model_has_seen_the_split(
    scored: Path, submission: Path, corpus: Corpus, capsys: Capture
) -> None:
    note = "note: the model was trained on v1: these numbers flatter it\n"
    for splits, expected in ((["v1"], note), (["v1", "v2"], note), (["v2"], "")):
        words = "evaluate", scored, corpus.path, "--splits", *splits
        assert run(capsys, *words).err == expected
    assert run(capsys, "evaluate", submission, corpus.path, "--splits", "v1").err == ""


def test_files(scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "deep" / "numbers"
    result = evaluated(capsys, scored, corpus.path, "--out", out)
    assert json.loads((out / "evaluation.json").read_text()) == {"k": "100000", **result}
    with (out / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["Index"]) for row in rows] == list(corpus.classes.ids)
    assert [row["Name"] for row in rows] == list(corpus.classes.names)
    mean_ap = sum(float(row["AP"]) for row in rows) / len(rows)
    assert mean_ap == pytest.approx(result["segments"]["mean_ap"], abs=1e-6)
    assert sum(int(row["Rated"]) for row in rows) == result["segments"]["num_rated"]


def test_a_truth_without_a_positive(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    video = corpus.video_ids[corpus.rows(["v2"])[0]].decode()
    truth = tmp_path / "truth.csv"
    truth.write_text(f"video,start,class,score\n{video},0,{corpus.classes.ids[0]},0.0\n")
    assert evaluated(capsys, scored, "--truth", truth)["segments"]["mean_ap"] is None
    _, out, _ = run(capsys, "evaluate", scored, "--truth", truth)
    assert out == "mAP@100000: no rated positives over 0 classes, 1 rated pairs (0 positive)\n"


def test_videos_without_labels_are_left_out(
    trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """Test videos have no labels in their records: nothing to say of them, and no error."""
    for name, splits in (("some", ("v2", "test")), ("none", ("test",))):
        words = "predict", trained, corpus.path, "-o", tmp_path / name, "--splits", *splits
        assert run(capsys, *words).code == 0
    words = (corpus.path, "--splits", "v2", "test")
    assert evaluated(capsys, tmp_path / "some", *words)["videos"]["num_videos"] == 12
    truth, segments = tmp_path / "truth.csv", open_scores(tmp_path / "none").segments
    video = segments.video_ids[segments.video[0]].decode()
    rated = f"{video},{segments.starts_s[0]},{corpus.classes.ids[0]},1"
    truth.write_text(f"video,start,class,score\n{rated}\n")
    none = evaluated(capsys, tmp_path / "none", *words, "--truth", truth)
    assert "videos" not in none
    assert none["segments"]["num_listed"] == 1


def test_scores_of_other_splits_are_refused(
    trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    scores, page = tmp_path / "test", tmp_path / "page.html"
    words = "predict", trained, corpus.path, "-o", scores, "--splits", "test"
    assert run(capsys, *words).code == 0
    for command in (("evaluate",), ("report", "-o", page)):
        code, out, err = run(capsys, command[0], scores, corpus.path, *command[1:])
        assert (code, out) == (2, "")
        assert f"{scores}: none of the " in err
        assert "pass --splits as they were predicted" in err
    assert not page.exists()


def test_a_note_where_rated_pairs_are_missing(
    trained: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    truth = write_truth(tmp_path / "truth.csv", corpus, ["v1", "v2"])
    rated = corpus.rated(corpus.rows(["v1", "v2"]))
    missing = len(corpus.rated(corpus.rows(["v1"])))
    scores, submission = tmp_path / "v2", tmp_path / "v2.csv"
    assert run(capsys, "predict", trained, corpus.path, "-o", scores, "--splits", "v2").code == 0
    assert run(capsys, "submit", scores, "-o", submission).code == 0
    for target, done in ((scores, "scored"), (submission, "listed")):
        code, _, err = run(capsys, "evaluate", target, "--truth", truth)
        assert code == 0
        assert err == (
            f"note: {target}: {missing:,} of {len(rated):,} rated pairs are not {done}, and count "
            "as ranked last\n"
        )


def test_videos_of_other_splits_are_left_out(scored: Path, corpus: Corpus, capsys: Capture) -> None:
    """Scores of V1 and V2 against the labels of each; one video of V1 has no label."""
    results = [
        evaluated(capsys, scored, corpus.path, "--splits", *splits)["videos"]
        for splits in (("v1",), ("v2",), ("v1", "v2"))
    ]
    assert [videos["num_videos"] for videos in results] == [11, 12, 23]
    assert results[0] != results[1]


# ---- refusals ------------------------------------------------------------------------------------


def test_wrong_use(scored: Path, corpus: Corpus, capsys: Capture) -> None:
    for words, told in (
        ([scored], "no truth given; pass INDEX, or --truth FILE"),
        (
            [scored, corpus.path, "--k", 0],
            "--k: '0' is no length of a list; a number of segments",
        ),
        ([scored, corpus.path, "--splits", "v3"], "no split 'v3'"),
        ([scored, corpus.path, "--splits", "train"], "no rated segments in splits train; choose"),
    ):
        code, out, err = run(capsys, "evaluate", *words)
        assert (code, out) == (2, "")
        assert told in err


def test_files_that_do_not_fit(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("Class,Segments\n1,a:0 a:0\n")
    (tmp_path / "empty").mkdir()
    for words, told in (
        ([tmp_path / "gone", corpus.path], "gone: "),
        ([tmp_path / "empty", corpus.path], "scores.npy"),
        ([broken, "--truth", tmp_path / "gone.csv"], "gone.csv"),
        ([broken, corpus.path], "broken.csv, line 2"),
        ([scored, tmp_path / "gone.index"], "gone.index: no index here"),
    ):
        code, out, err = run(capsys, "evaluate", *words)
        assert (code, out) == (1, ""), words
        assert told in err


def linked(corpus: Corpus, folder: Path) -> Path:
    """The folder, with the shards of the shared corpus, for an index of its own."""
    for name in ("validate", "test", "vocabulary.csv", "segment_label_ids.csv"):
        (folder / name).symlink_to(corpus.path.parent / name)
    return folder


def test_scores_of_other_videos(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    other = index_small(linked(corpus, tmp_path), "other.index", ("test",), corpus.classes)
    truth = write_truth(tmp_path / "truth.csv", corpus, ["v2"])
    code, _, err = run(capsys, "evaluate", scored, other.path, "--truth", truth)
    assert code == 1
    assert "other.index: it has none of the videos that were scored" in err
    assert f"pass the index that {scored} was predicted from" in err


def test_scores_of_more_videos_than_the_index_has(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    half = index_small(linked(corpus, tmp_path), "half.index", ("v2",), corpus.classes)
    assert evaluated(capsys, scored, half.path) == evaluated(capsys, scored, corpus.path)


def test_a_submission_of_other_classes(corpus: Corpus, tmp_path: Path, capsys: Capture) -> None:
    """The index says which classes are evaluated; a truth file alone does not."""
    target, truth = tmp_path / "s.csv", write_truth(tmp_path / "truth.csv", corpus, ["v2"])
    target.write_text("Class,Segments\n9999,abcd:0\n")
    code, _, err = run(capsys, "evaluate", target, corpus.path)
    assert code == 1
    assert "s.csv, line 2: class 9999 is not evaluated" in err
    assert evaluated(capsys, target, "--truth", truth)["segments"]["mean_ap"] == 0


def test_a_truth_of_other_videos_is_refused(scored: Path, tmp_path: Path, capsys: Capture) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("video,start,class,score\nnobody,0,1,1\nnobody,5,1,0\n")
    code, out, err = run(capsys, "evaluate", scored, "--truth", truth)
    assert (code, out) == (2, "")
    assert f"{scored}: none of the 2 rated segments is scored; a rated segment that is" in err


def test_a_truth_of_the_first_row_alone_is_taken(
    scored: Path, corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    segments = open_scores(scored).segments
    video, start_s = segments.video_ids[segments.video[0]].decode(), segments.starts_s[0]
    truth = tmp_path / "truth.csv"
    truth.write_text(f"video,start,class,score\n{video},{start_s},{corpus.classes.ids[0]},1\n")
    assert evaluated(capsys, scored, "--truth", truth)["segments"]["mean_ap"] == 1


def test_numbers_do_not_go_where_they_would_replace_something(
    scored: Path, corpus: Corpus, capsys: Capture
) -> None:
    """Scores have a classes.csv, too."""
    before = (scored / "classes.csv").read_bytes()
    code, _, err = run(capsys, "evaluate", scored, corpus.path, "--out", scored)
    assert code == 2
    assert f"{scored}: Scores are here, in made-by.json; choose another --out" in err
    assert (scored / "classes.csv").read_bytes() == before
