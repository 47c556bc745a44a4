"""`whenabouts train`"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from whenabouts.commands.arguments import give, parse, recipe_first
from whenabouts.core.allocator import keep_freed_memory
from whenabouts.core.atomic import write_json
from whenabouts.core.errors import RunError
from whenabouts.core.lock import alone_in
from whenabouts.core.progress import say
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.metrics.watched import MEASURES, Measure
from whenabouts.models.hierarchical import SCALES, Scale
from whenabouts.recipes.recipe import Recipe
from whenabouts.recipes.table import RECIPES, recipe_named
from whenabouts.strategies.pseudo import PseudoLabels
from whenabouts.strategies.setup import Setup
from whenabouts.strategies.table import refuse_untrainable, train_strategy
from whenabouts.strategies.video_labels import VideoLabels
from whenabouts.train.distributed import Team, join_team
from whenabouts.train.fit import Folder
from whenabouts.train.log import MetricsLog
from whenabouts.train.run import build_for, create_run

KEYS: dict[Measure, str] = {"mean_ap": "best_v2_map", "gap": "best_v2_gap"}  # in run.json


@dataclass(frozen=True)
class Train:
    """Train a recipe on an indexed corpus: on V1, watching V2; gives a run (a folder).

    Every setting of the recipe is a flag. Ctrl-C leaves a run that --resume continues bit for bit.

    Example: whenabouts train s-logi corpus.index -o runs/s-logi --loop.seed 1
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The run's folder."""
    scale: Scale | None = None
    """Size of an attention or video model: tiny, small or paper; paper if not said."""
    final: bool = False
    """Then train anew on V1 + V2, with twice the iterations of the best step."""
    resume: bool = False
    """Go on with an interrupted run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    resident_gb: float = 4.0
    """Rated segments that fit in this many GB are kept in memory, on the device."""
    tensorboard: bool = False
    """Write TensorBoard events beside metrics.jsonl."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    name, rest = recipe_first(arguments, _usage())
    default = Train(recipe_named(name, scale_named(rest)), tyro.MISSING, tyro.MISSING)
    args = parse(Train, f"train {name}", rest, default)
    keep_freed_memory()
    with join_team(args.device) as team:
        result = train(args, name, team)
        if team.is_main:
            measure = next(m for m in MEASURES if KEYS[m] in result)
            best, step = result[KEYS[measure]], result["best_step"]
            name = MEASURES[measure]
            line = f"{args.out}: V2 {name} {best:.4f} at step {step}, {result['time_s']:.0f} s"
            give(result, [line], as_json=args.json)


def _usage() -> str:
    listing = "\n".join(
        f"  {n:<15} {(f.__doc__ or '').splitlines()[0]}" for n, f in RECIPES.items()
    )
    return (
        f"usage: whenabouts train RECIPE INDEX -o RUN ...\n\nrecipes:\n{listing}\n\n"
        "Example: whenabouts train s-logi corpus.index -o runs/s-logi\n\n"
        "'whenabouts train RECIPE --help' lists every setting."
    )


def scale_named(arguments: Sequence[str]) -> Scale | None:
    """The value of --scale, which decides the defaults of all other flags."""
    for word, following in zip(arguments, [*arguments[1:], ""]):
        name, _, value = word.partition("=")
        if name == "--scale":
            found = value or following
            return next((scale for scale in SCALES if scale == found), None)
    return None


def train(
    args: Train,
    name: str,
    team: Team,
    on_line: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, object]:
    """Train as the arguments say; returns what `run.json` holds. on_line: see `MetricsLog`."""
    corpus = open_corpus(args.index)
    opened = refuse_untrainable(corpus, args.recipe.strategy)  # before there is a folder
    if team.is_main:
        create_run(args.out, args.recipe, corpus, resume=args.resume)
        if not isinstance(args.recipe.strategy, VideoLabels):
            _note_unrated_classes(corpus)
    team.wait()
    with alone_in(args.out, RunError) if team.is_main else nullcontext():
        return _train_in_folder(args, name, team, corpus, opened, on_line)


def _note_unrated_classes(corpus: Corpus) -> None:
    """Of such a class rated segments teach nothing, and V2 may judge it all the same."""
    in_v1 = np.isin(corpus.rated_class.rows, corpus.rows(["v1"]))
    rated = corpus.classes.columns(corpus.rated_class.values[in_v1])
    missing = np.setdiff1d(np.arange(len(corpus.classes)), rated).tolist()
    if missing:
        count = f"{len(missing):,} of {len(corpus.classes):,} classes"
        topic = corpus.classes.topic(missing[0])
        say(f"note: {count} have no rated segment in V1 to learn from, such as {topic}")


def _has_begun_final(run: Path) -> bool:
    """What was begun is ended, also where --resume comes without --final."""
    phases = (Folder(run, "final"), Folder(run, "pretrain-final"))
    return any(phase.weights.exists() or phase.checkpoint.exists() for phase in phases)


def _train_in_folder(
    args: Train,
    name: str,
    team: Team,
    corpus: Corpus,
    opened: PseudoLabels | None,
    on_line: Callable[[dict[str, Any]], object] | None,
) -> dict[str, object]:
    recipe = args.recipe
    is_final = args.final or _has_begun_final(args.out)
    tensorboard = args.tensorboard and team.is_main
    with closing(MetricsLog(args.out, tensorboard=tensorboard, on_line=on_line)) as log:
        resident_bytes = int(args.resident_gb * 1e9)
        setup = Setup(corpus, args.out, log, team, resident_bytes, opened=opened)
        found = train_strategy(
            lambda: build_for(recipe.model, corpus.dataset, corpus.classes, corpus.video_classes),
            recipe.strategy,
            recipe.optimiser,
            recipe.loop,
            setup,
            final=is_final,
        )
    ended = setup.ended["final" if is_final else "v1"]
    result: dict[str, object] = {
        "recipe": name,
        KEYS[setup.ended["v1"].measure]: found.best,
        "best_step": found.best_step,
        "trained_on": list(ended.trained_on),
        "time_s": sum(phase.position.elapsed_s for phase in setup.ended.values()),
        **ended.facts,
    }
    if team.is_main:
        write_json(args.out / "run.json", result)
    return result
