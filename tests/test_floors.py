"""What the house promises of itself: imports go down, functions are short, nothing is pickled.

Rooms of one floor are strangers; all may import lower floors. Only the command line imports late.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import whenabouts

SOURCE = Path(whenabouts.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
FLOORS = (
    ("core",),
    ("records", "models", "losses", "clustering", "metrics", "submission", "moments", "workflow"),
    ("corpus", "ensemble"),
    ("feed",),
    ("train",),
    ("strategies",),
    ("recipes",),
    ("report", "serve", "extract"),
    ("search", "reproduce"),
    ("commands",),
    ("cli",),
    ("__main__", "steps"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_TRAINING = FLOORS[7]  # what shows results must not need what makes them
MAY_IMPORT_LATE = ("commands", "cli")
PICKLERS = ("pickle", "cloudpickle", "dill", "joblib", "shelve")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def room_of(file: str) -> str:
    return Path(file).parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST, file: str) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, also inside functions."""
    package = ["whenabouts", *Path(file).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_rooms(tree: ast.AST, file: str) -> set[str]:
    modules = [m.split(".") for m in imported_modules(tree, file)]
    return {m[1] for m in modules if m[0] == "whenabouts" and len(m) > 1 and m[1] in FLOOR_OF}


def forbidden_imports(source: str, file: str) -> list[str]:
    """The rooms that a file imports and must not."""
    here = room_of(file)
    rooms = imported_rooms(ast.parse(source), file) - {here}
    too_high = {room for room in rooms if FLOOR_OF[room] >= FLOOR_OF[here]}
    training = {"train"} & rooms if here in WITHOUT_TRAINING else set()
    return sorted(too_high | training)


def late_imports(source: str, file: str) -> list[int]:
    """Lines of imports hidden in functions, and of imports by name."""
    tree, lines = ast.parse(source), set()
    if room_of(file) in MAY_IMPORT_LATE:
        return []
    for function in ast.walk(tree):
        if isinstance(function, Definition | ast.Lambda):
            inside = ast.walk(function)
            lines |= {n.lineno for n in inside if isinstance(n, ast.Import | ast.ImportFrom)}
    for node in ast.walk(tree):
        name = node.func if isinstance(node, ast.Call) else None
        called = getattr(name, "attr", getattr(name, "id", ""))
        if called in ("import_module", "__import__"):
            lines.add(node.lineno)
    return sorted(lines)


def code_lines(source: str) -> set[int]:
    """Lines that hold code: no comment, no docstring, not empty."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Definition | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def function_lengths(source: str) -> dict[str, int]:
    """Lines of code of each function, its signature and what is nested in it included."""
    code = code_lines(source)
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, Definition)]
    return {f.name: len(code & set(range(f.lineno, f.end_lineno + 1))) for f in functions}


def pickling(source: str) -> list[str]:
    """What reads or writes pickles, and would run the code of whoever wrote the file."""
    tree = ast.parse(source)
    found = {m for m in imported_modules(tree, "") if m.split(".")[0] in PICKLERS}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        safe = {k.arg for k in node.keywords if ast.unparse(k.value) == "True"}
        if called == "torch.save" or (called == "torch.load" and "weights_only" not in safe):
            found.add(called)
        if "allow_pickle" in safe:
            found.add(f"{called}(allow_pickle=True)")
    return sorted(found)


# ---- the house -----------------------------------------------------------------------------------


def test_all_files_are_looked_at():
    assert len(FILES) > 60
    assert {"core/errors.py", "cli.py", "feed/rated.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_room_stands_on_a_floor(name):
    assert name == "__init__.py" or room_of(name) in FLOOR_OF


@pytest.mark.parametrize("name", [n for n in NAMES if n != "__init__.py"])
def test_imports_go_down(name):
    assert forbidden_imports((SOURCE / name).read_text(), name) == []


@pytest.mark.parametrize("name", NAMES)
def test_imports_stand_at_the_top(name):
    assert late_imports((SOURCE / name).read_text(), name) == []


def test_package_itself_imports_no_room():
    assert imported_rooms(ast.parse((SOURCE / "__init__.py").read_text()), "__init__.py") == set()


@pytest.mark.parametrize("name", NAMES)
def test_functions_and_files_are_short(name):
    source = (SOURCE / name).read_text()
    lengths = function_lengths(source)
    assert {f: n for f, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}
    assert source.count("\n") <= MAX_FILE_LINES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_pickled(name):
    assert pickling((SOURCE / name).read_text()) == []


def test_light_modules_do_not_load_torch():
    """Torch takes seconds to load; to index and to evaluate must work without it."""
    light = (
        "whenabouts.cli",
        "whenabouts.records.examples",
        "whenabouts.corpus.index",
        "whenabouts.metrics.segment_map",
        "whenabouts.submission",
        "whenabouts.ensemble.search",
    )
    code = f"import sys, {', '.join(light)}\nprint(sorted(set(sys.modules) & {{'torch'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- the tests above notice what they are for ----------------------------------------------------


@pytest.mark.parametrize(
    ("source", "file", "forbidden"),
    [
        ("from whenabouts.feed.rated import x", "corpus/a.py", ["feed"]),
        ("from whenabouts.corpus import index", "feed/a.py", []),
        ("from whenabouts import feed", "corpus/a.py", ["feed"]),
        ("import whenabouts.train.fit as fit", "feed/a.py", ["train"]),
        ("from ..train.fit import x", "feed/a.py", ["train"]),
        ("from . import rated", "feed/a.py", []),
        ("from .. import losses", "metrics/a.py", ["losses"]),
        ("def f():\n    from whenabouts.report import x", "recipes/a.py", ["report"]),
        ("from whenabouts.records import x\nfrom whenabouts.models import y", "metrics/a.py",
         ["models", "records"]),
        ("from whenabouts.submission import write_submission", "losses.py", ["submission"]),
        ("from whenabouts.train.fit import x", "report/a.py", ["train"]),
        ("from whenabouts.train.fit import x", "commands/a.py", []),
        ("from whenabouts.cli import x", "commands/a.py", ["cli"]),
        ("from whenabouts import __version__\nimport torch.feed", "core/a.py", []),
    ],
)  # fmt: skip
def test_import_that_goes_up_is_noticed(source, file, forbidden):
    assert forbidden_imports(source, file) == forbidden


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import os", []),
        ("if TYPE_CHECKING:\n    import os", []),
        ("def f():\n    import os", [2]),
        ("class A:\n    def f(self):\n        from os import path", [3]),
        ("async def f():\n    if x:\n        import os", [3]),
        ("x = importlib.import_module('torch')", [1]),
        ("x = __import__('torch')", [1]),
    ],
)
def test_late_import_is_noticed(source, lines):
    assert late_imports(source, "feed/a.py") == lines
    assert late_imports(source, "commands/a.py") == []


def test_lines_of_code_are_counted():
    source = '''def f(
    a,
):
    """Two
    lines."""

    # a comment
    text = """one

    more"""
    return a  # the end


def g():
    return 1
'''
    assert function_lengths(source) == {"f": 7, "g": 2}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("torch.save(model, path)", ["torch.save"]),
        ("np.load(path, allow_pickle=True)", ["np.load(allow_pickle=True)"]),
        ("np.load(path, allow_pickle=False)", []),
    ],
)
def test_pickle_is_noticed(source, found):
    assert pickling(source) == found
