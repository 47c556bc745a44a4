"""What stages leave in a folder, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLASSES = ((7, "Car"), (3, ""), (9, "Dog"))


def put_numbers(
    root: Path, name: str, value: float | None, ap: tuple[float | None, ...], k: str = "100000"
) -> None:
    folder = root / "numbers" / name
    folder.mkdir(parents=True)
    told = {"k": k, "segments": {"mean_ap": value}}
    (folder / "evaluation.json").write_text(json.dumps(told))
    rows = [
        f"{i},{n},{'' if a is None else a},{k},9,9"
        for k, ((i, n), a) in enumerate(zip(CLASSES, ap), 1)
    ]
    (folder / "classes.csv").write_text("\n".join(["Index,Name,AP,Positives,Rated,Listed", *rows]))


def put_made_by(root: Path, name: str, made_by: dict[str, Any]) -> None:
    folder = root / "scores" / "v2" / name
    folder.mkdir(parents=True)
    (folder / "made-by.json").write_text(json.dumps(made_by))
