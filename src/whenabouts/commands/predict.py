"""`whenabouts predict`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import tyro

from whenabouts.commands.arguments import chosen_splits, give, parse
from whenabouts.core.errors import UsageError
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.splits import SPLITS
from whenabouts.train.bundle import open_scorer
from whenabouts.train.distributed import join_team
from whenabouts.train.predict import PredictSettings, predict


@dataclass(frozen=True)
class Predict:
    """Score every segment of a corpus with a run (a video classifier: every video); writes Scores.

    A bundle scores with the weighted mean of its runs, in one go. An interrupted call goes on
    where it was.

    Example: whenabouts predict runs/s-logi corpus.index -o scores --splits v2
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The folder of a run or of a bundle."""
    index: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INDEX")]
    """The index of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The Scores folder to write."""
    splits: tuple[str, ...] = SPLITS
    """Which splits of the corpus; all of them if not said."""
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the file; scores near 1 then tie (steps of 0.0005)."""
    attention: bool = False
    """Keep the attention on frames and segments too, for the report: of all models but s-logi and
    f-logi, which have none. fcfc does not weigh frames: of these it keeps 1 throughout."""
    chunk_size: int = 512
    """Segments computed at once, which is what memory depends on; a GPU may want more."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Predict, "predict", arguments)
    corpus, run = open_corpus(args.index), open_scorer(args.run)
    rows = corpus.rows(chosen_splits(args.splits))
    if not len(rows):
        raise UsageError(
            f"no videos in splits {', '.join(args.splits)}",
            where=args.index,
            remedy="choose other --splits",
        )
    settings = PredictSettings(args.chunk_size, args.dtype, args.attention)
    with join_team(args.device) as team:
        began_s = monotonic()
        made_by = {"splits": list(args.splits)}
        count = predict(run, corpus, rows, args.out, settings, team, made_by)
        if team.is_main:
            time_s = monotonic() - began_s
            result = {
                "scores": str(args.out),
                "segments": 0 if run.scores_videos else count,
                "videos": len(rows),
                "time_s": time_s,
            }
            segments = "" if run.scores_videos else f"{count:,} segments of "
            line = (
                f"{args.out}: {segments}{len(rows):,} videos x {len(run.scored_classes):,} "
                f"classes{', with attention,' * args.attention} in {time_s:.1f} s"
            )
            give(result, [line], as_json=args.json)
