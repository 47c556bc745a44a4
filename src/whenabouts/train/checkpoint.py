"""Checkpoints: weights, optimiser, random state and position in one safetensors file, never pickle.

Tensors are named `model/NAME`, `optimiser/NAME/STATE`, `average/NAME` and `random/DEVICE`; the
position and the history of the search are JSON under the one key of the file's metadata.

A file of weights alone has tensors named `NAME`, and may hold large ones as bytes; their scales are
in the metadata too. It then has a format of its own: whoever does not know of scales would take the
bytes themselves for weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from whenabouts.core.atomic import atomic_path
from whenabouts.core.errors import RunError
from whenabouts.core.settings import from_dict, kept_settings
from whenabouts.train.average import Average
from whenabouts.train.weight_bytes import dequantize_all, quantize_large

FORMAT = 1
QUANTISED_FORMAT = 2
KEY = "whenabouts"
Bits = Literal[8, 32]


@dataclass
class Position:
    """Where a phase of training stands: steps done, the best look at V2 so far, lines logged."""

    phase: str
    step: int = 0
    best_step: int = 0
    best: float = -1.0
    evaluations_since_best: int = 0
    is_done: bool = False
    log_position: int = 0
    elapsed_s: float = 0.0
    history: tuple[float, ...] = ()

    def note(self, value: float) -> bool:
        """Take in an evaluation; True if it is the best so far."""
        self.history += (value,)
        is_best = value > self.best
        if is_best:
            self.best_step, self.best = self.step, value
        self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1
        return is_best


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimiser: Optimizer,
    position: Position,
    average: Average | None = None,
) -> None:
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= _optimiser_tensors(model, optimiser) | _random_tensors()
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.tensors.items()}
    _write(path, tensors, {"position": asdict(position)})


def load_checkpoint(
    path: Path, model: nn.Module, optimiser: Optimizer, average: Average | None = None
) -> Position:
    """Put everything back in place; the run goes on as if it had never stopped.

    Raises RunError if the file is no checkpoint of this model.
    """
    tensors, facts = _read(path)
    if "position" not in facts or "random/cpu" not in tensors:
        raise RunError(
            "no position or no random state",
            where=path,
            rule="a checkpoint holds all that training goes on from",
        )
    _load_model(path, model, _under("model/", tensors))
    _load_optimiser(path, model, optimiser, _under("optimiser/", tensors))
    if average is not None:
        _load_average(path, average, _under("average/", tensors))
    _load_random(tensors)
    if not isinstance(facts["position"], dict):
        raise RunError(f"its position is {facts['position']!r}", where=path)
    with kept_settings(RunError):
        return from_dict(Position, facts["position"], str(path))


def save_weights(path: Path, model: nn.Module, facts: dict[str, Any], bits: Bits = 32) -> None:
    """The weights alone, with facts about them (JSON) in the metadata.

    bits: 8 stores large tensors as bytes. Raises RunError if one of them has a NaN.
    """
    tensors: dict[str, Tensor] = model.state_dict()
    stored: dict[str, Any] = {"facts": facts}
    if bits == 8:
        tensors, scales = quantize_large(tensors)
        if scales:
            stored |= {"format": QUANTISED_FORMAT, "quantised": scales}
    _write(path, tensors, stored)


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load what `save_weights` wrote; returns its facts.

    Raises RunError if it does not fit, or if a weight is NaN or infinite.
    """
    tensors, stored = _read(path, (FORMAT, QUANTISED_FORMAT))
    weights = dequantize_all(tensors, stored.get("quantised", {}), path)
    _load_model(path, model, weights)
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(
                f"'{name}' has a value that is NaN or infinite",
                where=path,
                rule="one such weight spoils every score",
                remedy="train anew, or leave this run out",
            )
    facts = stored.get("facts", {})
    if not isinstance(facts, dict):
        raise RunError(f"its facts are {facts!r}", where=path, rule="they are a JSON object")
    return facts


def refuse_other_shapes(path: Path, model: nn.Module) -> None:
    """Raise RunError unless the file has the tensors of the model, by name and shape.

    Only the head of the file is read, and the model may be on the device "meta": sizes in a recipe
    from a stranger are believed no further than the file is long. What the file has besides is as
    large as the file, and for `load_weights` to judge (a kernel's tensors are not there before).
    """
    with _opened(path) as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name, tensor in model.state_dict().items():
        if found.get(name) != tuple(tensor.shape):
            raise RunError(
                f"'{name}' is {found.get(name, 'missing')}, and {tuple(tensor.shape)} in the model",
                where=path,
                rule="weights fit the recipe they were trained with",
            )


def _write(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    # One key: safetensors writes several in another order each time, and equal runs differ.
    metadata = {KEY: json.dumps({"format": FORMAT, **facts})}
    with atomic_path(path) as partial:
        try:
            save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata)
        except SafetensorError as error:
            remedy = "make room on the disk, or choose another --out"
            raise RunError(f"cannot be written ({error})", where=path, remedy=remedy) from error


def _read(
    path: Path, formats: tuple[int, ...] = (FORMAT,)
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what `_write` stored with them."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = (file.metadata() or {}).get(KEY, "{}")
    return tensors, _facts(path, text, formats)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise RunError("no checkpoint here", where=path, remedy="train first") from error
    except SafetensorError as error:
        raise RunError(f"not a whole safetensors file ({error})", where=path) from error


def _facts(path: Path, text: str, formats: tuple[int, ...]) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"its metadata is not JSON ({error})", where=path) from error
    found = facts.get("format") if isinstance(facts, dict) else None
    if found not in formats:
        rule = f"it must be {' or '.join(map(str, formats))}"
        raise RunError(f"format is {found}", where=path, rule=rule)
    return dict(facts)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_model(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    # load_state_dict would convert: bytes that have lost their scale would pass for weights.
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise RunError(
                f"'{name}' is {tensors[name].dtype}, and {expected.dtype} in the model",
                where=path,
                rule="a checkpoint fits the recipe it was trained with, and bytes have a scale",
            )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            str(error).splitlines()[-1].strip(),
            where=path,
            rule="a checkpoint fits the recipe it was trained with",
        ) from error


def _optimiser_tensors(model: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser/{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _load_optimiser(
    path: Path, model: nn.Module, optimiser: Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters.get(parameter_name)
        if parameter is None or (key != "step" and value.shape != parameter.shape):
            raise RunError(
                f"the optimiser's '{name}' fits no parameter",
                where=path,
                rule="a checkpoint fits the recipe it was trained with",
            )
        optimiser.state[parameter][key] = value.to(parameter.device)


def _load_average(path: Path, average: Average, tensors: dict[str, Tensor]) -> None:
    shapes = {name: value.shape for name, value in average.tensors.items()}
    if {name: value.shape for name, value in tensors.items()} != shapes:
        raise RunError(
            "the average of the weights is missing or fits no parameter",
            where=path,
            rule="a checkpoint fits the recipe it was trained with",
        )
    for name, value in average.tensors.items():
        value.copy_(tensors[name])


def _random_tensors() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states


def _load_random(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available() and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])
