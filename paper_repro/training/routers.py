"""The routers of a model: their weights and the logits that they give, without transformers' own auxiliary loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.layout import regions


class Routers:
    """All routers of a model in the order of its layers; empty for a dense model."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        names = [region.parameter for region in regions(model) if region.role == "router"]
        self.top_k = int(config.num_experts_per_tok) if names else 0
        self.weights: list[Tensor] = [model.get_parameter(name) for name in names]
        self._logits: list[Tensor] | None = None
        modules = [model.get_submodule(name.rpartition(".")[0]) for name in names]
        self._hooks = [module.register_forward_hook(self._take) for module in modules]

    def close(self) -> None:
        """Leaves the model as it was."""
        for hook in self._hooks:
            hook.remove()

    def _take(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._logits is not None:
            logits: Tensor = output[0]
            self._logits.append(logits.flatten(0, -2))

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """A list that fills with the logits ``(tokens, E)`` of each router as the model runs."""
        taken: list[Tensor] = []
        self._logits = taken
        try:
            yield taken
        finally:
            self._logits = None


def shared_shift(weight: Tensor) -> Tensor:
    """The mean row of a weight ``(m, n)``: what moves when ``1 c^T`` is added."""
    return torch.mean(weight.detach().float(), dim=0)
