"""A fitted kernel in a model and in a file: there and back, and what a file may not hold."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rated_world import CLASSES, SEGMENTS, SETTINGS, rated
from whenabouts.core.errors import RunError
from whenabouts.models import rated_kernel
from whenabouts.models.hierarchical import Att2, Hierarchical, scaled
from whenabouts.models.rated_kernel import RatedKernel
from whenabouts.train.checkpoint import load_weights, save_weights

NAMES = (
    "supports", "answers", "coefficient", "pair_support", "pair_class", "prior", "bias", "width",
    "answer_width",
)  # fmt: skip


def model_of(seed: int = 0, *, is_fitted: bool = False) -> Hierarchical:
    """Of tiny size: its segment features have 64 channels."""
    torch.manual_seed(seed)
    model = Hierarchical(scaled(Att2(), "tiny"), 8, CLASSES, 6, 5).eval()
    if is_fitted:
        pairs = rated(seed)
        drawn = torch.randn(SEGMENTS, 64, generator=torch.Generator().manual_seed(seed))
        model.rated_kernel.fit(SETTINGS, replace(pairs, features=drawn.relu()))
    return model


def logits_of(model: Hierarchical) -> Tensor:
    features = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model(features, torch.ones(6, 5, dtype=torch.bool))


def test_unfitted_it_adds_nothing() -> None:
    """Files and weights of models that know nothing of it stay as they are."""
    model = model_of()
    assert not model.rated_kernel.is_fitted
    assert not [name for name in model.state_dict() if "rated_kernel" in name]
    assert not list(model.rated_kernel.parameters())
    assert torch.equal(logits_of(model), model.segment_head(encoded_by(model)).detach())


def encoded_by(model: Hierarchical) -> Tensor:
    features = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(3))
    return model.encode_segments(features, torch.ones(6, 5, dtype=torch.bool))[0]


def test_a_narrow_kernel_comes_back_too(tmp_path: Path) -> None:
    model, other = model_of(is_fitted=True), model_of(1)
    model.rated_kernel.width.fill_(1e-3)
    save_weights(tmp_path / "w.safetensors", model, {})
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(logits_of(other), logits_of(model))


def test_fitted_all_ways_to_ask_a_model_agree() -> None:
    model = model_of(is_fitted=True)
    head = model.segment_head(encoded_by(model))
    wanted = model.rated_kernel(encoded_by(model), head).detach()
    assert (wanted[:, :2] - head[:, :2]).abs().min() > 1e-3
    torch.testing.assert_close(logits_of(model), wanted)
    torch.testing.assert_close(model.segment_logits(encoded_by(model)).detach(), wanted)
    segment, column = torch.tensor([0, 5, 2, 2]), torch.tensor([1, 0, 3, 1])
    pairs = model.pair_logits_of(encoded_by(model), segment, column).detach()
    torch.testing.assert_close(pairs, wanted[segment, column])
    features = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(6, 5, dtype=torch.bool)
    torch.testing.assert_close(model.pair_logits(features, mask, segment, column).detach(), pairs)


def test_there_and_back(tmp_path: Path) -> None:
    """Into a fresh model, and into one fitted on other segments, more of them."""
    model, path = model_of(is_fitted=True), tmp_path / "v1.safetensors"
    save_weights(path, model, {"step": 3})
    fresh, other = model_of(1), model_of(2)
    other.rated_kernel.fit(SETTINGS, replace(rated(2, 40), features=torch.randn(40, 64)))
    for target in (fresh, other):
        assert load_weights(path, target) == {"step": 3}
        assert torch.equal(logits_of(target), logits_of(model))
        assert list(target.state_dict()) == list(model.state_dict())
    save_weights(tmp_path / "again.safetensors", fresh, {"step": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_file_from_before_there_were_answers(share: float, tmp_path: Path) -> None:
    """It has neither; answers then do not count."""
    model = model_of()
    drawn = torch.randn(SEGMENTS, 64, generator=torch.Generator().manual_seed(0))
    model.rated_kernel.fit(replace(SETTINGS, answers=share), replace(rated(), features=drawn))
    old = {k: v for k, v in model.state_dict().items() if "answer" not in k}
    save_weights(tmp_path / "old.safetensors", AsStored(old), {})
    back = model_of(1)
    load_weights(tmp_path / "old.safetensors", back)
    assert back.rated_kernel.answers.shape == (SEGMENTS, 0)
    assert torch.equal(logits_of(back), logits_of(model)) == (not share)


def test_a_file_of_an_unfitted_model_makes_it_unfitted(tmp_path: Path) -> None:
    model, plain = model_of(is_fitted=True), model_of(1)
    save_weights(tmp_path / "v1.safetensors", plain, {})
    load_weights(tmp_path / "v1.safetensors", model)
    assert not model.rated_kernel.is_fitted
    assert torch.equal(logits_of(model), logits_of(plain))


def test_supports_as_bytes(tmp_path: Path) -> None:
    """300 x 64 of them: more than stay floats. Indices stay whole numbers."""
    model = model_of()
    drawn = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)).relu()
    model.rated_kernel.fit(SETTINGS, replace(rated(0, 300), features=drawn))
    save_weights(tmp_path / "v1.safetensors", model, {}, bits=8)
    back = model_of(1)
    load_weights(tmp_path / "v1.safetensors", back)
    assert back.rated_kernel.supports.dtype == torch.float32
    assert not torch.equal(back.rated_kernel.supports, drawn)
    assert torch.equal(back.rated_kernel.pair_support, model.rated_kernel.pair_support)
    torch.testing.assert_close(logits_of(back), logits_of(model), atol=0.05, rtol=0)


def test_its_parts_are_those_named_here() -> None:
    assert tuple(part.name for part in fields(rated_kernel._Fitted)) == NAMES
    assert set(NAMES) <= set(inspect.get_annotations(RatedKernel))


def set_at(name: str, place: int, value: Any) -> Any:
    def change(parts: dict[str, Tensor]) -> None:
        parts[name] = parts[name].clone()
        parts[name].view(-1)[place] = value

    return change


def put(name: str, make: Any) -> Any:
    def change(parts: dict[str, Tensor]) -> None:
        parts[name] = make(parts[name])

    return change


HOSTILE: dict[str, tuple[Any, str]] = {
    "support too large": (set_at("pair_support", 3, SEGMENTS), r"pair_support' has an index"),
    "support negative": (set_at("pair_support", -1, -1), r"pair_support' has an index"),
    "class too large": (set_at("pair_class", 0, CLASSES), r"pair_class' has an index"),
    "class negative": (set_at("pair_class", 0, -(2**63)), r"pair_class' has an index"),
    "fewer supports": (put("supports", lambda t: t[:5]), r"pair_support' has an index"),
    "no supports": (put("supports", lambda t: t[:0]), r"pair_support' has an index"),
    "narrow supports": (put("supports", lambda t: t[:, :63]), r"supports' is .*\[30, 63\]"),
    "supports flat": (put("supports", lambda t: t.flatten()), r"answers' is .*\[1920, 4\]"),
    "support of no axis": (put("supports", lambda t: t[0, 0]), r"pair_support' has an index"),
    "fewer coefficients": (put("coefficient", lambda t: t[1:]), r"pair_class' is torch.int64 \["),
    "coefficients in a table": (put("coefficient", lambda t: t[None]), r"coefficient' is .*\[1, "),
    "more classes": (put("prior", lambda t: torch.ones(5)), r"prior' is .*\[5\], and not .*\[4\]"),
    "a bias of all": (put("bias", lambda t: t[0]), r"bias' is .*\[\], and not .*\[4\]"),
    "widths": (put("width", lambda t: t[None]), r"width' is .*\[1\], and not .*\[\]"),
    "half precision": (put("supports", lambda t: t.half()), r"supports' is torch.float16"),
    "double coefficients": (put("coefficient", lambda t: t.double()), r"is torch.float64"),
    "bytes without scale": (put("supports", lambda t: t.to(torch.uint8)), r"is torch.uint8"),
    "float indices": (put("pair_class", lambda t: t.float()), r"pair_class' is torch.float32"),
    "short indices": (put("pair_support", lambda t: t.int()), r"pair_support' is torch.int32"),
    "width zero": (set_at("width", 0, 0.0), r"width' is not above 0"),
    "width negative": (set_at("width", 0, -2.0), r"width' is not above 0"),
    "answer width zero": (set_at("answer_width", 0, 0.0), r"answer_width' is not above 0"),
    "fewer answers": (
        put("answers", lambda t: t[:5]),
        r"answers' is .*\[5, 4\], and not .*\[30, 4",
    ),
    "answers of other classes": (put("answers", lambda t: t[:, :3]), r"answers' is .*\[30, 3\]"),
    "answers flat": (put("answers", lambda t: t.flatten()), r"answers' is .*\[120\]"),
    "answers NaN": (set_at("answers", 2, torch.nan), r"answers' has a NaN"),
    "width NaN": (set_at("width", 0, torch.nan), r"width' has a NaN"),
    "coefficient NaN": (set_at("coefficient", 2, torch.nan), r"coefficient' has a NaN"),
    "support infinite": (set_at("supports", 9, torch.inf), r"supports' has a NaN or an infinity"),
    "prior NaN": (set_at("prior", 0, torch.nan), r"prior' has a NaN"),
    "bias infinite": (set_at("bias", 3, -torch.inf), r"bias' has a NaN or an infinity"),
    **{
        f"no {name}": (lambda parts, name=name: parts.pop(name), rf'Missing key.*kernel\.{name}"')
        for name in NAMES
    },
    "one more": (lambda parts: parts.update(other=torch.ones(1)), r"Unexpected key.*kernel.other"),
}


class AsStored(torch.nn.Module):
    """Has the state it is given."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self._state = state

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return self._state


