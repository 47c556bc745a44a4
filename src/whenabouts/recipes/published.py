"""The 20 models and the five ensembles of the paper (11th place, 3rd YouTube-8M challenge, 2019).

    4 logistic        3 F-Logi, 1 S-Logi               rated segments alone
    8 attention       2 NL, 2 SE, 2 Att2, FCFC, Loss2   video labels first (Loss2: both at once)
    8 pseudo-label    6 Cluster, 2 Student              as attention, with pseudo-labels beside

The paper says of two models of one kind that they differ, not how: here the second one has another
seed, twice the width, and a mixture of experts as head. Three F-Logi differ in seed and learning
rate. The six Cluster are two each of NL, SE and Att2.

Nothing here loads torch: the plan of a long work is made and shown without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal, get_args

from whenabouts.core.errors import StageError

Scale = Literal["tiny", "small", "paper"]
Precision = Literal["auto", "float32", "bfloat16"]
Group = Literal["nl", "se", "att2", "fcfc", "loss2", "f-logi", "s-logi", "cluster", "student"]
Source = Literal["teacher", "cluster"]
GROUPS: tuple[Group, ...] = get_args(Group)
NAMES: dict[Group, str] = {
    "nl": "NL", "se": "SE", "att2": "Att2", "fcfc": "FCFC", "loss2": "Loss2",
    "f-logi": "F-Logi", "s-logi": "S-Logi", "cluster": "Cluster", "student": "Student",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One of the models: `whenabouts train RECIPE INDEX -o RUN` and these flags.

    group: its row in the tables of the paper, None where it has none. labels: who makes the
    pseudo-labels it learns from, if any. scores_videos: it scores whole videos, not segments.
    """

    name: str
    group: Group | None
    recipe: str
    seed: int
    settings: tuple[str, ...] = ()
    labels: Source | None = None
    scores_videos: bool = False

    def repeated(self, repeat: int) -> Member:
        """The same model with another seed; repeat 1 is itself."""
        if repeat == 1:
            return self
        return replace(self, name=f"{self.name}.r{repeat}", seed=self.seed + SEEDS * (repeat - 1))

    def setting(self, flag: str) -> str | None:
        """What follows the flag; None where it is not given."""
        return self.settings[self.settings.index(flag) + 1] if flag in self.settings else None


KINDS: tuple[Group, ...] = ("nl", "se", "att2")  # of which there are two
SEEDS = 100  # above the seed of any model of the first repeat
WIDTHS: dict[Scale, int] = {"tiny": 64, "small": 512, "paper": 1024}  # of the first of a kind
RATES = ("0.01", "0.005", "0.02")  # of the three F-Logi

# A corpus of some hundred videos is learned in few steps, and all 20 in minutes.
SHORT_LOGISTIC = ("--loop.patience", "8", "--loop.max-steps", "400")
SHORT_TWO_STEPS = (
    "--strategy.pretrain.max-steps", "250", "--strategy.pretrain.patience", "4",
    "--loop.max-steps", "400", "--loop.patience", "6", "--optimiser.learning-rate", "1e-3",
)  # fmt: skip
SHORT_BOTH = ("--loop.max-steps", "250", "--loop.patience", "4")


def members(scale: Scale) -> tuple[Member, ...]:
    """The 20 models, each behind those whose scores or frames its pseudo-labels come from."""
    two_steps = SHORT_TWO_STEPS if scale == "tiny" else ()
    both = SHORT_BOTH if scale == "tiny" else ()
    sized = ("--scale", scale)
    found = [
        *_logistic(scale),
        *(
            m
            for group in ("nl", "se", "att2")
            for m in _pair(group, group, group, scale, two_steps)
        ),
        Member("fcfc", "fcfc", "fcfc", 0, (*sized, *two_steps)),
        Member("loss2", "loss2", "loss2", 0, (*sized, *both)),
        *(
            replace(m, group="cluster", labels="cluster")
            for recipe, kind in (("cluster", "nl"), ("se", "se"), ("att2", "att2"))
            for m in _pair("cluster", recipe, f"cluster-{kind}", scale, two_steps)
        ),
        *(
            replace(m, labels="teacher")
            for m in _pair("student", "student", "student", scale, two_steps)
        ),
    ]
    return tuple(replace(member, seed=seed) for seed, member in enumerate(found))


