"""The best of its segments stands for a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_world import random_scores, with_values
from fusion_world import scores_by_name, write_videos
from whenabouts.core.errors import ScoresError
from whenabouts.core.scores import Attention, open_scores
from whenabouts.core.segments import WHOLE_VIDEO
from whenabouts.ensemble.fusion import Exponents, FusionSettings, fuse
from whenabouts.ensemble.own_videos import own_video_scores


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_each_class_of_a_video_has_the_score_of_its_best_segment(
    dtype: type, tmp_path: Path
) -> None:
    [segments] = random_scores(tmp_path, 0, 1, dtype)
    expected: dict[tuple[bytes, int], float] = {}
    for (video, _, class_id), score in scores_by_name(segments).items():
        expected[video, class_id] = max(score, expected.get((video, class_id), 0.0))
    videos = own_video_scores(segments)
    found = scores_by_name(videos)
    assert {(v, c): s for (v, _, c), s in found.items() if (v, c) in expected} == expected
    assert {start for _, start, _ in found} == {WHOLE_VIDEO}
    assert videos.made_by == {**segments.made_by, "pooled": "best of the video's segments"}
    with_attention = replace(segments, attention=Attention(*np.ones((2, 30), np.float16)))
    assert own_video_scores(with_attention).attention is None
    assert videos.values.dtype == dtype


def test_fused_with_them_it_is_the_mean_with_the_best_of_the_video(tmp_path: Path) -> None:
    [segments] = random_scores(tmp_path, 1, 1)
    fuse(segments, own_video_scores(segments), tmp_path / "o", FusionSettings(Exponents(1, 1)))
    found = np.asarray(open_scores(tmp_path / "o").values)
    best = np.stack([segments.values[segments.segments.video == v].max(axis=0) for v in range(8)])
    expected = np.sqrt(np.float64(segments.values) * best[segments.segments.video])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_videos_and_what_is_no_probability_are_refused(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "v", [b"a"], [7], np.ones((1, 1), np.float32))
    with pytest.raises(ScoresError, match="v: scores of whole videos; the best of its segments"):
        own_video_scores(videos)
    [segments] = random_scores(tmp_path, 2, 1)
    values = np.array(segments.values)
    values[4, 0] = 1.5
    with pytest.raises(ScoresError, match=r"the score of class 7 in row 4 is 1\.5"):
        own_video_scores(with_values(segments, values))
