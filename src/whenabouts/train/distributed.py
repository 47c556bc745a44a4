"""One process or many (torchrun): the same code, the same result.

Each process takes its share of every batch; gradients are summed, not averaged, because each loss
is already divided by the size of the whole batch.
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
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()


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
