"""Run: a folder with everything a training left behind.

recipe.json          the recipe as resolved, the data set, the corpus, the version
classes.csv          the class order
video-classes.csv    the class order of the video labels
metrics.jsonl        losses and evaluations, one JSON object a line
checkpoints/         what `--resume` reads, one file a phase
v1.safetensors       weights of the phase that trained on V1 and watched V2 (the best ones)
final.safetensors    weights of the retraining on V1 + V2, if asked for
run.json             written when training is done: best V2 mAP, what it was trained on, time
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whenabouts import __version__
from whenabouts.core.atomic import write_json
from whenabouts.core.classes import ClassOrder, read_classes, write_classes
from whenabouts.core.errors import RunError
from whenabouts.core.outputs import refuse_other_folder
from whenabouts.core.settings import from_dict, kept_settings, to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import DatasetSettings, listing
from whenabouts.models.table import FAMILIES, ModelSettings, build_model, model_settings
from whenabouts.models.video_table import (
    VIDEO_FAMILIES,
    VideoSettings,
    build_video_model,
    video_model_settings,
)
from whenabouts.train.checkpoint import load_weights, refuse_other_shapes

FORMAT = 1
MOST_TOLD = 5  # settings in a message
PHASES = ("final", "v1")  # the first one that has weights is used


@dataclass(frozen=True)
class Run:
    """An opened run: what it was trained with and on."""

    path: Path
    recipe: dict[str, Any]
    dataset: DatasetSettings
    classes: ClassOrder
    video_classes: ClassOrder

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        """The trained model, in evaluation mode, and the facts stored with its weights."""
        path = self.weights_path
        with torch.device("meta"):  # no memory yet
            refuse_other_shapes(path, self._build())
        model = self._build()
        facts = load_weights(path, model)
        return model.eval(), facts

    def _build(self) -> nn.Module:
        settings = self.model_settings
        try:
            return build_for(settings, self.dataset, self.classes, self.video_classes)
        except (RuntimeError, TypeError, OverflowError) as error:  # sizes that no tensor has
            fact = f"no model can be made of it ({str(error).splitlines()[0]})"
            raise RunError(fact, where=self.path / "recipe.json") from error

    @property
    def model_settings(self) -> ModelSettings | VideoSettings:
        values, where = self.recipe.get("model"), f"{self.path / 'recipe.json'}: model"
        is_video = isinstance(values, dict) and values.get("family") in VIDEO_FAMILIES
        with kept_settings(RunError):
            return (video_model_settings if is_video else model_settings)(values, where)

    @property
    def scores_videos(self) -> bool:
        """Whether it is a video classifier: it scores whole videos for the video classes."""
        return not isinstance(self.model_settings, tuple(FAMILIES.values()))

    @property
    def scored_classes(self) -> ClassOrder:
        """The class order of its scores."""
        return self.video_classes if self.scores_videos else self.classes

    @property
    def weights_path(self) -> Path:
        for phase in PHASES:
            path = self.path / f"{phase}.safetensors"
            # An unfinished final phase has no weights yet: they are written at its end.
            if path.is_file():
                return path
        raise RunError("no weights yet", where=self.path, remedy="finish training with --resume")

    def fingerprint(self) -> bytes:
        """Differs for other weights."""
        with self.weights_path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()

    def check_fits(self, corpus: Corpus) -> None:
        """Raise RunError unless the corpus has the features the run was trained on."""
        ours, theirs = what_a_model_sees(self.dataset), what_a_model_sees(corpus.dataset)
        if ours != theirs:
            raise RunError(
                f"the corpus has {theirs}", where=corpus.path, rule=f"the run was trained on {ours}"
            )


def build_for(
    settings: ModelSettings | VideoSettings,
    dataset: DatasetSettings,
    classes: ClassOrder,
    video_classes: ClassOrder,
) -> nn.Module:
    """The untrained model of these settings for such data and classes."""
    if isinstance(settings, VideoSettings):
        widths = tuple(feature.width for feature in dataset.features)
        return build_video_model(settings, widths, len(video_classes))
    return build_model(
        settings,
        dataset.width,
        len(classes),
        num_video_classes=len(video_classes),
        segment_frames=dataset.grid.num_frames,
    )


def what_a_model_sees(dataset: DatasetSettings) -> str:
    """For people, and equal for data sets that a model cannot tell apart."""
    limits = f"[{dataset.low:g}, {dataset.high:g}]"
    return (
        f"features {listing(dataset.features)} in {limits} and segments of "
        f"{dataset.segment_s} s x {dataset.frames_per_s} frames"
    )


def create_run(path: Path, recipe: Any, corpus: Corpus, *, resume: bool) -> None:
    """Make the run's folder, or check that it is the same run to be resumed.

    Raises UsageError where there is something else.
    """
    described = {
        "format": FORMAT,
        "recipe": to_dict(recipe),
        "dataset": to_dict(corpus.dataset),
        "corpus": str(corpus.path),
        "corpus_digest": corpus.digest,
    }
    recipe_path = path / "recipe.json"
    refuse_other_folder(path, recipe_path.name)
    if not recipe_path.exists():
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_classes(path / "classes.csv", corpus.classes)
        write_classes(path / "video-classes.csv", corpus.video_classes)
        write_json(recipe_path, {**described, "whenabouts": __version__})
        return
    if not resume:
        raise RunError(
            "a run is here already",
            where=path,
            remedy="go on with --resume, or choose another --out",
        )
    _check_same(recipe_path, described, corpus)


def _check_same(recipe_path: Path, described: dict[str, Any], corpus: Corpus) -> None:
    kept = _read_recipe(recipe_path)
    for name in ("recipe", "dataset"):
        now = json.loads(json.dumps(described[name]))
        differences = list(_differences(name, kept.get(name), now))
        if differences:
            raise RunError(
                "; ".join([*differences[:MOST_TOLD], *["..."] * (len(differences) > MOST_TOLD)]),
                where=recipe_path,
                rule="a resumed run has the settings it had",
                remedy="pass the same settings, or choose another --out",
            )
    for file, classes in (("", corpus.classes), ("video-", corpus.video_classes)):
        if read_classes(recipe_path.with_name(f"{file}classes.csv")).ids != classes.ids:
            raise RunError(f"the corpus has other {file}classes than the run", where=corpus.path)
    if kept.get("corpus_digest", corpus.digest) != corpus.digest:  # older runs do not say
        raise RunError(
            "the corpus has other videos, splits, labels or ratings than when the run began",
            where=corpus.path,
            rule="a resumed run goes on with the data it had",
            remedy=f"pass the index it began with ({kept.get('corpus')}), or choose another --out",
        )


def _differences(name: str, then: Any, now: Any) -> Iterator[str]:
    """What each setting that differs is now and was then."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**now, **then}:
            yield from _differences(f"{name}.{key}", then.get(key), now.get(key))
    elif then != now:
        yield f"{name} is {now!r}, and was {then!r} when the run began"


def open_run(path: str | Path) -> Run:
    """Open a run's folder. Raises RunError where it is none."""
    path = Path(path)
    recipe_path = path / "recipe.json"
    kept = _read_recipe(recipe_path)
    for name in ("dataset", "recipe"):
        if not isinstance(kept.get(name), dict):
            raise RunError(f"it has no {name}", where=recipe_path, rule="a run says what it is of")
    with kept_settings(RunError):
        dataset = from_dict(DatasetSettings, kept["dataset"], f"{recipe_path}: dataset")
    classes = read_classes(path / "classes.csv"), read_classes(path / "video-classes.csv")
    return Run(path, kept["recipe"], dataset, *classes)


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError as error:
        remedy = "make one with 'whenabouts train RECIPE INDEX -o RUN'"
        raise RunError(
            "no recipe.json here", where=path.parent, rule="a run is a folder", remedy=remedy
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run. Raises RunError if the file holds something else."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"not JSON ({error})", where=path) from error
    if not isinstance(kept, dict):
        raise RunError("not a JSON object", where=path)
    return kept
