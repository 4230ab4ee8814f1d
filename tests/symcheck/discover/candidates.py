"""Small optimizers whose symmetry is known by construction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from symcheck.run import resolve_one
from symcheck.target import Candidate

Update = Callable[[Tensor, Tensor], Tensor]


class Stateless(torch.optim.Optimizer):
    """``W + update(G, W)``."""

    def __init__(self, params: Iterable[Tensor], update: Update) -> None:
        super().__init__(params, {})
        self.update = update

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(self.update(param.grad, param))


@dataclass(frozen=True)
class Made:
    """A candidate from an update rule."""

    target: str
    update: Update
    config: dict[str, object] = field(default_factory=dict)

    def make(self, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return Stateless(params, self.update)


def load(target: str, **settings: object) -> Candidate:
    return resolve_one(target, settings)[0].load()


def _weird(grad: Tensor, weight: Tensor) -> Tensor:
    """Rotates with the first two columns together, and flips with the signs of rows; nothing else."""
    rows = torch.arange(1.0, grad.shape[0] + 1, dtype=grad.dtype)[:, None]
    plane, rest = grad[:, :2], grad[:, 2:]
    turned = torch.stack([-plane[:, 1], plane[:, 0]], 1) if plane.shape[1] == 2 else plane
    first = rows * (plane @ (plane.mT @ (rows * plane))) / (1 + plane.square().sum()) + 0.5 * rows * turned
    scale = torch.arange(2.0, rest.shape[1] + 2, dtype=grad.dtype)
    second = scale * (rest + 0.3 * rest.roll(1, 1)) / (1 + rest.square())
    return -0.1 * torch.cat([first, second], 1)


weird = Made("weird", _weird)
still = Made("still", lambda grad, weight: torch.zeros_like(grad))
natural = Made("natural", lambda grad, weight: -1e-5 * weight @ (weight.mT @ grad))
relu = Made("relu", lambda grad, weight: -0.1 * grad.relu())
ascent = Made("ascent", lambda grad, weight: 0.1 * grad)
steps = Made("jumps", lambda grad, weight: -0.1 * torch.floor(1e4 * grad) / 1e4)
noise = Made("noise", lambda grad, weight: -0.1 * grad + 0.01 * torch.randn_like(grad))
