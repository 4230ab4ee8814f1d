"""Inverse square roots of positive semi-definite matrices by coupled iterations (the paper's optim/invsqrt.py)."""

from __future__ import annotations

from typing import Any, Literal

from array_api_compat import array_namespace

from reference.transforms.arrays import identity_like, symmetrize
from reference.transforms.newton_schulz import frobenius_norm
from reference.transforms.normalize import divide_or_zero
from reference.transforms.polynomials import CUBIC, polar_express

CoupledRoot = Literal["polar_express", "newton_schulz"]


def coupled_inverse_root(gram: Any, *, eps: float, method: CoupledRoot, steps: int) -> Any:
    """An approximation of ``(gram + eps I)^{-1/2}`` from ``steps`` coupled iterations; ``gram`` is ``(..., n, n)``.

    ``Y -> A^{1/2}, Z -> A^{-1/2}`` from ``Y = A / alpha, Z = I`` with ``A = gram + eps I``. ``polar_express``: ``alpha
    = 1.02 ||A|| + eps`` and the quintics with safety 1.05. ``newton_schulz``: ``alpha = max(||A||, eps)`` and the
    cubic, which is far from converged for eigenvalues below ``(2/3)^(2 steps)`` of the norm. Everything is a polynomial
    in ``gram``, so it commutes with orthogonal conjugation. The sources compute in float32, this function in the dtype
    of ``gram``.
    """
    xp = array_namespace(gram)
    identity = identity_like(gram)
    a = symmetrize(gram) + eps * identity
    if method == "polar_express":
        alpha, schedule = 1.02 * frobenius_norm(a) + eps, polar_express(steps, safety=1.05)
    else:
        alpha, schedule = xp.clip(frobenius_norm(a), min=eps), (CUBIC,) * steps
    y, z = divide_or_zero(a, alpha), identity
    for p, q, r in schedule:
        # With rho = 1 - x^2 the quintic p x + q x^3 + r x^5 is x times (p + q + r) - (q + 2 r) rho + r rho^2.
        rho = symmetrize(identity - z @ y)
        factor = (p + q + r) * identity - (q + 2 * r) * rho + r * (rho @ rho)
        y, z = y @ factor, factor @ z
    return divide_or_zero(z, xp.sqrt(alpha))
