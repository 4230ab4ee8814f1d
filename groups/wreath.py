# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Head structure: H equal blocks of an axis, each moved by its own element of a family, then the blocks permuted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from groups.element import Element, FloatArray, block_diagonal
from groups.pieces import Pieces

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


class Wreath(Pieces):
    """``(inner wr top[blocks])``, such as ``(O wr Perm[4])`` for four attention heads.

    The axis is cut into ``blocks`` equal consecutive pieces; an element acts on each piece by its own element of
    ``inner`` and then moves whole pieces by a permutation in ``top`` (``Perm``, ``Cyclic``, or ``1`` for block diagonal
    matrices).
    """

    @property
    def name(self) -> str:
        return f"({self.inner} wr {self.top}[{self.blocks}])"

    @property
    def law(self) -> str:  # type: ignore[override]
        return "Haar" if self.inner.law == "Haar" else f"in each block {self.inner.law}; uniform block permutation"

    def _in_block(self, index: int, inner: Element) -> Element:
        parts = [Element.identity(inner.size)] * self.blocks
        return block_diagonal([*parts[:index], inner, *parts[index + 1 :]])

    def generators(self, n: int) -> tuple[Element, ...]:
        part = self.part(n)
        inside = [self._in_block(b, g) for b in range(self.blocks) for g in self.inner.generators(part)]
        return (*inside, *(self.lift(t, part) for t in self.top.generators(self.blocks)))

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        part = self.part(n)
        basis = []
        for block in range(self.blocks):
            for inner in self.inner.lie_algebra(part):
                matrix = np.zeros((n, n))
                matrix[block * part : (block + 1) * part, block * part : (block + 1) * part] = inner
                basis.append(matrix)
        return tuple(basis)

    def _exact(self, n: int) -> Iterable[Element]:
        part = self.part(n)
        inner = self.inner.exact(part)
        tops = [self.lift(t, part) for t in self.top.exact(self.blocks)]
        found = tops[:1] + [self._in_block(k % self.blocks, g) for k, g in enumerate(inner)] + tops[1:]
        if inner:
            every = block_diagonal([inner[k % len(inner)] for k in range(self.blocks)])
            found += [every, *(every @ top for top in tops[:1])]
        return found

    def _contains(self, element: Element) -> bool:
        found = self.split(element)
        return found is not None and self.top.contains(found[0]) and all(map(self.inner.contains, found[1]))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        import hypothesis.strategies as st

        part = self.part(n)
        found = [s.map(lambda top: self.lift(top, part)) for s in self.top._moves(self.blocks)]
        inner = self.inner._moves(part)
        if inner:
            found.append(st.builds(self._in_block, st.integers(0, self.blocks - 1), st.one_of(inner)))
        return found

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        import torch

        part = self.part(n)
        inner = self.inner._draw(part, count * self.blocks, rng).reshape(count, self.blocks, part, part)
        top = self.top._draw(self.blocks, count, rng)
        # Block (a, b) of the result is top[a, b] times the inner element of block b.
        return torch.einsum("cab,cbij->caibj", top, inner).reshape(count, n, n)
