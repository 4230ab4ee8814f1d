"""Running library code in float64 although it casts to float32, and measuring how much rounding it can produce.

Transformers computes norms, attention softmax and routing probabilities in float32 whatever the parameters' dtype: a
model in float64 then carries errors of 1e-8. `float64_arithmetic` lifts those casts, so that the same code computes
the function it stands for to 1e-15. `jittered` is Monte Carlo arithmetic (Parker 1997): every operation's result is
perturbed by its rounding error bound, and the spread of the outputs is what rounding can do to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

ROUNDOFF = torch.finfo(torch.float64).eps
"""Spacing of float64 at one; every operation is correct to half of it."""


class float64_arithmetic(TorchFunctionMode):
    """Context in which every request for float32 (``.float()``, ``dtype=torch.float32``) yields float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func`` with float32 replaced by float64 among its arguments."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(_lift, args), **{name: _lift(value) for name, value in (kwargs or {}).items()})


class jittered(float64_arithmetic):
    """`float64_arithmetic` in which every floating-point result is multiplied by ``1 + scale * eps * u``, ``u``
    uniform in [-1, 1].

    A sum of ``n`` terms is off by at most ``n`` roundoffs of its largest partial sum: ``scale`` is the longest sum in
    the computation. Differentiable: gradients taken inside see the same perturbations, forwards and backwards.
    """

    def __init__(self, generator: torch.Generator, scale: float) -> None:
        super().__init__()
        self.generator = generator
        self.scale = scale

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func``, then perturb its result if that is a new float64 tensor."""
        result = super().__torch_function__(func, types, args, kwargs)
        if not isinstance(result, torch.Tensor) or result.dtype != torch.float64:
            return result
        # A view computes nothing, and a perturbed copy of it would lose later writes through the view.
        if any(_shares_memory(result, argument) for argument in args):
            return result
        return result * jitter_like(result, self.generator, self.scale)


def jitter_like(tensor: torch.Tensor, generator: torch.Generator, scale: float) -> torch.Tensor:
    """Factors ``1 + scale * eps * u`` of the shape of ``tensor``, ``u`` uniform in [-1, 1]."""
    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64, device=tensor.device)
    return 1.0 + scale * ROUNDOFF * (2.0 * noise - 1.0)


def _lift(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _shares_memory(result: torch.Tensor, argument: Any) -> bool:
    if not isinstance(argument, torch.Tensor):
        return False
    return result.untyped_storage().data_ptr() == argument.untyped_storage().data_ptr()
