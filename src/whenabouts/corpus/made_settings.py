"""Settings of a made corpus: how large, how hard, how true its labels are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from whenabouts.core.errors import UsageError

ID_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 4
NUM_IDS = len(ID_CHARACTERS) ** ID_LENGTH
MAX_CLASSES = 4096  # as many topics as can be named; YouTube-8M has 3862
MAX_FAMILY = 16
MIN_SCENES = 3


@dataclass(frozen=True)
class MadeCorpus:
    """A made corpus. Norms are lengths of vectors over all feature lists, in dequantised units.

    Raises UsageError, naming the field, where a value cannot be.
    """

    seed: int = 0
    """Decides everything: the same settings give the same bytes. An integer >= 0."""
    num_train: int = 400
    """Videos with video labels only."""
    num_validate: int = 600
    """Videos with video labels and rated segments: half of them (rounded up) V1, the others V2."""
    num_test: int = 200
    """Videos without any label in the records; the truth is written beside them."""
    num_classes: int = 60
    """Topics of the vocabulary (video labels); class 0 is the most frequent one."""
    num_rated_classes: int = 30
    """Topics evaluated on segments: some of the vocabulary, in an order that is not sorted."""
    features: tuple[tuple[str, int], ...] = (("rgb", 1024), ("audio", 128))
    """Feature lists: name and width in bytes a frame. Each carries its share of every norm."""
    min_frames: int = 60
    """Shortest video, in frames (= seconds). At least 60."""
    max_frames: int = 300
    """Longest video, in frames (= seconds); lengths are uniform between the two."""
    videos_per_shard: int = 100
    """Records of one file."""

    zipf_exponent: float = 1.0
    """Class k is the main topic of a train video with a chance like 1 / (k + 1) ** this."""
    family_size: int = 4
    """Topics that look alike (siblings), 1 to 16. Each feature list has families of its own."""
    family_similarity: float = 0.8
    """Cosine of two siblings' prototypes in one feature list, 0 to below 1."""
    num_companions: int = 3
    """Topics that co-occur with a topic; a video shows some of its main topic's companions."""
    mean_scene_s: int = 18
    """Mean length of a scene in seconds; scenes do not follow the 5-second grid."""
    min_scene_s: int = 6
    """Shortest scene in seconds; three of them must fit into the shortest video."""
    main_share: float = 0.4
    """Share of the scenes that show the video's main topic (at least one does)."""
    hard_negative_share: float = 0.35
    """Share of the scenes that show a sibling of the main topic."""
    background_share: float = 0.15
    """Share of the scenes that show no topic; what is left of the scenes shows companions."""
    overlap_share: float = 0.25
    """Share of the scenes that show a companion on top of what they show anyway."""
    temporal_context: float = 0.0
    """Share of the evaluated classes that come as pairs of one and the same look: their rated
    segments can be told apart only by a cue scene elsewhere in the video. 0 to 1. For models that
    see more than the segment they score; one that sees its frames alone stays at chance."""
    insert_share: float = 0.0
    """Chance that a frame of whatever scene is an insert: instead of the scene it shows any topic,
    whether the video has it or not, under a mark. Inserts count for nothing in labels and ratings.
    For models that choose among the frames of a segment: its mean is drowned. 0 to below 1."""

    label_recall: float = 0.85
    """Share of the topics shown for at least a tenth of a video that are among its labels."""
    label_noise: float = 0.05
    """Wrong labels for each topic shown for at least a tenth of a video, on average. 0 to 1."""
    ratings_per_topic: int = 5
    """Segments rated for a (video, topic), about half of them positive."""
    second_topic_share: float = 0.3
    """Share of the rated videos that are rated for another of their topics too."""
    skip_first: int = 6
    """Segments at the start of a video that are never rated, if enough others are left."""
    skip_last: int = 2
    """Segments at the end of a video that are never rated, if enough others are left."""

    topic_norm: float = 6.0
    """Norm of a topic's prototype (and of a background's)."""
    cue_norm: float = 12.0
    """Norm of the cue that tells a class from its partner; cues stand out."""
    insert_norm: float = 12.0
    """Norm of the mark of an insert, which is one of a few."""
    faintest: float = 0.3
    """A scene shows its topic at a strength drawn uniformly from this to 1. Above 0."""
    look_norm: float = 10.0
    """Norm of the look of a video, which all its frames share."""
    scene_norm: float = 6.0
    """Norm of the look of a scene, which the frames of the scene share."""
    noise_sd: float = 0.75
    """Standard deviation of the noise of each feature of a frame."""
    noise_correlation: float = 0.5
    """Correlation of the noise of one feature in two frames that follow each other."""

    def __post_init__(self) -> None:
        for field, holds, rule in (*_range_rules(self), *_fit_rules(self)):
            if not holds:
                raise UsageError(
                    f"{field} is {getattr(self, field)!r}", where="made corpus", rule=rule
                )

    @property
    def width(self) -> int:
        """Features of a frame, over all lists."""
        return sum(width for _, width in self.features)

    @property
    def num_videos(self) -> int:
        return self.num_train + self.num_validate + self.num_test


