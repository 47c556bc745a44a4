"""`whenabouts search`"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Annotated, Any

import torch
import tyro

from whenabouts.commands.arguments import give, parse, recipe_first
from whenabouts.commands.train import KEYS, Train, scale_named, train
from whenabouts.core.allocator import keep_freed_memory
from whenabouts.core.atomic import write_json, write_text
from whenabouts.core.errors import InterruptedRunError, RunError, UsageError, WhenaboutsError
from whenabouts.core.outputs import refuse_other_folder
from whenabouts.core.processes import default_processes, map_unordered
from whenabouts.core.progress import say
from whenabouts.core.settings import leaves, to_dict
from whenabouts.corpus.corpus import open_corpus
from whenabouts.metrics.watched import MEASURES, Measure
from whenabouts.models.hierarchical import Scale
from whenabouts.recipes.recipe import Recipe
from whenabouts.recipes.table import RECIPES, recipe_named
from whenabouts.report.style import save_png
from whenabouts.search.halves import maps_of_halves
from whenabouts.search.page import build_page
from whenabouts.search.plot import draw_search
from whenabouts.search.results import as_csv, as_markdown, best_of, summary, table_lines
from whenabouts.search.space import Space, apply, default_space, described, parse_space
from whenabouts.search.study import PrunedError, Study, Trial, Tried
from whenabouts.strategies.table import refuse_untrainable
from whenabouts.strategies.video_labels import VideoLabels
from whenabouts.train.distributed import Team, join_team
from whenabouts.train.run import read_object


@dataclass(frozen=True)
class Search:
    """Search a recipe's settings: train on V1, watch V2, again and again; gives a folder of runs.

    Each trial is a run, DIR/trials/N; the best is named in DIR/search.json. The same command goes
    on with a search that was stopped or killed, and several calls, on one or more machines, may
    work on one DIR. Every setting of the recipe is a flag, too: what is not searched.

    Example: whenabouts search s-logi corpus.index -o searches/s-logi --trials 30
             whenabouts search att2 corpus.index -o searches/att2 --scale small
             --space optimiser.learning-rate=1e-5:1e-3:log --space model.embedding.width=256,512
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The search's folder."""
    scale: Scale | None = None
    """Size of an attention or video model: tiny, small or paper; paper if not said."""
    space: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C, or a JSON file of such; may be repeated. The
    recipe's usual ones if not said."""
    trials: int = 20
    """Trials in all, those of earlier calls included."""
    seconds: float | None = None
    """No trial begins later than this after the start; the last one is trained to its end."""
    jobs: int = 1
    """Trials at a time, each in a process of its own."""
    prune: bool = True
    """End a trial that is behind the median of the finished ones."""
    seed: int = 0
    """Of the settings drawn."""
    final: bool = False
    """Then retrain the best settings on V1 + V2, with twice the iterations."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto gives each job a GPU of its own while there are enough."""
    resident_gb: float = 4.0
    """Rated segments that fit in this many GB are kept in memory, on the device."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Job:
    """What one process of a search does. until_s: when no trial begins any more (time of day)."""

    args: Search
    name: str
    space: Space
    number: int
    until_s: float

    @property
    def study(self) -> Study:
        args = self.args
        return Study(args.out, self.space, leaves(args.recipe), args.seed, args.prune)

    @property
    def measure(self) -> Measure:
        return "gap" if isinstance(self.args.recipe.strategy, VideoLabels) else "mean_ap"


def main(arguments: Sequence[str]) -> None:
    name, rest = recipe_first(arguments, _usage())
    default = Search(recipe_named(name, scale_named(rest)), tyro.MISSING, tyro.MISSING)
    args = parse(Search, f"search {name}", rest, default)
    for flag in ("trials", "jobs"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} is {getattr(args, flag)}", rule="at least one")
    space = parse_space(args.space, args.recipe) or default_space(args.recipe)
    if not space:
        raise UsageError("no setting to search", remedy="name some with --space")
    until_s = float("inf") if args.seconds is None else time() + args.seconds
    jobs = [Job(args, name, space, number, until_s) for number in range(args.jobs)]
    refuse_untrainable(open_corpus(args.index), args.recipe.strategy)
    _keep_plan(args, name, space)
    study = jobs[0].study
    for _ in map_unordered(work, jobs, args.jobs):
        pass
    found = write_results(jobs[0], study.tried())
    if args.final and found["best"] is not None:
        found = _finish(jobs[0], found)
    give(found, table_lines(study.tried(), found), as_json=args.json)


def _usage() -> str:
    return (
        f"usage: whenabouts search RECIPE INDEX -o DIR ...\n\nrecipes: {', '.join(RECIPES)}\n\n"
        "Example: whenabouts search s-logi corpus.index -o searches/s-logi --trials 30\n\n"
        "'whenabouts search RECIPE --help' lists the options and every setting."
    )


def _keep_plan(args: Search, name: str, space: Space) -> None:
    """Note what is searched, or raise RunError if the folder searches something else."""
    plan = {
        "recipe": name,
        "settings": to_dict(args.recipe),
        "corpus": str(args.index.resolve()),
        "space": described(space),
        "seed": args.seed,
    }
    path = args.out / "plan.json"
    refuse_other_folder(args.out, path.name)
    if not path.exists():
        write_json(path, plan)
        return
    kept, now = read_object(path), json.loads(json.dumps(plan))
    for part in plan:
        if kept.get(part) != now[part]:
            raise RunError(
                f"another {part} was searched here",
                where=path,
                rule="a search goes on with what it began with",
                remedy="pass the same again, or choose another --out",
            )


# ---- trials --------------------------------------------------------------------------------------


def work(job: Job) -> int:
    """Run trials until there are enough or the time is up; returns how many."""
    args, study, done = job.args, job.study, 0
    keep_freed_memory()
    if args.jobs > 1:
        torch.set_num_threads(max(1, default_processes() // args.jobs))
    with join_team(_device(job)) as team:
        while time() < job.until_s:
            with study.next_trial(args.trials) as trial:
                if trial is None:
                    break
                run_trial(job, study, trial, team)
                done += 1
            write_results(job, study.tried(), with_pictures=False)
    return done


def _device(job: Job) -> str:
    count = torch.cuda.device_count()
    if job.args.device != "auto" or not count:
        return job.args.device
    return f"cuda:{job.number % count}"


def run_trial(job: Job, study: Study, trial: Trial, team: Team) -> None:
    """Train a trial to its plateau, or until it is pruned, and tell the study.

    One that fails (no memory, scores that are no numbers) is told as failed, and the search goes on
    if any other has finished. Ctrl-C leaves it to be resumed.
    """

    def on_line(line: dict[str, Any]) -> None:
        if line["kind"] == "evaluate" and job.measure in line:
            trial.report(line["phase"], line["step"], line[job.measure])

    args = _training(job, trial.number, apply(job.args.recipe, trial.settings))
    say(f"trial {trial.number}: {_shown(trial.settings)}")
    try:
        result = train(args, job.name, team, on_line)
    except PrunedError:
        trial.pruned()
        say(f"trial {trial.number}: pruned")
    except InterruptedRunError as error:
        raise InterruptedRunError(
            error.fact, where=error.where, remedy="the same command goes on"
        ) from error
    except (WhenaboutsError, torch.OutOfMemoryError) as error:
        trial.failed(str(error))
        say(f"trial {trial.number}: failed: {error}")
        if best_of(study.tried()) is None:
            raise
    else:
        value = float(result[KEYS[job.measure]])  # type: ignore[arg-type]
        trial.complete(value, maps_of_halves(args.out, open_corpus(args.index), team))
        say(f"trial {trial.number}: V2 {MEASURES[job.measure]} {value:.4f}")


def _training(job: Job, number: int, recipe: Recipe) -> Train:
    args = job.args
    return Train(
        recipe,
        args.index,
        args.out / "trials" / str(number),
        resume=True,
        device=args.device,
        resident_gb=args.resident_gb,
    )


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
    )


# ---- results -------------------------------------------------------------------------------------


def write_results(
    job: Job, tried: Sequence[Tried], *, with_pictures: bool = True
) -> dict[str, Any]:
    """trials.csv, trials.md, search.json, and the pictures; returns what search.json holds."""
    out, measure = job.args.out, MEASURES[job.measure]
    found = {"recipe": job.name, **summary(tried, measure), "space": described(job.space)}
    write_text(out / "trials.csv", as_csv(tried))
    write_text(out / "trials.md", as_markdown(tried, found))
    write_json(out / "search.json", found)
    if with_pictures:
        save_png(out / "search.png", draw_search(tried, job.space, measure))
        title = f"Search of {job.name}"
        write_text(out / "search.html", build_page(title, tried, job.space, found))
    return found


def _finish(job: Job, found: dict[str, Any]) -> dict[str, Any]:
    """Retrain the best settings on V1 + V2."""
    best = found["best"]
    recipe = apply(job.args.recipe, best["settings"])
    with join_team(_device(job)) as team:
        result = train(replace(_training(job, best["trial"], recipe), final=True), job.name, team)
    found = {**found, "final": {"run": best["run"], "trained_on": result["trained_on"]}}
    write_json(job.args.out / "search.json", found)
    return found
