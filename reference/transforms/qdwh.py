"""The polar factor by dynamically weighted Halley iterations (Nakatsukasa, Bai & Gygi 2010)."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from reference.transforms.arrays import identity_like
from reference.transforms.newton_schulz import newton_schulz
from reference.transforms.normalize import divide_or_zero
from reference.transforms.polynomials import CUBIC

_QR_THRESHOLD = 100.0
"""Weight ``c`` above which ``I + c u^T u`` is too ill-conditioned to solve with and the QR form is used."""


def halley_weights(eps: float, max_iterations: int) -> tuple[tuple[float, float, float], ...]:
    """Weights ``(a, b, c)`` of the iterations that take the lower bound ``eps`` of the singular values to one.

    Six are enough in float64 and four in float32; ``max_iterations`` may cut the list short.
    """
    weights: list[tuple[float, float, float]] = []
    lower = eps
    while lower + 5 * eps < 1 and len(weights) < max_iterations:
        square = lower * lower
        d = (4 * (1 / square - 1) / square) ** (1 / 3)
        root = (1 + d) ** 0.5
        a = root + (2 - d + 2 * (2 - square) / (square * root)) ** 0.5
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        lower = lower * (a + b * square) / (1 + c * square)
        weights.append((a, b, c))
    return tuple(weights)


def _resolvent(u: Any, c: float) -> Any:
    """``u (I + c u^T u)^{-1}`` for ``u`` of shape ``(..., m, n)``."""
    xp = array_namespace(u)
    n = u.shape[-1]
    identity = xp.broadcast_to(identity_like(u), (*u.shape[:-2], n, n))
    ut = xp.matrix_transpose(u)
    if c <= _QR_THRESHOLD:
        return xp.matrix_transpose(xp.linalg.solve(identity + c * (ut @ u), ut))
    q, _ = xp.linalg.qr(xp.concat([c**0.5 * u, identity], axis=-2))
    m = u.shape[-2]
    return (q[..., :m, :] @ xp.matrix_transpose(q[..., m:, :])) / c**0.5


def qdwh(x: Any, max_iterations: int) -> Any:
    """Polar factor of every matrix ``(..., m, n)`` by at most ``max_iterations`` weighted Halley steps and one cubic
    step.

    The starting scale ``sqrt(||x||_1 ||x||_inf)`` is invariant under signed permutations only. Converged iterations
    forget it; two of them (a default of the polargrad repository) leave singular values between 0.2 and 0.8 and a map
    that is equivariant under ``SPerm x SPerm`` alone. The source goes on until two iterates agree; here the number of
    steps depends on the dtype only, so that a batch needs no data-dependent branch.

    Exact zero singular values stay zero, but the iteration lifts anything above machine epsilon times the norm towards
    one: on a rank-deficient matrix it turns rounding noise into directions of visible size, where `polar` cuts it off.
    """
    xp = array_namespace(x)
    wide = x.shape[-2] < x.shape[-1]
    u = xp.matrix_transpose(x) if wide else x
    magnitude = xp.abs(u)
    one_norm = xp.max(xp.sum(magnitude, axis=-2, keepdims=True), axis=-1, keepdims=True)
    inf_norm = xp.max(xp.sum(magnitude, axis=-1, keepdims=True), axis=-2, keepdims=True)
    u = divide_or_zero(u, xp.sqrt(one_norm) * xp.sqrt(inf_norm))
    for a, b, c in halley_weights(float(xp.finfo(x.dtype).eps), max_iterations):
        u = (b / c) * u + (a - b / c) * _resolvent(u, c)
    u = newton_schulz(u, (CUBIC,))
    return xp.matrix_transpose(u) if wide else u
