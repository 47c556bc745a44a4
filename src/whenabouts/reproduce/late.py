"""Commands that depend on what earlier stages found: which members there are, what V2 chose."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf, isnan
from pathlib import Path
from typing import Any, Literal, get_args

from whenabouts.core.errors import StageError
from whenabouts.core.scores import open_scores
from whenabouts.recipes.published import ENSEMBLES, weights_of_present
from whenabouts.reproduce.target import Target
from whenabouts.workflow.stage import Commands, LateCommands

FUSED = "-fused"  # behind the name of an ensemble
ITS_REFINED = "-refined"  # likewise: its mean refined as our preset's is, to compare with
MEAN, REFINED = "best-mean", "best-refined"  # of our preset; and where lists are cut:
FOUND, LISTED = "best-found", "best-listed"
GEOMETRIC = ("--kind", "geometric")
Preset = Literal["published", "best"]
# What a submission may be of: Scores by name.
RESULTS: dict[Preset, tuple[str, ...]] = {
    "published": tuple(name + FUSED for name in ENSEMBLES),
    "best": (LISTED, REFINED),
}
PRESETS: tuple[Preset, ...] = get_args(Preset)


def average_present(weights: Mapping[Path, float], out: Path, then: Commands = ()) -> LateCommands:
    """The weighted mean of those members' Scores that there are. weights: by Scores folder."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        return (_average(weights, there, out), *then)

    return commands


def average_searched(
    members: Iterable[Path], v2: Target, out: Path, then: Commands = ()
) -> LateCommands:
    """The geometric mean of those members' Scores that there are, with weights from V2."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        kept = weights_of_present({str(path): 1.0 for path in members}, {str(p) for p in there})
        words = ("ensemble", *kept, "-o", str(out), *GEOMETRIC, "--search", str(v2.index))
        return ((*words, *v2.length.words), *then)

    return commands


def average_as_on_v2(members: Iterable[Path], chosen: Path, out: Path) -> LateCommands:
    """The geometric mean with the weights that a search on V2 found. chosen: its Scores, of members
    of the same names; one that does not count there, or is not here, is left out."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        found = used_weights(root / chosen)
        weights = {path: found.get(path.name, 0.0) for path in members}
        counted = {path: weight for path, weight in weights.items() if weight > 0}
        return ((*_average(counted, there, out), *GEOMETRIC),)

    return commands


def _average(weights: Mapping[Path, float], there: frozenset[Path], out: Path) -> tuple[str, ...]:
    of_path = {str(path): weight for path, weight in weights.items()}
    kept = weights_of_present(of_path, {str(path) for path in there})
    return ("ensemble", *kept, "-o", str(out), "--weights", *map(repr, kept.values()))


def fuse_as_on_v2(segments: Path, videos: Path, chosen: Path, out: Path) -> LateCommands:
    """Fuse with the exponents and the filter that a search on V2 found; of the best videos of a
    class as large a share. chosen: its Scores."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        with _told_by(root / chosen / "made-by.json") as made_by:
            found = made_by["fused"]
            exponents, candidates = found["exponents"], dict(found["candidates"])
            if candidates.get("top_videos") is not None:
                share = candidates["top_videos"] / _num_videos(root / chosen)
                candidates["top_videos"] = max(1, round(share * _num_videos(root / segments)))
            flags = {
                "--video-exponent": exponents["video"],
                "--segment-exponent": exponents["segment"],
                **{f"--{name.replace('_', '-')}": value for name, value in candidates.items()},
            }
        given = ((name, str(value)) for name, value in flags.items() if value is not None)
        words = ("fuse", str(segments), str(videos), "-o", str(out))
        return ((*words, *(word for pair in given for word in pair)),)

    return commands


def _num_videos(scores: Path) -> int:
    return len(open_scores(scores).segments.video_ids)


def refine_as_on_v2(segments: Path, chosen: Path, out: Path) -> LateCommands:
    """Refine with the settings that a search on V2 found, or none where it found that none pay.
    chosen: its Scores."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        with _told_by(root / chosen / "made-by.json") as made_by:
            found = made_by["refined"]
            shares = tuple(f"--{name}={found[name]}" for name in ("alike", "smooth", "centre"))
        return (("refine", str(segments), "-o", str(out), *shares),)

    return commands


