"""`whenabouts reproduce`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from whenabouts import __version__
from whenabouts.commands.arguments import give, parse
from whenabouts.core.atomic import write_json, write_text
from whenabouts.core.errors import StageError, UsageError
from whenabouts.core.list_length import list_length
from whenabouts.core.processes import default_processes
from whenabouts.core.progress import human, say
from whenabouts.recipes.published import Precision, Scale
from whenabouts.reproduce.late import MEAN, Preset, read_json
from whenabouts.reproduce.markdown import markdown
from whenabouts.reproduce.plan import graph_of_plan
from whenabouts.reproduce.request import Request, plan_of, read_request, write_request
from whenabouts.reproduce.tables import tables
from whenabouts.workflow.engine import Ended, Work, run_stages
from whenabouts.workflow.outlook import Outlook, outlook
from whenabouts.workflow.stage import Graph

LAUNCHER = (sys.executable, "-m", "whenabouts.steps")
MOST_JOBS = 4


@dataclass(frozen=True)
class Reproduce:
    """The whole published system: 20 models, five ensembles, fusion, tables, submission, report; or
    (--preset best) our own four models, their mean and its refinement.

    A graph of stages, each a process with a log of its own in OUT/logs. A stage whose inputs and
    settings have not changed is skipped; Ctrl-C, or a crash, leaves a folder in which the same call
    goes on. What an earlier call in OUT was told need not be said again.

    Example: whenabouts reproduce --data corpus.index -o reproduced --scale small
             whenabouts reproduce -o reproduced --status
             whenabouts reproduce --data corpus.index -o best --preset best
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder of the work."""
    data: Path | None = None
    """An index; or a folder of TFRecords (train, validate, test in it, or V1 and V2 by hash)."""
    scale: Scale | None = None
    """Size of the models and length of their training: tiny, small or paper; small if not said."""
    preset: tuple[Preset, ...] | None = None
    """published, best (our own: the best mAP in a fraction of the time) or both; published if not
    said."""
    predict: tuple[Path, ...] | None = None
    """Indexes of further corpora to score and to write submissions for."""
    seeds: int | None = None
    """So many sets of all models, with seeds of their own, for mean and spread in the tables."""
    final: bool = False
    """Train once more, on V2 too, what scores the test split and further corpora."""
    device: str | None = None
    """auto, cpu, cuda or cuda:N: of training and prediction."""
    precision: Precision | None = None
    """auto, float32 or bfloat16: of the attention models in training; a CPU with avx512_bf16 takes
    half the time with bfloat16."""
    k: Annotated[str | None, tyro.conf.arg(metavar="INT|SHARE%")] = None
    """Segments in the list of a class, by which V2 chooses and which is submitted, or a share of
    all: 4.85% is about that of the challenge; 100000 if not said."""
    only: tuple[str, ...] = ()
    """Only these stages, by name or glob ('*.nl-1'); what they need must be there."""
    anew: Annotated[tuple[str, ...], tyro.conf.arg(name="from")] = ()
    """From these stages on, by name or glob: do them and all that need them again."""
    jobs: int = 0
    """Stages at once; each has its share of the cores, or a GPU. 0: a GPU each, else up to 4."""
    dry_run: bool = False
    """Tell what would run, why, how long it may take and what disk it needs."""
    status: bool = False
    """Tell how far it is."""
    tables: bool = False
    """Only write tables.md and tables.json, from what is there."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: Sequence[str]) -> None:
    args = parse(Reproduce, "reproduce", arguments)
    _refuse_wrong_use(args)
    root = args.out.absolute()
    if args.tables:
        _write_tables(args, root)
        return
    request = _request(args, root, arguments)
    graph = graph_of_plan(plan_of(request))
    chosen = graph.chosen(args.only or ("*",))
    anew = graph.behind(graph.chosen(args.anew)) & chosen
    work = Work(root, LAUNCHER, __version__, _environments(args.jobs))
    if args.status or args.dry_run:
        found = outlook(graph, work, chosen, anew)
        lines = _status_lines(found) if args.status else _dry_lines(found, len(work.environments))
        give(_told(found), lines, as_json=args.json)
        return
    ended = run_stages(graph, work, chosen, anew, lambda: write_request(root, request))
    _end(args, root, graph, ended)


def _refuse_wrong_use(args: Reproduce) -> None:
    views = [name for name in ("dry_run", "status", "tables") if getattr(args, name)]
    if len(views) > 1:
        flags = ", ".join(f"--{view.replace('_', '-')}" for view in views)
        raise UsageError(f"{flags} are given", rule="a call shows one thing")
    if args.jobs < 0:
        raise UsageError(f"--jobs is {args.jobs}", rule="it is 0 or more")


