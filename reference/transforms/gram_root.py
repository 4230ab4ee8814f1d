"""Functions of symmetric positive semi-definite matrices: inverse roots of accumulated Gram matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from reference.transforms.arrays import symmetrize


def left_gram(x: Any) -> Any:
    """``x x^T`` of every matrix ``(..., m, n)``, shape ``(..., m, m)``."""
    return x @ array_namespace(x).matrix_transpose(x)


def right_gram(x: Any) -> Any:
    """``x^T x`` of every matrix ``(..., m, n)``, shape ``(..., n, n)``."""
    return array_namespace(x).matrix_transpose(x) @ x


def symmetric_map(a: Any, function: Callable[[Any], Any]) -> Any:
    """``V diag(function(lambda)) V^T`` over the non-zero eigenvalues of every symmetric ``a = V diag(lambda) V^T``.

    An eigenvalue counts as zero, and contributes nothing, when it is at most ``32 sqrt(n) * eps * lambda_max`` (see
    `reference.transforms.polar.spectral_map`; Gram matrices round like products, with as many terms). ``function`` is
    evaluated on positive numbers only. Every such map commutes with ``a -> A a A^T`` for orthogonal ``A``, whatever
    basis the eigenvalue routine chose in an eigenspace.
    """
    xp = array_namespace(a)
    values, vectors = xp.linalg.eigh(symmetrize(a))
    relative = 32 * a.shape[-1] ** 0.5 * float(xp.finfo(a.dtype).eps)
    cutoff = relative * xp.max(values, axis=-1, keepdims=True)
    drop = (values <= cutoff) | (values <= 0)  # a NaN is neither, and reaches the result
    mapped = xp.where(drop, xp.zeros_like(values), function(xp.where(drop, xp.ones_like(values), values)))
    return (vectors * mapped[..., None, :]) @ xp.matrix_transpose(vectors)


def inverse_root(a: Any, exponent: float, eps: float = 0.0) -> Any:
    """``(a + eps I)^{-exponent}``; for ``eps = 0`` on the range of ``a``, and zero on its null space."""
    if eps == 0:
        return symmetric_map(a, lambda values: values**-exponent)
    xp = array_namespace(a)
    values, vectors = xp.linalg.eigh(symmetrize(a))
    mapped = (xp.clip(values, min=0.0) + eps) ** -exponent  # rounding leaves zeros on either side
    return (vectors * mapped[..., None, :]) @ xp.matrix_transpose(vectors)
