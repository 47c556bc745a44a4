"""The world behind a made corpus: how topics look, which look alike, which come together.

Everything here is drawn once from the seed; every video of every split shows the same world.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from whenabouts.corpus.made_names import topic_names
from whenabouts.corpus.made_settings import ID_CHARACTERS, ID_LENGTH, NUM_IDS, MadeCorpus
from whenabouts.records.quantize import YOUTUBE_8M

NUM_BACKGROUNDS = 24
NUM_MARKS = 3
NOISE_ROWS = 2048
# What a generator draws; the first number after the seed, so that no two streams are one.
TOPICS, IDS, CONTEXT, LOOKS, NOISE, VIDEOS, INSERTS = range(7)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class World:
    """C classes in D features, in the units of dequantised bytes.

    looks [2C + backgrounds, D]: row c is the prototype of class c, row C + c its cue (zero if it
    needs none), backgrounds follow from row 2C;
    marks [kinds, D]: what inserts have on top of a topic's prototype;
    noise [rows, 2D]: noise of consecutive frames, in steps of a byte, to be sliced;
    frequency [C]: chance of being a train video's main topic; rated: evaluated classes in the
    order of their file; siblings: look-alikes of each class; companions: what it comes with;
    partner [C]: the class of the same look that only a cue tells from it, or -1.
    """

    settings: MadeCorpus
    frequency: NDArray[np.float64]
    rated: tuple[int, ...]
    names: tuple[str, ...]
    siblings: tuple[Ints, ...]
    companions: tuple[Ints, ...]
    partner: Ints
    looks: Floats
    marks: Floats
    noise: Floats

    def topic_of(self, look: Ints) -> Ints:
        """The class whose prototype a row of `looks` is; -1 for cues and backgrounds."""
        return np.where(look < self.settings.num_classes, look, -1)

    def cue_of(self, class_id: int) -> int:
        return self.settings.num_classes + class_id

    @property
    def first_background(self) -> int:
        return 2 * self.settings.num_classes


@lru_cache(maxsize=1)
def build_world(settings: MadeCorpus) -> World:
    rng = np.random.default_rng([settings.seed, TOPICS])
    frequency = _frequency(settings)
    rated = _rated_classes(rng, settings)
    family = _families(rng, settings)
    partner = _partners(settings, rated)
    return World(
        settings,
        frequency,
        rated,
        topic_names(rng, family),
        _siblings(family, partner),
        _companions(rng, settings, frequency, partner),
        partner,
        _looks(settings, family, partner),
        _marks(settings),
        _noise(settings),
    )


def video_id(settings: MadeCorpus, number: int) -> bytes:
    """The id of the `number`-th video of the corpus: a seeded one-to-one map to 4 characters."""
    factor, shift = _id_code(settings.seed)
    code = (number * factor + shift) % NUM_IDS
    characters = ""
    for _ in range(ID_LENGTH):
        code, digit = divmod(code, len(ID_CHARACTERS))
        characters += ID_CHARACTERS[digit]
    return characters.encode()


@lru_cache(maxsize=1)
def _id_code(seed: int) -> tuple[int, int]:
    rng = np.random.default_rng([seed, IDS])
    # One to one because the factor shares no divisor with NUM_IDS = (2 * 31) ** 4.
    factor = next(int(f) for f in rng.integers(NUM_IDS // 4, NUM_IDS, 64) if f % 2 and f % 31)
    return factor, int(rng.integers(NUM_IDS))


def _frequency(settings: MadeCorpus) -> NDArray[np.float64]:
    weight = 1 / np.arange(1, settings.num_classes + 1) ** settings.zipf_exponent
    return np.asarray(weight / weight.sum(), np.float64)


def _rated_classes(rng: np.random.Generator, settings: MadeCorpus) -> tuple[int, ...]:
    """Ids neither sorted nor, where the vocabulary has others, contiguous."""
    count, all_rated = (
        settings.num_rated_classes,
        settings.num_rated_classes == settings.num_classes,
    )
    while True:
        ids = rng.permutation(settings.num_classes)[:count]
        if (np.diff(ids) < 0).any() and (all_rated or np.ptp(ids) >= count):
            return tuple(int(i) for i in ids)


def _families(rng: np.random.Generator, settings: MadeCorpus) -> Ints:
    """The family [C] of each class."""
    return rng.permutation(settings.num_classes) // settings.family_size


def _partners(settings: MadeCorpus, rated: tuple[int, ...]) -> Ints:
    """Pairs among the evaluated classes, as many as `temporal_context` asks for."""
    partner = np.full(settings.num_classes, -1, np.int64)
    num_pairs = math.ceil(settings.temporal_context * (len(rated) // 2))
    drawn = np.random.default_rng([settings.seed, CONTEXT]).permutation(rated)
    pairs = drawn[: 2 * num_pairs].reshape(-1, 2)
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return partner


def _siblings(family: Ints, partner: Ints) -> tuple[Ints, ...]:
    # A class that needs a cue is only ever a main topic: elsewhere it would have none.
    free = partner < 0
    classes = np.arange(len(family))
    return tuple(np.flatnonzero((family == family[c]) & free & (classes != c)) for c in classes)


def _companions(
    rng: np.random.Generator,
    settings: MadeCorpus,
    frequency: NDArray[np.float64],
    partner: Ints,
) -> tuple[Ints, ...]:
    """Frequent topics are more often somebody's companions, so that the tail stays long."""
    kept = []
    for c in range(settings.num_classes):
        # The largest of frequency / exponential draws are a sample without replacement.
        keys = frequency / rng.exponential(size=settings.num_classes)
        order = np.argsort(-keys)
        order = order[(order != c) & (partner[order] < 0)]
        kept.append(order[: settings.num_companions])
    # What a partner comes with must not tell the two apart: the cue alone does.
    return tuple(kept[min(c, p) if p >= 0 else c] for c, p in enumerate(partner))


