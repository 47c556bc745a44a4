"""`whenabouts pseudo-label cluster`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import tyro

from whenabouts.commands.arguments import chosen_splits, give, parse
from whenabouts.core.labels import clusters_path
from whenabouts.corpus.corpus import open_corpus
from whenabouts.strategies.cluster_features import Clustering
from whenabouts.strategies.cluster_votes import Voting
from whenabouts.strategies.pseudo_cluster import (
    ClusterLabelling,
    label_by_clusters,
)
from whenabouts.train.distributed import join_team
from whenabouts.train.run import open_run


@dataclass(frozen=True)
class PseudoCluster:
    """Label segments that nobody rated by the votes of rated frames in clusters of all frames.

    All frames are clustered; those of V1's rated segments vote in their clusters. An unrated frame
    takes the first class of its cluster, by votes, that is a label of its video; a segment takes
    what most of its frames take. V2 is left alone. LABELS.clusters.json tells of the clusters.

    Example: whenabouts pseudo-label cluster corpus.index -o labels.parquet
             whenabouts pseudo-label cluster corpus.index -o labels.parquet --run runs/nl --soft
    """

    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Labels file to write, Parquet."""
    run: Path | None = None
    """Cluster the frames as this run's model embeds them (att2, loss2, nl, se, fcfc, lse); it must
    not have seen V2."""
    clustering: Annotated[Clustering, tyro.conf.arg(name="")] = field(default_factory=Clustering)
    voting: Annotated[Voting, tyro.conf.arg(name="")] = field(default_factory=Voting)
    splits: tuple[str, ...] = ("train", "v1")
    """Splits to cluster and to label; never v2."""
    judge: bool = False
    """Compare with the ratings of V2, which nothing else sees."""
    chunk_size: int = 512
    """Segments computed at once; a GPU may want more."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(PseudoCluster, "pseudo-label cluster", arguments)
    began_s = monotonic()
    splits = tuple(chosen_splits(args.splits))
    settings = ClusterLabelling(args.clustering, args.voting, splits, args.chunk_size)
    corpus, run = open_corpus(args.index), open_run(args.run) if args.run else None
    with join_team(args.device) as team:
        told = label_by_clusters(corpus, args.out, settings, team, run, is_judged=args.judge)
        if team.is_main:
            result = {
                "labels": str(args.out),
                "clusters": str(clusters_path(args.out)),
                **told,
                "time_s": monotonic() - began_s,
            }
            give(result, _lines(result, args), as_json=args.json)


def _lines(result: dict[str, Any], args: PseudoCluster) -> Iterator[str]:
    totals = result["totals"]
    yield (
        f"{totals['clusters']:,} clusters of {totals['frames']:,} frames, "
        f"{totals['clusters_with_a_list']:,} with votes enough; purity {totals['purity']:.3f}"
    )
    if judged := result.get("judged"):
        shown = ("precision", "base_rate", "coverage", "recall", "concordance")
        values = (f"{n.replace('_', ' ')} {_number(judged[n])}" for n in shown)
        yield f"on {judged['pairs']:,} rated pairs of V2: {', '.join(values)}"
    yield (
        f"{args.out}: {totals['labelled_pairs']:,} pairs of {totals['labelled_segments']:,} "
        f"segments in {totals['labelled_classes']:,} classes, in {result['time_s']:.1f} s"
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
