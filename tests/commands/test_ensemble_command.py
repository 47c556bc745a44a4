"""`whenabouts ensemble`: settings reach the mean, the search is told and kept, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commandline import run
from ensemble_world import averaged, shuffled
from fusion_world import write_scores, write_videos
from whenabouts.core.scores import Scores, open_scores
from whenabouts.corpus.corpus import Corpus
from whenabouts.ensemble import rated_pairs
from whenabouts.ensemble.members import match_members
from whenabouts.ensemble.trials import segment_trials, video_trials
from whenabouts.ensemble.weights import search_weights
from whenabouts.metrics.segment_map import evaluate_scores

Capture = pytest.CaptureFixture[str]
WAYS = (
    "equal weights",
    "the best member alone",
    "random draws",
    "coordinate ascent",
    "order of pairs, convex",
)


@pytest.fixture(scope="session")
def members(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Scores of a run; of another one, worse, in an order of its own; and noise."""
    folder, scores = tmp_path_factory.mktemp("members"), open_scores(scored)
    rng = np.random.default_rng(0)
    values = np.asarray(scores.values)
    worse = (values + rng.random(values.shape, np.float32)) / 2
    of_run = {"trained_on": ["train"]}
    second = write_scores(folder / "x", scores.segments, scores.classes.ids, worse)
    shuffled(second, folder / "second", rng)
    noise = rng.random(values.shape, np.float32)
    write_scores(folder / "noise", scores.segments, scores.classes.ids, noise, **of_run)
    return [scored, folder / "second", folder / "noise"]


