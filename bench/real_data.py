"""The table of real data in the README: V2 mAP of each recipe, three seeds.

    python bench/real_data.py SHARED [--work DIR] [--recipes s-logi nl] [--seeds 0 1 2] [--jobs 2]

SHARED: the folder with audioset/, meta/, montage/pool.npz under data/ and tools/make_montage.py.
The corpora and runs are made under DIR (default: real-data/); what is there is used again. Trains
as many runs at once as --jobs says, each with its share of the cores, so that seconds are those of
one core where there are two cores and two jobs. Writes bench/real_data.json and prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).with_name("real_data.json")
MONTAGE_SIZE = (3000, 2000)
SCALED = ("att2", "loss2", "nl", "se", "fcfc")
RECIPES = ("s-logi", "f-logi", *SCALED)


@dataclass(frozen=True)
class Training:
    """One run: a recipe on a corpus with a seed."""

    recipe: str
    corpus: str
    index_path: Path
    seed: int

    @property
    def name(self) -> str:
        return f"{self.index_path.stem}-{self.recipe}-{self.seed}"

    @property
    def words(self) -> list[str]:
        size = ["--scale", "small"] if self.recipe in SCALED else []
        return [self.recipe, str(self.index_path), *size, "--loop.seed", str(self.seed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, default=Path("real-data"))
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.work.mkdir(exist_ok=True)
    corpora = {
        "AudioSet": audioset(args.shared, args.work),
        "montage": montage(args.shared, args.work, *MONTAGE_SIZE),
    }
    trainings = [
        Training(recipe, corpus, index_path, seed)
        for recipe in args.recipes
        for corpus, index_path in corpora.items()
        for seed in args.seeds
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        told = list(pool.map(lambda training: train(training, args.work, args.jobs), trainings))
    rows = summaries(zip(trainings, told))
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


def audioset(shared: Path, work: Path) -> Path:
    """Index of the AudioSet corpus; V1 and V2 by hash of the video id."""
    folder, index_path = shared / "data" / "audioset", work / "audioset.index"
    classes = ("--classes", str(folder / "segment_label_ids.csv"))
    names = ("--vocabulary", str(folder / "vocabulary.csv"))
    if not index_path.exists():
        whenabouts("index", str(folder), *classes, *names, "-o", str(index_path))
    return index_path


def montage(shared: Path, work: Path, num_train: int, num_validate: int) -> Path:
    """Index of a montage corpus cut from real features; it comes with its own V1 and V2."""
    folder = work / f"montage-{num_train}-{num_validate}"
    index_path = folder.with_suffix(".index")
    if not index_path.exists():
        cut_montage(shared, folder, num_train, num_validate)
        whenabouts(
            "index", "--train", f"{folder}/train", "--v1", f"{folder}/validate/v1*",
            "--v2", f"{folder}/validate/v2*", "--classes", f"{folder}/segment_label_ids.csv",
            "--vocabulary", f"{shared}/data/meta/vocabulary.csv", "-o", str(index_path),
        )  # fmt: skip
    return index_path


def cut_montage(shared: Path, folder: Path, num_train: int, num_validate: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    tool, pool = shared / "tools" / "make_montage.py", shared / "data" / "montage" / "pool.npz"
    sizes = ["--train", str(num_train), "--validate", str(num_validate)]
    subprocess.run([sys.executable, str(tool), str(pool), str(folder), *sizes], check=True)


def train(training: Training, work: Path, jobs: int) -> dict[str, Any]:
    """What `whenabouts train` says of the run; a finished run is not trained again."""
    run = work / "runs" / training.name
    if not (run / "run.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        threads = max(1, (os.cpu_count() or 1) // jobs)
        whenabouts("train", *training.words, "-o", str(run), threads=threads)
    told: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return told


def summaries(runs: Iterable[tuple[Training, dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each recipe and corpus, over the seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for training, told in runs:
        groups.setdefault((training.recipe, training.corpus), []).append(told)
    return [summary(recipe, corpus, told) for (recipe, corpus), told in groups.items()]


def summary(recipe: str, corpus: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    maps = [run["best_v2_map"] for run in runs]
    return {
        "recipe": recipe,
        "corpus": corpus,
        "seeds": len(runs),
        "v2_map": mean(maps),
        "spread": stdev(maps) if len(maps) > 1 else 0.0,
        "time_s": mean(run["time_s"] for run in runs),
        "best_steps": [run["best_step"] for run in runs],
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = ["| recipe | corpus | V2 mAP | sd over seeds | seconds |", "|---|---|---|---|---|"]
    return "\n".join(head + [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> str:
    cells = (row["recipe"], row["corpus"], f"{row['v2_map']:.4f}", f"{row['spread']:.4f}")
    return f"| {' | '.join(cells)} | {row['time_s']:.0f} |"


def whenabouts(*words: str, threads: int | None = None) -> None:
    environment = dict(os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {}))
    subprocess.run([sys.executable, "-m", "whenabouts", *words], check=True, env=environment)


if __name__ == "__main__":
    main()
