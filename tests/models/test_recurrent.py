from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layer_oracle import EMPTY, MASK, array, frames_of, linear, sigmoid, videos_of
from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import HeadSettings
from whenabouts.models.recurrent import BiGRU, BiLSTM, Recurrent

WIDTH, HIDDEN, TOP, CLASSES = 6, 3, 5, 4
KINDS: list[type[Any]] = [BiLSTM, BiGRU]
every_kind = pytest.mark.parametrize("kind", KINDS)


def model_of(kind: type[Any]) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(kind(HIDDEN, TOP), WIDTH, CLASSES).double()


def read(layer: nn.RNNBase, x: np.ndarray, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Outputs [T, H] and last state (the cell of an LSTM) of one layer in one direction."""
    names = [f"{name}_l0{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    w, u, b, c = (array(getattr(layer, name)) for name in names)
    h = cell = np.zeros(layer.hidden_size)
    outputs = []
    for frame in x:
        given, kept = w @ frame + b, u @ h + c
        if isinstance(layer, nn.LSTM):
            i, f, new, o = np.split(given + kept, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(new)
            h = sigmoid(o) * np.tanh(cell)
        else:
            (r, z, new), (r_kept, z_kept, new_kept) = np.split(given, 3), np.split(kept, 3)
            update = sigmoid(z + z_kept)
            h = (1 - update) * np.tanh(new + sigmoid(r + r_kept) * new_kept) + update * h
        outputs.append(h)
    return np.stack(outputs), cell if isinstance(layer, nn.LSTM) else h


def last_state(model: Recurrent, x: np.ndarray) -> np.ndarray:
    forwards, _ = read(model.both_ways, x)
    backwards, _ = read(model.both_ways, x[::-1], "_reverse")
    return read(model.forwards, np.hstack([forwards, backwards[::-1]]))[1]


@every_kind
def test_against_the_formula(kind: type[Any]) -> None:
    model, features = model_of(kind), frames_of(WIDTH)
    states = [last_state(model, x) if len(x) else np.zeros(TOP) for x in videos_of(features)]
    np.testing.assert_allclose(model.last_state(features, MASK).detach(), states, rtol=1e-9)
    wanted = linear(model.head.linear, np.stack(states))
    np.testing.assert_allclose(model(features, MASK).detach(), wanted, rtol=1e-9)


@every_kind
def test_order_matters(kind: type[Any]) -> None:
    model, features = model_of(kind), frames_of(WIDTH)
    got, turned = model(features, MASK), model(features.flip(1), MASK.flip(1))
    changed = ~torch.isclose(got, turned).all(dim=1)
    assert changed.tolist() == (MASK.sum(dim=1) > 1).tolist()


@every_kind
def test_without_padding_as_with_it(kind: type[Any]) -> None:
    model, features = model_of(kind), frames_of(WIDTH)
    whole = torch.ones_like(MASK)
    longer = torch.cat([features, features + 9], dim=1)
    got = model(longer, torch.cat([whole, torch.zeros_like(MASK)], dim=1))
    torch.testing.assert_close(got, model(features, whole))


@every_kind
def test_an_empty_video_reads_nothing(kind: type[Any]) -> None:
    model, features = model_of(kind), frames_of(WIDTH).requires_grad_()
    state = model.last_state(features, MASK)
    assert not state[EMPTY].any()
    state.sum().backward()
    assert features.grad is not None
    assert not features.grad[~MASK].any()
    assert features.grad[MASK].any(dim=1).all()


@every_kind
def test_gradients(kind: type[Any]) -> None:
    model, features, mask = model_of(kind), frames_of(WIDTH)[:3, :3], MASK[:3, :3]
    parameters = tuple(model.parameters())
    assert torch.autograd.gradcheck(lambda *_: model(features, mask), parameters)


@pytest.mark.parametrize(("kind", "opened"), [(BiLSTM, slice(3, 6)), (BiGRU, slice(0, 6))])
def test_gates_that_keep_the_past_start_open(kind: type[Any], opened: slice) -> None:
    layer = model_of(kind).both_ways
    bias = layer.bias_ih_l0_reverse + layer.bias_hh_l0_reverse
    is_one = torch.zeros(len(bias), dtype=torch.bool)
    is_one[opened] = True
    assert torch.equal(bias == 1, is_one)


@every_kind
def test_sizes_of_the_paper(kind: type[Any]) -> None:
    assert (kind().hidden, kind().top, kind().head) == (512, 1024, HeadSettings("logistic"))


@every_kind
@pytest.mark.parametrize("name", ["hidden", "top"])
def test_impossible_sizes(kind: type[Any], name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: the value is -1; it must be at least 1"):
        kind(**{name: -1})