@pytest.fixture(scope="session")
def video_members(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two Scores of the videos of V1 and V2: noise, a little higher where a class is a label."""
    rows, rng = corpus.rows(["v1", "v2"]), np.random.default_rng(1)
    classes, folder = corpus.video_classes.ids, tmp_path_factory.mktemp("video-members")
    for name, lift in (("a", 0.5), ("b", 0.2)):
        values = rng.random((len(rows), len(classes)))
        for row, of_video in zip(rows.tolist(), values):
            of_video[np.isin(classes, corpus.labels.of(row))] += lift
        ids = corpus.video_ids[rows].tolist()
        write_videos(folder / name, ids, classes, (values / 1.5).astype(np.float32))
    return [folder / "a", folder / "b"]


def ensemble(capsys: Capture, *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "ensemble", *words, "--json")
    assert code == 0
    return json.loads(out)


def opened(paths: list[Path]) -> list[Scores]:
    return [open_scores(path) for path in paths]


def mean_ap(corpus: Corpus, scores: Scores) -> float:
    truth = corpus.rated(corpus.rows(["v2"]))
    return evaluate_scores(truth, scores.segments, scores.classes, scores.values).mean_ap


# ---- with settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "weights", "dtype"),
    [
        ((), "mean", (1, 1, 1), "float32"),
        (("--weights", 5, 3, 2, "--dtype", "float16"), "mean", (0.5, 0.3, 0.2), "float16"),
        (("--kind", "geometric", "--dtype", "members"), "geometric", (1, 1, 1), "members"),
        (("--kind", "rank", "--weights", 1, 0, 1), "rank", (1, 0, 1), "float32"),
    ],
)
def test_settings(
    words: tuple[object, ...], kind: str, weights: tuple[float, ...], dtype: str,
    members: list[Path], tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    result = ensemble(capsys, *members, "-o", tmp_path / "new" / "mean", *words)
    expected = averaged(opened(members), tmp_path / "o", kind, weights, dtype)
    found = open_scores(tmp_path / "new" / "mean")
    np.testing.assert_array_equal(found.values, expected.values, strict=True)
    assert found.made_by == expected.made_by
    assert found.made_by["trained_on"] == ["train", "v1"]
    assert result.pop("time_s") > 0
    assert result == {
        "scores": str(tmp_path / "new" / "mean"),
        "kind": kind,
        "members": [
            {"scores": str(path), "weight": pytest.approx(w / sum(weights))}
            for path, w in zip(members, weights)
        ],
        "rows": len(found.segments),
        "classes": 4,
    }


def test_the_result_in_words(members: list[Path], tmp_path: Path, capsys: Capture) -> None:
    words = (*members, "-o", tmp_path / "m", "--weights", 2, 1, 1)
    code, out, err = run(capsys, "ensemble", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["weight", "member"]
    assert [line.split() for line in lines[1:4]] == [
        ["0.5000", str(members[0])],
        ["0.2500", str(members[1])],
        ["0.2500", str(members[2])],
    ]
    num_segments = len(open_scores(members[0]).segments)
    assert lines[4].startswith(
        f"{tmp_path / 'm'}: mean of 3 Scores of {num_segments:,} segments x 4 classes, weights "
        "summing to 1, in "
    )
    assert len(lines) == 5


def test_what_is_averaged_can_be_evaluated_submitted_and_averaged(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    ensemble(capsys, *members, "-o", tmp_path / "m")
    ensemble(capsys, tmp_path / "m", members[0], "-o", tmp_path / "again")
    code, out, _ = run(capsys, "evaluate", tmp_path / "again", corpus.path, "--json")
    assert code == 0
    expected = mean_ap(corpus, open_scores(tmp_path / "again"))
    assert json.loads(out)["segments"]["mean_ap"] == pytest.approx(expected)
    assert run(capsys, "submit", tmp_path / "again", "-o", tmp_path / "s.csv").code == 0


# ---- search --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean", "geometric", "rank"])
def test_the_search_writes_what_is_used(
    kind: str, members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "m", "--search", corpus.path, "--draws", 30, "--seed", 4)
    result = ensemble(capsys, *members, *words, "--kind", kind)
    truth = corpus.rated(corpus.rows(["v2"]))
    trials = segment_trials(truth, match_members(opened(members)), kind)
    expected = search_weights(trials, 30, 4)
    told = json.loads(json.dumps(expected.to_dict()))
    assert result["search"] == {"splits": ["v2"], "k": "100000", **told}
    assert told["ways"][2]["num_trials"] == 1 + 3 + 30
    found = open_scores(tmp_path / "m")
    assert found.made_by["search"] == result["search"]
    weights = [member["weight"] for member in result["members"]]
    assert weights == list(expected.best.weights)
    assert [m["weight"] for m in found.made_by["members"]] == pytest.approx(weights)
    assert mean_ap(corpus, found) == pytest.approx(expected.best.value)


def test_weights_of_videos_are_searched_on_their_labels(
    video_members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = (*video_members, "-o", tmp_path / "m", "--search", corpus.path, "--draws", 30)
    search = ensemble(capsys, *words)["search"]
    assert search["metric"] == "GAP@20"
    scores = opened(video_members)
    rows = corpus.rows(["v2"])
    rows = rows[np.diff(corpus.labels.offsets)[rows] > 0]
    labels = corpus.labels.take(rows)
    trials = video_trials(
        corpus.video_ids[rows], labels.values, labels.offsets, match_members(scores), "mean"
    )
    expected = search_weights(trials, 30)
    assert search["judged_on"] == f"{len(rows)} videos"
    assert search["alone"] == pytest.approx(expected.alone)
    used = next(way for way in search["ways"] if way["name"] == search["used"])
    out = run(capsys, "evaluate", tmp_path / "m", corpus.path, "--json").out
    assert json.loads(out)["videos"]["gap"] == pytest.approx(used["value"])
    lines = run(capsys, "ensemble", *words).out.splitlines()
    assert lines[0].split() == ["GAP@20", "halves", "tried", "weights", "by"]
    assert f"mean of 2 Scores of {len(scores[0].segments)} videos x " in lines[-1]


def test_the_search_in_words(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = (*members, "-o", tmp_path / "m", "--search", corpus.path, "--draws", 30)
    result = ensemble(capsys, *words)
    told = result["search"]
    code, out, err = run(capsys, "ensemble", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["mAP", "halves", "tried", "weights", "by"]
    for line, way, in_words in zip(lines[1:6], told["ways"], WAYS):
        used = " (used)" if way["name"] == told["used"] else ""
        numbers = f"{way['value']:8.4f} {way['across_halves']:8.4f} {way['num_trials']:6}"
        assert line == f"{numbers}  {in_words}{used}"
    assert sum("(used)" in line for line in lines) == 1
    assert lines[6].startswith(f"mAP: chosen and scored on the same {told['judged_on']}; halves: ")
    assert lines[7].split() == ["weight", "mAP", "member"]
    for line, member, alone in zip(lines[8:11], result["members"], told["alone"]):
        assert line == f"{member['weight']:8.4f} {alone:8.4f}  {member['scores']}"
    assert lines[11].startswith(f"{tmp_path / 'm'}: mean of 3 Scores of ")
    assert len(lines) == 12


def test_notes_where_members_have_seen_the_split(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "m", "--search", corpus.path, "--splits", "v1", "--draws", 0)
    code, _, err = run(capsys, "ensemble", *members, *words)
    assert code == 0
    assert err == (
        f"note: the model of {members[0]} was trained on v1: the search trusts it too much\n"
    )
    assert open_scores(tmp_path / "m").made_by["search"]["splits"] == ["v1"]


def test_a_note_for_whichever_member_has_seen_the_split(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = ("-o", tmp_path / "m", "--search", corpus.path, "--splits", "v1", "--draws", 0)
    assert run(capsys, "ensemble", *members[::-1], *words).err == (
        f"note: the model of {members[0]} was trained on v1: the search trusts it too much\n"
    )


def test_weights_of_videos_are_searched_for_the_mean_that_is_asked_for(
    video_members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    """The metric that the search tells is that of the Scores it writes."""
    words = (*video_members, "-o", tmp_path / "m", "--search", corpus.path, "--draws", 30)
    search = ensemble(capsys, *words, "--kind", "geometric")["search"]
    used = next(way for way in search["ways"] if way["name"] == search["used"])
    out = run(capsys, "evaluate", tmp_path / "m", corpus.path, "--json").out
    assert json.loads(out)["videos"]["gap"] == pytest.approx(used["value"])


def test_too_few_videos_for_an_estimate(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rated_pairs, "first_half", lambda ids: np.ones(len(ids), bool))
    words = (*members, "-o", tmp_path / "m", "--search", corpus.path, "--draws", 5)
    lines = run(capsys, "ensemble", *words).out.splitlines()
    assert [line.split()[1] for line in lines[1:6]] == ["-"] * 5


def test_given_weights_are_one_more_way(
    members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    words = (*members, "-o", tmp_path / "m", "--search", corpus.path, "--draws", 3)
    told = ensemble(capsys, *words, "--weights", 2, 1, 1)["search"]
    assert told["ways"][0]["name"] == "given"
    assert told["ways"][0]["weights"] == [0.5, 0.25, 0.25]
    assert told["ways"][1:] == ensemble(capsys, *words)["search"]["ways"]


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--weights", 1, 1), "2 weights for 3 members"),
        (("--weights", 1, 1, -1), "the weights are 1, 1, -1; weights are at least 0"),
        (("--weights", 0, 0, 0), "one of them above 0"),
        (("--weights", 1, 1, "much"), "Value error"),
        (("--kind", "median"), "invalid"),
        (("--draws", -1), "--draws is -1"),
        (("--search", "INDEX", "--splits", "v3"), "no split 'v3'"),
        (("--search", "INDEX", "--splits", "test"), "no rated segments in splits test"),
    ],
)
def test_wrong_use(
    words: tuple[object, ...], told: str, members: list[Path], corpus: Corpus, tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    words = tuple(corpus.path if word == "INDEX" else word for word in words)
    code, out, err = run(capsys, "ensemble", *members, "-o", tmp_path / "m", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_members_stand_once_and_are_not_replaced(
    members: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "link").symlink_to(members[1])
    for paths, out, told in (
        ([], "m", "no Scores given; an ensemble has a member at least"),
        (members, "link", "these Scores are read, and would be replaced"),
        ([*members, tmp_path / "link"], "m", "link: these Scores stand twice among the members"),
    ):
        code, _, err = run(capsys, "ensemble", *paths, "-o", tmp_path / out)
        assert code == 2
        assert told in err
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_scores_that_do_not_fit(
    members: list[Path], video_members: list[Path], corpus: Corpus, tmp_path: Path, capsys: Capture
) -> None:
    first = open_scores(members[0])
    values = np.full(first.values.shape, 2, np.float32)
    wrong = write_scores(tmp_path / "wrong", first.segments, first.classes.ids, values).path
    for other, told in (
        (video_members[0], "a: no score of segment "),
        (wrong, "wrong: the score of class"),
        (tmp_path / "gone", "gone: "),
    ):
        for search in ((), ("--search", corpus.path)):
            words = (members[0], other, "-o", tmp_path / "m", *search)
            code, out, err = run(capsys, "ensemble", *words)
            assert (code, out) == (1, "")
            assert told in err
    assert [p.name for p in tmp_path.iterdir()] == ["wrong"]
