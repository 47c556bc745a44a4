"""A plan of a corpus that is not there, a preset of ours that stays, and the words of stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from whenabouts.recipes import best
from whenabouts.reproduce.cost import Size
from whenabouts.reproduce.plan import Plan, graph_of_plan
from whenabouts.reproduce.target import Target
from whenabouts.workflow.stage import Stage

SPLITS = ("train", "v1", "v2", "test")
SIZE = Size(dict.fromkeys(SPLITS, 1000), dict.fromkeys(SPLITS, 200_000), 1152, 100, 400)
INDEX, OTHER = Path("/given/corpus.index"), Path("/given/other.index")
TEST = Target("test", INDEX, ("test",), SIZE)
FURTHER = Target("other", OTHER, ("train", "v2"), SIZE)
WHOLE = Plan(INDEX, SIZE, "small", (TEST, FURTHER))

# In place of the preset's table, which may change.
KERNEL = ("--strategy.fine-tuning", "kernel")
OUR_MODELS = (
    ("best-lse-1", "lse", KERNEL),
    ("best-lse-2", "lse", (*KERNEL, "--model.head.kind", "moe")),
    ("best-nl", "nl", KERNEL),
    ("best-att2", "att2", ()),
)


@pytest.fixture(scope="module", autouse=True)
def our_models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best, "MODELS", OUR_MODELS)
        yield


def stages(plan: Plan) -> dict[str, Stage]:
    return {stage.name: stage for stage in graph_of_plan(plan).stages}


def words(stage: Stage, root: Path = Path(), there: frozenset[Path] = frozenset()) -> str:
    """A line a command."""
    return "\n".join(" ".join(command) for command in stage.commands_in(root, there))
