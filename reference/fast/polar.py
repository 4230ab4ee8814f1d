"""Orthogonalisation by matrix polynomials in a chosen precision: `reference.transforms.newton_schulz` for training.

The maps are those of `reference.orthogonalizers.NewtonSchulz`, equal in exact arithmetic, with other costs:

- one batched product for all matrices of a stack, on the shorter side whichever it is;
- every Gram matrix is formed once, and each addition is part of a product (``baddbmm``);
- the Gram form, for methods that have restarts, where it saves work and its rounding is harmless (`uses_gram_form`);
- no operation writes to a tensor that it did not make: nothing here is done in place.

The loops run over coefficients and the choices depend on shapes, so `torch.compile` sees one graph.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reference.fast.precision import Precision, arithmetic
from reference.orthogonalizers import NewtonSchulz
from reference.transforms.polynomials import Quintic, Schedule


@dataclass(frozen=True)
class FastNewtonSchulz(NewtonSchulz):
    """`NewtonSchulz` with its products in ``precision``; normalised before the cast, so that nothing can overflow.

    The normalisation and the result have the dtype of the argument. ``tf32`` takes float32 numbers; that their products
    are computed on tensor cores is a switch of torch, which `reference.fast` optimizers set during their steps.
    """

    precision: Precision = "bfloat16"

    def __post_init__(self) -> None:
        arithmetic(self.precision)

    @classmethod
    def of(cls, method: NewtonSchulz, precision: Precision) -> FastNewtonSchulz:
        """The same polynomial, normalisation and restarts in ``precision``."""
        fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(NewtonSchulz)}
        return cls(**fields, precision=precision)

    def iterate(self, y: Any) -> Any:
        """The quintics applied to every normalised matrix ``(..., m, n)``, which is not written; in its dtype."""
        x = y.to(arithmetic(self.precision).dtype)
        if uses_gram_form(self, *x.shape[-2:]):
            return gram_polynomial(x, self.schedule, self.gram_restarts or ()).to(y.dtype)
        return polynomial(x, self.schedule).to(y.dtype)


def polynomial(x: Tensor, schedule: Sequence[Quintic]) -> Tensor:
    """Apply ``x <- a x + (b (x x^T) + c (x x^T)^2) x`` once per quintic to every matrix ``(..., m, n)``.

    A new tensor in the dtype of ``x``; singular values must start in [0, 1].
    """
    y, tall = _shorter_side_first(x)
    for a, b, c in schedule:
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, _squared(gram, b, c), y, beta=a)
    return _as_it_was(y, tall, x)


def gram_polynomial(x: Tensor, schedule: Sequence[Quintic], restarts: Collection[int]) -> Tensor:
    """The same map iterated on the Gram matrix, with a restart before every 0-based step in ``restarts``.

    As `reference.transforms.newton_schulz.gram_newton_schulz`, without the products that are not needed any more: the
    Gram matrix is not advanced by the last step before a restart, nor by the last of all.
    """
    y, tall = _shorter_side_first(x)
    for segment in segments(schedule, restarts):
        gram = torch.bmm(y, y.mT)
        y = torch.bmm(_factor(gram, segment), y)
    return _as_it_was(y, tall, x)


def segments(schedule: Sequence[Quintic], restarts: Collection[int]) -> tuple[Schedule, ...]:
    """The schedule cut before every 0-based step in ``restarts``."""
    cuts = sorted({0, len(schedule), *(step for step in restarts if 0 < step < len(schedule))})
    return tuple(tuple(schedule[start:end]) for start, end in itertools.pairwise(cuts))


def uses_gram_form(method: FastNewtonSchulz, rows: int, cols: int) -> bool:
    """Whether ``method`` iterates on Gram matrices for this shape: only if asked to, cheaper, and safe.

    Rounding leaves eigenvalues of size ``unit`` and either sign in a Gram matrix. A segment multiplies them by the
    square of its slope at zero; beyond one they would leave the interval on which the polynomials are bounded.
    """
    if method.gram_restarts is None:
        return False
    used = arithmetic(method.precision)
    unit = max(used.unit, used.product_unit)
    steepest = max([1.0, *(_slope(segment) for segment in segments(method.schedule, method.gram_restarts))])
    return steepest**2 * unit < 1 and gram_flops(rows, cols, method.schedule, method.gram_restarts) < polynomial_flops(
        rows, cols, method.schedule
    )


def polynomial_flops(rows: int, cols: int, schedule: Sequence[Quintic]) -> int:
    """Floating-point operations of `polynomial` on one matrix: ``4 n^2 m + 2 n^3`` per quintic with ``n <= m``."""
    n, m = sorted((rows, cols))
    return sum(4 * n * n * m + (2 * n**3 if c else 0) for _, _, c in schedule)


def gram_flops(rows: int, cols: int, schedule: Sequence[Quintic], restarts: Collection[int]) -> int:
    """Floating-point operations of `gram_polynomial` on one matrix."""
    n, m = sorted((rows, cols))
    squares = sum(2 * n**3 for _, _, c in schedule if c)
    lengths = [len(segment) for segment in segments(schedule, restarts)]
    return squares + sum(4 * n * n * m + 6 * n**3 * (length - 1) for length in lengths)


def _factor(gram: Tensor, segment: Schedule) -> Tensor:
    """The polynomial ``q`` of a segment, ``f(sigma) = sigma q(sigma^2)``, at every Gram matrix ``(k, n, n)``."""
    factor: Tensor | None = None
    for step, (a, b, c) in enumerate(segment):
        z = _squared(gram, b, c)
        if factor is None:
            factor = z + a * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        else:
            factor = torch.baddbmm(factor, factor, z, beta=a)
        if step + 1 < len(segment):
            half_step = torch.baddbmm(gram, gram, z, beta=a)
            gram = torch.baddbmm(half_step, z, half_step, beta=a)
    assert factor is not None  # no segment is empty
    return factor


def _squared(gram: Tensor, b: float, c: float) -> Tensor:
    """``b gram + c gram^2``."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c) if c else b * gram


def _shorter_side_first(x: Tensor) -> tuple[Tensor, bool]:
    """``x`` as ``(k, n, m)`` with ``n <= m`` (a view where possible), and whether that transposed it."""
    stack = x.reshape(-1, *x.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    return (stack.mT if tall else stack), tall


def _as_it_was(y: Tensor, tall: bool, x: Tensor) -> Tensor:
    return (y.mT if tall else y).reshape(x.shape)


def _slope(segment: Schedule) -> float:
    """As `reference.conditioning.slope`, in a form that `torch.compile` can follow."""
    product = 1.0
    for a, _, _ in segment:
        product *= a
    return product
