"""Orthogonalisation by odd matrix polynomials, plain and in Gram form.

Any finite number of steps is ``M q(M^T M)`` for a polynomial ``q``: exactly equivariant under ``O(m) x O(n)``, whatever
the coefficients, converged or not. What finitely many steps lose is only that the singular values are one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from array_api_compat import array_namespace

from reference.transforms.arrays import identity_like
from reference.transforms.normalize import Floor, divide_or_zero, floored
from reference.transforms.polynomials import Quintic


def frobenius_norm(x: Any) -> Any:
    """Frobenius norm of every matrix ``(..., m, n)``, shape ``(..., 1, 1)``."""
    return array_namespace(x).linalg.vector_norm(x, axis=(-2, -1), keepdims=True)


def frobenius_normalize(x: Any, margin: float, eps: float, floor: Floor) -> Any:
    """``x / (margin * ||x|| + eps)`` or ``x / max(margin * ||x||, eps)``: singular values at most ``1 / margin``."""
    return divide_or_zero(x, floored(margin * frobenius_norm(x), eps, floor))


def schatten_normalize(x: Any, margin: float, eps: float, floor: Floor) -> Any:
    """``x / (margin * (||(x x^T)^2||_F + eps)^(1/4))``, or ``max(., eps)`` inside the root.

    Without eps the norm is the Schatten norm of order 8, ``(sum sigma^8)^(1/8)``: it lies between the spectral and the
    Frobenius norm, so the singular values start closer to one and still at most at ``1 / margin``. MuonEq ("spc").
    """
    xt = array_namespace(x).matrix_transpose(x)
    gram = xt @ x if x.shape[-2] > x.shape[-1] else x @ xt
    return divide_or_zero(x, margin * floored(frobenius_norm(gram @ gram), eps, floor) ** 0.25)


def aol_normalize(x: Any, margin: float, eps: float, floor: Floor) -> Any:
    """``diag(s)^{-1/2} x / margin`` with the row sums ``s = sum_j |x x^T|_ij + eps``, or ``max(., eps)``; a tall
    ``x`` is transposed.

    The almost-orthogonal layers of arXiv 2208.03160, in Turbo-Muon (arXiv 2512.04632): singular values are at most
    ``1 / margin`` and closer to one than after a Frobenius normalisation. Unlike that it changes the singular vectors,
    so the polynomial no longer approximates the polar factor of ``x``, and rotations of the rescaled axis are lost.
    """
    xp = array_namespace(x)
    tall = x.shape[-2] > x.shape[-1]
    y = xp.matrix_transpose(x) if tall else x
    sums = xp.sum(xp.abs(y @ xp.matrix_transpose(y)), axis=-1, keepdims=True)
    y = divide_or_zero(y, margin * xp.sqrt(floored(sums, eps, floor)))
    return xp.matrix_transpose(y) if tall else y


def newton_schulz(x: Any, schedule: Sequence[Quintic]) -> Any:
    """Apply ``x <- a x + b (x x^T) x + c (x x^T)^2 x`` once per quintic; singular values must start in [0, 1].

    A tall matrix is transposed first so that the Gram matrix is the smaller one; the result is the same.
    """
    xp = array_namespace(x)
    tall = x.shape[-2] > x.shape[-1]
    y = xp.matrix_transpose(x) if tall else x
    for a, b, c in schedule:
        gram = y @ xp.matrix_transpose(y)
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return xp.matrix_transpose(y) if tall else y


def gram_newton_schulz(x: Any, schedule: Sequence[Quintic], restarts: Collection[int]) -> Any:
    """The same polynomial, iterated on the Gram matrix (Dao-AILab/gram-newton-schulz).

    Keeps ``R = y y^T`` and the accumulated left factor ``Q``, and multiplies ``Q`` into ``y`` only before the 0-based
    steps listed in ``restarts`` and at the end. Equal to `newton_schulz` in exact arithmetic, for square matrices too
    (where the source falls back to the plain form for speed).
    """
    xp = array_namespace(x)
    tall = x.shape[-2] > x.shape[-1]
    y = xp.matrix_transpose(x) if tall else x
    gram, factor = y @ xp.matrix_transpose(y), None
    for step, (a, b, c) in enumerate(schedule):
        if factor is not None and step in restarts:
            y, factor = factor @ y, None
            gram = y @ xp.matrix_transpose(y)
        z = b * gram + c * (gram @ gram)
        identity = identity_like(gram)
        factor = a * identity + z if factor is None else factor @ z + a * factor
        half_step = gram @ z + a * gram
        gram = z @ half_step + a * half_step
    y = y if factor is None else factor @ y
    return xp.matrix_transpose(y) if tall else y
