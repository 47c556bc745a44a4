"""One set of the 20 models and the five ensembles: its stages, each behind those it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whenabouts.recipes.published import ENSEMBLES, Member, Source, published_weights
from whenabouts.reproduce import cost
from whenabouts.reproduce.late import FUSED, ITS_REFINED, average_present, fuse_as_on_v2
from whenabouts.reproduce.repeat import Repeat, evaluate, refinement, run_of, stage, weights_of
from whenabouts.reproduce.target import EXPONENTS, V2, VIDEO, Target, numbers, scores
from whenabouts.workflow.stage import Stage

TEACHER = "f-logi-1"
EMBEDDER = "nl-1"  # the model whose features of frames are clustered
LEARNED_FROM = ("train", "v1")


@dataclass(frozen=True)
class PublishedSet:
    """videos: classifiers of whole videos. All members are those of the repeat."""

    repeat: Repeat
    videos: tuple[Member, ...]
    models: tuple[Member, ...]

    def stages(self) -> Iterator[Stage]:
        named = self.repeat.named
        for member in (*self.videos, *self.models):
            yield self._training(member)
            if member.name == named(TEACHER):
                yield self._teacher_scores()
                yield self._teacher_labels()
            if member.name == named(EMBEDDER):
                yield self._cluster_labels()
        if self.repeat.has_finals:
            yield from (self._training(m, is_final=True) for m in (*self.videos, *self.models))
        for target in self.repeat.targets:
            yield from self._scores(target)

    def all_numbers(self) -> Iterator[Path]:
        """Everything that is evaluated on V2."""
        names = [m.name for m in self.models]
        for ensemble in ENSEMBLES:
            name = self.repeat.named(ensemble)
            names += [name, *(_published(name, a, b) for a, b in EXPONENTS)]
            names += [name + FUSED, name + ITS_REFINED]
        return map(numbers, names)

    # ---- training ------------------------------------------------------------------------------

    def _training(self, member: Member, *, is_final: bool = False) -> Stage:
        labels = (self._labels(member.labels),) if member.labels else ()
        return self.repeat.training(member, labels, is_final=is_final)

    def _teacher_scores(self) -> Stage:
        repeat, out = self.repeat, self._teacher_path()
        teacher = next(m for m in self.models if m.name == repeat.named(TEACHER))
        run = run_of(teacher.name)
        words = repeat.predict(run, repeat.index, out, LEARNED_FROM)
        spent = cost.of_prediction(teacher, repeat.size, repeat.scale, LEARNED_FROM)
        return stage(repeat.named("teach"), (words,), out, (*weights_of(run), repeat.index), spent)

    def _teacher_labels(self) -> Stage:
        repeat, scored, out = self.repeat, self._teacher_path(), self._labels("teacher")
        words = ("pseudo-label", "teacher", str(scored), str(repeat.index), "-o", str(out))
        spent = cost.of_passes(repeat.size, LEARNED_FROM, 1, 0)
        inputs = (scored, repeat.index)
        return stage(repeat.named("labels.teacher"), (words,), out, inputs, spent)

    def _cluster_labels(self) -> Stage:
        repeat, out = self.repeat, self._labels("cluster")
        run = run_of(repeat.named(EMBEDDER))
        words = (
            "pseudo-label", "cluster", str(repeat.index), "-o", str(out), "--run", str(run),
            "--seed", str(repeat.number - 1), *repeat.on_device(),
        )  # fmt: skip
        inputs = (*weights_of(run), repeat.index)
        spent = cost.of_clusters(repeat.size)
        return stage(repeat.named("labels.cluster"), (words,), out, inputs, spent)

    def _labels(self, source: Source) -> Path:
        return Path("labels", f"{self.repeat.named(source)}.parquet")

    def _teacher_path(self) -> Path:
        return Path("scores", "teacher", self.repeat.named(TEACHER))

    # ---- scores ----------------------------------------------------------------------------------

    def _scores(self, target: Target) -> Iterator[Stage]:
        yield from self._video_scores(target)
        for member in self.models:
            yield self.repeat.prediction(member, target, scores(target, member.name))
        for ensemble in ENSEMBLES:
            yield self._ensemble(ensemble, target)
            yield self._fusion(ensemble, target)
            if target.is_v2:
                yield self._refined(ensemble, target)

    def _video_scores(self, target: Target) -> Iterator[Stage]:
        predicted, name = self.repeat.prediction, self.repeat.named(VIDEO)
        out = scores(target, name)
        if len(self.videos) == 1:
            yield predicted(self.videos[0], target, out)
            return
        parts = {m: scores(target, m.name) for m in self.videos}
        yield from (predicted(member, target, path) for member, path in parts.items())
        commands = average_present(dict.fromkeys(parts.values(), 1.0), out)
        spent = cost.of_passes(target.size, target.splits, len(parts), 1)
        wanted = tuple(parts.values())
        yield stage(f"{target.name}.{name}", commands, out, (), spent, wanted=wanted)

    def _ensemble(self, ensemble: str, target: Target) -> Stage:
        name = self.repeat.named(ensemble)
        out = scores(target, name)
        weights = {
            scores(target, member): weight
            for member, weight in published_weights(ensemble, self.models).items()
        }
        told = (numbers(name),) if target.is_v2 else ()
        evaluations = tuple(evaluate(out, target, path) for path in told)
        commands = average_present(weights, out, evaluations)
        spent = cost.of_passes(target.size, target.splits, len(weights), 1)
        return stage(
            f"{target.name}.{name}", commands, out, (target.index,), spent,
            more=told, wanted=tuple(weights),
        )  # fmt: skip

    def _fusion(self, ensemble: str, target: Target) -> Stage:
        name = self.repeat.named(ensemble)
        segments, videos = scores(target, name), scores(target, self.repeat.named(VIDEO))
        out, stage_name = scores(target, name + FUSED), f"{target.name}.{name}{FUSED}"
        inputs = (segments, videos, target.index)
        if not target.is_v2:
            chosen = scores(self.repeat.v2, name + FUSED)
            commands = fuse_as_on_v2(segments, videos, chosen, out)
            spent = cost.of_passes(target.size, target.splits, 2, 1)
            return stage(stage_name, commands, out, (*inputs, chosen), spent)
        fused = {(a, b): scores(target, _published(name, a, b)) for a, b in EXPONENTS}
        told = {path: numbers(path.name) for path in (*fused.values(), out)}
        words = [_fuse(segments, videos, path, a, b) for (a, b), path in fused.items()]
        searched = (*_fuse(segments, videos, out), "--search", str(target.index))
        words.append((*searched, *target.length.words))
        words += [evaluate(path, target, number) for path, number in told.items()]
        spent = cost.of_passes(target.size, target.splits, 8, 8)
        made = (*fused.values(), *told.values())
        return stage(stage_name, tuple(words), out, inputs, spent, more=made)

    def _refined(self, ensemble: str, v2: Target) -> Stage:
        """No part of the published system: it tells how much of our preset's gain is refinement."""
        name = self.repeat.named(ensemble)
        out = scores(v2, name + ITS_REFINED)
        return refinement(f"{V2}.{out.name}", scores(v2, name), out, v2)


def _published(name: str, video: int, segment: int) -> str:
    return f"{name}{FUSED}-{video}-{segment}"


def _fuse(segments: Path, videos: Path, out: Path, *exponents: int) -> tuple[str, ...]:
    flags = zip(("--video-exponent", "--segment-exponent"), map(str, exponents))
    given = (word for flag in flags for word in flag)
    return ("fuse", str(segments), str(videos), "-o", str(out), *given)