def _looks(settings: MadeCorpus, family: Ints, partner: Ints) -> Floats:
    rng = np.random.default_rng([settings.seed, LOOKS])
    topics, backgrounds = [], []
    for place, (_, width) in enumerate(settings.features):
        # Topics that look alike need not sound alike: each further list has its own families.
        families = family if place == 0 else rng.permutation(family)
        norm = settings.topic_norm * (width / settings.width) ** 0.5
        topics.append(norm * _alike(rng, families, width, settings.family_similarity))
        backgrounds.append(norm * _directions(rng, NUM_BACKGROUNDS, width))
    prototypes = np.concatenate(topics, axis=1)
    first = np.flatnonzero(partner > np.arange(len(partner)))
    prototypes[partner[first]] = prototypes[first]
    return np.concatenate(
        [prototypes, _cues(settings, partner), np.concatenate(backgrounds, axis=1)]
    )


def _cues(settings: MadeCorpus, partner: Ints) -> Floats:
    """Cues of all classes have a part in common, so that a model can learn to look for cues."""
    rng = np.random.default_rng([settings.seed, CONTEXT, LOOKS])
    cues = np.zeros((len(partner), settings.width), np.float32)
    needy = np.flatnonzero(partner >= 0)
    if len(needy):
        one_family = np.zeros(len(needy), np.int64)
        cues[needy] = settings.cue_norm * _alike(rng, one_family, settings.width, CUE_SIMILARITY)
    return cues


CUE_SIMILARITY = 0.5


def _marks(settings: MadeCorpus) -> Floats:
    rng = np.random.default_rng([settings.seed, LOOKS, INSERTS])
    return np.float32(settings.insert_norm) * _directions(rng, NUM_MARKS, settings.width)


def _alike(rng: np.random.Generator, family: Ints, width: int, similarity: float) -> Floats:
    """Directions [C, width]; `similarity` is the cosine, on average, of two of one family."""
    shared, own = np.float32(similarity**0.5), np.float32((1 - similarity) ** 0.5)
    centres = _directions(rng, int(family.max()) + 1, width)[family]
    return _unit(shared * centres + own * _directions(rng, len(family), width))


def _directions(rng: np.random.Generator, count: int, width: int) -> Floats:
    return _unit(rng.standard_normal((count, width), dtype=np.float32))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _noise(settings: MadeCorpus) -> Floats:
    """Autocorrelated noise [rows, 2D] of which every video takes a slice at a place of its own.

    Drawing noise afresh for each video would cost more than everything else together. A slice
    has exactly the distribution asked for; that slices of two videos overlap in the same rows
    *and* columns is rare (one in millions of places is the same).
    """
    rng = np.random.default_rng([settings.seed, NOISE])
    shape = (NOISE_ROWS + settings.max_frames, 2 * settings.width)
    rows = rng.standard_normal(shape, dtype=np.float32)
    rho = np.float32(settings.noise_correlation)
    fresh = np.float32((1 - settings.noise_correlation**2) ** 0.5)
    for row in range(1, len(rows)):
        rows[row] *= fresh
        rows[row] += rho * rows[row - 1]
    rows *= np.float32(settings.noise_sd / YOUTUBE_8M.scale)
    return rows
