"""Processes of one run: torchrun's, with gloo on CPUs and NCCL on GPUs, or a single one.

Matrix rules need whole matrices, so that models are replicated (DDP) and the *optimizer's* work is divided: each
parameter has one owner, which alone keeps its state and steps it, and sends the result to the others.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from reference.stack import LayerwiseOptimizer

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes; the same on all."""
        return self.sum(value) / self.size

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the processes; the same on all."""
        if self.size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value

    def agree(self, value: T) -> T:
        """What the first process says."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        said: T = box[0]
        return said

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def team(device: str | None = None) -> Team:
    """The team that torchrun's environment describes, on ``device`` (``cpu`` or ``cuda``; None: a GPU if there is one).

    Raises ValueError if ``cuda`` is asked for and there is none.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("no CUDA device here: use --device cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if kind == "cuda":
        kind = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    where = torch.device(kind)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if size == 1:
        return Team(0, 1, where)
    if not dist.is_initialized():  # once per process: many runs may follow each other
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), dist.get_world_size(), where)


def owners(optimizer: LayerwiseOptimizer, size: int) -> dict[str, int]:
    """Parameter name -> the process that steps it: the dearest first, always to the one with the least to do.

    The cost of a matrix is taken as that of multiplying it with its own Gram matrix, that of other tensors as their
    size; the assignment is the same in every process.
    """
    costs = {}
    for each in optimizer.assignments:
        shape = each.route.parameter.shape
        work = min(shape[-2:]) if each.rule.min_ndim >= 2 and len(shape) >= 2 else 1
        costs[each.route.name] = each.route.parameter.numel() * work
    loads = [0] * size
    owner = {}
    for name in sorted(costs, key=lambda key: (-costs[key], key)):
        owner[name] = loads.index(min(loads))
        loads[owner[name]] += costs[name]
    return owner


class DividedOptimizer:
    """Steps a `LayerwiseOptimizer` whose parameters are divided among the processes of a team."""

    def __init__(self, optimizer: LayerwiseOptimizer, team: Team) -> None:
        self.optimizer = optimizer
        self.team = team
        self.owner = owners(optimizer, team.size)
        self._parameters: Sequence[tuple[str, Tensor]] = [
            (each.route.name, each.route.parameter) for each in optimizer.assignments
        ]

    @property
    def owned(self) -> list[str]:
        """Names of the parameters whose state lives here."""
        return [name for name, _ in self._parameters if self.owner[name] == self.team.rank]

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters, which have their (averaged) gradients; the gradients are dropped afterwards."""
        for name, parameter in self._parameters:
            if self.owner[name] != self.team.rank:
                parameter.grad = None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.team.size > 1:
            sent = [dist.broadcast(each.data, self.owner[name], async_op=True) for name, each in self._parameters]
            for each in sent:
                each.wait()
