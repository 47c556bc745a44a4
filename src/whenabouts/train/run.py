"""Run: a folder with everything a training left behind.

recipe.json          the recipe as resolved, the data set, the corpus, the version
classes.csv          the class order
metrics.jsonl        losses and evaluations, one JSON object a line
checkpoints/         what `--resume` reads, one file a phase
v1.safetensors       weights of the phase that trained on V1 and watched V2 (the best ones)
final.safetensors    weights of the retraining on V1 + V2, if asked for
run.json             written when training is done: which weights to use, best V2 mAP, time
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from whenabouts import __version__
from whenabouts.core.atomic import write_json
from whenabouts.core.classes import ClassOrder, read_classes, write_classes
from whenabouts.core.errors import RunError
from whenabouts.core.settings import from_dict, to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.dataset import DatasetSettings
from whenabouts.models.table import build_model, model_settings
from whenabouts.train.checkpoint import load_weights

FORMAT = 1
PHASES = ("final", "v1")  # the first one that has weights is used


@dataclass(frozen=True)
class Run:
    """An opened run: what it was trained with and on."""

    path: Path
    recipe: dict[str, Any]
    dataset: DatasetSettings
    classes: ClassOrder

    def load_model(self) -> tuple[nn.Module, dict[str, Any]]:
        """The trained model, in evaluation mode, and the facts stored with its weights."""
        settings = model_settings(self.recipe["model"], f"{self.path / 'recipe.json'}: model")
        model = build_model(settings, self.dataset.width, len(self.classes))
        facts = load_weights(self.weights_path, model)
        return model.eval(), facts

    @property
    def weights_path(self) -> Path:
        for phase in PHASES:
            path = self.path / f"{phase}.safetensors"
            # An unfinished final phase has no weights yet: they are written at its end.
            if path.is_file():
                return path
        raise RunError("no weights yet", where=self.path, remedy="finish training with --resume")

    def check_fits(self, corpus: Corpus) -> None:
        """Raise RunError unless the corpus has the features the run was trained on."""
        ours = [(f.name, f.width) for f in self.dataset.features]
        theirs = [(f.name, f.width) for f in corpus.dataset.features]
        if ours != theirs or self.dataset.grid != corpus.dataset.grid:
            raise RunError(
                f"the corpus has features {theirs} and segments of {corpus.dataset.grid}",
                where=corpus.path,
                rule=f"the run was trained on {ours} and {self.dataset.grid}",
            )


def create_run(path: Path, recipe: Any, corpus: Corpus, *, resume: bool) -> None:
    """Make the run's folder, or check that it is the same run to be resumed."""
    described = {
        "format": FORMAT,
        "recipe": to_dict(recipe),
        "dataset": to_dict(corpus.dataset),
        "corpus": str(corpus.path),
    }
    recipe_path = path / "recipe.json"
    if not recipe_path.exists():
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_classes(path / "classes.csv", corpus.classes)
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
    kept = json.loads(recipe_path.read_text())
    for name in ("recipe", "dataset"):
        if kept.get(name) != json.loads(json.dumps(described[name])):
            raise RunError(
                f"the {name} is not the one the run began with",
                where=recipe_path,
                rule="a resumed run has the settings it had",
                remedy="pass the same settings, or choose another --out",
            )
    if read_classes(recipe_path.with_name("classes.csv")).ids != corpus.classes.ids:
        raise RunError("the corpus has other classes than the run", where=corpus.path)


def open_run(path: str | Path) -> Run:
    """Open a run's folder. Raises RunError where it is none."""
    path = Path(path)
    try:
        kept = json.loads((path / "recipe.json").read_text())
    except FileNotFoundError as error:
        remedy = "make one with 'whenabouts train RECIPE INDEX -o RUN'"
        raise RunError(
            "no recipe.json here", where=path, rule="a run is a folder", remedy=remedy
        ) from error
    except json.JSONDecodeError as error:
        raise RunError(f"not JSON ({error})", where=path / "recipe.json") from error
    dataset = from_dict(DatasetSettings, kept["dataset"], f"{path / 'recipe.json'}: dataset")
    return Run(path, kept["recipe"], dataset, read_classes(path / "classes.csv"))
