"""`whenabouts pack`"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import tyro

from whenabouts.commands.arguments import give, parse
from whenabouts.core.errors import UsageError
from whenabouts.core.labels import SegmentLabels, read_labels
from whenabouts.core.processes import default_processes
from whenabouts.core.progress import say
from whenabouts.corpus.dataset import PRESETS, dataset_settings, listing
from whenabouts.corpus.known import Labelled, read_video_labels
from whenabouts.corpus.packing import Packed, feature_files, pack


@dataclass(frozen=True)
class Pack:
    """Features of your own videos -> shards that 'index' reads, and the settings of their data set.

    A video is a file, ID.npy ([frames, values], floats or uint8) or ID.npz (such an array a feature
    list, cut to the shortest where they differ by up to a second). Floats become bytes, 255 steps
    between the lowest and the highest value there is.

    Example: whenabouts pack features -o packed --labels labels.csv --ratings ratings.csv
             whenabouts pack new-features -o new --dataset packed/dataset.json
    """

    features: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FEATURES [FEATURES ...]")
    ]
    """Files, or folders of such files at any depth."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The new folder."""
    labels: Path | None = None
    """What is known of whole videos: .csv or .parquet with video,class, a row a pair."""
    ratings: Path | None = None
    """Rated segments: .csv or .parquet with video,start,class,score (start in seconds)."""
    dataset: str | None = None
    """Pack as another corpus was, so that its models fit: a .json file of settings, yt8m or
    audioset. Default: as these features are."""
    segment_s: int = 5
    """Seconds a segment."""
    frames_per_s: int = 1
    """Frames a second."""
    range: tuple[float, float] | None = None
    """LOW HIGH: what the bytes 0 and 255 stand for; values outside are clipped. Default: what the
    features have (of uint8 features: -2 2, as in YouTube-8M)."""
    processes: int = default_processes()
    """Processes that read and write; the bytes do not depend on it."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Pack, "pack", arguments)
    began_s, given = monotonic(), (args.segment_s, args.frames_per_s, args.range)
    if args.dataset is not None and given != (Pack.segment_s, Pack.frames_per_s, Pack.range):
        raise UsageError(
            "--segment-s, --frames-per-s or --range is given beside --dataset",
            rule="--dataset says all of it",
        )
    dataset = None if args.dataset is None else dataset_settings(args.dataset)
    if dataset is not None and dataset.is_video_level:
        rule = "packed are frames, and these records hold one vector a video"
        raise UsageError(f"data set '{dataset.name}'", where=args.dataset, rule=rule)
    files = feature_files(args.features)
    grid = args.segment_s, args.frames_per_s
    packed = pack(files, args.out, _known(args), dataset, grid, args.range, args.processes)
    _note_unknown(args, packed)
    _give(args, packed, monotonic() - began_s)


def _known(args: Pack) -> Labelled:
    video, class_id = np.zeros(0, np.bytes_), np.zeros(0, np.int64)
    ratings = SegmentLabels(video, class_id, class_id, *np.zeros((2, 0), np.float32))
    if args.labels is not None:
        video, class_id = read_video_labels(args.labels)
    if args.ratings is not None:
        ratings = read_labels(args.ratings)
    return Labelled(video, class_id, ratings, (args.labels, args.ratings))


def _note_unknown(args: Pack, packed: Packed) -> None:
    if packed.unknown:
        say(
            f"note: {len(packed.unknown):,} labelled or rated videos have no file here, such as "
            f"{packed.unknown[0]}"
        )


def _give(args: Pack, packed: Packed, time_s: float) -> None:
    dataset = packed.dataset
    words = ["whenabouts", "index", f"{args.out}/shards"]
    if not packed.num_labels and not packed.num_ratings:
        words.insert(2, "--test")  # nothing to learn from
    if dataset.name not in PRESETS:
        words += ["--dataset", f"{args.out}/dataset.json"]
    index = shlex.join([*words, "-o", f"{args.out}.index"])
    result = {
        "corpus": str(args.out),
        "videos": packed.num_videos,
        "frames": packed.num_frames,
        "labels": packed.num_labels,
        "ratings": packed.num_ratings,
        "clipped": packed.num_clipped,
        "cut": packed.num_cut,
        "unknown": len(packed.unknown),
        "range": [dataset.low, dataset.high],
        "index": index,
        "time_s": time_s,
    }
    lines = [
        f"{args.out}: {packed.num_videos:,} videos, {packed.num_frames:,} frames of "
        f"{listing(dataset.features)} in [{dataset.low:g}, {dataset.high:g}], "
        f"{packed.num_labels:,} labels, {packed.num_ratings:,} ratings, in {time_s:.1f} s",
        f"next: {index}",
    ]
    if packed.num_cut:
        cut = f"lists of {packed.num_cut:,} videos differed by a second at most, and were cut"
        lines.insert(1, f"{cut} to the shortest")
    if packed.num_clipped:
        lines.insert(1, f"{packed.num_clipped:,} values lay outside the range and were clipped")
    give(result, lines, as_json=args.json)
