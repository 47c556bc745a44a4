"""Checkpoints: everything comes back, equal content gives equal bytes, strangers are refused."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from toy_work import toy_batch, toy_loss, toy_model
from whenabouts.core.errors import RunError
from whenabouts.train.checkpoint import (
    Bits,
    Position,
    load_checkpoint,
    load_weights,
    refuse_other_shapes,
    save_checkpoint,
    save_weights,
)
from whenabouts.train.fit import build_optimiser
from whenabouts.train.settings import Optimiser

POSITION = Position("v1", 30, 20, 0.625, 1, False, 1234, 17.5, (0.5, 0.625, 0.6))
SOURCE = Path(__file__).parents[2] / "src" / "whenabouts"


def trained(steps: int = 3, name: str = "adam") -> tuple[nn.Module, Optimizer]:
    model = toy_model()
    optimiser = build_optimiser(model, Optimiser(name, weight_decay=0.01))
    for step in range(steps):
        take_step(model, optimiser, step)
    return model, optimiser


def take_step(model: nn.Module, optimiser: Optimizer, step: int) -> None:
    optimiser.zero_grad()
    toy_loss(model, toy_batch(step)).backward()
    optimiser.step()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model, optimiser = trained()
    path = tmp_path / "checkpoints" / "v1.safetensors"
    save_checkpoint(path, model, optimiser, POSITION)
    return path


# ---- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_everything_comes_back(name: str, tmp_path: Path) -> None:
    model, optimiser = trained(name=name)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, model, optimiser, POSITION)
    drawn = torch.rand(4)

    other, other_optimiser = trained(steps=1, name=name)
    torch.manual_seed(99)
    assert load_checkpoint(path, other, other_optimiser) == POSITION
    assert torch.equal(torch.rand(4), drawn)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    for mine, theirs in zip(model.parameters(), other.parameters()):
        state, their_state = optimiser.state[mine], other_optimiser.state[theirs]
        assert set(state) == set(their_state) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(state[key], their_state[key]) for key in state)
    assert float(other_optimiser.state[next(other.parameters())]["step"]) == 3.0


def test_training_goes_on_bit_for_bit(path: Path) -> None:
    model, optimiser = trained()
    fresh = toy_model()
    fresh_optimiser = build_optimiser(fresh, Optimiser(weight_decay=0.01))
    load_checkpoint(path, fresh, fresh_optimiser)
    for each in ((model, optimiser), (fresh, fresh_optimiser)):
        torch.manual_seed(5)
        take_step(*each, step=3)
        take_step(*each, step=4)
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_checkpoint_before_the_first_step(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *trained(steps=0), Position("v1"))
    model, optimiser = trained(steps=0)
    assert load_checkpoint(path, model, optimiser) == Position("v1")
    assert not optimiser.state


def test_what_the_file_holds(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    weights = {f"model/{name}" for name in toy_model().state_dict()}
    states = {
        f"optimiser/{name}/{key}"
        for name, _ in toy_model().named_parameters()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    assert names - {"random/cuda"} == weights | states | {"random/cpu"}
    facts = json.loads(metadata["whenabouts"])
    assert facts == {"format": 1, "position": json.loads(json.dumps(asdict(POSITION)))}


def test_weights_and_facts_come_back(tmp_path: Path) -> None:
    model, _ = trained()
    path = tmp_path / "v1.safetensors"
    save_weights(path, model, {"step": 40, "trained_on": ("v1", "v2")})
    other = toy_model()
    assert load_weights(path, other) == {"step": 40, "trained_on": ["v1", "v2"]}
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def large_model(seed: int = 7) -> nn.Module:
    """One tensor of more than 17,000 elements, one of as many, and a buffer of integers."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(100, 171), nn.BatchNorm1d(171), nn.Linear(100, 170))
    nn.init.normal_(model[0].weight, std=0.2)
    return model


def test_weights_of_8_bits_come_back_within_half_a_step(tmp_path: Path) -> None:
    model, other, path = large_model(), large_model(8), tmp_path / "w"
    save_weights(path, model, {"step": 40}, bits=8)
    assert load_weights(path, other) == {"step": 40}
    for name, value in model.state_dict().items():
        step = float(value.max() - value.min()) / 255 if name == "0.weight" else 0
        moved = float((other.state_dict()[name] - value).abs().max())
        assert 0.4 * step <= moved <= 0.5001 * step, name
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())
        assert file.get_tensor("0.weight").dtype == torch.uint8
        facts = json.loads(file.metadata()["whenabouts"])
    low, high = (float(v) for v in model[0].weight.detach().aminmax())
    assert facts == {
        "format": 2,
        "facts": {"step": 40},
        "quantised": {"0.weight": {"lowest": low, "highest": high}},
    }
    assert path.stat().st_size < 17_100 + 4 * 17_000 + 6000


