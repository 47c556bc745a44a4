"""Pseudo-labels by deep clustering (YouTube-8M 2019, 11th place; spec 1.10).

Frames of the chosen splits are clustered (`cluster_features.py`); the frames of V1's rated segments
vote in their clusters, and unrated segments take what was voted, as far as it is a label of their
video (`cluster_votes.py`). The corpus is read as a stream: a sample of it twice, to find the
clusters, and once to label. Memory is that of the sample's points, the clusters and the votes, and
of the table of segments.

No rating of V2 is read unless the labels are to be judged by them (`cluster_judge.py`), which
happens after all labels are written. Under torchrun each process has a part of the sample, and of
the videos that are labelled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whenabouts.core.atomic import write_json
from whenabouts.core.errors import CorpusError
from whenabouts.core.labels import (
    LabelsWriter,
    SegmentLabels,
    clusters_path,
    new_labels,
    read_labels,
)
from whenabouts.core.progress import progress
from whenabouts.core.settings import to_dict
from whenabouts.corpus.corpus import Corpus
from whenabouts.corpus.splits import SPLITS, Split
from whenabouts.feed.labels import may_be_labelled
from whenabouts.feed.rated import RatedSegments
from whenabouts.feed.segments import SegmentChunks
from whenabouts.metrics.segment_map import POSITIVE
from whenabouts.strategies.cluster_features import (
    Clustering,
    Clusters,
    DeepFeatures,
    deep_features,
    fit_clusters,
)
from whenabouts.strategies.cluster_judge import judgement
from whenabouts.strategies.cluster_tally import Tally, class_table, cluster_table, totals
from whenabouts.strategies.cluster_votes import (
    Reader,
    Votes,
    Voting,
    count_votes,
    lists_of,
    reader_of,
)
from whenabouts.strategies.teacher import refuse_to_label_v2
from whenabouts.train.distributed import Team
from whenabouts.train.run import Run
from whenabouts.train.settings import refuse_below

PART = 1 << 16  # labels of a row group


@dataclass(frozen=True)
class ClusterLabelling:
    """All that says what the labels are. chunk_size: segments computed at once."""

    clustering: Clustering
    voting: Voting
    splits: tuple[Split, ...] = ("train", "v1")
    chunk_size: int = 512

    def __post_init__(self) -> None:
        refuse_below("chunk_size", self.chunk_size, 1)
        refuse_to_label_v2(self.splits)


def label_by_clusters(
    corpus: Corpus,
    out: Path,
    settings: ClusterLabelling,
    team: Team,
    run: Run | None = None,
    *,
    is_judged: bool = False,
) -> dict[str, Any]:
    """Write Labels of the unrated segments of the splits to `out`, and a page's worth about their
    clusters beside it (`clusters_path`); returns its totals, and the judgement if asked for.

    run: whose embedding of frames is clustered; None: the normalised frames themselves. is_judged:
    compare with the ratings of V2. Both files appear when they are whole. Raises RunError for a run
    that has seen V2 or has no embedding, CorpusError where there is nothing to cluster or to vote.
    """
    rows = _rows(corpus, settings.splits)
    features = deep_features(run, corpus, team.device)
    made_by = _made_by(corpus, settings, features)
    with torch.inference_mode(), _new_labels(out, made_by, team) as writer:
        clusters = fit_clusters(corpus, rows, features, settings.clustering, team)
        votes = votes_of(corpus, clusters, settings.chunk_size, team.device)
        read = reader_of(votes, settings.voting, corpus.classes)
        tally = Tally.empty(len(clusters), len(corpus.classes))
        mine = rows[_can_be_labelled(corpus, rows, settings.voting)]
        block = team.block(len(mine))
        mine = mine[block.start : block.stop]
        found = labels_of_videos(corpus, mine, clusters, read, settings, tally, team.device)
        for labels in in_large_parts(found, corpus.video_ids.dtype, PART):
            writer.write(labels)
        _gather_tallies(out, tally, team)
        told: dict[str, Any] = {"made_by": {**made_by, "k": len(clusters)}}
        if team.is_main:
            told |= _told(corpus, clusters, votes, settings.voting, tally)
            if is_judged:
                told["judged"] = judge(corpus, clusters, read, settings, team.device)
            write_json(clusters_path(out), told)
    team.wait()
    return {name: told[name] for name in ("totals", "judged") if name in told}


def _rows(corpus: Corpus, splits: Sequence[Split]) -> NDArray[np.int64]:
    """The videos whose frames are clustered."""
    rows = corpus.rows(splits)
    _ = corpus.grid  # before all else: without segments there is nothing to label
    if not corpus.num_frames[rows].sum():
        raise CorpusError(
            f"no frames in splits {', '.join(splits)}",
            where=corpus.path,
            remedy="choose other --splits",
        )
    return rows


def _can_be_labelled(corpus: Corpus, rows: NDArray[np.int64], voting: Voting) -> NDArray[np.bool_]:
    """Which of the videos have a label that is an evaluated class: the others are not read."""
    if not voting.within_labels:
        return np.ones(len(rows), bool)
    of_values = corpus.labels.rows[corpus.classes.columns(corpus.labels.values) >= 0]
    return np.isin(rows, of_values)


def _made_by(corpus: Corpus, settings: ClusterLabelling, features: DeepFeatures) -> dict[str, Any]:
    """splits: of the videos labelled; trained_on: what clusters, votes and embedding have seen."""
    seen = {*settings.splits, "v1", *features.trained_on}
    return {
        "method": "cluster",
        "settings": {**to_dict(settings.clustering), **to_dict(settings.voting)},
        "splits": list(settings.splits),
        "trained_on": [split for split in SPLITS if split in seen],
        "corpus": str(corpus.path),
        **features.facts,
    }


# ---- votes and labels ----------------------------------------------------------------------------


def votes_of(corpus: Corpus, clusters: Clusters, chunk_size: int, device: torch.device) -> Votes:
    """The votes of V1's rated segments. Raises CorpusError if none is positive."""
    rated = corpus.rated(corpus.rows(["v1"]))
    if not (rated.score >= POSITIVE).any():
        raise CorpusError(
            "no positive rated segment in v1",
            where=corpus.path,
            rule="frames of rated segments of V1 vote",
            remedy="index validate shards with segment_labels",
        )
    segments = RatedSegments(corpus, rated, corpus.classes, device)
    cluster, pair_segment, column = _rated_clusters(segments, clusters, chunk_size)
    of_pairs = cluster[pair_segment]  # [P, T]
    pair, frame = np.nonzero(of_pairs >= 0)
    is_positive = segments.labels.score >= POSITIVE
    return count_votes(
        of_pairs[pair, frame],
        column[pair],
        is_positive[pair],
        len(clusters),
        len(corpus.classes),
    )