@contextmanager
def _told_by(path: Path) -> Iterator[dict[str, Any]]:
    """What the file says; StageError where it does not say what the block looks for."""
    try:
        yield read_json(path)
    except (KeyError, TypeError, AttributeError) as error:
        remedy = "do the stage that makes it again, with --from"
        raise StageError(f"it does not say {error}", where=path, remedy=remedy) from error


def submit_best(target: Target, out: Path) -> LateCommands:
    """The submission file of the target by what is best on V2."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        best = best_result(root, _numbers(there))
        scores = Path("scores", target.name, best)
        if scores not in there:
            raise StageError("not there", where=scores, rule=f"{best} is the best on V2")
        return (("submit", str(scores), "-o", str(out), *target.length.words),)

    return commands


def report_best(v2: Target, tables: Path, out: Path) -> LateCommands:
    """The page about what is best on V2, with the tables of all (a JSON file)."""

    def commands(root: Path, there: frozenset[Path]) -> Commands:
        best = best_result(root, _numbers(there))
        scores = Path("scores", "v2", best)
        title = f"whenabouts reproduce: {_in_words(best, root / scores)}"
        words = ("report", str(scores), str(v2.index), "-o", str(out), "--tables", str(tables))
        return ((*words, *v2.length.words, "--title", title),)

    return commands


def _in_words(result: str, scores: Path) -> str:
    """result: of what V2 chose, with its Scores."""
    if result in RESULTS["best"]:
        return "our preset, refined" if result == REFINED else "our preset, listed and refined"
    ensemble, found = result.removesuffix(FUSED), read_json(scores / "made-by.json")["fused"]
    is_unfiltered = all(limit is None for limit in found["candidates"].values())
    if found["exponents"]["video"] == 0 and is_unfiltered:
        return f"{ensemble}, which no fusion with the video classifier improves"
    return f"{ensemble}, fused with the video classifier"


def results_of(presets: Collection[Preset]) -> tuple[str, ...]:
    """The names of the Scores of which V2 chooses the best."""
    return tuple(name for preset in PRESETS if preset in presets for name in RESULTS[preset])


def best_result(root: Path, numbers: Iterable[Path]) -> str:
    """The name of the fused, refined or listed Scores with the best mAP on V2, the first of equals.

    Raises StageError if none of them is evaluated.
    """
    paths = {path.name: path for path in numbers}
    names = [name for name in results_of(PRESETS) if name in paths]
    found = {name: mean_ap(root / paths[name]) for name in names}
    if not found:
        raise StageError(
            "no ensemble is evaluated on V2", where=root, remedy=f"run one of E1..E5, or {REFINED}"
        )
    return max(found, key=lambda name: -inf if isnan(found[name]) else found[name])


def mean_ap(numbers: Path) -> float:
    """mAP of segments in a folder that `evaluate --out` wrote; NaN where it is not defined."""
    value = read_json(numbers / "evaluation.json")["segments"]["mean_ap"]
    return float("nan") if value is None else float(value)


def halves(numbers: Path) -> tuple[float, float]:
    """mAP of the halves of the videos, likewise; NaN where it is not told or not defined."""
    told = read_json(numbers / "evaluation.json")["segments"].get("mean_ap_of_halves")
    first, second = (float("nan") if each is None else float(each) for each in told or (None,) * 2)
    return first, second


def used_weights(scores: Path) -> dict[str, float]:
    """What the members of an ensemble's Scores counted, by name; empty where it is not there."""
    if not (scores / "made-by.json").is_file():
        return {}
    with _told_by(scores / "made-by.json") as kept:
        return {Path(member["scores"]).name: member["weight"] for member in kept["members"]}


def _numbers(there: frozenset[Path]) -> list[Path]:
    return [path for path in there if path.parts[0] == "numbers"]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a stage made. Raises StageError where it holds no JSON."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"not JSON ({error})", where=path) from error
    return values
