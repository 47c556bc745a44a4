"""The command line as a whole: exit codes, help, suggestions, what goes to which stream."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from commandline import ALONE, run, start
from whenabouts import __version__
from whenabouts.cli import COMMANDS, main
from whenabouts.commands.arguments import byte_size, chosen_splits, shard_files
from whenabouts.core.errors import (
    CorpusError,
    InterruptedRunError,
    RunError,
    SettingsError,
    UsageError,
)
from whenabouts.recipes.table import RECIPES

NEED_OUT = ("pack", "predict", "fuse", "refine", "shortlist", "export", "ensemble", "reproduce")
RECIPE_FIRST = ("train", "search")  # the flags depend on the recipe

# `train --help` names the recipes, which need torch; so do those of the commands that compute.
LIGHT = sorted(set(COMMANDS) - {"train", "search", "predict", "export"})


def test_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"]):
        code, out, err = run(capsys, *words)
        assert (code, err) == (0, "")
        assert out.startswith("usage: whenabouts COMMAND")
        for name, what in COMMANDS.items():
            assert f"  {name:<12} {what}\n" in out


def test_nothing_at_all_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: whenabouts COMMAND")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--version", "-V"):
        assert run(capsys, word) == (0, f"whenabouts {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert f"Example: whenabouts {name} " in " ".join(out.split())
    assert f"usage: whenabouts {name}" in out


@pytest.mark.parametrize("recipe", ["s-logi", "f-logi"])
def test_help_of_a_recipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", recipe, "--help")
    assert code == 0
    assert "Example: whenabouts train s-logi corpus.index" in out
    assert "--loop.seed INT" in out
    assert "--optimiser.learning-rate FLOAT" in out


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_a_recipe_says_what_it_is(
    recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those that can have one value alone: the family, the strategy."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip("│ ") for line in run(capsys, "train", recipe, "--help").out.splitlines()]
    flags = [
        (line, below)
        for line, below in pairwise(lines)
        if re.fullmatch(r"--\S+( (?!\{[^,]*\})\S+)+", line)
    ]
    assert len(flags) > 15
    silent = [line for line, below in flags if below.startswith("(default")]
    assert silent == []


@pytest.mark.parametrize(
    ("word", "near"), [("trian", "train"), ("eval", "evaluate"), ("make_corpus", "make-corpus")]
)
def test_a_misspelt_command_is_suggested(
    word: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = f"whenabouts: no command '{word}'; did you mean '{near}'?\n"
    assert run(capsys, word, "--help") == (2, "", expected)


def test_a_command_like_nothing_is_told_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "zzz")
    assert code == 2
    assert err.endswith(f"choose from: {', '.join(COMMANDS)}\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in RECIPE_FIRST])
def test_a_misspelt_flag_is_wrong_use(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flag = "--num-tarin" if name in ("demo", "make-corpus") else "--ouut"
    near = "--num-train" if name in ("demo", "make-corpus") else "--out"
    needed = ("-o", "c") if name in NEED_OUT else ()
    method = ("teacher", "-o", "c") if name == "pseudo-label" else ()
    code, out, err = run(capsys, name, *method, "a", "b", *needed, flag, 3)
    assert (code, out) == (2, "")
    assert flag in err
    assert near in err.split("meant", 1)[1]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("a fact", where="here", remedy="do that"), 2, "here: a fact; do that"),
        (SettingsError("a fact"), 2, "a fact"),
        (RunError("a fact", rule="a rule"), 1, "a fact; a rule"),
        (InterruptedRunError("stopped at step 3"), 130, "stopped at step 3"),
        (FileNotFoundError(2, "No such file", "x/y"), 1, "x/y: No such file"),
        (OSError(28, "No space left on device"), 1, "submit: No space left on device"),
        (OSError("plain"), 1, "submit: plain"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_and_their_exit_codes(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(arguments: Any) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("whenabouts.commands.submit"), "main", fail)
    assert run(capsys, "submit", "x") == (code, "", f"whenabouts: {message}\n")


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(importlib.import_module("whenabouts.commands.submit"), "main", fail)
    with pytest.raises(ZeroDivisionError):
        main(["submit"])


def test_a_command_gets_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        importlib.import_module("whenabouts.commands.make_corpus"), "main", seen.append
    )
    assert main(["make-corpus", "out", "--seed", "3"]) == 0
    monkeypatch.setattr(sys, "argv", ["whenabouts", "make-corpus", "other"])
    assert main() == 0
    assert seen == [["out", "--seed", "3"], ["other"]]


def test_who_stops_listening_ends_it_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import importlib, sys, types\n"
        "from whenabouts import cli\n"
        "told = types.SimpleNamespace(main=lambda words: print('x' * 1_000_000))\n"
        "cli.importlib = types.SimpleNamespace(import_module=lambda name: told)\n"
        "sys.exit(cli.main(['evaluate']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# ---- what is loaded, and as which program --------------------------------------------------------

HELP = """
import sys
from whenabouts.cli import main

