"""Members to submission in one pass: byte for byte what three commands give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble_world import averaged, random_scores, shuffled, with_values
from fusion_world import IDS, write_scores, write_videos
from whenabouts.core.errors import ScoresError, SettingsError
from whenabouts.core.scores import Scores, open_scores
from whenabouts.ensemble.candidates import CandidateFilter
from whenabouts.ensemble.fusion import Exponents, FusionSettings, fuse
from whenabouts.ensemble.mean import EnsembleSettings
from whenabouts.ensemble.members import match_members
from whenabouts.ensemble.one_pass import WithVideos, submit_ensemble
from whenabouts.submission import write_submission

KINDS = ("mean", "geometric", "rank")
FILTERS = (
    FusionSettings(),
    FusionSettings(Exponents(1, 2), CandidateFilter(top_topics=2)),
    FusionSettings(Exponents(0, 1), CandidateFilter(top_videos=3, min_video_score=0.3)),
    FusionSettings(Exponents(2, 0)),
)


def members_and_videos(
    folder: Path, dtype: type = np.float16, lacking: int = 0
) -> tuple[list[Scores], Scores]:
    """Three members, one in another order; video scores in another order, 0 among them, of all but
    the first so many videos."""
    rng = np.random.default_rng(5)
    members = random_scores(folder, 5, 3, dtype, levels=9)
    members[2] = shuffled(members[2], folder / "moved", rng)
    ids = rng.permutation(np.array(IDS[lacking:], np.bytes_)).tolist()
    values = (rng.integers(0, 6, (len(ids), 5)) / 5).astype(dtype)
    return members, write_videos(folder / "videos", ids, (0, 11, 7, 5, 3), values)


def three_steps(
    folder: Path, members: list[Scores], kind: str, weights: tuple[float, ...],
    videos: WithVideos | None, k: int,
) -> bytes:  # fmt: skip
    scores = averaged(members, folder / "mean", kind, weights)
    if videos is not None:
        fuse(
            scores, videos.scores, folder / "fused", videos.settings,
            keep_unscored=videos.keep_unscored,
        )  # fmt: skip
        scores = open_scores(folder / "fused")
    out = folder / "three.csv"
    write_submission(out, scores.segments, scores.classes, scores.values, k)
    return out.read_bytes()


def one_pass(folder: Path, members: list[Scores], **more: object) -> bytes:
    out = folder / "one.csv"
    submit_ensemble(match_members(members), out, **more)
    return out.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_as_three_steps(kind: str, dtype: type, tmp_path: Path) -> None:
    members, videos = members_and_videos(tmp_path, dtype)
    weights = (0.5, 0.2, 0.3)
    settings = EnsembleSettings(kind, weights)
    for fusion in (None, *FILTERS):
        with_videos = None if fusion is None else WithVideos(videos, fusion)
        for k in (7, 1000):
            expected = three_steps(tmp_path, members, kind, weights, with_videos, k)
            found = one_pass(tmp_path, members, settings=settings, videos=with_videos, k=k)
            assert found == expected


def test_videos_without_scores_keep_their_segments(tmp_path: Path) -> None:
    members, videos = members_and_videos(tmp_path, lacking=3)
    with pytest.raises(ScoresError, match="each video of the segment scores needs a video score"):
        one_pass(tmp_path, members, videos=WithVideos(videos))
    kept = WithVideos(videos, FILTERS[1], keep_unscored=True)
    expected = three_steps(tmp_path, members, "mean", (), kept, 9)
    assert one_pass(tmp_path, members, videos=kept, k=9) == expected


def test_streaming_is_as_in_memory(tmp_path: Path) -> None:
    members, videos = members_and_videos(tmp_path)
    expected = one_pass(tmp_path, members, videos=WithVideos(videos))
    for budget_bytes in (1, 500, 4000):
        rows: list[float] = []
        classes: list[int] = []
        found = one_pass(
            tmp_path, members, videos=WithVideos(videos), budget_bytes=budget_bytes,
            on_rows=rows.append, on_class=classes.append,
        )  # fmt: skip
        assert found == expected
        assert sum(rows) == 30
        assert classes == [0, 1, 2, 3]


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    members, videos = members_and_videos(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    submit_ensemble(match_members(members), out / "s.csv", videos=WithVideos(videos))
    assert [path.name for path in out.iterdir()] == ["s.csv"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    members, videos = members_and_videos(tmp_path / "in")
    values = np.array(members[1].values)
    values[20, 2] = 1.5
    broken = [members[0], with_values(members[1], values)]
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ScoresError, match=r"b: the score of class 11 in row 20 is 1\.5"):
        submit_ensemble(match_members(broken), out / "s.csv", videos=WithVideos(videos))
    with pytest.raises(SettingsError, match="2 weights for 3 members"):
        submit_ensemble(match_members(members), out / "s.csv", EnsembleSettings(weights=(1, 2)))
    assert list(out.iterdir()) == []


def test_scores_of_negative_zero_are_scores(tmp_path: Path) -> None:
    """They do not pass the quick look at bits, and count as 0 all the same."""
    member = random_scores(tmp_path, 0, 1, np.float16)[0]
    values = np.array(member.values)
    values[3, 1] = -0.0
    found = averaged([with_values(member, values), member], tmp_path / "o").values
    assert found[3, 1] == member.values[3, 1] / 2
    plain = write_scores(tmp_path / "p", member.segments, member.classes.ids, np.abs(values))
    np.testing.assert_array_equal(found, averaged([plain, member], tmp_path / "o2").values)
