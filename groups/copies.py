# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Copies that move alike: equal blocks of an axis, all moved by one element of a family, and put in any order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from groups.element import Element, FloatArray, block_diagonal
from groups.group import Group, support
from groups.permutation import Perm, Trivial

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Copies(Group):
    """``(top[copies] x inner)``: Kronecker products ``P (x) B``, such as the query heads that share a key head.

    The axis is cut into ``copies`` equal consecutive pieces; an element moves every piece by the same ``B`` in
    ``inner``, and the pieces by a permutation ``P`` in ``top`` (``Perm``, or ``1`` for none).
    """

    inner: Group
    top: Group
    copies: int

    def __post_init__(self) -> None:
        if self.top not in (Trivial, Perm):
            raise ValueError(f"copies are permuted by Perm or 1, got {self.top}")
        if self.copies < 1:
            raise ValueError(f"there is at least one copy, got {self.copies}")

    @property
    def name(self) -> str:
        return f"({self.top}[{self.copies}] x {self.inner})"

    @property
    def is_orthogonal(self) -> bool:  # type: ignore[override]
        return self.inner.is_orthogonal

    @property
    def is_self_dual(self) -> bool:
        return self.inner.is_self_dual

    @property
    def is_finite(self) -> bool:  # type: ignore[override]
        return self.inner.is_finite

    @property
    def law(self) -> str:  # type: ignore[override]
        return self.inner.law if self.inner.law == "Haar" else f"{self.inner.law}; uniform permutation of the copies"

    def check_size(self, n: int) -> None:
        super().check_size(n)
        if n % self.copies:
            raise ValueError(f"{self}: the size of the axis is a multiple of {self.copies}, got {n}")
        self.inner.check_size(n // self.copies)

    def _part(self, n: int) -> int:
        self.check_size(n)
        return n // self.copies

    def _ordered(self, order: Element, part: int) -> Element:
        """``P (x) 1``."""
        rows = order.rows or ()
        return Element.from_sparse(
            tuple(tuple((j * part + k, value) for j, value in row) for row in rows for k in range(part))
        )

    def _alike(self, inner: Element) -> Element:
        """``1 (x) B``."""
        return block_diagonal([inner] * self.copies)

    def generators(self, n: int) -> tuple[Element, ...]:
        part = self._part(n)
        orders = (self._ordered(p, part) for p in self.top.generators(self.copies))
        return (*(self._alike(g) for g in self.inner.generators(part)), *orders)

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        basis = self.inner.lie_algebra(self._part(n))
        return tuple(np.asarray(np.kron(np.eye(self.copies), x), dtype=np.float64) for x in basis)

    def _exact(self, n: int) -> Iterable[Element]:
        part = self._part(n)
        inner = [self._alike(g) for g in self.inner.exact(part)]
        orders = [self._ordered(p, part) for p in self.top.exact(self.copies)]
        return [*orders[:1], *inner, *orders[1:], *(g @ p for g, p in zip(inner[:2], orders[:1] * 2, strict=False))]

    def common(self, element: Element) -> Element:
        """The ``B`` of an element ``P (x) B``."""
        part = self._part(element.size)
        column = int(np.flatnonzero(support(element)[:part].any(axis=0))[0]) // part
        if element.rows is None:
            block = element.matrix[:part, column * part : (column + 1) * part]
            return Element.from_float(block, orthogonal=element.is_orthogonal)
        return Element.from_sparse(tuple(tuple((j % part, v) for j, v in row) for row in element.rows[:part]))

    def _contains(self, element: Element) -> bool:
        part = self._part(element.size)
        pattern = support(element).reshape(self.copies, part, self.copies, part).any(axis=(1, 3))
        if (pattern.sum(axis=0) != 1).any() or (pattern.sum(axis=1) != 1).any():
            return False
        inner = self.common(element)
        order = Element.from_exact(pattern.astype(int).tolist())
        if not self.top.contains(order):
            return False
        expected = self._alike(inner) @ self._ordered(order, part)
        if element.is_exact:
            return self.inner.contains(inner) and element == expected
        # The copies of a product are sums of n products each, added in whatever order.
        bound = element.size * np.finfo(np.float64).eps * np.abs(element.matrix).max()
        return self.inner.contains(inner) and bool(np.abs(element.matrix - expected.matrix).max() <= bound)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        part = self._part(n)
        orders = [s.map(lambda p: self._ordered(p, part)) for s in self.top._moves(self.copies)]
        return [*orders, *(s.map(self._alike) for s in self.inner._moves(part))]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        import torch

        part = self._part(n)
        inner = self.inner._draw(part, count, rng)
        orders = self.top._draw(self.copies, count, rng)
        return torch.einsum("cab,cij->caibj", orders, inner).reshape(count, n, n)
