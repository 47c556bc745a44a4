"""One video of a made corpus: its scenes, its labels, its rated segments, its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.segments import SegmentGrid
from whenabouts.corpus.made_settings import MIN_SCENES, MadeCorpus
from whenabouts.corpus.made_world import INSERTS, NUM_MARKS, VIDEOS, Floats, Ints, World
from whenabouts.records.quantize import YOUTUBE_8M

PARTS = ("train", "v1", "v2", "test")
GRID = SegmentGrid()
BIAS, SCALE = np.float32(YOUTUBE_8M.bias), np.float32(YOUTUBE_8M.scale)
LABELLED_SHARE = 0.1  # a topic is one of a video's when it is shown for this share of the time
MAIN, SIBLING, BACKGROUND, COMPANION = range(4)


class Rating(NamedTuple):
    start_s: int
    class_id: int
    score: float


class Topic(NamedTuple):
    """A scene or an insert that shows a class, in seconds from the start of the video."""

    class_id: int
    start_s: int
    end_s: int


@dataclass(frozen=True, eq=False)
class Scenes:
    """K scenes that follow each other. bounds [K + 1]: where they start and end, in frames;
    looks [K, 2]: rows of the world's looks, -1 for none; strength [K, 2]: how clearly;
    inserts [T, 2]: class and mark of the insert in place of each frame, -1 where there is none."""

    bounds: Ints
    looks: Ints
    strength: Floats
    inserts: Ints

    @property
    def num_frames(self) -> int:
        return int(self.bounds[-1])

    def showing(self, look: int) -> NDArray[np.bool_]:
        """Whether each frame [T] is of a scene with this look."""
        return np.repeat((self.looks == look).any(axis=1), np.diff(self.bounds))

    @property
    def is_insert(self) -> NDArray[np.bool_]:
        """Whether each frame [T] is an insert, and shows nothing of its scene."""
        return self.inserts[:, 0] >= 0


@dataclass(frozen=True, eq=False)
class MadeVideo:
    """topics, cues: the planted scenes; inserts: frames in their place; labels: the video's, as
    imperfect as asked for; ratings: by (start, class), empty in train; frames: bytes [T, D]."""

    topics: list[Topic]
    cues: list[Topic]
    inserts: list[Topic]
    labels: Ints
    ratings: list[Rating]
    frames: NDArray[np.uint8]


def draw_video(world: World, part: str, index: int) -> MadeVideo:
    """The `index`-th video of a part of the corpus; no other video matters to it."""
    rng = np.random.default_rng([world.settings.seed, VIDEOS, PARTS.index(part), index])
    main = _main_topic(rng, world, part, index)
    # A stream of their own: with and without inserts, the scenes of a video are the same.
    insert_rng = np.random.default_rng([world.settings.seed, INSERTS, PARTS.index(part), index])
    scenes = _draw_scenes(rng, insert_rng, world, main)
    topics, cues = _planted(world, scenes)
    labels = _draw_labels(rng, world, scenes)
    ratings = [] if part == "train" else _rate_video(rng, world, scenes, main)
    frames = _draw_frames(rng, world, scenes)
    return MadeVideo(topics, cues, _inserted(scenes), labels, ratings, frames)


# ---- scenes ------------------------------------------------------------------------------------


def _main_topic(rng: np.random.Generator, world: World, part: str, index: int) -> int:
    """Train has the long tail; the rated parts give every evaluated class its turn."""
    if part == "train":
        return int(rng.choice(len(world.frequency), p=world.frequency))
    return world.rated[index % len(world.rated)]


def _draw_scenes(
    rng: np.random.Generator, insert_rng: np.random.Generator, world: World, main: int
) -> Scenes:
    settings = world.settings
    bounds = _draw_bounds(rng, settings)
    companions = _some(rng, world.companions[main])
    looks = np.full((len(bounds) - 1, 2), -1, np.int64)
    looks[:, 0] = _first_looks(rng, world, main, companions, len(looks))
    if len(companions):
        also = rng.choice(companions, len(looks))
        overlaid = (rng.random(len(looks)) < settings.overlap_share) & (also != looks[:, 0])
        overlaid &= looks[:, 0] != world.cue_of(main)
        looks[:, 1] = np.where(overlaid, also, -1)
    strength = rng.uniform(settings.faintest, 1, looks.shape).astype(np.float32)
    return Scenes(bounds, looks, strength, _draw_inserts(insert_rng, settings, bounds[-1]))


def _draw_inserts(rng: np.random.Generator, settings: MadeCorpus, num_frames: int) -> Ints:
    drawn = rng.integers((settings.num_classes, NUM_MARKS), size=(num_frames, 2))
    is_insert = rng.random((num_frames, 1)) < settings.insert_share
    return np.where(is_insert, drawn, -1)


def _draw_bounds(rng: np.random.Generator, settings: MadeCorpus) -> Ints:
    num_frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    num_scenes = max(MIN_SCENES, num_frames // settings.mean_scene_s)
    spare = num_frames - num_scenes * settings.min_scene_s
    cuts = np.cumsum(rng.dirichlet(np.full(num_scenes, 1.5)))[:-1] * spare
    inner = cuts.astype(np.int64) + settings.min_scene_s * np.arange(1, num_scenes)
    return np.concatenate([[0], inner, [num_frames]])


def _some(rng: np.random.Generator, classes: Ints) -> Ints:
    """At least one of the classes, if there are any."""
    count = rng.integers(min(1, len(classes)), len(classes) + 1)
    return rng.permutation(classes)[:count]


def _first_looks(
    rng: np.random.Generator, world: World, main: int, companions: Ints, num_scenes: int
) -> Ints:
    """What each scene shows first: at least one the main topic, one something else."""
    roles = _draw_roles(rng, world.settings, num_scenes)
    backgrounds = rng.integers(world.first_background, len(world.looks), num_scenes)
    needs_cue = world.partner[main] >= 0
    siblings = np.array([], np.int64) if needs_cue else world.siblings[main]
    looks = np.where(roles == MAIN, main, backgrounds)
    for role, classes in ((SIBLING, siblings), (COMPANION, companions)):
        if len(classes):
            looks = np.where(roles == role, rng.choice(classes, num_scenes), looks)
    if needs_cue:
        looks[rng.choice(np.flatnonzero(roles != MAIN))] = world.cue_of(main)
    return looks


def _draw_roles(rng: np.random.Generator, settings: MadeCorpus, num_scenes: int) -> Ints:
    shares = np.array(
        [settings.main_share, settings.hard_negative_share, settings.background_share]
    )
    chances = np.append(shares, max(0.0, 1 - shares.sum()))
    roles = rng.choice(4, num_scenes, p=chances / chances.sum())
    first, second = rng.permutation(num_scenes)[:2]
    roles[first], roles[second] = MAIN, SIBLING
    return roles


def _planted(world: World, scenes: Scenes) -> tuple[list[Topic], list[Topic]]:
    """The scenes of topics, and those of cues, in order of time."""
    topics, cues = [], []
    for scene, look in zip(*np.nonzero(scenes.looks >= 0)):
        row = int(scenes.looks[scene, look])
        start_s, end_s = (int(b) // GRID.frames_per_s for b in scenes.bounds[scene : scene + 2])
        if row < world.settings.num_classes:
            topics.append(Topic(row, start_s, end_s))
        elif row < world.first_background:
            cues.append(Topic(row - world.settings.num_classes, start_s, end_s))
    return topics, cues


def _inserted(scenes: Scenes) -> list[Topic]:
    seconds = np.flatnonzero(scenes.is_insert).tolist()
    return [Topic(int(scenes.inserts[second, 0]), second, second + 1) for second in seconds]


# ---- labels and ratings ------------------------------------------------------------------------


def _shown(world: World, scenes: Scenes) -> Ints:
    """The classes a video shows, sorted."""
    topics = np.unique(world.topic_of(scenes.looks))
    return topics[topics >= 0]


def _draw_labels(rng: np.random.Generator, world: World, scenes: Scenes) -> Ints:
    settings, shown = world.settings, _shown(world, scenes)
    share = np.array([scenes.showing(int(c)).mean() for c in shown])
    true = shown[share >= LABELLED_SHARE]
    kept = true[rng.random(len(true)) < settings.label_recall]
    others = np.setdiff1d(np.arange(settings.num_classes), shown)
    num_wrong = min(rng.binomial(len(true), settings.label_noise), len(others))
    return np.sort(np.concatenate([kept, rng.choice(others, num_wrong, replace=False)]))


def _rate_video(rng: np.random.Generator, world: World, scenes: Scenes, main: int) -> list[Rating]:
    ratings = _rate_topic(rng, world, scenes, main)
    if rng.random() < world.settings.second_topic_share:
        rated = [int(c) for c in _shown(world, scenes) if int(c) != main and int(c) in world.rated]
        if rated:
            ratings += _rate_topic(rng, world, scenes, int(rng.choice(rated)))
    return sorted(ratings)


def _rate_topic(rng: np.random.Generator, world: World, scenes: Scenes, topic: int) -> list[Rating]:
    """Positives and negatives, drawn among the segments that are clearly one or the other.

    A segment is positive where scenes of the topic cover half of it and a frame at least is not
    hidden by an insert, negative where no scene of the topic reaches into it.
    """
    settings, partner = world.settings, int(world.partner[topic])
    showing = scenes.showing(topic)
    starts_s, frames = _ratable(settings, showing)
    _, visible = _ratable(settings, showing & ~scenes.is_insert)
    yes = rng.permutation(starts_s[(2 * frames >= GRID.num_frames) & (visible > 0)])
    no = rng.permutation(starts_s[frames == 0])
    if partner >= 0:
        # The two differ in the cue alone, so that both are rated on the look that they share.
        rated = int(rng.choice([topic, partner]))
        yes = yes[: settings.ratings_per_topic]
        return [Rating(int(start_s), rated, float(rated == topic)) for start_s in yes]
    half = int(rng.integers(settings.ratings_per_topic, settings.ratings_per_topic + 2)) // 2
    num_yes = min(len(yes), max(half, settings.ratings_per_topic - len(no)))
    yes, no = yes[:num_yes], no[: settings.ratings_per_topic - num_yes]
    scored = [*zip(yes, np.ones(len(yes))), *zip(no, np.zeros(len(no)))]
    return [Rating(int(start_s), topic, float(score)) for start_s, score in scored]


def _ratable(settings: MadeCorpus, showing: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Starts in seconds of the segments that may be rated, and how many of their frames show it."""
    whole = len(showing) // GRID.num_frames
    frames = showing[: whole * GRID.num_frames].reshape(whole, GRID.num_frames).sum(axis=1)
    starts_s = np.arange(whole) * GRID.length_s
    inner = slice(settings.skip_first, max(whole - settings.skip_last, 0))
    if len(starts_s[inner]) < settings.ratings_per_topic:
        inner = slice(None)
    return starts_s[inner], frames[inner]


