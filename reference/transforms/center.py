"""Row centring, the projection onto the horizontal space of the softmax shift ``W -> W + 1 c^T``."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def center(x: Any) -> Any:
    """``Pi x`` with ``Pi = I - 1 1^T / m``: subtract the mean row of every matrix ``(..., m, n)``.

    ``Pi`` commutes with exactly the orthogonal matrices that map the all-ones vector to plus or minus itself.
    """
    xp = array_namespace(x)
    return x - xp.mean(x, axis=-2, keepdims=True)
