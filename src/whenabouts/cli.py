"""The command line: one line a command. A command's module is imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from whenabouts import __version__
from whenabouts.core.errors import InterruptedRunError, UsageError, WhenaboutsError, suggest

COMMANDS = {
    "demo": "run the main job end to end on made data; ends with numbers and a page",
    "make-corpus": "write a corpus of planted topics in the YouTube-8M wire format",
    "pack": "features of your own videos (.npy, .npz) into shards that index reads",
    "index": "index TFRecord shards: checksums, where each frame lies, labels, splits",
    "train": "train a recipe on an indexed corpus; gives a run",
    "search": "search the settings of a recipe: many trainings, the best of them by V2",
    "predict": "score every segment of a corpus with a run or a bundle; gives Scores",
    "evaluate": "mAP@K of Scores or of a submission file; GAP, mAP, Hit@1 of videos",
    "fuse": "fuse segment scores with those of their videos; filter candidates, search exponents",
    "refine": "refine segment scores by the scores around them in their video",
    "shortlist": "put what one kind of scores lists first, in the order of another",
    "ensemble": "average several Scores with weights; search the weights on what was held out",
    "pseudo-label": "label segments that nobody rated, by a teacher or by clusters; gives Labels",
    "reproduce": "the whole published system: 20 models, five ensembles, tables, submission",
    "moments": "where each topic begins and ends in each video, as a table",
    "submit": "write the submission file from Scores",
    "report": "write one HTML page about a run and its Scores",
    "export": "put trained runs in a bundle: 8-bit weights, one folder that predict takes",
}
INTERRUPTED = 130
BROKEN_PIPE = 141  # as a shell tells of SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong use, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        return _fail(overview(), 2)
    if words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"whenabouts {__version__}")
        return 0
    try:
        code = _run(words[0], words[1:])
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(f"whenabouts: {error}", 2)
    except InterruptedRunError as error:
        return _fail(f"whenabouts: {error}", INTERRUPTED)
    except WhenaboutsError as error:
        return _fail(f"whenabouts: {error}", 1)
    except BrokenPipeError:  # whoever read this has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _fail(f"whenabouts: {error.filename or words[0]}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("whenabouts: interrupted", INTERRUPTED)


def _run(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        raise UsageError(f"no command '{command}'", remedy=suggest(command, COMMANDS))
    # Late, so that `--help` and `--version` need not load torch, which takes seconds.
    module = importlib.import_module(f"whenabouts.commands.{command.replace('-', '_')}")
    module.main(arguments)
    return 0


def overview() -> str:
    lines = [f"  {name:<12} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: whenabouts COMMAND ...",
            "",
            "Find when each topic appears in a video.",
            "",
            *lines,
            "",
            "'whenabouts COMMAND --help' tells all about one, with an example.",
        ]
    )


def _fail(message: str, code: int) -> int:
    # A file's name need not be text.
    print(message.encode(errors="backslashreplace").decode(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
