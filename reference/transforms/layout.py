"""Views of a stored weight in which the rows, or the blocks, are the units that a rule treats alike."""

from __future__ import annotations

from typing import Any, Literal

from array_api_compat import array_namespace

Orientation = Literal["row", "col", "gpt_oss_gate_up_pair", "olmoe_gate_up_pair"]
ORIENTATIONS: tuple[Orientation, ...] = ("row", "col", "gpt_oss_gate_up_pair", "olmoe_gate_up_pair")


def _even(size: int, orientation: str) -> int:
    if size % 2:
        raise ValueError(f"orientation {orientation!r} pairs gate and up along an axis of even size, got {size}")
    return size // 2


def orient(x: Any, orientation: Orientation) -> Any:
    """The working matrix whose rows are the units (neurons, tokens, experts) of the stored weight ``x``.

    ``row``: ``x`` itself. ``col``: its transpose. ``olmoe_gate_up_pair``: ``(..., 2r, d)``, gate rows first, to ``(...,
    r, 2d)``. ``gpt_oss_gate_up_pair``: ``(..., d, 2r)``, gate and up columns interleaved, to ``(..., r, 2d)``. Row
    ``j`` of a pair matrix is ``(g_j1, u_j1, g_j2, u_j2, ...)``. Raises ValueError when a paired axis is odd.
    """
    xp = array_namespace(x)
    *batch, m, n = x.shape
    if orientation == "row":
        return x
    if orientation == "col":
        return xp.matrix_transpose(x)
    if orientation == "olmoe_gate_up_pair":
        split = xp.reshape(x, (*batch, 2, _even(m, orientation), n))
        return xp.reshape(_permute_last(split, (1, 2, 0)), (*batch, m // 2, 2 * n))
    split = xp.reshape(x, (*batch, m, _even(n, orientation), 2))
    return xp.reshape(_permute_last(split, (1, 0, 2)), (*batch, n // 2, 2 * m))


def unorient(work: Any, orientation: Orientation) -> Any:
    """The inverse of `orient`."""
    xp = array_namespace(work)
    *batch, r, width = work.shape
    if orientation == "row":
        return work
    if orientation == "col":
        return xp.matrix_transpose(work)
    split = xp.reshape(work, (*batch, r, width // 2, 2))
    if orientation == "olmoe_gate_up_pair":
        return xp.reshape(_permute_last(split, (2, 0, 1)), (*batch, 2 * r, width // 2))
    return xp.reshape(_permute_last(split, (1, 0, 2)), (*batch, width // 2, 2 * r))


def split_rows(x: Any, blocks: int) -> Any:
    """``(..., blocks * p, n)`` to ``(..., blocks, p, n)``: contiguous groups of rows, as the heads of Q, K and V."""
    *batch, m, n = x.shape
    return array_namespace(x).reshape(x, (*batch, blocks, m // blocks, n))


def merge_rows(x: Any) -> Any:
    """The inverse of `split_rows`."""
    *batch, blocks, p, n = x.shape
    return array_namespace(x).reshape(x, (*batch, blocks * p, n))


def split_columns(x: Any, blocks: int, *, interleaved: bool = False) -> Any:
    """``(..., m, blocks * p)`` to ``(..., blocks, m, p)``; a block is contiguous, or every ``blocks``-th column."""
    *batch, m, n = x.shape
    shape, order = ((n // blocks, blocks), (2, 0, 1)) if interleaved else ((blocks, n // blocks), (1, 0, 2))
    return _permute_last(array_namespace(x).reshape(x, (*batch, m, *shape)), order)


def merge_columns(x: Any, *, interleaved: bool = False) -> Any:
    """The inverse of `split_columns`."""
    *batch, blocks, m, p = x.shape
    joined = _permute_last(x, (1, 2, 0) if interleaved else (1, 0, 2))
    return array_namespace(x).reshape(joined, (*batch, m, blocks * p))


def _permute_last(x: Any, order: tuple[int, ...]) -> Any:
    """``x`` with its last ``len(order)`` axes permuted."""
    first = x.ndim - len(order)
    return array_namespace(x).permute_dims(x, (*range(first), *(first + axis for axis in order)))
