"""The plan: every stage of what is to be reproduced, each behind those it needs.

    index -> video classifier, 4 logistic models -> pseudo-labels of a teacher and of clusters
          -> 8 attention models, 8 pseudo-label models -> Scores of V2 and of each target
          -> E1..E5 -> fused with the video classifier -> tables, submissions, report

and, as another preset or beside it, our own models, their mean and its refinement (see `best`).

While anything is chosen on V2, nothing has seen V2: models train on train + V1. What V2 chooses
(the exponents of the best fusion, the weights and the refinement of our mean, what is submitted)
is then applied to the targets: the test split, and further corpora whose truth nobody has seen.

    runs/NAME            scores/TARGET/NAME     numbers/NAME (of V2)     labels/SOURCE.parquet
    submissions/TARGET.csv                      tables.md, tables.json   report.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whenabouts.core.list_length import OF_CHALLENGE, ListLength
from whenabouts.recipes import best
from whenabouts.recipes.published import Precision, Scale, members, video_members
from whenabouts.reproduce import cost
from whenabouts.reproduce.best import BestSet
from whenabouts.reproduce.late import LISTED, Preset, report_best, results_of, submit_best
from whenabouts.reproduce.published import PublishedSet
from whenabouts.reproduce.repeat import Repeat
from whenabouts.reproduce.target import V2, Target, numbers, scores
from whenabouts.workflow.stage import Commands, Graph, Stage, graph_of

TABLES_MD, TABLES_JSON = Path("tables.md"), Path("tables.json")
REPORT = Path("report.html")


@dataclass(frozen=True)
class Plan:
    """What is to be reproduced.

    index: given, or made by these commands from these shards and class files. targets: beyond V2.
    repeats: of the whole set of models, with other seeds. final: what scores the targets is trained
    once more, on V2 too. device: of training and prediction. precision: of attention models in
    training. presets: which sets of models, one or both. length: of V2's lists.
    """

    index: Path
    size: cost.Size
    scale: Scale
    targets: tuple[Target, ...] = ()
    repeats: int = 1
    final: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    presets: tuple[Preset, ...] = ("published",)
    length: ListLength = OF_CHALLENGE
    index_commands: Commands = ()
    shards: tuple[Path, ...] = ()
    class_files: tuple[Path, ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The names of the Scores of which V2 chooses the best."""
        return tuple(name for name in results_of(self.presets) if self.is_cut or name != LISTED)

    @property
    def is_cut(self) -> bool:
        """Whether lists of any target may not hold all of its segments."""
        return any(target.may_be_cut for target in (self.v2, *self.targets))

    @property
    def v2(self) -> Target:
        return Target(V2, self.index, (V2,), self.size, self.length)

    def sets(self, number: int) -> Iterator[PublishedSet | BestSet]:
        """The sets of models of a repeat; the first one also scores the targets."""
        repeat = Repeat(
            number,
            index=self.index,
            size=self.size,
            scale=self.scale,
            targets=(self.v2, *self.targets) if number == 1 else (self.v2,),
            final=self.final,
            device=self.device,
            precision=self.precision,
            is_cut=self.is_cut,
        )
        if "published" in self.presets:
            videos = tuple(member.repeated(number) for member in video_members(self.scale))
            models = tuple(member.repeated(number) for member in members(self.scale))
            yield PublishedSet(repeat, videos, models)
        if "best" in self.presets:
            yield BestSet(repeat, tuple(m.repeated(number) for m in best.members(self.scale)))

    def all_sets(self) -> Iterator[PublishedSet | BestSet]:
        for number in range(1, self.repeats + 1):
            yield from self.sets(number)


def graph_of_plan(plan: Plan) -> Graph:
    of_models = (stage for each in plan.all_sets() for stage in each.stages())
    return graph_of([*_index(plan), *of_models, *_results(plan)])


def _index(plan: Plan) -> Iterator[Stage]:
    if plan.index_commands:
        spent = cost.of_index(plan.size)
        yield Stage(
            "index", plan.index_commands, (plan.index,), plan.class_files, stamped=plan.shards,
            seconds=spent.seconds, size_bytes=spent.size_bytes,
        )  # fmt: skip


def _results(plan: Plan) -> Iterator[Stage]:
    yield _tables(plan)
    for target in (plan.v2, *plan.targets):
        yield _submission(plan, target)
    yield _report(plan)


def _tables(plan: Plan) -> Stage:
    evaluated = tuple(path for each in plan.all_sets() for path in each.all_numbers())
    words = (
        "reproduce", "-o", ".", "--tables",
        "--scale", str(plan.scale), "--seeds", str(plan.repeats), "--preset", *plan.presets,
        *plan.length.words,
    )  # fmt: skip
    made = (TABLES_MD, TABLES_JSON)
    return Stage("tables", (words,), made, wanted=evaluated, seconds=cost.LIGHT_START_S)


def _submission(plan: Plan, target: Target) -> Stage:
    out = Path("submissions", f"{target.name}.csv")
    spent = cost.of_passes(target.size, target.splits, 1, 1)
    return Stage(
        f"submit.{target.name}", submit_best(target, out), (out,),
        wanted=_numbers_and_scores(plan, target),
        seconds=spent.seconds, size_bytes=spent.size_bytes,
    )  # fmt: skip


def _report(plan: Plan) -> Stage:
    spent = cost.of_passes(plan.size, (V2,), 4, 0)
    return Stage(
        "report", report_best(plan.v2, TABLES_JSON, REPORT), (REPORT,),
        inputs=(plan.index, TABLES_JSON), wanted=_numbers_and_scores(plan, plan.v2),
        seconds=spent.seconds,
    )  # fmt: skip


def _numbers_and_scores(plan: Plan, target: Target) -> tuple[Path, ...]:
    """What V2 says of the results, and their Scores of the target."""
    return (*map(numbers, plan.results), *(scores(target, name) for name in plan.results))
