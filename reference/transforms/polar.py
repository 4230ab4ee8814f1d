"""The polar factor of a matrix, exactly: by singular value decomposition over the non-zero singular values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace


def spectral_map(x: Any, function: Callable[[Any], Any]) -> Any:
    """``U diag(function(sigma)) V^T`` over the non-zero singular values ``sigma`` of every matrix ``(..., m, n)``.

    A singular value counts as zero, and contributes nothing, when it is at most ``32 sqrt(max(m, n)) * eps *
    sigma_max`` with ``eps`` the machine epsilon of the dtype. Below that it carries no digit of the input and its
    singular vectors are noise of unit size. The rounding errors of a matrix and of its SVD are sums of about ``max(m,
    n)`` small terms, which grow like the square root of their number (Higham & Mary, SIAM J. Sci. Comput. 41, 2019).
    The worst case ``max(m, n) * eps``, the default of ``numpy.linalg.matrix_rank``, fails at both ends: in float32 it
    would discard singular values below 2 % on an embedding of 150000 rows, and on 2 x 2 matrices it takes the noise for
    rank when gradients of a deficient rank partly cancel in a momentum (4 % of random trajectories; the factor 32
    leaves 0.2 %). Maps with ``function(sigma) -> 0`` as ``sigma -> 0`` hardly feel the cutoff.

    ``function`` is evaluated on positive numbers only (1 stands in for the values that are cut). Every such map
    commutes with ``O(m) x O(n)``; zero, ``1 x n`` and rank-deficient matrices are ordinary inputs.
    """
    xp = array_namespace(x)
    u, sigma, vt = xp.linalg.svd(x, full_matrices=False)
    relative = 32 * max(x.shape[-2:]) ** 0.5 * float(xp.finfo(x.dtype).eps)
    cutoff = relative * xp.max(sigma, axis=-1, keepdims=True)
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