# ---- frames ------------------------------------------------------------------------------------


def _draw_frames(rng: np.random.Generator, world: World, scenes: Scenes) -> NDArray[np.uint8]:
    means = _scene_means(rng, world, scenes)
    # As records.quantize, but the slow parts are done once a scene and once a corpus.
    steps = np.repeat((means - BIAS) / SCALE, np.diff(scenes.bounds), axis=0)
    classes, marks = scenes.inserts[scenes.is_insert].T
    steps[scenes.is_insert] = (world.looks[classes] + world.marks[marks] - BIAS) / SCALE
    steps += _take_noise(rng, world.noise, steps.shape)
    np.rint(steps, out=steps)
    np.clip(steps, 0, 255, out=steps)
    return steps.astype(np.uint8)


def _scene_means(rng: np.random.Generator, world: World, scenes: Scenes) -> Floats:
    """What the frames of each scene [K, D] have in common."""
    settings, num_scenes = world.settings, len(scenes.looks)
    means = _look(rng, settings.scene_norm, (num_scenes, settings.width))
    means += _look(rng, settings.look_norm, (1, settings.width))
    strength = np.where(scenes.looks >= 0, scenes.strength, np.float32(0))
    for slot in range(2):
        means += strength[:, slot, None] * world.looks[scenes.looks[:, slot]]
    return means


def _look(rng: np.random.Generator, norm: float, shape: tuple[int, int]) -> Floats:
    scale = np.float32(norm / shape[1] ** 0.5)
    return scale * rng.standard_normal(shape, dtype=np.float32)


def _take_noise(rng: np.random.Generator, noise: Floats, shape: tuple[int, ...]) -> Floats:
    row, column = (int(rng.integers(n - k + 1)) for n, k in zip(noise.shape, shape))
    return noise[row : row + shape[0], column : column + shape[1]]
