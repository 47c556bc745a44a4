"""V2 mAP of segment scores alone, times video scores, filtered by them, and both.

Both models have seen train and V1 alone. The exponents and filters are chosen on V2; the row
`chosen on one half` says what such a choice is worth on videos that it was not made on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from real_corpora import audioset, montage, told
from real_runs import Bench, MakeCorpus, Recipe, run_path, spread, train
from real_video import scores_of

SEGMENTS = Recipe("nl", scale="small")
VIDEOS = Recipe("mil", scale="small")
CORPORA: dict[str, MakeCorpus] = {"AudioSet": audioset, "montage": montage}
EXPONENTS: tuple[tuple[float, float], ...] = ((1, 1), (1, 2), (2, 1))


def rows(bench: Bench) -> list[dict[str, Any]]:
    return [row for name, make in CORPORA.items() for row in _rows_on(bench, name, make)]


def _rows_on(bench: Bench, corpus: str, make: MakeCorpus) -> list[dict[str, Any]]:
    index_path = make(bench.shared, bench.work)
    jobs = [(recipe, seed) for recipe in (SEGMENTS, VIDEOS) for seed in bench.seeds]
    bench.at_once(lambda job: train(bench, index_path, *job), jobs)
    searches = [_search(bench, index_path, seed) for seed in bench.seeds]
    found: dict[str, list[float]] = {}
    for search in searches:
        for what, mean_ap in _readings(search).items():
            found.setdefault(what, []).append(mean_ap)
    return [{"what": what, "corpus": corpus, **spread(values)} for what, values in found.items()]


def _search(bench: Bench, index_path: Path, seed: int) -> dict[str, Any]:
    segments, videos = (
        scores_of(bench, index_path, run_path(bench, index_path, recipe, seed), "v2")
        for recipe in (SEGMENTS, VIDEOS)
    )
    out = bench.work / "scores" / f"{index_path.stem}-fused-{seed}"
    words = ("fuse", str(segments), str(videos), "-o", str(out), "--search", str(index_path))
    search: dict[str, Any] = told(*words)["search"]
    return search


def _readings(search: dict[str, Any]) -> dict[str, float]:
    """The trials that the table shows, by name."""
    trials = search["trials"]
    alone = [t for t in trials if _exponents(t) == (0, 1)]
    cross = search["cross_validated"]
    return {
        "segments alone": search["segments_alone"]["mean_ap"],
        **{f"video^{a} x segment^{b}": _plain(trials, (a, b)) for a, b in EXPONENTS},
        "filtered, best filter": max(t["mean_ap"] for t in alone),
        "best exponents and filter": search["best"]["mean_ap"],
        "halves of V2: chosen on the other half": cross["mean_ap"],
        "halves of V2: video^1 x segment^1": cross["default_mean_ap"],
    }


def _exponents(trial: dict[str, Any]) -> tuple[float, float]:
    return trial["exponents"]["video"], trial["exponents"]["segment"]


def _plain(trials: list[dict[str, Any]], exponents: tuple[float, float]) -> float:
    """The mAP of the exponents without a filter."""
    plain = {_exponents(t): t["mean_ap"] for t in trials if not _is_filtered(t)}
    return float(plain[exponents])


def _is_filtered(trial: dict[str, Any]) -> bool:
    return any(limit is not None for limit in trial["candidates"].values())
