"""A contract that holds because nothing could fail is vacuous; what stands still at zero is measured elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import symcheck
from symcheck.probe.names import CONTRACTS, ON_REQUEST
from symcheck.result import Verdict


class Step(torch.optim.Optimizer):
    """Adds ``displacement(gradient, weight)`` to each weight."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(self.displacement(p.grad, p), alpha=-group["lr"])


class Still(Step):
    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(grad)


class NotANumber(Step):
    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return grad * float("nan")


class Scaled(Step):
    """Steps in proportion to the weight, as trust ratios do."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight.norm() * grad / (grad.norm() + 1e-12)


class ScaledAndBlownUp(Scaled):
    """The same through the inverse of a singular Gram matrix, whose floor is far below float32's roundoff."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        gram = grad.float() @ grad.float().mT if grad.dtype != torch.float64 else grad @ grad.mT
        floor = 1e-13 * torch.eye(len(gram), dtype=gram.dtype) * gram.norm()
        values, vectors = torch.linalg.eigh(gram + floor)
        root = vectors @ torch.diag(values.clamp(min=1e-14 * values.max()).rsqrt()) @ vectors.mT
        return weight.norm() * (root.to(grad.dtype) @ grad)


@pytest.mark.parametrize("name", [name for name in CONTRACTS if name not in ON_REQUEST])
@pytest.mark.parametrize("candidate", [Still, NotANumber])
def test_what_stands_still_keeps_nothing(candidate: type[Step], name: str) -> None:
    report = symcheck.certify(candidate, property=name)
    assert report["all", name].verdict not in (Verdict.SUPPORTED, Verdict.PROVED)


def test_a_rule_that_stands_still_at_zero_is_measured_elsewhere() -> None:
    result = symcheck.certify(Scaled, property="singular_stability")["all", "singular_stability"]
    assert result.verdict is Verdict.SUPPORTED
    error = result.numeric["float32"].relative_error
    assert error is not None
    assert 0 < error < 1e-5
    broken = symcheck.certify(ScaledAndBlownUp, property="singular_stability")["all", "singular_stability"]
    assert broken.verdict is Verdict.REFUTED
