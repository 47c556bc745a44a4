from __future__ import annotations

import pickle

import pytest

from whenabouts.core import errors
from whenabouts.core.errors import (
    RecordError,
    SettingsError,
    UsageError,
    WhenaboutsError,
    suggest,
)

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]


def test_message_says_where_fact_rule_remedy():
    error = RecordError("it is cut", where="a.tfrecord", rule="records are whole", remedy="fetch")
    assert str(error) == "a.tfrecord: it is cut; records are whole; fetch"
    assert (error.fact, error.where, error.rule, error.remedy) == (
        "it is cut",
        "a.tfrecord",
        "records are whole",
        "fetch",
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "fact"),
        ({"where": "w"}, "w: fact"),
        ({"rule": "r"}, "fact; r"),
        ({"remedy": "m"}, "fact; m"),
        ({"where": 3, "remedy": "m"}, "3: fact; m"),
    ],
)
def test_parts_that_are_not_given_leave_no_gap(parts, message):
    error = WhenaboutsError("fact", **parts)
    assert str(error) == message
    assert error.where == str(parts.get("where", "")), "JSON can hold it"


def test_every_error_stands_in_the_tree_that_is_drawn():
    assert len(KINDS) == 11
    for kind in KINDS:
        assert issubclass(kind, WhenaboutsError)
        assert kind.__name__ in errors.__doc__
    assert issubclass(WhenaboutsError, ValueError)
    assert [k.__name__ for k in KINDS if issubclass(k, UsageError)] == [
        "UsageError",
        "SettingsError",
    ]


def test_error_comes_whole_from_another_process():
    error = pickle.loads(pickle.dumps(SettingsError("fact", where="w", rule="r", remedy="m")))
    assert type(error) is SettingsError
    assert str(error) == "w: fact; r; m"
    assert (error.fact, error.where) == ("fact", "w")


def test_near_word_is_suggested():
    assert suggest("lerning_rate", ["batch_size", "learning_rate"]) == (
        "did you mean 'learning_rate'?"
    )


def test_without_a_near_word_all_are_listed():
    assert suggest("xyz", iter(["batch_size", "steps"])) == "choose from: batch_size, steps"
    assert suggest("seed", ["speed", "seen"]) == "did you mean 'speed'?"


def test_half_alike_is_near_and_less_is_not():
    assert suggest("abxx", ["abyy"]) == "did you mean 'abyy'?"
    assert suggest("abxxx", ["abyyy"]) == "choose from: abyyy"
