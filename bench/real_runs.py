"""Trainings on real data, several seeds each, and the tables of what came out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from real_corpora import whenabouts

Given = TypeVar("Given")
Made = TypeVar("Made")
MakeCorpus = Callable[[Path, Path], Path]  # (shared, work) -> index


@dataclass(frozen=True)
class Bench:
    """Where things are, which seeds to take, and how many trainings to run at once."""

    shared: Path
    work: Path
    seeds: tuple[int, ...]
    jobs: int

    @property
    def threads(self) -> int:
        return max(1, (os.cpu_count() or 1) // self.jobs)

    def at_once(self, call: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
        with ThreadPoolExecutor(self.jobs) as workers:
            return list(workers.map(call, given))


@dataclass(frozen=True)
class Recipe:
    """A recipe, its size, and settings beyond its own; variant names these."""

    name: str
    scale: str = ""
    variant: str = ""
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} {self.variant}".strip()

    @property
    def words(self) -> tuple[str, ...]:
        return (*(("--scale", self.scale) if self.scale else ()), *self.settings)


def run_path(bench: Bench, index_path: Path, recipe: Recipe, seed: int) -> Path:
    name = "-".join(filter(None, (index_path.stem, recipe.name, recipe.variant, str(seed))))
    return bench.work / "runs" / name


def train(bench: Bench, index_path: Path, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What `whenabouts train` says of the run; a finished run is not trained again."""
    run = run_path(bench, index_path, recipe, seed)
    if not (run / "run.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        whenabouts(
            "train", recipe.name, str(index_path), "-o", str(run), *recipe.words,
            "--loop.seed", str(seed), threads=bench.threads,
        )  # fmt: skip
    told: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return told


def rows_of(
    bench: Bench, corpora: Mapping[str, MakeCorpus], recipes: Sequence[Recipe], measure: str
) -> list[dict[str, Any]]:
    """A row for each recipe on each corpus."""
    indexes = {name: make(bench.shared, bench.work) for name, make in corpora.items()}
    groups = list(product(recipes, indexes))
    jobs = [(indexes[corpus], recipe, seed) for recipe, corpus in groups for seed in bench.seeds]
    told = bench.at_once(lambda job: train(bench, *job), jobs)
    per_group = [told[k : k + len(bench.seeds)] for k in range(0, len(told), len(bench.seeds))]
    return [
        {
            "recipe": recipe.label,
            "corpus": corpus,
            **spread([run[measure] for run in runs]),
            "time_s": mean(run["time_s"] for run in runs),
            "best_steps": [run["best_step"] for run in runs],
        }
        for (recipe, corpus), runs in zip(groups, per_group)
    ]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, and the values themselves."""
    sd = stdev(values) if len(values) > 1 else 0.0
    return {"mean": mean(values), "sd": sd, "values": list(values)}


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A Markdown table of some keys of the rows."""
    head = [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    return "\n".join(
        head + [f"| {' | '.join(_cell(row, key) for key in columns)} |" for row in rows]
    )


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if key == "time_s" else f"{value:.4f}"
