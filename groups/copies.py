# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Copies that move alike: equal blocks of an axis, all moved by one element of a family, and put in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from groups.element import Element, FloatArray, block_diagonal
from groups.group import Group
from groups.permutation import Perm, Trivial
from groups.pieces import Pieces

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


class Copies(Pieces):
    """``(top[blocks] x inner)``: Kronecker products ``P (x) B``, such as the query heads that share a key head.

    The axis is cut into ``blocks`` equal consecutive pieces; an element moves every piece by the same ``B`` in
    ``inner``, and the pieces by a permutation ``P`` in ``top`` (``Perm``, or ``1`` for none).
    """

    tops: ClassVar[tuple[Group, ...]] = (Trivial, Perm)

    @property
    def name(self) -> str:
        return f"({self.top}[{self.blocks}] x {self.inner})"

    @property
    def law(self) -> str:  # type: ignore[override]
        return self.inner.law if self.inner.law == "Haar" else f"{self.inner.law}; uniform permutation of the copies"

    def _alike(self, inner: Element) -> Element:
        """``1 (x) B``."""
        return block_diagonal([inner] * self.blocks)

    def generators(self, n: int) -> tuple[Element, ...]:
        part = self.part(n)
        orders = (self.lift(p, part) for p in self.top.generators(self.blocks))
        return (*(self._alike(g) for g in self.inner.generators(part)), *orders)

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        basis = self.inner.lie_algebra(self.part(n))
        return tuple(np.asarray(np.kron(np.eye(self.blocks), x), dtype=np.float64) for x in basis)

    def _exact(self, n: int) -> Iterable[Element]:
        part = self.part(n)
        inner = [self._alike(g) for g in self.inner.exact(part)]
        orders = [self.lift(p, part) for p in self.top.exact(self.blocks)]
        return [*orders[:1], *inner, *orders[1:], *(g @ p for g, p in zip(inner[:2], orders[:1] * 2, strict=False))]

    def common(self, element: Element) -> Element:
        """The ``B`` of an element ``P (x) B``."""
        found = self.split(element)
        if found is None:
            raise ValueError(f"{self}: not an element, its blocks are not those of a permutation")
        return found[1][0]

    def _contains(self, element: Element) -> bool:
        found = self.split(element)
        if found is None or not self.top.contains(found[0]):
            return False
        order, (inner, *_) = found
        expected = self._alike(inner) @ self.lift(order, inner.size)
        if element.is_exact:
            return self.inner.contains(inner) and element == expected
        # The copies of a product are sums of n products each, added in whatever order.
        bound = element.size * np.finfo(np.float64).eps * np.abs(element.matrix).max()
        return self.inner.contains(inner) and bool(np.abs(element.matrix - expected.matrix).max() <= bound)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        part = self.part(n)
        orders = [s.map(lambda p: self.lift(p, part)) for s in self.top._moves(self.blocks)]
        return [*orders, *(s.map(self._alike) for s in self.inner._moves(part))]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        import torch

        part = self.part(n)
        inner = self.inner._draw(part, count, rng)
        orders = self.top._draw(self.blocks, count, rng)
        return torch.einsum("cab,cij->caibj", orders, inner).reshape(count, n, n)
