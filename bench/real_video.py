"""GAP@20 of the video classifiers on held-out videos, and of their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from real_corpora import once, told
from real_runs import Bench, MakeCorpus, Recipe, rows_of, run_path, spread


def rows(
    bench: Bench, corpora: Mapping[str, MakeCorpus], recipes: Sequence[Recipe]
) -> list[dict[str, Any]]:
    """A row a recipe and corpus, and one for the mean of the recipes on each corpus."""
    found = rows_of(bench, corpora, recipes, "best_v2_gap")
    return [*found, *(_mean_row(bench, name, make, recipes) for name, make in corpora.items())]


def _mean_row(
    bench: Bench, corpus: str, make: MakeCorpus, recipes: Sequence[Recipe]
) -> dict[str, Any]:
    """Equal weights, so that nothing is chosen on what it is judged by; one member a recipe."""
    index_path = make(bench.shared, bench.work)
    gaps = []
    for seed in bench.seeds:
        members = [
            str(scores_of(bench, index_path, run_path(bench, index_path, recipe, seed), "v2"))
            for recipe in recipes
        ]
        out = bench.work / "scores" / f"{index_path.stem}-geometric-{len(members)}-{seed}"
        gaps.append(gap_of(index_path, once(out, "ensemble", *members, "--kind", "geometric")))
    what = f"geometric mean of these {len(recipes)}"
    return {"recipe": what, "corpus": corpus, **spread(gaps), "time_s": 0.0}


def scores_of(bench: Bench, index_path: Path, scorer: Path, split: str) -> Path:
    """Scores of a split by a run or a bundle."""
    scores = bench.work / "scores" / f"{scorer.name}-{split}"
    return once(scores, "predict", str(scorer), str(index_path), "--splits", split)


def gap_of(index_path: Path, scores: Path) -> float:
    answer = told("evaluate", str(scores), str(index_path), "--splits", "v2")
    return float(answer["videos"]["gap"])
