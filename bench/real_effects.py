"""What averaging, a teacher and 8-bit weights do: YouTube-8M video level, a fifth held out.

The teacher is the mean of the plain classifiers of all seeds; its pupil is the same network. The
half-life is far below the published one: an epoch has 37 steps, not tens of thousands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from real_corpora import once, yt8m_video
from real_runs import Bench, Recipe, run_path, spread, train
from real_video import gap_of, scores_of

HALF_LIFE = "50"
NO_AVERAGE = ("--loop.average-half-life", "0")
PLAIN = Recipe("video-mlp", "small", "plain", NO_AVERAGE)
AVERAGED = Recipe("video-mlp", scale="small")
POLISH = ("--strategy.polish.epochs", "2", "--strategy.polish.half-life", HALF_LIFE)
POLISHED = Recipe("video-mlp", "small", "polished", (*NO_AVERAGE, *POLISH))


def rows(bench: Bench) -> list[dict[str, Any]]:
    index_path = yt8m_video(bench.shared, bench.work)
    plain = _gaps(bench, index_path, PLAIN)
    teacher = _teacher(bench, index_path)
    words = (*NO_AVERAGE, "--strategy.teacher", str(teacher))
    taught = Recipe("video-mlp", "small", "taught", words)
    found = {
        "plain": plain,
        f"moving average, half-life {HALF_LIFE} steps": _gaps(bench, index_path, AVERAGED),
        "two epochs at 8e-5 with the average": _gaps(bench, index_path, POLISHED),
        "half the loss from a teacher": _gaps(bench, index_path, taught),
    }
    results = [{"what": what, **spread(gaps)} for what, gaps in found.items()]
    results.append({"what": "mean of the plain ones", **spread([_ensemble(bench, index_path)])})
    return [*results, _quantised(bench, index_path)]


def _gaps(bench: Bench, index_path: Path, recipe: Recipe) -> list[float]:
    runs = bench.at_once(lambda seed: train(bench, index_path, recipe, seed), bench.seeds)
    return [run["best_v2_gap"] for run in runs]


def _mean_scores(bench: Bench, index_path: Path, split: str) -> Path:
    runs = (run_path(bench, index_path, PLAIN, seed) for seed in bench.seeds)
    members = [str(scores_of(bench, index_path, run, split)) for run in runs]
    return once(bench.work / "scores" / f"{index_path.stem}-mean-{split}", "ensemble", *members)


def _teacher(bench: Bench, index_path: Path) -> Path:
    return _mean_scores(bench, index_path, "train")


def _ensemble(bench: Bench, index_path: Path) -> float:
    return gap_of(index_path, _mean_scores(bench, index_path, "v2"))


def _quantised(bench: Bench, index_path: Path) -> dict[str, Any]:
    """GAP of the bundles of 8-bit weights, and how far they are from the runs they are made of."""
    gaps, differences = [], []
    for seed in bench.seeds:
        run = run_path(bench, index_path, PLAIN, seed)
        bundle = once(bench.work / "bundles" / run.name, "export", str(run), "--max-size", "1GB")
        full = gap_of(index_path, scores_of(bench, index_path, run, "v2"))
        scores = bench.work / "scores" / f"{run.name}-8bit"
        once(scores, "predict", str(bundle), str(index_path), "--splits", "v2")
        gaps.append(gap_of(index_path, scores))
        differences.append(gaps[-1] - full)
    return {"what": "plain, weights of 8 bits", **spread(gaps), "differences": differences}