def _rated_clusters(
    segments: RatedSegments, clusters: Clusters, chunk_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Clusters of the frames of rated segments [S, T]; segment [P] and column [P] of each pair."""
    found, pair_segment, column = [], [], []
    with progress("rated segments", len(segments), "segments") as bar:
        for first in range(0, len(segments), chunk_size):
            places = np.arange(first, min(first + chunk_size, len(segments)))
            batch = segments.batch(places)
            found.append(clusters.of(batch.features, batch.mask).cpu().numpy())
            pair_segment.append(batch.pair_segment.cpu().numpy() + first)
            column.append(batch.pair_class.cpu().numpy())
            bar.advance(len(places))
    return np.concatenate(found), np.concatenate(pair_segment), np.concatenate(column)


def labels_of_videos(
    corpus: Corpus,
    rows: NDArray[np.int64],
    clusters: Clusters,
    read: Reader,
    settings: ClusterLabelling,
    tally: Tally,
    device: torch.device,
) -> Iterator[SegmentLabels]:
    """Labels of the unrated segments of these videos, a chunk at a time; all is tallied."""
    chunks = SegmentChunks(corpus, rows, device, settings.chunk_size)
    table, is_rated = chunks.table, _is_rated(corpus, rows)
    with progress("pseudo-label", len(table), chunks.unit) as bar:
        for chunk in chunks.chunks(0, len(table)):
            cluster = clusters.of(chunk.features, chunk.mask).cpu().numpy()
            part = slice(chunk.first, chunk.first + len(cluster))
            videos, video = np.unique(table.video[part], return_inverse=True)
            may_be = may_be_labelled(
                corpus, rows[videos], within_labels=settings.voting.within_labels
            )
            opinions = read(cluster, video, may_be)
            given = opinions.take(opinions.is_label & ~is_rated[part][opinions.segment])
            tally.add(cluster, given, table, chunk.first)
            segment = chunk.first + given.segment
            yield SegmentLabels(
                table.video_ids[table.video[segment]],
                table.starts_s[segment],
                np.asarray(corpus.classes.ids, np.int64)[given.column],
                given.score.astype(np.float32),
                given.share.astype(np.float32),
            )
            bar.advance(len(cluster))


def _is_rated(corpus: Corpus, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which segments of these videos have a rating, for any class [S]."""
    table, rated = corpus.segments(rows), corpus.rated(rows)
    is_rated = np.zeros(len(table), bool)
    is_rated[table.rows_of(rated.video, rated.start_s)] = True
    return is_rated


def judge(
    corpus: Corpus,
    clusters: Clusters,
    read: Reader,
    settings: ClusterLabelling,
    device: torch.device,
) -> dict[str, float | int | None]:
    """What the clusters say of V2's rated segments, against their ratings: see `judgement`."""
    segments = RatedSegments(corpus, corpus.rated(corpus.rows(["v2"])), corpus.classes, device)
    cluster, pair_segment, column = _rated_clusters(segments, clusters, settings.chunk_size)
    videos, of_pair = np.unique(corpus.rows_of(segments.labels.video), return_inverse=True)
    video = np.zeros(len(cluster), np.int64)
    video[pair_segment] = of_pair
    may_be = may_be_labelled(corpus, videos, within_labels=settings.voting.within_labels)
    opinions = read(cluster, video, may_be)
    truth = segments.labels.score
    return judgement(
        pair_segment, column, truth, opinions, may_be[of_pair, column], len(corpus.classes)
    )


def in_large_parts(
    parts: Iterator[SegmentLabels], id_type: np.dtype[np.bytes_], size: int
) -> Iterator[SegmentLabels]:
    """The same labels, `size` at a time; each part is to be used before the next is asked for.

    They are collected in one place that is taken before all: small pieces that outlive a chunk, a
    row group of the file among them, would come to lie between its large ones in the heap, which
    would then grow with the corpus.
    """
    kept = SegmentLabels(
        np.empty(size, id_type), np.empty(size, np.int64), np.empty(size, np.int64),
        np.empty(size, np.float32), np.empty(size, np.float32),
    )  # fmt: skip
    count = 0
    for part in parts:
        for first in range(0, len(part), size):
            piece = part.take(np.arange(first, min(first + size, len(part))))
            fits = min(len(piece), size - count)
            _put(kept, count, piece, slice(0, fits))
            count += fits
            if count == size:
                yield kept
                _put(kept, 0, piece, slice(fits, None))
                count = len(piece) - fits
    if count:
        yield kept.take(np.arange(count))


def _put(kept: SegmentLabels, first: int, piece: SegmentLabels, part: slice) -> None:
    for name in ("video", "start_s", "class_id", "score", "weight"):
        values = getattr(piece, name)[part]
        getattr(kept, name)[first : first + len(values)] = values


# ---- files ---------------------------------------------------------------------------------------


@contextmanager
def _new_labels(out: Path, made_by: dict[str, Any], team: Team) -> Iterator[LabelsWriter]:
    """A writer for this process; at the end the main one appends what the others have written."""
    if not team.is_main:
        with new_labels(_part(out, team.rank), made_by) as writer:
            yield writer
        team.wait()
        return
    with new_labels(out, made_by) as writer:
        yield writer
        team.wait()
        for rank in range(1, team.size):
            writer.write(read_labels(_part(out, rank)))
            _part(out, rank).unlink()


def _part(out: Path, rank: int) -> Path:
    return out.with_name(f".{out.stem}.part-{rank}{out.suffix}")


def _gather_tallies(out: Path, tally: Tally, team: Team) -> None:
    """Add up, in the main process, what all of them have counted."""
    if not team.is_main:
        write_json(_part(out, team.rank).with_suffix(".json"), tally.to_dict())
    team.wait()
    for rank in range(1, team.size) if team.is_main else ():
        path = _part(out, rank).with_suffix(".json")
        tally.add_tally(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()


def _told(
    corpus: Corpus, clusters: Clusters, votes: Votes, voting: Voting, tally: Tally
) -> dict[str, Any]:
    classes, lists = corpus.classes, lists_of(votes, voting, corpus.classes)
    return {
        "totals": {"sampled_frames": clusters.num_sampled, **totals(tally, votes, lists)},
        "inertia": list(clusters.found.inertia),
        "variance": clusters.whitening.variance.tolist(),
        "clusters": cluster_table(tally, votes, classes),
        "classes": class_table(tally, votes, lists, classes),
    }
