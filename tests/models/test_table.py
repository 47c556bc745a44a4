"""The table of model families: settings in, the right module out."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import nn

from whenabouts.core.errors import SettingsError
from whenabouts.core.settings import to_dict
from whenabouts.models.logistic import FLogi, FrameLogistic, SegmentLogistic, SLogi
from whenabouts.models.table import FAMILIES, ModelSettings, build_model, model_settings

MODULES: dict[str, type[nn.Module]] = {"s-logi": SegmentLogistic, "f-logi": FrameLogistic}


def test_the_table_is_whole() -> None:
    assert set(FAMILIES.values()) == set(typing.get_args(ModelSettings))
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert {name: kind().family for name, kind in FAMILIES.items()} == {
        name: name for name in FAMILIES
    }


@pytest.mark.parametrize("family", MODULES)
def test_logistic_families_are_built_and_answers(family: str) -> None:
    model = build_model(FAMILIES[family](), 7, 3)
    assert type(model) is MODULES[family]
    logits = model(torch.zeros(2, 5, 7), torch.ones(2, 5, dtype=torch.bool))
    assert logits.shape == (2, 3)
    assert sum(p.numel() for p in model.parameters()) == 7 * 3 + 3


@pytest.mark.parametrize("settings", [SLogi(), FLogi()])
def test_settings_come_back_from_a_recipe(settings: ModelSettings) -> None:
    assert model_settings(to_dict(settings)) == settings


def test_a_misspelt_family_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"here: no model family 's-logy'.*'s-logi'\?"):
        model_settings({"family": "s-logy"}, "here")


@pytest.mark.parametrize("values", [{}, None, ["s-logi"], "s-logi"])
def test_no_family_at_all_is_refused(values: object) -> None:
    with pytest.raises(SettingsError, match=r"no model family ''; choose from: s-logi, f-logi, "):
        model_settings(values)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"recipe: no setting 'familly'; did you mean"):
        model_settings({"family": "f-logi", "familly": 3}, "recipe")
