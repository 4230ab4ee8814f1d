"""Whom a contract does not accuse: what stands still, what draws random numbers, what moves by less than rounding, what
means something of its own by an option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import symcheck
from symcheck.probe.names import CONTRACTS, ON_REQUEST
from symcheck.result import Result, Verdict


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


def _asked(candidate: type[torch.optim.Optimizer], name: str, **options: Any) -> Result:
    return symcheck.certify(candidate, property=name, **options)["all", name]


# -- random updates ----------------------------------------------------------------------------------------------------


class NoiseOfTheGlobalGenerator(Step):
    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return grad + 0.1 * torch.randn_like(grad)


class NoiseOfItsOwnGenerator(Step):
    """From one generator for all parameters, which ``state_dict`` does not hold."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.generator = torch.Generator().manual_seed(5)

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return grad * (1 + 0.1 * torch.randn((), generator=self.generator, dtype=grad.dtype))


class NoiseWithoutSeed(Step):
    """Offers a foreach path, which is the same."""

    def __init__(self, params: Any, lr: float = 0.1, foreach: bool = False) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["foreach"] = foreach

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return grad + 0.1 * torch.from_numpy(np.random.default_rng().standard_normal(grad.shape)).to(grad.dtype)


class HeavyTailedNoise(Step):
    """From the global generator, which gives other numbers in float32 than in float64."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return 1 / (torch.rand_like(grad) + 1e-3) ** 2


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        (NoiseOfTheGlobalGenerator, "block_independence"),
        (NoiseOfItsOwnGenerator, "block_independence"),
        (NoiseWithoutSeed, "block_independence"),
        (NoiseWithoutSeed, "checkpoint"),
        (NoiseWithoutSeed, "backend_agreement"),
        (NoiseWithoutSeed, "scale_orbit"),
        (HeavyTailedNoise, "singular_stability"),
    ],
)
def test_a_difference_of_random_numbers_accuses_nobody(candidate: type[Step], name: str) -> None:
    result = _asked(candidate, name)
    assert result.verdict is Verdict.DECLINED
    assert "random" in result.reason


def test_random_numbers_that_can_be_repeated_are_compared() -> None:
    assert _asked(NoiseOfTheGlobalGenerator, "checkpoint").verdict is Verdict.SUPPORTED
    assert _asked(NoiseOfItsOwnGenerator, "checkpoint").verdict is Verdict.REFUTED


class SharesItsNorm(Step):
    """Divides by the norm of all gradients together."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        params = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        total = torch.stack([p.grad.norm() for p in params]).norm()
        for p in params:
            p.sub_(0.1 * p.grad / total)


def test_coupling_is_caught() -> None:
    assert _asked(SharesItsNorm, "block_independence").verdict is Verdict.REFUTED


@pytest.mark.parametrize("name", ["gradient_split", "checkpoint"])
@pytest.mark.parametrize("order", ["nuc", -2])
def test_singular_values_are_no_random_source(order: Any, name: str) -> None:
    class Divided(Step):
        def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return grad / (1 + torch.linalg.norm(grad, order))

    assert _asked(Divided, name).verdict is Verdict.SUPPORTED


# -- displacements below rounding --------------------------------------------------------------------------------------


class Retracts(Step):
    """Back to the orthogonal matrices after every step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                left, _, right = torch.linalg.svd(p - 0.1 * p.grad, full_matrices=False)
                p.copy_(left @ right)


class RestsEverySecondStep(Step):
    """Renormalises in every step, in a stack where there are several of one shape: at rest only rounding moves it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        by_shape: dict[torch.Size, list[torch.Tensor]] = {}
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                count = self.state[p]["count"] = self.state[p].get("count", 0) + 1
                if count % 2:
                    p.sub_(0.1 * p.grad)
                by_shape.setdefault(p.shape, []).append(p)
        for params in by_shape.values():
            stack = torch.stack(params) if len(params) > 1 else params[0][None]
            squares = stack @ stack.mT if len(params) > 1 else stack.mT @ stack
            norm = squares.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None]
            for p, new in zip(params, stack / (norm + 1e-30), strict=True):
                p.copy_(new)