Rules = Iterator[tuple[str, bool, str]]  # field, whether it holds, what must hold

LEAST = {
    **dict.fromkeys(("seed", "num_train", "num_validate", "num_test", "num_companions"), 0),
    **dict.fromkeys(("skip_first", "skip_last", "zipf_exponent", "noise_sd"), 0),
    **dict.fromkeys(("topic_norm", "cue_norm", "insert_norm"), 0),
    **dict.fromkeys(("look_norm", "scene_norm"), 0),
    **dict.fromkeys(("videos_per_shard", "ratings_per_topic", "min_scene_s"), 1),
    "min_frames": 60,
}
SHARES = (
    *("main_share", "hard_negative_share", "background_share", "overlap_share"),
    *("temporal_context", "label_recall", "label_noise", "second_topic_share"),
)


def _range_rules(s: MadeCorpus) -> Rules:
    for field, least in LEAST.items():
        yield field, least <= getattr(s, field) < math.inf, f"it must be at least {least}"
    for field in SHARES:
        yield field, 0 <= getattr(s, field) <= 1, "it must be 0 to 1"
    yield "family_similarity", 0 <= s.family_similarity < 1, "it must be 0 to below 1"
    yield "insert_share", 0 <= s.insert_share < 1, "it must be 0 to below 1"
    yield "faintest", 0 < s.faintest <= 1, "it must be above 0 and at most 1"
    yield "noise_correlation", 0 <= s.noise_correlation < 1, "it must be 0 to below 1"
    yield "num_classes", 2 <= s.num_classes <= MAX_CLASSES, f"it must be 2 to {MAX_CLASSES}"
    yield "family_size", 1 <= s.family_size <= MAX_FAMILY, f"it must be 1 to {MAX_FAMILY}"


def _fit_rules(s: MadeCorpus) -> Rules:
    """How the fields must fit each other."""
    yield "num_train", 1 <= s.num_videos <= NUM_IDS, f"there must be 1 to {NUM_IDS:,} videos in all"
    within = 2 <= s.num_rated_classes <= s.num_classes
    yield "num_rated_classes", within, f"it must be 2 to num_classes ({s.num_classes})"
    yield "num_companions", s.num_companions < s.num_classes, "it must be below num_classes"
    yield "max_frames", s.max_frames >= s.min_frames, f"it must be at least {s.min_frames}"
    longest_s = s.min_frames // MIN_SCENES
    yield "min_scene_s", s.min_scene_s <= longest_s, f"it must be at most {longest_s}"
    yield "mean_scene_s", s.mean_scene_s >= s.min_scene_s, f"it must be at least {s.min_scene_s}"
    scenes = s.main_share + s.hard_negative_share + s.background_share
    rule = "main_share, hard_negative_share and background_share must add up to at most 1"
    yield "main_share", scenes <= 1 + 1e-9, rule
    names = {name for name, _ in s.features if name}
    yield "features", len(names) == len(s.features) > 0, "each list needs a name of its own"
    yield "features", all(width >= 1 for _, width in s.features), "widths must be at least 1"


NARROW = MadeCorpus(
    features=(("rgb", 32), ("audio", 8)),
    topic_norm=4.0,
    cue_norm=5.0,
    insert_norm=5.0,
    look_norm=1.5,
    scene_norm=1.0,
    noise_sd=0.4,
)
"""Few features a frame, for quick trials; with the default norms so few would not fit in bytes."""
