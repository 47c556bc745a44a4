"""Every error a user can meet, drawn once.

    WhenaboutsError (a ValueError)
    ├── UsageError          the command line or a setting is wrong        exit code 2
    │   └── SettingsError   a setting that does not exist or has the wrong type
    ├── RecordError         a record cannot be read: file, byte offset, field
    ├── CorpusError         an index is missing, or a shard is not what was indexed
    ├── RunError            a run's folder, a checkpoint or a bundle of runs does not fit
    ├── InterruptedRunError training was stopped by a signal, after a checkpoint   exit code 130
    ├── ScoresError         a Scores folder does not fit
    ├── LabelsError         a file of segment labels does not fit
    ├── SubmissionError     a submission file breaks the format: row, token
    └── StageError          a stage of a longer work failed, or cannot be run

Each message says where, what was found (fact), what must hold (rule) and what to do (remedy).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WhenaboutsError(ValueError):
    """Base of all errors meant for people; `str()` is the message to show them."""

    def __init__(self, fact: str, *, where: object = "", rule: str = "", remedy: str = "") -> None:
        head = f"{where}: {fact}" if where else fact
        super().__init__("; ".join(part for part in (head, rule, remedy) if part))
        self.fact, self.where, self.rule, self.remedy = fact, str(where), rule, remedy


class UsageError(WhenaboutsError):
    pass


class SettingsError(UsageError):
    pass


class RecordError(WhenaboutsError):
    pass


class CorpusError(WhenaboutsError):
    pass


class RunError(WhenaboutsError):
    pass


class InterruptedRunError(WhenaboutsError):
    pass


class ScoresError(WhenaboutsError):
    pass


class LabelsError(WhenaboutsError):
    pass


class SubmissionError(WhenaboutsError):
    pass


class StageError(WhenaboutsError):
    pass


def suggest(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt `word`: the nearest of `known`, else all of them."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"choose from: {', '.join(choices)}"
