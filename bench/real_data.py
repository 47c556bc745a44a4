"""The table of real data in the README: V2 mAP of each recipe, three seeds.

    python bench/real_data.py SHARED [--work DIR] [--recipes s-logi f-logi] [--seeds 0 1 2]

SHARED: the folder with audioset/, meta/, montage/pool.npz under data/ and tools/make_montage.py.
The corpora and runs are made under DIR (default: real-data/); what is there is used again.
Writes bench/real_data.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).with_name("real_data.json")
MONTAGE_SIZES = {"s-logi": (1500, 1000), "f-logi": (1500, 1000)}
RECIPES = tuple(MONTAGE_SIZES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, default=Path("real-data"))
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    args = parser.parse_args()
    rows = []
    for recipe in args.recipes:
        corpora = {
            "AudioSet": audioset(args.shared, args.work),
            "montage": montage(args.shared, args.work, *MONTAGE_SIZES[recipe]),
        }
        for name, index_path in corpora.items():
            runs = [train(recipe, index_path, args.work, seed) for seed in args.seeds]
            rows.append(summary(recipe, name, runs))
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


def train(recipe: str, index_path: Path, work: Path, seed: int) -> dict[str, Any]:
    """What `whenabouts train` says of one seed; a finished run is not trained again."""
    run = work / "runs" / f"{index_path.stem}-{recipe}-{seed}"
    if not (run / "run.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        whenabouts("train", recipe, str(index_path), "-o", str(run), "--loop.seed", str(seed))
    told: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return told


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


def whenabouts(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "whenabouts", *words], check=True)


if __name__ == "__main__":
    main()
