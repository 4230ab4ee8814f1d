"""A torch optimizer from one pure function, so that a mutant is a line or two of mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

State = dict[str, Any]
Update = Callable[[torch.Tensor, State, torch.Tensor], torch.Tensor]
"""``update(gradient, state, weight)`` returns the displacement; it may store what it likes in ``state``."""


class FromUpdate(torch.optim.Optimizer):
    """Applies ``update`` to every parameter; ``state["step"]`` counts from 1."""

    def __init__(self, params: Iterable[torch.nn.Parameter], update: Update, **defaults: Any) -> None:
        self.update = update
        super().__init__(params, {"lr": 1.0, **defaults})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    state["step"] = state.get("step", 0) + 1
                    param.add_(group["lr"] * self.update(param.grad, state, param))


def row_norm(grad: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """The row-normalised gradient, the rule that most mutants are made from (arXiv 2605.18106)."""
    normed: torch.Tensor = grad / (torch.linalg.vector_norm(grad, dim=-1, keepdim=True) + eps)
    return normed


def polar(grad: torch.Tensor) -> torch.Tensor:
    """The orthogonal factor over the non-zero singular values."""
    u, s, vh = torch.linalg.svd(grad, full_matrices=False)
    cutoff = max(grad.shape[-2:]) * torch.finfo(grad.dtype).eps * s.amax(-1, keepdim=True)
    factor: torch.Tensor = (u * (s > cutoff).to(grad.dtype).unsqueeze(-2)) @ vh
    return factor


def momentum(grad: torch.Tensor, state: State, beta: float = 0.9) -> torch.Tensor:
    """Heavy ball, in ``state["momentum"]``."""
    state["momentum"] = grad + beta * state.get("momentum", torch.zeros_like(grad))
    buffer: torch.Tensor = state["momentum"]
    return buffer


def newton_schulz(grad: torch.Tensor, normalised: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The quintic Newton-Schulz iteration of Muon (KellerJordan/Muon) from an already normalised start."""
    x = normalised
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x
