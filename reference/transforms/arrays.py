"""The few array constructions that every transform needs."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device


def identity_like(x: Any) -> Any:
    """The ``n x n`` identity for ``x`` of shape ``(..., m, n)``, in its dtype and on its device."""
    return array_namespace(x).eye(x.shape[-1], dtype=x.dtype, device=device(x))


def copied(x: Any) -> Any:
    """A copy of ``x`` in memory of its own, for what a new state takes over from the old one unchanged."""
    return array_namespace(x).asarray(x, copy=True)


def symmetrize(a: Any) -> Any:
    """``(a + a^T) / 2`` of every square matrix."""
    return 0.5 * (a + array_namespace(a).matrix_transpose(a))


def block_axes(x: Any) -> tuple[int, ...]:
    """The axes of one weight inside a batch: the last two, or all of a vector or scalar."""
    return tuple(range(-min(x.ndim, 2), 0))


def block_norm(x: Any) -> Any:
    """Euclidean norm of every weight of the batch, with its axes kept at size 1."""
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=block_axes(x), keepdims=True))


def inner(x: Any, y: Any) -> Any:
    """Inner product ``<x, y>`` of every pair of weights of the batch, with their axes kept at size 1."""
    return array_namespace(x, y).sum(x * y, axis=block_axes(x), keepdims=True)
