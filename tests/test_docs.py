"""What the documentation promises: every command is in the README, every flag shown exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from commandline import run
from whenabouts.cli import COMMANDS
from whenabouts.commands.pseudo_label import METHODS
from whenabouts.recipes.table import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```.*?$(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(whenabouts [^`]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w.-]*")


RECIPE_FIRST = ("train", "search")  # the flags depend on the recipe


class Shown(NamedTuple):
    """A command line on a page: its words after `whenabouts`."""

    page: str
    words: tuple[str, ...]


def lines_of(block: str) -> Iterator[str]:
    yield from block.replace("\\\n", " ").splitlines()


def command_lines(page: Path) -> Iterator[Shown]:
    text = page.read_text()
    found = [line for block in BLOCK.findall(text) for line in lines_of(block)]
    found += INLINE.findall(BLOCK.sub("", text).replace("\n", " "))
    for line in found:
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        if words[:1] == ["whenabouts"] or "-m whenabouts " in line:
            start = words.index("whenabouts") + 1
            yield Shown(page.name, tuple(words[start:]))


def all_shown() -> list[Shown]:
    return [shown for page in PAGES for shown in command_lines(page)]


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, ...], set[str]]:
    return {}


def flags_of(
    words: tuple[str, ...], known: dict[tuple[str, ...], set[str]],
    capsys: pytest.CaptureFixture[str],
) -> set[str]:  # fmt: skip
    """The flags in the help of a command (of a recipe, for `train`)."""
    if words not in known:
        code, out, _ = run(capsys, *words, "--help")
        assert code == 0, words
        known[words] = set(FLAG.findall(out))
    return known[words]


@pytest.mark.parametrize("shown", all_shown(), ids=lambda shown: f"{shown.page}: {shown.words[:3]}")
def test_commands_on_the_pages_are_real(
    shown: Shown, known: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    command, rest = shown.words[0], shown.words[1:]
    if command.startswith("-") or command == "COMMAND":
        return
    assert command in COMMANDS
    called: tuple[str, ...] = (command,)
    if command in RECIPE_FIRST and rest and rest[0] not in ("--help", "RECIPE"):
        if not rest[0].startswith("-"):
            assert rest[0] in RECIPES
            called = (command, rest[0])
        else:
            called = (command, next(iter(RECIPES)))
    if command == "pseudo-label" and rest and rest[0] in METHODS:
        called = (command, rest[0])
    flags = {word.split("=")[0] for word in rest if FLAG.fullmatch(word.split("=")[0])}
    assert flags <= flags_of(called, known, capsys) | {"--help", "-h"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.split("#")[0] for link in LINK.findall(page.read_text())]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_part_of_a_page_find_it(page: Path) -> None:
    links = [link.split("#") for link in LINK.findall(page.read_text()) if "#" in link]
    lost = [
        f"{name}#{part}"
        for name, part in links
        if part not in parts_of(page.parent / name if name else page)
    ]
    assert lost == []


def parts_of(page: Path) -> set[str]:
    """What the headings of a page are linked as: lower case, spaces as dashes, no other signs."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_names_every_command() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md here")
    text = readme.read_text()
    missing = [name for name in COMMANDS if not re.search(rf"(whenabouts |`){name}\b", text)]
    assert missing == []


def test_the_examples_in_the_help_are_real(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        called = (name, "att2") if name in RECIPE_FIRST else (name,)
        called = (name, "teacher") if name == "pseudo-label" else called
        _, out, _ = run(capsys, *called, "--help")
        example = re.search(r"Example: (.*?)\n\n", out, re.DOTALL)
        assert example, name
        for line in example[1].split("whenabouts ")[1:]:
            words = shlex.split(line)
            assert words[0] == name
            flags = {word for word in words if FLAG.fullmatch(word)}
            assert flags <= set(FLAG.findall(out.split("options", 1)[1])), line


def test_the_parser_of_pages(tmp_path: Path) -> None:
    """So that a page cannot pass because nothing on it was found."""
    page = tmp_path / "page.md"
    page.write_text(
        "Say `whenabouts index --help`, not `whenaboutsindex`.\n\n```sh\n"
        "$ whenabouts train s-logi a.index \\\n    --loop.seed 1   # a comment\n"
        "torchrun --nproc-per-node 2 -m whenabouts predict run a.index\n"
        "python -m pytest\n```\n"
    )
    assert [shown.words for shown in command_lines(page)] == [
        ("train", "s-logi", "a.index", "--loop.seed", "1"),
        ("predict", "run", "a.index"),
        ("index", "--help"),
    ]
    assert all_shown() or not PAGES