assert main(["--help"]) == 0
assert main(["--version"]) == 0
assert main(["trian"]) == 2
loaded = {"torch", "numpy", "pyarrow", "tyro", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
for name in sys.argv[1:]:
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0
    assert "torch" not in sys.modules, name
"""


def test_help_does_not_load_torch() -> None:
    code, out, err = start((sys.executable, "-c", HELP), *LIGHT)
    assert code == 0, err
    assert out.count("usage: whenabouts") == 1 + len(LIGHT)


def test_it_is_a_program_and_a_module() -> None:
    assert start(ALONE, "--version") == (0, f"whenabouts {__version__}\n", "")
    assert start(ALONE, "trian").code == 2
    program = Path(sys.executable).with_name("whenabouts")
    if not program.exists():
        pytest.skip("the package is not installed with its program")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"whenabouts {__version__}\n"


# ---- arguments that several commands share -------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name in ("b.tfrecord", "a.tfrecord", "deep/er/c.tfrecord", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["b.tfrecord"], ["b"]),
        (["b.tfrecord", "a.tfrecord"], ["b", "a"]),
        (["*.tfrecord"], ["a", "b"]),
        (["."], ["a", "b", "deep/er/c"]),
        (["deep"], ["deep/er/c"]),
        (["**/*.tfrecord"], ["a", "b", "deep/er/c"]),
        (["b.tfrecord", "*.tfrecord"], ["b", "a"]),
        ([], []),
    ],
)
def test_shards_by_file_folder_and_glob(
    patterns: list[str], expected: list[str], shards: Path
) -> None:
    found = shard_files(str(shards / pattern) for pattern in patterns)
    assert [str(path.relative_to(shards)).removesuffix(".tfrecord") for path in found] == expected


def test_a_file_of_any_name_is_taken_as_it_is(shards: Path) -> None:
    assert shard_files([str(shards / "notes.txt")]) == [shards / "notes.txt"]


@pytest.mark.parametrize("pattern", ["gone.tfrecord", "gone*", "empty"])
def test_a_pattern_that_names_nothing(pattern: str, shards: Path) -> None:
    (shards / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no TFRecord file here; shards are files, folders"):
        shard_files([str(shards / "a.tfrecord"), str(shards / pattern)])


def test_chosen_splits() -> None:
    assert chosen_splits(["v2", "train"]) == ["train", "v2"]
    assert chosen_splits([]) == []
    with pytest.raises(UsageError, match=r"no split 'v3'; splits are train, v1, v2, test"):
        chosen_splits(["v2", "v3"])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("12 B", 12),
        ("1kB", 1000),
        ("1 KB", 1000),
        ("500MB", 500_000_000),
        ("1GB", 1_000_000_000),
        ("1.1 gb", 1_100_000_000),
        (" 0.0005 TB ", 500_000_000),
        ("999999999999999TB", 999999999999999 * 10**12),
    ],
)
def test_sizes_are_powers_of_10(text: str, size: int) -> None:
    assert byte_size(text, "--max-size") == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "1GiB", "1e9", "1,5 GB", "1.GB", ".5GB", "1G", "1 GB 2", "9" * 16, "٣"]
)
def test_what_is_no_size(text: str) -> None:
    told = f"--max-size: '{text}' is no size; sizes are bytes, or a number with kB, MB, GB or TB"
    with pytest.raises(UsageError, match=told):
        byte_size(text, "--max-size")
