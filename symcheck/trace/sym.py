"""A tensor as programs see it: a line, and the axes that make up its dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

Dims = tuple[tuple[int, ...], ...]
Scalar = bool | int | float | Fraction


class NotInVocabulary(Exception):
    """An operation, or a use of one, that programs cannot say. The message is one line: what it is."""


@dataclass(frozen=True)
class Sym:
    """A tensor of the recorded run: the ``line`` of its value, the sizes of the axes of each dimension, its ``dtype``.

    The axes of the line's value are the concatenation of ``dims``; row-major order within a dimension.
    """

    line: int
    dims: Dims
    dtype: torch.dtype

    @property
    def axes(self) -> tuple[int, ...]:
        """The sizes of all axes, in order: the shape of the value of the line."""
        return tuple(itertools.chain.from_iterable(self.dims))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the torch tensor."""
        return tuple(math.prod(dim) for dim in self.dims)

    @property
    def numel(self) -> int:
        """How many entries the tensor has."""
        return math.prod(self.shape)

    def positions(self, dim: int) -> tuple[int, ...]:
        """The axes of the value that make up dimension ``dim`` (negative: from the end)."""
        dim = self.dim(dim)
        start = sum(map(len, self.dims[:dim]))
        return tuple(range(start, start + len(self.dims[dim])))

    def dim(self, dim: int) -> int:
        """``dim`` counted from the front; of a tensor without dimensions, 0 and -1 are its only value."""
        return dim % max(len(self.dims), 1)

    def with_dims(self, dims: Iterable[Iterable[int]]) -> Sym:
        """The same value with its axes grouped into other dimensions."""
        grouped: Dims = tuple(tuple(dim) for dim in dims)
        if tuple(itertools.chain.from_iterable(grouped)) != self.axes:
            raise ValueError(f"axes {self.axes} cannot be grouped as {grouped}")
        return replace(self, dims=grouped)

    def unsqueeze(self, dim: int) -> Sym:
        """One more dimension of size one before dimension ``dim`` (negative: from the end of the result)."""
        dim %= len(self.dims) + 1
        return replace(self, dims=(*self.dims[:dim], (), *self.dims[dim:]))

    def squeeze(self, dims: Iterable[int]) -> Sym:
        """Without ``dims``, which are of size one."""
        gone = {self.dim(dim) for dim in dims}
        return self.with_dims(sizes for number, sizes in enumerate(self.dims) if number not in gone)


def dims_of(shape: Iterable[int]) -> Dims:
    """The dimensions of a new tensor of this shape: one axis each, none where the size is one."""
    return tuple(() if size == 1 else (int(size),) for size in shape)


def exact(value: Scalar) -> Fraction:
    """The exact value of a finite number; `NotInVocabulary` for others."""
    if isinstance(value, complex) or not isinstance(value, int | float | Fraction):
        raise NotInVocabulary(f"the number {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotInVocabulary(f"the number {value}")
    return Fraction(value)


def refine(splits: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The coarsest list of sizes that refines all of these, row-major; `NotInVocabulary` where there is none.

    ``(6,)`` and ``(2, 3)`` give ``(2, 3)``; ``(2, 3)`` and ``(3, 2)`` have no common refinement.
    """
    strides = sorted({math.prod(sizes[at:]) for sizes in splits for at in range(len(sizes) + 1)})
    if any(large % small for small, large in itertools.pairwise(strides)):
        raise NotInVocabulary(f"dimensions split in different ways: {sorted(set(splits))}")
    return tuple(large // small for small, large in reversed(list(itertools.pairwise(strides))))
