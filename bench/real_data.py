"""The tables of real data in the docs: every recipe, every claim of a gain, three seeds each.

    python bench/real_data.py SHARED [--parts segments means frames effects pseudo fusion]
                                     [--work DIR] [--seeds 0 1 2] [--jobs 2]

SHARED: the folder with audioset/, meta/, montage/pool.npz, yt8m-video/ under data/ and
tools/make_montage.py. Corpora, runs and Scores are made under DIR (default: real-data/); what is
there is used again. --jobs runs train at once, each with its share of the cores, so that seconds
are those of one core where there are two cores and two jobs. Each part has its place in
bench/real_data.json and prints a Markdown table.

    segments   V2 mAP of the segment recipes
    means      GAP@20 of the video-level models on held-out videos, and of their mean
    frames     GAP@20 of the frame-level video classifiers on V2
    effects    what averaging, a teacher and 8-bit weights do to a video classifier
    pseudo     V2 mAP with and without pseudo-labels, and their precision
    fusion     V2 mAP of segment scores x video scores
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import real_effects
import real_fusion
import real_pseudo
import real_video
from real_corpora import audioset, montage, pool, yt8m_video
from real_runs import Bench, Recipe, rows_of, spread, table
from whenabouts.corpus.corpus import open_corpus
from whenabouts.metrics.segment_map import evaluate_pairs

NUM_SHUFFLES = 20
RESULTS = Path(__file__).with_name("real_data.json")
SEGMENT_RECIPES = (
    Recipe("s-logi"),
    Recipe("f-logi"),
    *(Recipe(name, scale="small") for name in ("att2", "loss2", "nl", "se", "fcfc")),
    Recipe("nl", "small", "by-kernel", ("--strategy.fine-tuning", "kernel")),
    Recipe("lse", scale="small"),
)
MEAN_RECIPES = tuple(Recipe(f"video-{name}", scale="small") for name in ("logistic", "moe", "mlp"))
FRAME_RECIPES = (MEAN_RECIPES[0], Recipe("mil", scale="small"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--work", type=Path, default=Path("real-data"))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.work.mkdir(exist_ok=True)
    bench = Bench(args.shared, args.work, tuple(args.seeds), args.jobs)
    for name in args.parts:
        part = PARTS[name]
        rows = part.rows(bench)
        keep(name, rows)
        print(f"\n{name}\n\n{table(rows, part.columns)}")


@dataclass(frozen=True)
class Part:
    rows: Callable[[Bench], list[dict[str, Any]]]
    columns: dict[str, str]  # key of a row -> head of its column


def segments(bench: Bench) -> list[dict[str, Any]]:
    corpora = {"AudioSet": audioset, "montage": montage}
    by_chance = [
        random_order(name, make(bench.shared, bench.work)) for name, make in corpora.items()
    ]
    return [*by_chance, *rows_of(bench, corpora, SEGMENT_RECIPES, "best_v2_map")]


def random_order(corpus_name: str, index_path: Path) -> dict[str, Any]:
    """The mAP of V2's rated pairs in a random order; the spread is that of the shuffles."""
    corpus, draw = open_corpus(index_path), np.random.default_rng(0)
    truth = corpus.rated(corpus.rows(["v2"]))
    shuffles = (draw.random(len(truth)).astype(np.float32) for _ in range(NUM_SHUFFLES))
    maps = [evaluate_pairs(truth, scores, corpus.classes).mean_ap for scores in shuffles]
    return {"recipe": "(random order)", "corpus": corpus_name, **spread(maps), "time_s": 0.0}


def means(bench: Bench) -> list[dict[str, Any]]:
    corpora = {"YouTube-8M video level": yt8m_video, "pool, video level": pool}
    return real_video.rows(bench, corpora, MEAN_RECIPES)


def frames(bench: Bench) -> list[dict[str, Any]]:
    corpora = {"montage": montage, "AudioSet": audioset}
    return rows_of(bench, corpora, FRAME_RECIPES, "best_v2_gap")


def trained(measure: str) -> dict[str, str]:
    """Columns of the parts that train recipes."""
    names = {"recipe": "recipe", "corpus": "corpus"}
    return {**names, "mean": measure, "sd": "sd over seeds", "time_s": "seconds"}


PARTS = {
    "segments": Part(segments, trained("V2 mAP")),
    "means": Part(means, trained("GAP@20")),
    "frames": Part(frames, trained("GAP@20")),
    "effects": Part(real_effects.rows, {"what": "what", "mean": "GAP@20", "sd": "sd over seeds"}),
    "pseudo": Part(
        real_pseudo.rows,
        {"what": "what", "corpus": "corpus", "mean": "V2 mAP", "sd": "sd over seeds"},
    ),
    "fusion": Part(
        real_fusion.rows,
        {"what": "what", "corpus": "corpus", "mean": "V2 mAP", "sd": "sd over seeds"},
    ),
}


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of a part into bench/real_data.json; the other parts stay."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**kept, name: rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