@pytest.mark.parametrize("into_fitted", [False, True])
@pytest.mark.parametrize(("change", "told"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_tensors_are_refused(
    change: Any, told: str, into_fitted: bool, tmp_path: Path
) -> None:
    """By a fresh model and by a fitted one; either one still answers."""
    state, prefix = model_of(is_fitted=True).state_dict(), "rated_kernel."
    parts = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    change(parts)
    rest = {k: v for k, v in state.items() if not k.startswith(prefix)}
    hostile = {**rest, **{prefix + name: value for name, value in parts.items()}}
    save_weights(tmp_path / "hostile.safetensors", AsStored(hostile), {})
    model = model_of(1, is_fitted=into_fitted)
    with pytest.raises(RunError, match=r"hostile\.safetensors: ") as told_of:
        load_weights(tmp_path / "hostile.safetensors", model)
    if not into_fitted or "torch." not in told:  # a dtype is compared before, in other words
        assert told_of.match(told)
    assert logits_of(model).isfinite().all()


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "v1.safetensors", model_of(is_fitted=True), {})
    other = Hierarchical(scaled(Att2(), "tiny"), 8, CLASSES + 1, 6, 5)
    with pytest.raises(RunError, match=r"v1\.safetensors: .*bias' is .*\[4\], and not .*\[5\]"):
        load_weights(tmp_path / "v1.safetensors", other)