def _request(args: Reproduce, root: Path, arguments: Sequence[str]) -> Request:
    """What this call asks for, on top of what the last one in the folder did."""
    kept = read_request(root)
    if kept is None and args.data is None:
        raise UsageError("nothing was reproduced here yet", where=args.out, remedy="pass --data")
    given: dict[str, Any] = {
        "data": None if args.data is None else str(args.data.absolute()),
        "predict": None if args.predict is None else tuple(str(p.absolute()) for p in args.predict),
        "final": args.final if args.final or "--no-final" in arguments else None,
        "presets": args.preset,
        **{name: getattr(args, name) for name in ("scale", "seeds", "device", "precision", "k")},
    }
    given = {name: value for name, value in given.items() if value is not None}
    return Request(**given) if kept is None else replace(kept, **given)


# ---- where stages run ----------------------------------------------------------------------------


def _environments(jobs: int) -> tuple[Mapping[str, str], ...]:
    """The environment of each job: its share of the cores, and its GPU where there are any."""
    cores, gpus = default_processes(), _gpus()
    jobs = jobs or len(gpus) or min(cores, MOST_JOBS)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))
    of_gpu = [{"CUDA_VISIBLE_DEVICES": name} for name in gpus] or [{}]
    return tuple({"OMP_NUM_THREADS": threads, **of_gpu[k % len(of_gpu)]} for k in range(jobs))


def _gpus() -> list[str]:
    """Those that this call may use. Found without torch, which takes seconds to load."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name.strip()]
    names = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*"))
    return sorted((name for name in names if name.isdigit()), key=int)


# ---- what is told --------------------------------------------------------------------------------


def _told(found: Sequence[Outlook]) -> dict[str, Any]:
    return {
        "stages": [
            {
                "name": each.stage.name,
                "standing": each.standing,
                "why": each.why,
                "seconds": round(each.seconds, 1),
                "bytes": int(each.size_bytes),
                "commands": [] if callable(each.stage.commands) else each.stage.commands,
            }
            for each in found
        ]
    }


def _dry_lines(found: Sequence[Outlook], jobs: int) -> Iterator[str]:
    due = [each for each in found if each.why]
    for each in due:
        name, size = each.stage.name, human(each.size_bytes, "B")
        yield f"{name:<24} {_time(each.seconds):>8} {size:>9}  {each.why}"
    seconds, num_bytes = sum(e.seconds for e in due), sum(e.size_bytes for e in due)
    yield (
        f"{len(due)} of {len(found)} stages would run: about {_time(seconds / jobs)} with {jobs} "
        f"at once, and {human(num_bytes, 'B')} of disk (rough: rates of one core)"
    )


def _status_lines(found: Sequence[Outlook]) -> Iterator[str]:
    for each in found:
        spent = _time(each.spent_s) if each.spent_s else ""
        why = each.why if each.standing == "to do" else ""
        yield f"{each.stage.name:<24} {each.standing:<12} {spent:>8}  {why}".rstrip()
    done = sum(each.standing == "done" for each in found)
    yield f"{done} of {len(found)} stages are done"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _end(args: Reproduce, root: Path, graph: Graph, ended: Mapping[str, Ended]) -> None:
    """Give the result, or say what is lacking."""
    by_ending: dict[str, list[str]] = {}
    for name, each in ended.items():
        by_ending.setdefault(each.how, []).append(name)
    if "interrupted" in by_ending:
        say(f"{args.out}: stopped; the same call goes on (without --from)")
        raise KeyboardInterrupt
    if failed := by_ending.get("failed"):
        blocked = len(by_ending.get("blocked", ()))
        more = f", and {blocked} that need them did not run" if blocked else ""
        raise StageError(
            f"{', '.join(failed)} failed{more}",
            where=args.out / "logs",
            remedy="the same call tries again, and goes on",
        )
    result = {"out": str(args.out), "stages": {name: e.how for name, e in ended.items()}}
    lines = [f"{args.out}: {len(by_ending.get('done', ()))} stages done, "
             f"{len(by_ending.get('up to date', ()))} were up to date"]  # fmt: skip
    if (root / "tables.json").is_file():
        result["tables"] = read_json(root / "tables.json")
        lines += [(root / "tables.md").read_text(encoding="utf-8"), *_places(args.out)]
    give(result, lines, as_json=args.json)


def _places(out: Path) -> Iterator[str]:
    for name, path in (
        ("tables", "tables.md"),
        ("submissions", "submissions"),
        ("report", "report.html"),
    ):
        if (out / path).exists():
            yield f"{name + ':':<13}{out / path}"


def _write_tables(args: Reproduce, root: Path) -> None:
    kept = read_request(root) or Request("")
    presets = args.preset or kept.presets
    length = list_length(args.k or kept.k)
    found = tables(root, args.scale or kept.scale, args.seeds or kept.seeds, presets, length)
    best = [{"name": MEAN, **found["best"]}] if found["best"] else []
    for ensemble in (*found["ensembles"], *best):
        if ensemble["missing"]:
            say(f"note: {ensemble['name']} lacks {', '.join(ensemble['missing'])}")
    write_json(root / "tables.json", found)
    write_text(root / "tables.md", markdown(found))
    give(found, [markdown(found)], as_json=args.json)
