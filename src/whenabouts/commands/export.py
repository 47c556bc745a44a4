"""`whenabouts export`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import tyro

from whenabouts.commands.arguments import byte_size, give, parse, refuse_twice
from whenabouts.core.progress import human
from whenabouts.train.checkpoint import Bits
from whenabouts.train.export import ExportedBundle, export, open_members, shares


@dataclass(frozen=True)
class Export:
    """Put one or several trained runs in a bundle: a small folder that predict takes as one model.

    Weights become bytes, a quarter of the size. The scores are the weighted mean of those of the
    runs, which must score the same classes of the same features.

    Example: whenabouts export runs/netvlad runs/dbof -o bundle --weights 0.6 0.4 --max-size 1GB
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
    """The folders of the runs."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The bundle's folder to write."""
    weights: tuple[float, ...] = ()
    """How much each run counts in the mean, divided by their sum; all the same if not said."""
    bits: Bits = 8
    """8: tensors of more than 17,000 weights as bytes, all others as they are. 32: all of them as
    they are."""
    max_size: str | None = None
    """The most that the whole may have: bytes, or a number with kB, MB or GB (powers of 10). A
    larger bundle is not written."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Export, "export", arguments)
    began_s = monotonic()
    max_size = None if args.max_size is None else byte_size(args.max_size, "--max-size")
    weights = shares(args.weights, len(args.runs))
    refuse_twice(args.runs, "runs")
    runs = open_members(args.runs)
    bundle = export(runs, args.out, weights, args.bits, max_size)
    result = {
        "bundle": str(args.out),
        "bits": args.bits,
        "bytes": bundle.size,
        "ratio": bundle.ratio,
        "members": [_member(bundle, number, path) for number, path in enumerate(args.runs)],
        "time_s": monotonic() - began_s,
    }
    give(result, _lines(result), as_json=args.json)


def _member(bundle: ExportedBundle, number: int, path: Path) -> dict[str, Any]:
    each = bundle.members[number]
    return {
        "from": str(path),
        "run": each.member.run,
        "weight": each.member.weight,
        "trained_on": list(each.member.trained_on),
        "weights_bytes_before": each.weights_before,
        "weights_bytes": each.weights_after,
        "bytes": each.folder_size,
    }


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for each in result["members"]:
        before, after = (human(each[key], "B") for key in ("weights_bytes_before", "weights_bytes"))
        yield (
            f"{each['run']}: {each['from']}, counts {each['weight']:.3g}, trained on "
            f"{', '.join(each['trained_on'])}; weights {before} -> {after}"
        )
    count = len(result["members"])
    yield (
        f"{result['bundle']}: {count} run{'s' * (count > 1)} in {human(result['bytes'], 'B')}, "
        f"weights {result['ratio']:.2f} times smaller, in {result['time_s']:.1f} s"
    )
