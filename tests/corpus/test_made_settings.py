"""Settings of a made corpus that cannot be are refused by name; the limits themselves are not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from whenabouts.core.errors import UsageError
from whenabouts.corpus.made_settings import NUM_IDS, MadeCorpus


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("seed", -1, "at least 0"),
        ("num_train", -1, "at least 0"),
        ("num_train", NUM_IDS, "there must be 1 to 14,776,336 videos in all"),
        ("num_validate", -1, "at least 0"),
        ("num_test", -1, "at least 0"),
        ("num_classes", 1, "2 to 4096"),
        ("num_classes", 4097, "2 to 4096"),
        ("num_rated_classes", 1, r"2 to num_classes \(60\)"),
        ("num_rated_classes", 61, r"2 to num_classes \(60\)"),
        ("features", (), "each list needs a name of its own"),
        ("features", (("rgb", 4), ("rgb", 4)), "each list needs a name of its own"),
        ("features", (("", 4),), "each list needs a name of its own"),
        ("features", (("rgb", 4), ("audio", 0)), "widths must be at least 1"),
        ("min_frames", 59, "at least 60"),
        ("max_frames", 59, "at least 60"),
        ("videos_per_shard", 0, "at least 1"),
        ("ratings_per_topic", 0, "at least 1"),
        ("family_size", 0, "1 to 16"),
        ("family_size", 17, "1 to 16"),
        ("family_similarity", 1.0, "0 to below 1"),
        ("num_companions", 60, "below num_classes"),
        ("num_companions", -1, "at least 0"),
        ("min_scene_s", 0, "at least 1"),
        ("min_scene_s", 21, "at most 20"),
        ("mean_scene_s", 5, "at least 6"),
        ("main_share", 0.51, "add up to at most 1"),
        ("main_share", 1.1, "0 to 1"),
        ("hard_negative_share", -0.1, "0 to 1"),
        ("background_share", 1.1, "0 to 1"),
        ("overlap_share", 1.1, "0 to 1"),
        ("second_topic_share", 1.1, "0 to 1"),
        ("temporal_context", 1.1, "0 to 1"),
        ("insert_share", 1.0, "0 to below 1"),
        ("insert_share", -0.1, "0 to below 1"),
        ("insert_norm", -1.0, "at least 0"),
        ("label_recall", math.nan, "0 to 1"),
        ("label_noise", -0.1, "0 to 1"),
        ("skip_first", -1, "at least 0"),
        ("skip_last", -1, "at least 0"),
        ("zipf_exponent", -1.0, "at least 0"),
        ("topic_norm", math.inf, "at least 0"),
        ("cue_norm", -1.0, "at least 0"),
        ("look_norm", -1.0, "at least 0"),
        ("scene_norm", -1.0, "at least 0"),
        ("noise_sd", -0.1, "at least 0"),
        ("noise_correlation", 1.0, "0 to below 1"),
        ("faintest", 0.0, "above 0 and at most 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(field, value, rule):
    with pytest.raises(UsageError, match=f"made corpus: {field} is .*; .*{rule}"):
        replace(MadeCorpus(), **{field: value})


def test_the_limits_themselves_are_allowed():
    replace(
        MadeCorpus(),
        num_rated_classes=60,
        family_size=16,
        min_frames=60,
        max_frames=60,
        min_scene_s=20,
        mean_scene_s=20,
        main_share=0.5,
        num_companions=59,
        label_recall=1.0,
        faintest=1.0,
    )