def _logistic(scale: Scale) -> Iterable[Member]:
    short = SHORT_LOGISTIC if scale == "tiny" else ()
    for place, rate in enumerate(RATES, 1):
        settings = ("--optimiser.learning-rate", rate, *short)
        yield Member(f"f-logi-{place}", "f-logi", "f-logi", 0, settings)
    yield Member("s-logi", "s-logi", "s-logi", 0, short)


def _pair(
    group: Group, recipe: str, name: str, scale: Scale, more: tuple[str, ...]
) -> Iterable[Member]:
    """Two of one kind: as the recipe says, and twice as wide with a mixture of experts."""
    settings = ("--scale", scale, *more)
    wide = ("--model.embedding.width", str(2 * WIDTHS[scale]), "--model.head.kind", "moe")
    yield Member(f"{name}-1", group, recipe, 0, settings)
    yield Member(f"{name}-2", group, recipe, 0, (*settings, *wide))


# ---- the video classifier ------------------------------------------------------------------------

# Several are averaged. The paper took the 2018 winner's, trained on millions of videos; with some
# thousand none of its networks is ahead of a logistic model of the mean frame (notes/LOG.md).
VIDEO_RECIPES: dict[Scale, tuple[str, ...]] = {
    "tiny": ("video-logistic",),
    "small": ("video-logistic",),
    "paper": ("netvlad", "netfv", "dbof", "bilstm", "bigru"),
}


def video_members(scale: Scale) -> tuple[Member, ...]:
    return tuple(
        Member(recipe if recipe.startswith("video-") else f"video-{recipe}", None, recipe, seed,
               ("--scale", scale), scores_videos=True)
        for seed, recipe in enumerate(VIDEO_RECIPES[scale])
    )  # fmt: skip


# ---- what the paper reports ----------------------------------------------------------------------

PAPER_MAP: dict[Group, float] = {
    "att2": 0.788, "loss2": 0.778, "nl": 0.789, "se": 0.788, "fcfc": 0.784,
    "f-logi": 0.791, "s-logi": 0.789, "cluster": 0.786,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """weights: a model of the group; of Cluster the total of its six. public, private: mAP of the
    ensemble, fused with the video classifier."""

    weights: Mapping[Group, float]
    public: float
    private: float


_COLUMNS: tuple[Group, ...] = ("nl", "se", "att2", "fcfc", "loss2", "f-logi", "s-logi", "cluster")


def _published(public: float, private: float, *weights: float) -> Published:
    return Published(dict(zip(_COLUMNS, weights, strict=True)), public, private)


ENSEMBLES: dict[str, Published] = {
    "E1": _published(0.7957, 0.7864, 0.09, 0.09, 0.09, 0.08, 0.05, 0.09, 0.06, 0.00),
    "E2": _published(0.7868, 0.7774, 0.06, 0.06, 0.06, 0.05, 0.03, 0.14, 0.14, 0.00),
    "E3": _published(0.7874, 0.7778, 0.11, 0.11, 0.11, 0.10, 0.05, 0.05, 0.04, 0.00),
    "E4": _published(0.7941, 0.7846, 0.08, 0.08, 0.08, 0.07, 0.04, 0.08, 0.05, 0.12),
    "E5": _published(0.7932, 0.7831, 0.05, 0.05, 0.05, 0.04, 0.02, 0.12, 0.12, 0.16),
}


def published_weights(ensemble: str, all_members: Iterable[Member]) -> dict[str, float]:
    """The weight of each member that counts in the ensemble, by name; they sum to 1."""
    per_group = ENSEMBLES[ensemble].weights
    counted = [m for m in all_members if m.group and per_group.get(m.group, 0) > 0]
    num_clusters = sum(m.group == "cluster" for m in counted)
    share = {"cluster": num_clusters}
    return {m.name: per_group[m.group] / share.get(m.group, 1) for m in counted if m.group}


def weights_of_present(weights: Mapping[str, float], present: Collection[str]) -> dict[str, float]:
    """The weights of the members there are, raised in proportion so that they sum to 1.

    Raises StageError if none is there.
    """
    kept = {name: weight for name, weight in weights.items() if name in present}
    total = fsum(kept.values())
    if not total:
        raise StageError("none of the members of the ensemble is there", remedy="train some first")
    return {name: weight / total for name, weight in kept.items()}
