"""One set of the models of our preset, their mean and its refinement: stages, each behind those it
needs.

    models -> Scores of V2 and of each target -> geometric mean -> refined by the segments around
                                                                -> fused with its own videos
                                                                -> the lists of one in the order
                                                                   of the other

V2 chooses the weights of the mean and how it is refined; a target gets both as V2 chose them. Where
a list cannot hold all segments, refining chooses the order alone, and the mean fused with the best
segment of each video chooses what is listed (see `ensemble.shortlist`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whenabouts.core.list_length import LONGEST
from whenabouts.recipes.published import Member
from whenabouts.reproduce import cost
from whenabouts.reproduce.late import (
    FOUND,
    LISTED,
    MEAN,
    REFINED,
    average_as_on_v2,
    average_searched,
    refine_as_on_v2,
)
from whenabouts.reproduce.repeat import Repeat, evaluate, refinement, stage
from whenabouts.reproduce.target import Target, numbers, scores
from whenabouts.workflow.stage import Stage


@dataclass(frozen=True)
class BestSet:
    """models: those of the repeat."""

    repeat: Repeat
    models: tuple[Member, ...]

    def stages(self) -> Iterator[Stage]:
        for member in self.models:
            yield self.repeat.training(member)
        if self.repeat.has_finals:
            yield from (self.repeat.training(m, is_final=True) for m in self.models)
        for target in self.repeat.targets:
            for member in self.models:
                yield self.repeat.prediction(member, target, scores(target, member.name))
            yield self._mean(target)
            yield self._refined(target)
            if self.repeat.is_cut:
                yield self._listed(target)

    def all_numbers(self) -> Iterator[Path]:
        """Everything that is evaluated on V2."""
        listed = (LISTED,) if self.repeat.is_cut else ()
        steps = map(self.repeat.named, (MEAN, REFINED, *listed))
        return map(numbers, (*(m.name for m in self.models), *steps))

    def _mean(self, target: Target) -> Stage:
        name = self.repeat.named(MEAN)
        out, stage_name = scores(target, name), f"{target.name}.{name}"
        members = tuple(scores(target, m.name) for m in self.models)
        spent = cost.of_passes(target.size, target.splits, len(members), 1)
        if not target.is_v2:
            chosen = scores(self.repeat.v2, name)
            commands = average_as_on_v2(members, chosen, out)
            return stage(stage_name, commands, out, (chosen,), spent, wanted=members)
        told = numbers(name)
        then = (evaluate(out, target, told),)
        commands = average_searched(members, target, out, then)
        inputs = (target.index,)
        return stage(stage_name, commands, out, inputs, spent, more=(told,), wanted=members)

    def _refined(self, target: Target) -> Stage:
        name = self.repeat.named(REFINED)
        segments, out = scores(target, self.repeat.named(MEAN)), scores(target, name)
        stage_name = f"{target.name}.{name}"
        if target.is_v2:
            length = LONGEST if self.repeat.is_cut else None
            return refinement(stage_name, segments, out, target, length)
        chosen = scores(self.repeat.v2, name)
        commands = refine_as_on_v2(segments, chosen, out)
        spent = cost.of_passes(target.size, target.splits, 2, 1)
        return stage(stage_name, commands, out, (segments, chosen), spent)

    def _listed(self, target: Target) -> Stage:
        mean, order, found, out = (
            scores(target, self.repeat.named(name)) for name in (MEAN, REFINED, FOUND, LISTED)
        )
        told = (numbers(out.name),) if target.is_v2 else ()
        commands = (
            ("fuse", str(mean), "-o", str(found)),
            ("shortlist", str(order), str(found), "-o", str(out), *target.length.words),
            *(evaluate(out, target, path) for path in told),
        )
        spent = cost.of_passes(target.size, target.splits, 3, 2)
        name = f"{target.name}.{out.name}"
        return stage(name, commands, out, (mean, order), spent, more=(found, *told))