def test_weights_of_8_bits_without_large_tensors_are_as_ever(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", toy_model(), {"step": 1}, bits=8)
    save_weights(tmp_path / "b", toy_model(), {"step": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Twenty times: the order of two keys of metadata would differ in one of them."""
    model, optimiser = trained()
    kept = set()
    for number in range(20):
        save_weights(tmp_path / f"w{number}", model, {"step": 1, "phase": "v1"})
        save_checkpoint(tmp_path / f"c{number}", model, optimiser, POSITION)
        kept.add((tmp_path / f"w{number}").read_bytes() + (tmp_path / f"c{number}").read_bytes())
    assert len(kept) == 1


def test_a_file_is_replaced_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def half(tensors: object, partial: Path, metadata: object) -> None:
        Path(partial).write_bytes(before[:100])
        raise OSError("no space left")

    monkeypatch.setattr("whenabouts.train.checkpoint.save_file", half)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, *trained(steps=1), Position("v1"))
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# ---- files that do not fit -----------------------------------------------------------------------


def load(path: Path, model: nn.Module | None = None) -> Position:
    model = model or toy_model()
    return load_checkpoint(path, model, build_optimiser(model, Optimiser()))


def broken(path: Path, **changes: object) -> Path:
    """The checkpoint again with tensors changed (None removes one) or other metadata."""
    metadata = changes.pop("metadata", None)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() if metadata is None else metadata
    tensors = {k: v for k, v in {**tensors, **changes}.items() if v is not None}
    save_file(tensors, path, metadata)
    return path


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"gone: no checkpoint here; train first"):
        load(tmp_path / "gone")
    with pytest.raises(RunError, match=r"gone: no checkpoint here"):
        load_weights(tmp_path / "gone", toy_model())


@pytest.mark.parametrize("end", [0, 4, 50, -1])
def test_a_truncated_file(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(RunError, match=r"v1\.safetensors: not a whole safetensors file"):
        load(path)
    with pytest.raises(RunError, match=r"v1\.safetensors: not a whole safetensors file"):
        load_weights(path, toy_model())


def test_a_file_of_another_kind(path: Path) -> None:
    path.write_text("epoch,loss\n" * 20)
    with pytest.raises(RunError, match=r"v1\.safetensors: not a whole safetensors file"):
        load(path)


def test_another_recipe(path: Path) -> None:
    other = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 1))
    with pytest.raises(RunError, match=r"v1\.safetensors: .*a checkpoint fits the recipe"):
        load(path, other)
    with pytest.raises(RunError, match=r"v1\.safetensors: .*a checkpoint fits the recipe"):
        load_weights(path, other)
    wider = toy_model()
    wider[4] = nn.Linear(6, 2)
    with pytest.raises(RunError, match=r"size mismatch for 4\.(weight|bias)"):
        load(path, wider)


def test_weights_are_no_checkpoint_and_the_other_way_round(path: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "w", toy_model(), {})
    with pytest.raises(RunError, match=r"w: no position or no random state; a checkpoint holds"):
        load(tmp_path / "w")
    with pytest.raises(RunError, match=r"a checkpoint fits the recipe"):
        load_weights(path, toy_model())


def test_no_random_state(path: Path) -> None:
    with pytest.raises(RunError, match="no position or no random state"):
        load(broken(path, **{"random/cpu": None}))


def test_no_position(path: Path) -> None:
    with pytest.raises(RunError, match="no position or no random state"):
        load(broken(path, metadata={"whenabouts": '{"format": 1}'}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"other": "x"}, "format is None; it must be 1"),
        ({"whenabouts": '{"format": 2}'}, "format is 2; it must be 1"),
        ({"whenabouts": "[1]"}, "format is None; it must be 1"),
        ({"whenabouts": "{"}, "its metadata is not JSON"),
    ],
)
def test_metadata_of_a_stranger(path: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(RunError, match=rf"v1\.safetensors: {message}"):
        load(broken(path, metadata=metadata))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ('{"format": 3}', "format is 3; it must be 1 or 2"),
        ('{"format": 2, "quantised": 1}', "'quantised' is no JSON object"),
        ('{"format": 2, "quantised": {"x": {}}}', "'x' has a scale and is not there"),
        ('{"format": 2, "quantised": {"0.weight": {}}}', "the scale of '0.weight' is {}"),
        ('{"format": 2, "quantised": {"0.bias": {}}}', "'0.bias' has a scale and is torch.float32"),
        ('{"format": 2}', "'0.weight' is torch.uint8, and torch.float32 in the model"),
        (
            '{"format": 2, "quantised": {"0.weight": {"lowest": 0.0, "highest": NaN}}}',
            "the scale of '0.weight' is .*; the ends are finite, and in order",
        ),
    ],
)
def test_weights_of_8_bits_of_a_stranger(metadata: str, message: str, tmp_path: Path) -> None:
    path, model = tmp_path / "w.safetensors", large_model()
    save_weights(path, model, {}, bits=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    broken(path, metadata={"whenabouts": metadata})
    with pytest.raises(RunError, match=rf"w\.safetensors: {message}"):
        load_weights(path, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("facts", ["[1]", "null", '"v1"'])
def test_facts_that_are_none(facts: str, tmp_path: Path) -> None:
    save_weights(tmp_path / "w", toy_model(), {})
    broken(tmp_path / "w", metadata={"whenabouts": f'{{"format": 1, "facts": {facts}}}'})
    with pytest.raises(RunError, match=r"w: its facts are .*; they are a JSON object"):
        load_weights(tmp_path / "w", toy_model())


def test_tensors_of_another_type(path: Path, tmp_path: Path) -> None:
    """Never converted, whichever file they are in."""
    save_weights(tmp_path / "w", toy_model(), {})
    broken(tmp_path / "w", **{"4.weight": torch.zeros(1, 6, dtype=torch.float16)})
    with pytest.raises(RunError, match=r"w: '4\.weight' is torch\.float16, and torch\.float32 in"):
        load_weights(tmp_path / "w", toy_model())
    with pytest.raises(RunError, match=r"'4\.bias' is torch\.int64, and torch\.float32 in the mod"):
        load(broken(path, **{"model/4.bias": torch.zeros(1, dtype=torch.int64)}))


def test_a_position_with_an_unknown_field(path: Path) -> None:
    position = {**asdict(POSITION), "stepp": 3}
    text = json.dumps({"format": 1, "position": position})
    with pytest.raises(RunError, match=r"v1\.safetensors: no setting 'stepp'.*'step'"):
        load(broken(path, metadata={"whenabouts": text}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimiser/9.weight/exp_avg", torch.zeros(6, 4)),
        ("optimiser/0.weight/exp_avg", torch.zeros(6, 5)),
    ],
)
def test_an_optimiser_state_that_fits_nothing(path: Path, name: str, value: torch.Tensor) -> None:
    with pytest.raises(RunError, match=f"the optimiser's '{name[10:]}' fits no parameter"):
        load(broken(path, **{name: value}))


def test_nothing_in_the_source_is_pickled() -> None:
    forbidden = re.compile(r"\bpickle\b|torch\.(load|save)\(|allow_pickle=True|\bjoblib\b|\bdill\b")
    sources = list(SOURCE.rglob("*.py"))
    assert len(sources) > 50
    found = [
        f"{path.name}: {line.strip()}"
        for path in sources
        for line in path.read_text().splitlines()
        if forbidden.search(line) and not line.lstrip().startswith(("#", '"""'))
    ]
    assert found == []


# ---- Position ------------------------------------------------------------------------------------


def test_position_takes_in_evaluations() -> None:
    position = Position("v1")
    answers = []
    for step, mean_ap in ((10, 0.0), (20, 0.4), (30, 0.4), (40, 0.3), (50, 0.5)):
        position.step = step
        answers.append((position.note(mean_ap), position.evaluations_since_best))
    assert answers == [(True, 0), (True, 0), (False, 1), (False, 2), (True, 0)]
    assert (position.best_step, position.best) == (50, 0.5)
    assert position.history == (0.0, 0.4, 0.4, 0.3, 0.5)
    assert not position.is_done


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("bits", [8, 32])
def test_weights_that_are_no_numbers_are_not_loaded(
    value: float, bits: Bits, tmp_path: Path
) -> None:
    model = toy_model()
    name, parameter = next(iter(model.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = value
    save_weights(tmp_path / "w.safetensors", model, {}, bits)
    with pytest.raises(RunError, match=f"'{name}' has a value that is NaN or infinite; one such"):
        load_weights(tmp_path / "w.safetensors", toy_model())


def test_other_shapes_are_refused_before_there_is_memory_for_them(tmp_path: Path) -> None:
    model, path = toy_model(), tmp_path / "w.safetensors"
    save_weights(path, model, {})
    refuse_other_shapes(path, model)
    with torch.device("meta"):
        linear = nn.Linear(1 << 20, 1 << 30)
    with pytest.raises(RunError, match=r"w.safetensors: 'weight' is missing, and \(10737.* in the"):
        refuse_other_shapes(path, linear)
    save_weights(path, nn.Linear(4, 3), {})
    with pytest.raises(RunError, match=r"'weight' is \(3, 4\), and \(1073741824, 1048576\) in the"):
        refuse_other_shapes(path, linear)
    with torch.device("meta"):
        linear = nn.Linear(4, 3)
    refuse_other_shapes(path, linear)


def test_a_full_disk_is_an_error_for_people(tiny_disk: Path) -> None:
    path = tiny_disk / "w.safetensors"
    with pytest.raises(RunError, match=f"{path}: cannot be written .*; make room on the disk"):
        save_weights(path, nn.Linear(200, 200), {})
    assert list(tiny_disk.iterdir()) == []
