"""What the sets of models of one repeat share: how a model is trained, and how it scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whenabouts.core.list_length import ListLength
from whenabouts.recipes.published import Member, Precision, Scale
from whenabouts.reproduce import cost
from whenabouts.reproduce.cost import Cost
from whenabouts.reproduce.target import Target, numbers
from whenabouts.workflow.stage import Commands, LateCommands, Stage


@dataclass(frozen=True)
class Repeat:
    """number: from 1, part of all names from 2 on; targets: V2 first; precision: of attention
    models in training; is_cut: whether lists of any target of the plan may be cut."""

    number: int
    index: Path
    size: cost.Size
    scale: Scale
    targets: tuple[Target, ...]
    final: bool
    device: str
    precision: Precision = "auto"
    is_cut: bool = False

    def named(self, name: str) -> str:
        """The name in this repeat."""
        return name if self.number == 1 else f"{name}.r{self.number}"

    @property
    def v2(self) -> Target:
        return self.targets[0]

    @property
    def has_finals(self) -> bool:
        """Whether models are trained once more, on V2 too: with no target there is no use."""
        return self.final and len(self.targets) > 1

    def training(
        self, member: Member, labels: tuple[Path, ...] = (), *, is_final: bool = False
    ) -> Stage:
        """labels: files of pseudo-labels that it learns from."""
        run = run_of(member.name, is_final=is_final)
        words = (
            "train", member.recipe, str(self.index), "-o", str(run), *member.settings,
            *(word for path in labels for word in ("--strategy.pseudo.labels", str(path))),
            "--loop.seed", str(member.seed), *self._precision(member), *self.on_device(),
            *["--final"] * is_final, "--resume",
        )  # fmt: skip
        name = f"{'final' if is_final else 'train'}.{member.name}"
        spent = cost.of_training(member, self.size, self.scale)
        if is_final:  # the search, and then twice its steps
            spent = Cost(3 * spent.seconds, 2 * spent.size_bytes)
        return stage(name, (words,), run, (self.index, *labels), spent)

    def prediction(self, member: Member, target: Target, out: Path) -> Stage:
        """Scores of V2 are of the search model, whatever scores the targets, and are evaluated."""
        is_final = self.final and not target.is_v2
        run = run_of(member.name, is_final=is_final)
        words = self.predict(run, target.index, out, target.splits)
        spent = cost.of_prediction(member, target.size, self.scale, target.splits)
        told = (numbers(member.name),) if target.is_v2 and not member.scores_videos else ()
        evaluations = tuple(evaluate(out, target, path) for path in told)
        inputs = (*weights_of(run, is_final=is_final), target.index)
        name = f"{target.name}.{member.name}"
        return stage(name, (words, *evaluations), out, inputs, spent, more=told)

    def predict(
        self, run: Path, index: Path, out: Path, splits: tuple[str, ...]
    ) -> tuple[str, ...]:
        words = ("predict", str(run), str(index), "-o", str(out), "--splits", *splits)
        return (*words, *self.on_device())

    def on_device(self) -> tuple[str, ...]:
        return () if self.device == "auto" else ("--device", self.device)

    def _precision(self, member: Member) -> tuple[str, ...]:
        """Of attention models: what others do in a step is hardly products."""
        is_attention = "--scale" in member.settings and not member.scores_videos
        if self.precision == "auto" or not is_attention:
            return ()
        return ("--loop.precision", self.precision)


def run_of(name: str, *, is_final: bool = False) -> Path:
    return Path("final-runs" if is_final else "runs", name)


def weights_of(run: Path, *, is_final: bool = False) -> tuple[Path, ...]:
    """What a prediction reads of a run; not its log and times, which differ from run to run."""
    weights = "final.safetensors" if is_final else "v1.safetensors"
    return tuple(run / name for name in (weights, "recipe.json"))


def evaluate(scored: Path, target: Target, out: Path) -> tuple[str, ...]:
    words = ("evaluate", str(scored), str(target.index))
    told = (*target.length.words, "--halves", "--out", str(out))
    return (*words, "--splits", *target.splits, *told)


def refinement(
    name: str, segments: Path, out: Path, v2: Target, length: ListLength | None = None
) -> Stage:
    """Refined as V2 chooses, and evaluated. length: of the lists to choose by, if not of V2's."""
    told = numbers(out.name)
    chosen_by = ("--search", str(v2.index), *(length or v2.length).words)
    words = ("refine", str(segments), "-o", str(out), *chosen_by)
    spent = cost.of_passes(v2.size, v2.splits, 2, 1)
    commands = (words, evaluate(out, v2, told))
    return stage(name, commands, out, (segments, v2.index), spent, more=(told,))


def stage(
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
