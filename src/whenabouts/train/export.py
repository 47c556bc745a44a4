"""Export: trained runs -> a bundle, its large tensors as bytes, no larger than it may be."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whenabouts import __version__
from whenabouts.core.atomic import atomic_dir, write_json
from whenabouts.core.classes import write_classes
from whenabouts.core.errors import RunError, UsageError
from whenabouts.core.progress import human, progress
from whenabouts.train.bundle import FILE, FORMAT, BundleFile, Member, check_agree, trained_on
from whenabouts.train.checkpoint import Bits, save_weights
from whenabouts.train.run import Run, open_run, read_object


@dataclass(frozen=True)
class Exported:
    """A member that was written. Sizes in bytes: of the run's weights file, of the one written, of
    the whole folder written."""

    member: Member
    weights_before: int
    weights_after: int
    folder_size: int


@dataclass(frozen=True)
class ExportedBundle:
    """The members in order, and the size in bytes of the whole bundle."""

    members: tuple[Exported, ...]
    size: int

    @property
    def ratio(self) -> float:
        """How many times smaller the weights have become."""
        before = sum(each.weights_before for each in self.members)
        return before / sum(each.weights_after for each in self.members)


def open_members(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Open the runs to be exported. Raises RunError where one is none, or they do not agree."""
    if not paths:
        raise UsageError("no run is given", rule="a bundle has a member at least")
    for path in paths:
        if (path / FILE).is_file():
            raise RunError(
                "a bundle is here",
                where=path,
                rule="what is exported are runs",
                remedy="name the members that lie in it",
            )
    runs = tuple(open_run(path) for path in paths)
    check_agree(runs)
    return runs


def shares(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """The weights of `count` members divided by their sum; equal ones where none are given.

    Raises UsageError unless there is one a member and all are finite and above 0.
    """
    if not weights:
        weights = [1.0] * count
    if len(weights) != count:
        raise UsageError(f"{len(weights)} weights for {count} runs", rule="--weights has one a run")
    total = sum(weights)
    if not all(weight > 0 for weight in weights) or not math.isfinite(total):
        raise UsageError(
            f"--weights are {', '.join(f'{weight:g}' for weight in weights)}",
            rule="they are finite and above 0",
            remedy="leave out the run that should not count",
        )
    return tuple(weight / total for weight in weights)


def export(
    runs: Sequence[Run],
    out: Path,
    weights: Sequence[float],
    bits: Bits = 8,
    max_size: int | None = None,
) -> ExportedBundle:
    """Write runs that agree to `out` as a bundle; weights: of the mean, they sum to 1.

    Another bundle there is replaced. Raises RunError, and leaves all as it was, if it would have
    more than max_size bytes.
    """
    _refuse_other_content(out, runs)
    with atomic_dir(out) as partial, progress("export", len(runs), "runs") as bar:
        exported = []
        for number, (run, weight) in enumerate(zip(runs, weights, strict=True), start=1):
            folder = partial / f"{number}-{run.model_settings.family}"
            exported.append(_export_member(run, weight, folder, bits))
            bar.advance(1)
        members = tuple(each.member for each in exported)
        write_json(partial / FILE, asdict(BundleFile(members, bits, FORMAT, __version__)))
        bundle = ExportedBundle(tuple(exported), _size(partial))
        _refuse_too_large(bundle, out, bits, max_size)
    return bundle


def _export_member(run: Run, weight: float, folder: Path, bits: Bits) -> Exported:
    """Write one member: all that prediction needs, and what `run.json` says of the training."""
    model, facts = run.load_model()
    folder.mkdir()
    kept = {k: v for k, v in read_object(run.path / "recipe.json").items() if k != "corpus"}
    write_json(folder / "recipe.json", _without_folders(kept))
    write_classes(folder / "classes.csv", run.classes)
    write_classes(folder / "video-classes.csv", run.video_classes)
    if (run.path / "run.json").is_file():
        write_json(folder / "run.json", _without_folders(read_object(run.path / "run.json")))
    weights_path = folder / run.weights_path.name
    save_weights(weights_path, model, _without_folders(facts), bits)
    return Exported(
        Member(folder.name, weight, trained_on(run, facts)),
        run.weights_path.stat().st_size,
        weights_path.stat().st_size,
        _size(folder),
    )


def _without_folders(kept: Any) -> Any:
    """Where files lay says nothing elsewhere, and is nobody's business there: names alone stay."""
    if isinstance(kept, dict):
        return {key: _without_folders(value) for key, value in kept.items()}
    if isinstance(kept, list | tuple):
        return [_without_folders(value) for value in kept]
    return Path(kept).name if isinstance(kept, str) and os.sep in kept else kept


def _refuse_other_content(out: Path, runs: Sequence[Run]) -> None:
    """A bundle replaces a bundle, never anything else, nor the runs it is made of."""
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not (out / FILE).is_file():
        raise RunError(
            "something else than a bundle is here", where=out, remedy="choose another --out"
        )
    for run in runs:
        if out.resolve() in run.path.resolve().parents:
            raise UsageError(
                f"the run {run.path} lies in it, and would be replaced",
                where=out,
                remedy="choose another --out",
            )


def _refuse_too_large(bundle: ExportedBundle, out: Path, bits: Bits, max_size: int | None) -> None:
    if max_size is None or bundle.size <= max_size:
        return
    members = (f"{each.member.run} {human(each.folder_size, 'B')}" for each in bundle.members)
    fewer_bits = ", pass --bits 8" * (bits != 8)
    raise RunError(
        f"it would have {bundle.size:,} bytes ({', '.join(members)})",
        where=out,
        rule=f"--max-size is {max_size:,} bytes",
        remedy=f"leave runs out, train smaller ones{fewer_bits} or raise --max-size",
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
