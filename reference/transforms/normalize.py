"""Division by norms: safe denominators, rows of unit length."""

from __future__ import annotations

from typing import Any, Literal

from array_api_compat import array_namespace

Floor = Literal["add", "clamp"]
"""How a denominator is kept away from zero: ``x + eps`` or ``max(x, eps)``."""


RowMode = Literal["inverse_eps", "unit"]
ROW_MODES: tuple[RowMode, ...] = ("inverse_eps", "unit")
"""The source's names of the two denominators of `row_normalize` (its third name, "inverse", means "unit")."""


def floored(x: Any, eps: float, floor: Floor) -> Any:
    """``x + eps`` or ``max(x, eps)``, for ``x >= 0``."""
    return x + eps if floor == "add" else array_namespace(x).clip(x, min=eps)


def divide_or_zero(x: Any, denominator: Any) -> Any:
    """``x / denominator``, and zero where the denominator is zero; NaN in either stays NaN."""
    xp = array_namespace(x)
    vanishes = denominator == 0
    safe = xp.where(vanishes, xp.ones_like(denominator), denominator)
    return xp.where(vanishes, xp.zeros_like(x), x / safe)


def row_norms(x: Any) -> Any:
    """Euclidean norm of every row of ``(..., m, n)``, shape ``(..., m, 1)``."""
    return array_namespace(x).linalg.vector_norm(x, axis=-1, keepdims=True)


def row_normalize(x: Any, eps: float, mode: RowMode = "inverse_eps") -> Any:
    """Every row over its norm: ``x_i / (||x_i|| + eps)`` ("inverse_eps") or ``x_i / max(||x_i||, eps)`` ("unit").

    A zero row stays zero, with ``eps = 0`` too. Commutes with signed permutations of the rows and rotations of the
    columns, and with no other pair of orthogonal matrices: a row rotation that mixes two rows sees their unequal norms.
    """
    return divide_or_zero(x, floored(row_norms(x), eps, "add" if mode == "inverse_eps" else "clamp"))
