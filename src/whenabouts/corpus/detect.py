"""Which preset a data set is: the one that fits the first record with features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from whenabouts.core.errors import CorpusError, RecordError, SettingsError
from whenabouts.corpus.dataset import (
    PRESETS,
    DatasetSettings,
    FeatureList,
    detect_preset,
    listing,
)
from whenabouts.records.examples import SequenceExample, parse_sequence_example
from whenabouts.records.framing import BadSpan, scan_records
from whenabouts.records.shards import open_shard

LOOKED_AT = 1000  # records without frames, before the search is given up


def detect_dataset(paths: Sequence[str]) -> DatasetSettings:
    """The preset that fits the first readable record with frames, or with floats of a preset.

    A video without frames has floats too (the scores of its segments), so that floats which no
    preset has do not end the search. Raises SettingsError where no preset fits, CorpusError where
    no record has any feature.
    """
    floats: list[FeatureList] = []
    for path, record in islice(_records(paths), LOOKED_AT):
        found = _lists_of_frames(record)
        preset = detect_preset(found or _lists_of_floats(record))
        if preset:
            return preset
        if found:
            raise _no_preset(found, path)
        floats = floats or _lists_of_floats(record)
    if floats:
        raise _no_preset(floats, paths[0])
    raise CorpusError(
        "no readable record with frames",
        where=paths[0],
        rule="shards are TFRecord files of SequenceExample or of Example",
    )


def _records(paths: Sequence[str]) -> Iterator[tuple[str, SequenceExample]]:
    """Every readable record with its shard; an Example reads as a SequenceExample of no lists."""
    for path in paths:
        buffer = open_shard(path)
        for span in scan_records(buffer):
            if isinstance(span, BadSpan):
                continue
            try:
                yield path, parse_sequence_example(buffer, span.offset, span.length)
            except RecordError:
                continue


def _lists_of_frames(record: SequenceExample) -> list[FeatureList]:
    """The lists of bytes, all of them if any has a frame."""
    has_frames = any(frames.count for frames in record.lists.values())
    return [FeatureList(k, f.width) for k, f in record.lists.items()] if has_frames else []


def _lists_of_floats(record: SequenceExample) -> list[FeatureList]:
    arrays = {k: v for k, v in record.context.items() if isinstance(v, np.ndarray) and len(v)}
    return [
        FeatureList(k, len(v), dtype="float32") for k, v in arrays.items() if v.dtype == np.float32
    ]


def _no_preset(found: list[FeatureList], path: str) -> SettingsError:
    return SettingsError(
        f"the first record has the feature lists {listing(found)}",
        where=path,
        rule=f"the presets are {', '.join(PRESETS)}",
        remedy="describe the data set in a JSON file and pass it with --dataset FILE.json",
    )
