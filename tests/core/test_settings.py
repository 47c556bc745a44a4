from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from whenabouts.core.errors import SettingsError, UsageError
from whenabouts.core.settings import from_dict, leaves, to_dict, with_setting


@dataclass(frozen=True)
class Inner:
    width: int
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decaying:
    """Settings that refuse a value themselves."""

    decay: float = 1.0

    def __post_init__(self):
        if not 0 < self.decay <= 1:
            raise SettingsError(f"the value is {self.decay}", rule="it must be above 0")


@dataclass(frozen=True)
class Nest:
    outer: Decaying


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["adam", "sgd"] = "adam"
    steps: int | None = None
    either: int | str = 1
    limits: tuple[int, float] = (1, 2.0)
    many: tuple[Inner, ...] = ()
    is_final: bool = False
    fresh: Inner = field(default_factory=lambda: Inner(9))


FULL = Outer(
    Inner(3, 0.25, ("a", "b")), "sgd", 7, "x", (4, 0.5), (Inner(1), Inner(2)), True, Inner(1)
)


@pytest.mark.parametrize("settings", [FULL, Outer(Inner(3))])
def test_settings_come_back_from_json(settings):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(settings)))) == settings


def test_what_is_left_out_keeps_its_default():
    assert from_dict(Outer, {"inner": {"width": 3}}) == Outer(Inner(3))
    assert from_dict(Outer, {"inner": {"width": 3}, "steps": None}) == Outer(Inner(3))


def test_integer_is_a_float_too():
    built = from_dict(Outer, {"inner": {"width": 3, "rate": 2}, "limits": [1, 2]})
    assert type(built.inner.rate) is float
    assert type(built.limits[1]) is float
    assert built.limits == (1, 2.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"widht": 3}}, "^r.inner: no setting 'widht'; did you mean 'width'"),
        ({"inner": {"width": 3}, "xyz": 1}, "^r: no setting 'xyz'; choose from: inner, kind"),
        ({}, "^r: no inner"),
        ({"inner": {}}, "^r.inner: no width"),
        ({"inner": 3}, "^r.inner: the value is 3; it must be a table of settings"),
        ({"inner": {"width": 3.0}}, "^r.inner.width: the value is 3.0; it must be of type int"),
        ({"inner": {"width": True}}, "^r.inner.width: the value is True; it must be of type int"),
        ({"inner": {"width": 1, "rate": True}}, "^r.inner.rate: .*it must be of type float"),
        ({"inner": {"width": 1, "rate": "0.5"}}, "^r.inner.rate: .*it must be of type float"),
        ({"inner": {"width": 1, "names": "ab"}}, "^r.inner.names: .*it must be a list"),
        ({"inner": {"width": 1, "names": ["a", 1]}}, r"^r.inner.names\[1\]: .*of type str"),
        ({"inner": {"width": 1}, "kind": "adm"}, "^r.kind: .*it must be one of 'adam', 'sgd'"),
        ({"inner": {"width": 1}, "steps": 1.5}, "^r.steps: .*it must be one of .*int.*None"),
        ({"inner": {"width": 1}, "either": None}, "^r.either: the value is None"),
        ({"inner": {"width": 1}, "limits": [1]}, "^r.limits: .*it must be a list of 2"),
        ({"inner": {"width": 1}, "limits": [1, 2, 3]}, "^r.limits: .*it must be a list of 2"),
        ({"inner": {"width": 1}, "limits": [1.5, 2]}, r"^r.limits\[0\]: .*of type int"),
        ({"inner": {"width": 1}, "many": [{"width": 1}, {}]}, r"^r.many\[1\]: no width"),
        ({"inner": {"width": 1}, "is_final": 1}, "^r.is_final: .*it must be of type bool"),
    ],
)
def test_wrong_setting_is_named_by_its_path(values, message):
    with pytest.raises(SettingsError, match=message) as raised:
        from_dict(Outer, values, "r")
    assert isinstance(raised.value, UsageError)


def test_without_a_place_the_kind_is_named():
    with pytest.raises(SettingsError, match=r"^Outer: no setting 'x'"):
        from_dict(Outer, {"x": 1})
    with pytest.raises(SettingsError, match=r"^Outer: no inner"):
        from_dict(Outer, {})
    with pytest.raises(SettingsError, match=r"^inner.width: the value is 'x'"):
        from_dict(Outer, {"inner": {"width": "x"}})


def test_relative_path_is_shown_as_it_was_given():
    with pytest.raises(SettingsError, match=r"^\./a\.json\.inner: the value is 1"):
        from_dict(Outer, {"inner": 1}, "./a.json")


# ---- one setting of many -------------------------------------------------------------------------


def test_leaves_by_dotted_name():
    found = leaves(FULL)
    assert list(found) == [
        *("inner.width", "inner.rate", "inner.names", "kind", "steps", "either", "limits", "many"),
        *("is_final", "fresh.width", "fresh.rate", "fresh.names"),
    ]
    assert (found["inner.rate"], found["kind"], found["many"]) == (0.25, "sgd", FULL.many)


def test_one_setting_is_changed():
    changed = with_setting(FULL, "inner.rate", 1)
    assert changed == replace(FULL, inner=replace(FULL.inner, rate=1.0))
    assert type(changed.inner.rate) is float
    assert with_setting(FULL, "kind", "adam") == replace(FULL, kind="adam")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("inner.rte", 1.0, r"no setting 'inner.rte'; did you mean 'inner.rate'\?"),
        ("iner.rate", 1.0, r"no setting 'iner.rate'; did you mean 'inner.rate'\?"),
        ("kind.of", 1, "no setting 'kind.of'"),
        ("inner", 1, "no setting 'inner'"),
        ("inner.width", 0.5, "inner.width: the value is 0.5; it must be of type int"),
        ("kind", "sdg", "kind: the value is 'sdg'; it must be one of 'adam', 'sgd'"),
    ],
)
def test_a_setting_that_is_not_there_or_does_not_fit(name, value, told):
    with pytest.raises(SettingsError, match=told):
        with_setting(FULL, name, value)


def test_what_the_settings_themselves_refuse_is_named():
    with pytest.raises(SettingsError, match=r"outer.decay: the value is 3.0; it must be above 0"):
        with_setting(Nest(Decaying()), "outer.decay", 3.0)
