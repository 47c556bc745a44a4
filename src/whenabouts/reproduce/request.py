"""What a call asks for: from the data and a few dials to the plan; kept as `reproduce.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from whenabouts.core.atomic import write_json
from whenabouts.core.errors import StageError, UsageError
from whenabouts.core.list_length import OF_CHALLENGE, ListLength, list_length
from whenabouts.core.settings import from_dict, to_dict
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.splits import SPLITS
from whenabouts.recipes.published import Precision, Scale
from whenabouts.reproduce.cost import Size
from whenabouts.reproduce.late import Preset
from whenabouts.reproduce.plan import Plan
from whenabouts.reproduce.target import V2, Target
from whenabouts.workflow.lock import NAME as LOCK
from whenabouts.workflow.stage import NAME

KEPT = "reproduce.json"
INDEX = Path("corpus.index")
RESERVED = (V2, "test", "teacher", "train", "final", "labels", "submit")  # of stages
SCALES: tuple[Scale, ...] = get_args(Scale)

MOST_SEEDS = 100


@dataclass(frozen=True)
class Request:
    """data: an index, or a folder of TFRecords. predict: indexes of further corpora. Absolute
    paths, so that the folder of the work can be entered."""

    data: str
    scale: Scale = "small"
    predict: tuple[str, ...] = ()
    seeds: int = 1
    final: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    presets: tuple[Preset, ...] = ("published",)
    k: str = OF_CHALLENGE.text

    def __post_init__(self) -> None:
        list_length(self.k)
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise UsageError(f"--seeds is {self.seeds}", rule=f"it is 1 to {MOST_SEEDS}")
        if not self.presets:
            raise UsageError("--preset names none", rule="it is published, best or both")


def read_request(root: Path) -> Request | None:
    """What an earlier call in this folder asked for; None where there was none.

    Raises StageError where the file is damaged, UsageError where something else is in the folder.
    """
    path = root / KEPT
    if not path.exists():
        if root.exists() and any(path.name != LOCK for path in root.iterdir()):
            raise UsageError(
                f"it has files, and no {KEPT} among them",
                where=root,
                rule="stages replace what lies where they write",
                remedy="choose a new folder",
            )
        return None
    try:
        return from_dict(Request, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StageError(str(error), where=path, remedy="remove it, and pass --data") from error


def write_request(root: Path, request: Request) -> None:
    write_json(root / KEPT, to_dict(request))


def plan_of(request: Request) -> Plan:
    """Raises UsageError or CorpusError where the data is not what a plan can be made of."""
    length = list_length(request.k)
    data, further = Path(request.data), _further_targets(request.predict, length)
    folder = RecordFolder(data) if data.is_dir() else None
    index = INDEX if folder else data
    size = Size.of_shards(folder.roles) if folder else Size.of(open_corpus(data))
    test = Target("test", index, ("test",), size, length)
    return Plan(
        index,
        size,
        request.scale,
        targets=(*[test] * (size.frames["test"] > 0), *further),
        repeats=request.seeds,
        final=request.final,
        device=request.device,
        precision=request.precision,
        presets=request.presets,
        length=length,
        index_commands=(folder.index_words(),) if folder else (),
        shards=folder.shards if folder else (),
        class_files=tuple(folder.class_files.values()) if folder else (),
    )


def _further_targets(paths: tuple[str, ...], length: ListLength) -> tuple[Target, ...]:
    targets = tuple(_further(Path(path), length) for path in paths)
    names = [target.name for target in targets]
    for place, name in enumerate(names):
        if name in (*RESERVED, *names[:place]):
            taken = "two targets are" if name in names[:place] else "other stages are"
            raise UsageError(
                f"{taken} named {name}",
                where=paths[place],
                rule="stages and Scores of a target have the index's name",
                remedy="give the index another name",
            )
    return targets


def _further(path: Path, length: ListLength) -> Target:
    if not NAME.fullmatch(path.stem):
        rule = "a target's name has letters, digits, '.', '-' and '_'"
        raise UsageError(f"'{path.stem}' is no name of a target", where=path, rule=rule)
    corpus: Corpus = open_corpus(path)
    size = Size.of(corpus)
    splits = tuple(split for split in SPLITS if size.videos[split])
    return Target(path.stem, path, splits, size, length)


# ---- a folder of TFRecords -----------------------------------------------------------------------


class RecordFolder:
    """A folder with `train`, `validate` (or `validate/v1*` and `validate/v2*`) and `test`, or with
    shards of any names; and `segment_label_ids.csv` and `vocabulary.csv`, where they are there."""

    def __init__(self, path: Path) -> None:
        self._path, validate = path, path / "validate"
        patterns = {"train": path / "train", "test": path / "test"}
        if any(validate.glob("v1*")) and any(validate.glob("v2*")):
            patterns |= {"v1": validate / "v1*", "v2": validate / "v2*"}
        else:
            patterns |= {"validate": validate}
        found = {role: _records(pattern) for role, pattern in patterns.items()}
        self._patterns = {role: str(patterns[role]) for role, files in found.items() if files}
        self.roles = {role: files for role, files in found.items() if files}
        if not self.roles:
            self._patterns, self.roles = {"auto": str(path)}, {"auto": _records(path)}
        if not self.shards:
            raise UsageError("no TFRecord file here", where=path, remedy="pass an index")

    @property
    def shards(self) -> tuple[Path, ...]:
        return tuple(file for files in self.roles.values() for file in files)

    @property
    def class_files(self) -> dict[str, Path]:
        """By the flag of `index`: which classes are evaluated, and what classes are called."""
        files = {"--classes": "segment_label_ids.csv", "--vocabulary": "vocabulary.csv"}
        paths = {flag: self._path / name for flag, name in files.items()}
        return {flag: path for flag, path in paths.items() if path.is_file()}

    def index_words(self) -> tuple[str, ...]:
        words = ["index"]
        for role, pattern in self._patterns.items():
            words += [pattern] if role == "auto" else [f"--{role}", pattern]
        for flag, path in self.class_files.items():
            words += [flag, str(path)]
        return (*words, "-o", str(INDEX))


def _records(pattern: Path) -> list[Path]:
    """The shards in a folder, at any depth, or those that a glob names."""
    if pattern.is_dir():
        return sorted(pattern.rglob("*.tfrecord"))
    return sorted(pattern.parent.glob(pattern.name))