@pytest.mark.parametrize("candidate", [Retracts, RestsEverySecondStep])
@pytest.mark.parametrize("name", ["singular_stability", "block_independence"])
def test_rounding_of_the_weights_is_no_displacement(candidate: type[Step], name: str) -> None:
    assert _asked(candidate, name).verdict in (Verdict.SUPPORTED, Verdict.PROVED)


def test_the_degree_of_a_rule_that_rests_is_measured_where_it_moves() -> None:
    class Normalised(RestsEverySecondStep):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for p in self.param_groups[0]["params"]:
                p.grad /= p.grad.norm() + 1e-12
            super().step(closure)

    result = _asked(Normalised, "scale_orbit")
    assert result.verdict is Verdict.SUPPORTED
    assert "degree 0" in result.conditions[0]


@pytest.mark.parametrize("seed", [2, 4, 7])  # null spaces in which float64 and float32 choose differently
def test_an_arbitrary_choice_is_no_lost_digit(seed: int) -> None:
    assert _asked(Retracts, "singular_stability", seed=seed).verdict is Verdict.SUPPORTED


# -- heads -------------------------------------------------------------------------------------------------------------


def _per_head(grad: torch.Tensor, heads: int, dims: tuple[int, ...] = (-2, -1)) -> torch.Tensor:
    if grad.ndim != 2:
        raise NotImplementedError("matrices only")
    parts = grad.unflatten(0, (heads, -1) if dims == (-2, -1) else (-1, heads))
    return (parts / (parts.square().sum(dims, keepdim=True).sqrt() + 1e-8)).reshape(grad.shape)


class HeadsOfTheConstructor(Step):
    """Reads the option once, so that setting it later has no effect."""

    def __init__(self, params: Any, lr: float = 0.1, heads: int = 1) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["heads"] = self.heads = heads

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, self.heads)


class _Headed(Step):
    def __init__(self, params: Any, lr: float = 0.1, num_heads: Any = 1) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["num_heads"] = num_heads

    @property
    def count(self) -> int:
        return int(self.param_groups[0]["num_heads"])


class HeadsOfOneSize(_Headed):
    """Splits only what has the size of its heads."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, self.count if grad.shape[0] == 64 * self.count else 1)


class HeadsInterleaved(_Headed):
    """Head ``i`` has the rows ``i, i + H, ...``."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, self.count, (0, 2))


class HeadsAsASwitch(_Headed):
    """Not a number of heads, but whether to step each row by itself."""

    def __init__(self, params: Any, lr: float = 0.1, num_heads: bool = False) -> None:
        super().__init__(params, lr, num_heads)

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, len(grad) if self.count else 1)


class HeadsSlowTheRate(_Headed):
    """A learning rate by the number of heads: its own business, as long as it is that of no shape."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, self.count) / self.count


class HeadsScaledAsOne(_Headed):
    """Heads are blocks of rows, but their scale is that of the whole matrix."""

    def displacement(self, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return _per_head(grad, self.count) * max(1.0, grad.shape[0] / grad.shape[1])


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (HeadsOfTheConstructor, Verdict.VACUOUS),
        (HeadsOfOneSize, Verdict.VACUOUS),
        (HeadsInterleaved, Verdict.DECLINED),
        (HeadsAsASwitch, Verdict.VACUOUS),
        (HeadsSlowTheRate, Verdict.DECLINED),
        (HeadsScaledAsOne, Verdict.REFUTED),
    ],
)
def test_heads_are_held_to_what_is_known_of_them(candidate: type[Step], expected: Verdict) -> None:
    result = _asked(candidate, "layout")
    assert result.verdict is expected, result.reason
