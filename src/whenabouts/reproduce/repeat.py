"""One set of all models and ensembles: its stages, each behind those it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whenabouts.recipes.published import ENSEMBLES, Member, Scale, Source, published_weights
from whenabouts.reproduce import cost
from whenabouts.reproduce.cost import Cost
from whenabouts.reproduce.late import FUSED, average_present, fuse_as_on_v2
from whenabouts.reproduce.target import EXPONENTS, VIDEO, Target, numbers, scores
from whenabouts.workflow.stage import Commands, LateCommands, Stage

TEACHER = "f-logi-1"
EMBEDDER = "nl-1"  # the model whose features of frames are clustered
LEARNED_FROM = ("train", "v1")


@dataclass(frozen=True)
class Repeat:
    """number: from 1, part of all names from 2 on; videos: classifiers of whole videos; targets: V2
    first."""

    number: int
    videos: tuple[Member, ...]
    models: tuple[Member, ...]
    index: Path
    size: cost.Size
    scale: Scale
    targets: tuple[Target, ...]
    final: bool
    device: str

    def stages(self) -> Iterator[Stage]:
        for member in (*self.videos, *self.models):
            yield self._training(member)
            if member.name == self.named(TEACHER):
                yield self._teacher_scores()
                yield self._teacher_labels()
            if member.name == self.named(EMBEDDER):
                yield self._cluster_labels()
        if self.final and len(self.targets) > 1:
            yield from (self._training(m, is_final=True) for m in (*self.videos, *self.models))
        for target in self.targets:
            yield from self._scores(target)

    def named(self, name: str) -> str:
        """The name in this repeat."""
        return name if self.number == 1 else f"{name}.r{self.number}"

    def all_numbers(self) -> Iterator[Path]:
        """Everything that is evaluated on V2."""
        names = [m.name for m in self.models]
        for ensemble in ENSEMBLES:
            name = self.named(ensemble)
            names += [name, *(_published(name, a, b) for a, b in EXPONENTS), name + FUSED]
        return map(numbers, names)

    # ---- training ------------------------------------------------------------------------------

    def _training(self, member: Member, *, is_final: bool = False) -> Stage:
        run = _run(member.name, is_final=is_final)
        labels = (self._labels(member.labels),) if member.labels else ()
        words = (
            "train", member.recipe, str(self.index), "-o", str(run), *member.settings,
            *(word for path in labels for word in ("--strategy.pseudo.labels", str(path))),
            "--loop.seed", str(member.seed), *self._device(), *["--final"] * is_final, "--resume",
        )  # fmt: skip
        name = f"{'final' if is_final else 'train'}.{member.name}"
        spent = cost.of_training(member, self.size, self.scale)
        if is_final:  # the search, and then twice its steps
            spent = Cost(3 * spent.seconds, 2 * spent.size_bytes)
        return _stage(name, (words,), run, (self.index, *labels), spent)

    def _teacher_scores(self) -> Stage:
        teacher = next(m for m in self.models if m.name == self.named(TEACHER))
        out = self._teacher_path()
        words = self._predict(_run(teacher.name), self.index, out, LEARNED_FROM)
        spent = cost.of_prediction(teacher, self.size, self.scale, LEARNED_FROM)
        inputs = (*_weights(_run(teacher.name), is_final=False), self.index)
        return _stage(self.named("teach"), (words,), out, inputs, spent)

    def _teacher_labels(self) -> Stage:
        scored, out = self._teacher_path(), self._labels("teacher")
        words = ("pseudo-label", "teacher", str(scored), str(self.index), "-o", str(out))
        spent = cost.of_passes(self.size, LEARNED_FROM, 1, 0)
        return _stage(self.named("labels.teacher"), (words,), out, (scored, self.index), spent)

    def _cluster_labels(self) -> Stage:
        run, out = _run(self.named(EMBEDDER)), self._labels("cluster")
        words = (
            "pseudo-label", "cluster", str(self.index), "-o", str(out), "--run", str(run),
            "--seed", str(self.number - 1), *self._device(),
        )  # fmt: skip
        inputs = (*_weights(run, is_final=False), self.index)
        spent = cost.of_clusters(self.size)
        return _stage(self.named("labels.cluster"), (words,), out, inputs, spent)

    def _labels(self, source: Source) -> Path:
        return Path("labels", f"{self.named(source)}.parquet")

    def _teacher_path(self) -> Path:
        return Path("scores", "teacher", self.named(TEACHER))

    # ---- scores ----------------------------------------------------------------------------------

    def _scores(self, target: Target) -> Iterator[Stage]:
        yield from self._video_scores(target)
        for member in self.models:
            yield self._prediction(member, target, scores(target, member.name))
        for ensemble in ENSEMBLES:
            yield self._ensemble(ensemble, target)
            yield self._fusion(ensemble, target)

    def _video_scores(self, target: Target) -> Iterator[Stage]:
        out = scores(target, self.named(VIDEO))
        if len(self.videos) == 1:
            yield self._prediction(self.videos[0], target, out)
            return
        parts = {m: scores(target, m.name) for m in self.videos}
        yield from (self._prediction(member, target, path) for member, path in parts.items())
        commands = average_present(dict.fromkeys(parts.values(), 1.0), out)
        spent = cost.of_passes(target.size, target.splits, len(parts), 1)
        name = f"{target.name}.{self.named(VIDEO)}"
        yield _stage(name, commands, out, (), spent, wanted=tuple(parts.values()))

    def _prediction(self, member: Member, target: Target, out: Path) -> Stage:
        is_final = self.final and not target.is_v2
        run = _run(member.name, is_final=is_final)
        words = self._predict(run, target.index, out, target.splits)
        spent = cost.of_prediction(member, target.size, self.scale, target.splits)
        told = (numbers(member.name),) if target.is_v2 and member.group else ()
        evaluations = tuple(_evaluate(out, target, path) for path in told)
        inputs = (*_weights(run, is_final=is_final), target.index)
        name = f"{target.name}.{member.name}"
        return _stage(name, (words, *evaluations), out, inputs, spent, more=told)

    def _ensemble(self, ensemble: str, target: Target) -> Stage:
        name = self.named(ensemble)
        out = scores(target, name)
        weights = {
            scores(target, member): weight
            for member, weight in published_weights(ensemble, self.models).items()
        }
        told = (numbers(name),) if target.is_v2 else ()
        evaluations = tuple(_evaluate(out, target, path) for path in told)
        commands = average_present(weights, out, evaluations)
        spent = cost.of_passes(target.size, target.splits, len(weights), 1)
        return _stage(
            f"{target.name}.{name}", commands, out, (target.index,), spent,
            more=told, wanted=tuple(weights),
        )  # fmt: skip

    def _fusion(self, ensemble: str, target: Target) -> Stage:
        name = self.named(ensemble)
        segments, videos = scores(target, name), scores(target, self.named(VIDEO))
        out, stage_name = scores(target, name + FUSED), f"{target.name}.{name}{FUSED}"
        inputs = (segments, videos, target.index)
        if not target.is_v2:
            chosen = scores(self.targets[0], name + FUSED)
            commands = fuse_as_on_v2(segments, videos, chosen, out)
            spent = cost.of_passes(target.size, target.splits, 2, 1)
            return _stage(stage_name, commands, out, (*inputs, chosen), spent)
        fused = {(a, b): scores(target, _published(name, a, b)) for a, b in EXPONENTS}
        told = {path: numbers(path.name) for path in (*fused.values(), out)}
        words = [_fuse(segments, videos, path, a, b) for (a, b), path in fused.items()]
        words.append((*_fuse(segments, videos, out), "--search", str(target.index)))
        words += [_evaluate(path, target, number) for path, number in told.items()]
        spent = cost.of_passes(target.size, target.splits, 8, 8)
        made = (*fused.values(), *told.values())
        return _stage(stage_name, tuple(words), out, inputs, spent, more=made)

    def _predict(
        self, run: Path, index: Path, out: Path, splits: tuple[str, ...]
    ) -> tuple[str, ...]:
        words = ("predict", str(run), str(index), "-o", str(out), "--splits", *splits)
        return (*words, *self._device())

    def _device(self) -> tuple[str, ...]:
        return () if self.device == "auto" else ("--device", self.device)


def _run(name: str, *, is_final: bool = False) -> Path:
    return Path("final-runs" if is_final else "runs", name)


def _weights(run: Path, *, is_final: bool) -> tuple[Path, ...]:
    """What a prediction reads of a run; not its log and times, which differ from run to run."""
    weights = "final.safetensors" if is_final else "v1.safetensors"
    return tuple(run / name for name in (weights, "recipe.json"))


def _published(name: str, video: int, segment: int) -> str:
    return f"{name}{FUSED}-{video}-{segment}"


def _fuse(segments: Path, videos: Path, out: Path, *exponents: int) -> tuple[str, ...]:
    flags = zip(("--video-exponent", "--segment-exponent"), map(str, exponents))
    given = (word for flag in flags for word in flag)
    return ("fuse", str(segments), str(videos), "-o", str(out), *given)


def _evaluate(scored: Path, target: Target, out: Path) -> tuple[str, ...]:
    words = ("evaluate", str(scored), str(target.index))
    return (*words, "--splits", *target.splits, "--out", str(out))


def _stage(
    name: str,
    commands: Commands | LateCommands,
    out: Path,
    inputs: tuple[Path, ...],
    spent: Cost,
    *,
    more: tuple[Path, ...] = (),
    wanted: tuple[Path, ...] = (),
) -> Stage:
    """more: what it makes beside `out`."""
    return Stage(
        name, commands, (out, *more), inputs, wanted,
        seconds=spent.seconds, size_bytes=spent.size_bytes,
    )  # fmt: skip
