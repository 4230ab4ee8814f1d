"""The polar factor of a matrix, exactly: by singular value decomposition over the non-zero singular values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace


def spectral_map(x: Any, function: Callable[[Any], Any]) -> Any:
    """``U diag(function(sigma)) V^T`` over the non-zero singular values ``sigma`` of every matrix ``(..., m, n)``.

    A singular value counts as zero, and contributes nothing, when it is at most ``max(m, n) * eps * sigma_max`` with
    ``eps`` the machine epsilon of the dtype. A backward-stable SVD returns the exact singular values of a matrix within
    about that distance (Golub & Van Loan, 5.5.8; the default of ``numpy.linalg.matrix_rank``), so a value below it
    carries no digit of the input and its singular vectors are noise of unit size. Maps with ``function(sigma) -> 0`` as
    ``sigma -> 0`` do not feel the cutoff.

    ``function`` is evaluated on positive numbers only (1 stands in for the values that are cut). Every such map
    commutes with ``O(m) x O(n)``; zero, ``1 x n`` and rank-deficient matrices are ordinary inputs.
    """
    xp = array_namespace(x)
    u, sigma, vt = xp.linalg.svd(x, full_matrices=False)
    cutoff = max(x.shape[-2:]) * xp.finfo(x.dtype).eps * xp.max(sigma, axis=-1, keepdims=True)
    drop = sigma <= cutoff  # not "keep = sigma > cutoff": a NaN from the SVD must reach the result
    values = xp.where(drop, xp.zeros_like(sigma), function(xp.where(drop, xp.ones_like(sigma), sigma)))
    return (u * values[..., None, :]) @ vt


def polar(x: Any) -> Any:
    """The partial isometry ``U V^T`` of ``x = U Sigma V^T``; zero on the null space, so ``polar(0) = 0``."""
    return spectral_map(x, array_namespace(x).ones_like)


def damped_polar(x: Any, eps: float) -> Any:
    """``x (x^T x + eps I)^{-1/2} = (x x^T + eps I)^{-1/2} x``, that is ``sigma -> sigma / sqrt(sigma^2 + eps)``.

    The left and the right form are the same map. Computed from the singular values of ``x``, not from a Gram matrix, so
    a centred ``x`` (whose left Gram is singular) needs no pseudo-inverse; with ``eps = 0`` it is `polar`.
    """
    return spectral_map(x, lambda sigma: sigma / (sigma**2 + eps) ** 0.5)
