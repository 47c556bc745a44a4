"""One process or many (torchrun): the same code, the same result.

Each process takes its share of every batch. Gradients are summed, not averaged, because each loss
is already divided by the size of the whole batch; batch norms see the whole batch too. Dropout
alone differs: each process draws the noise of its own share, so that with dropout the result is
that of one process in distribution, not number by number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from whenabouts.core.errors import UsageError
from whenabouts.models.embedding import NormedLinear

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Team:
    """This process among `size`; rank 0 is the one that writes files and speaks."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """Every size-th element, from rank on."""
        return array[self.rank :: self.size]

    def block(self, total: int) -> range:
        """This process's contiguous part of range(total)."""
        return range(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def sum_gradients(self, model: nn.Module) -> None:
        """Give every process the gradients of the whole batch.

        A share may leave a parameter out that another one reaches, as where it holds no rated pair;
        what no process has a gradient of stays without one, as it would in one process.
        """
        if self.size == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
        is_here = parts[0].new_tensor([p.grad is not None for p in trained])
        flat = self.sum(torch.cat([*parts, is_here]))
        *parts, holders = flat.split([*map(len, parts), len(trained)])
        for parameter, gradient, num_holders in zip(trained, parts, holders.tolist()):
            if num_holders:
                parameter.grad = gradient.view_as(parameter)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def seed_noise(self, seed: int, step: int) -> None:
        """Begin the noise of a step: another in each process, the same again after a resume.

        One process draws on from the state that its checkpoint holds.
        """
        if self.size > 1:
            state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]))

    def any(self, mark: bool) -> bool:
        """Whether the mark is set in any process: all of them get the same answer."""
        return mark if self.size == 1 else bool(self.sum(torch.tensor(float(mark)).to(self.device)))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()


def share_statistics(model: nn.Module, team: Team) -> nn.Module:
    """The model, whose batch norms from now on normalise by the whole batch, not by one share.

    Nothing changes for one process. With several, all of them must take part in every step.
    """
    if team.size > 1:
        for module in model.modules():
            if isinstance(module, NormedLinear):
                module.sum_over_shares = team.sum
    return model


@contextmanager
def join_team(device: str = "auto") -> Iterator[Team]:
    """Join the processes torchrun started, if it did; leave them at the end."""
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    if size == 1:
        yield Team(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), size, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device '{name}'", remedy="use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("CUDA is not available here", remedy="use --device cpu")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device
