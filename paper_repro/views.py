"""Strided views of weights: one head, one RoPE plane, one expert. Writing to a view writes to the weight."""

from __future__ import annotations

from collections.abc import Callable

import torch

View = Callable[[torch.Tensor], torch.Tensor]


def unchanged(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself."""
    return tensor


def then(first: View, second: View) -> View:
    """The second view of the first view."""
    return lambda tensor: second(first(tensor))


def expert_of(index: int | None) -> View:
    """One expert of a stack; everything if there is no stack (None)."""
    return unchanged if index is None else lambda stack: stack[index]


def as_one_row(view: View = unchanged) -> View:
    """All entries as one row, so that a group of size one scales them together."""
    return then(view, lambda matrix: matrix.unsqueeze(0))


def row_blocks(count: int) -> View:
    """Rows of a matrix (entries of a bias) as ``count`` blocks, the block axis in front."""
    return lambda matrix: matrix.view(count, -1, *matrix.shape[1:])


def column_blocks(count: int) -> View:
    """Columns of a matrix as ``count`` blocks, the block axis in front."""
    return lambda matrix: matrix.view(matrix.shape[0], count, -1).movedim(1, 0)


def head_rows(heads: int, index: int) -> View:
    """The rows of one of ``heads`` heads: a query, key or value projection ``[d_h, d]``, or its bias ``[d_h]``."""
    return lambda matrix: row_blocks(heads)(matrix)[index]


def head_columns(heads: int, index: int) -> View:
    """The columns of one of ``heads`` heads: an output projection ``[d, d_h]``."""
    return lambda matrix: column_blocks(heads)(matrix)[index]


def head_planes(heads: int, index: int) -> View:
    """The RoPE planes ``(j, j + d_h/2)`` of one head, the plane axis in front."""
    return then(head_rows(heads, index), lambda rows: row_blocks(2)(rows).movedim(1, 0))
