"""The plan: every stage of the published system, each behind those it needs.

    index -> video classifier, 4 logistic models -> pseudo-labels of a teacher and of clusters
          -> 8 attention models, 8 pseudo-label models -> Scores of V2 and of each target
          -> E1..E5 -> fused with the video classifier -> tables, submissions, report

While anything is chosen on V2, nothing has seen V2: models train on train + V1. What V2 chooses
(the exponents of the best fusion, the ensemble that is submitted) is then applied to the targets:
the test split, and further corpora whose truth nobody has seen.

    runs/NAME            scores/TARGET/NAME     numbers/NAME (of V2)     labels/SOURCE.parquet
    submissions/TARGET.csv                      tables.md, tables.json   report.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whenabouts.recipes.published import ENSEMBLES, Scale, members, video_members
from whenabouts.reproduce import cost
from whenabouts.reproduce.late import FUSED, report_best, submit_best
from whenabouts.reproduce.repeat import Repeat
from whenabouts.reproduce.target import V2, Target, numbers, scores
from whenabouts.workflow.stage import Commands, Graph, Stage, graph_of

TABLES = (Path("tables.md"), Path("tables.json"))
REPORT = Path("report.html")


@dataclass(frozen=True)
class Plan:
    """What is to be reproduced.

    index: given, or made by these commands from these shards. targets: beyond V2. repeats: of the
    whole set of models, with other seeds. final: what scores the targets is trained once more, on
    V2 too. device: of training and prediction.
    """

    index: Path
    size: cost.Size
    scale: Scale
    targets: tuple[Target, ...] = ()
    repeats: int = 1
    final: bool = False
    device: str = "auto"
    index_commands: Commands = ()
    shards: tuple[Path, ...] = ()

    @property
    def v2(self) -> Target:
        return Target(V2, self.index, (V2,), self.size)

    def repeat(self, number: int) -> Repeat:
        """The stages of one set of models; the first one also scores the targets."""
        targets = (self.v2, *self.targets) if number == 1 else (self.v2,)
        videos, models = video_members(self.scale), members(self.scale)
        return Repeat(
            number,
            videos=tuple(member.repeated(number) for member in videos),
            models=tuple(member.repeated(number) for member in models),
            index=self.index,
            size=self.size,
            scale=self.scale,
            targets=targets,
            final=self.final,
            device=self.device,
        )


def graph_of_plan(plan: Plan) -> Graph:
    return graph_of([*_index(plan), *_repeats(plan), *_results(plan)])


def _index(plan: Plan) -> Iterator[Stage]:
    if plan.index_commands:
        spent = cost.of_index(plan.size)
        yield Stage(
            "index", plan.index_commands, (plan.index,), stamped=plan.shards,
            seconds=spent.seconds, size_bytes=spent.size_bytes,
        )  # fmt: skip


def _repeats(plan: Plan) -> Iterator[Stage]:
    for number in range(1, plan.repeats + 1):
        yield from plan.repeat(number).stages()


def _results(plan: Plan) -> Iterator[Stage]:
    evaluated = [path for k in range(1, plan.repeats + 1) for path in plan.repeat(k).all_numbers()]
    words = (
        "reproduce", "-o", ".", "--tables",
        "--scale", str(plan.scale), "--seeds", str(plan.repeats),
    )  # fmt: skip
    yield Stage("tables", (words,), TABLES, wanted=tuple(evaluated), seconds=cost.LIGHT_START_S)
    chosen = tuple(numbers(name + FUSED) for name in ENSEMBLES)
    for target in (plan.v2, *plan.targets):
        scored = tuple(scores(target, name + FUSED) for name in ENSEMBLES)
        out = Path("submissions", f"{target.name}.csv")
        spent = cost.of_passes(target.size, target.splits, 1, 1)
        yield Stage(
            f"submit.{target.name}", submit_best(target.name, out), (out,),
            wanted=(*chosen, *scored), seconds=spent.seconds, size_bytes=spent.size_bytes,
        )  # fmt: skip
    scored = tuple(scores(plan.v2, name + FUSED) for name in ENSEMBLES)
    spent = cost.of_passes(plan.size, (V2,), 4, 0)
    yield Stage(
        "report", report_best(plan.index, REPORT), (REPORT,),
        inputs=(plan.index,), wanted=(*chosen, *scored), seconds=spent.seconds,
    )  # fmt: skip
