# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Head structure: H equal blocks of an axis, each moved by its own element of a family, then the blocks permuted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from groups.element import Element, FloatArray, block_diagonal
from groups.group import Group, support
from groups.permutation import Cyclic, Perm, Trivial

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Wreath(Group):
    """``(inner wr top[blocks])``, such as ``(O wr Perm[4])`` for four attention heads.

    The axis is cut into ``blocks`` equal consecutive pieces; an element acts on each piece by its own element of
    ``inner`` and then moves whole pieces by a permutation in ``top`` (``Perm``, ``Cyclic``, or ``1`` for block diagonal
    matrices).
    """

    inner: Group
    top: Group
    blocks: int

    def __post_init__(self) -> None:
        if self.top not in (Trivial, Cyclic, Perm):
            raise ValueError(f"the blocks of a wreath product are permuted by Perm, Cyclic or 1, got {self.top}")
        if self.blocks < 1:
            raise ValueError(f"a wreath product has at least one block, got {self.blocks}")

    @property
    def name(self) -> str:
        return f"({self.inner} wr {self.top}[{self.blocks}])"

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
        return "Haar" if self.inner.law == "Haar" else f"in each block {self.inner.law}; uniform block permutation"

    def check_size(self, n: int) -> None:
        super().check_size(n)
        if n % self.blocks:
            raise ValueError(f"{self}: the size of the axis is a multiple of {self.blocks}, got {n}")
        self.inner.check_size(n // self.blocks)

    def _part(self, n: int) -> int:
        self.check_size(n)
        return n // self.blocks

    def lift(self, top: Element, part: int) -> Element:
        """The permutation of whole blocks."""
        rows = top.rows or ()
        return Element.from_sparse(
            tuple(tuple((j * part + k, value) for j, value in row) for row in rows for k in range(part))
        )

    def _in_block(self, index: int, inner: Element) -> Element:
        parts = [Element.identity(inner.size)] * self.blocks
        return block_diagonal([*parts[:index], inner, *parts[index + 1 :]])

    def generators(self, n: int) -> tuple[Element, ...]:
        part = self._part(n)
        inside = [self._in_block(b, g) for b in range(self.blocks) for g in self.inner.generators(part)]
        return (*inside, *(self.lift(t, part) for t in self.top.generators(self.blocks)))

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        part = self._part(n)
        basis = []
        for block in range(self.blocks):
            for inner in self.inner.lie_algebra(part):
                matrix = np.zeros((n, n))
                matrix[block * part : (block + 1) * part, block * part : (block + 1) * part] = inner
                basis.append(matrix)
        return tuple(basis)

    def _exact(self, n: int) -> Iterable[Element]:
        part = self._part(n)
        inner = self.inner.exact(part)
        tops = [self.lift(t, part) for t in self.top.exact(self.blocks)]
        found = tops[:1] + [self._in_block(k % self.blocks, g) for k, g in enumerate(inner)] + tops[1:]
        if inner:
            every = block_diagonal([inner[k % len(inner)] for k in range(self.blocks)])
            found += [every, *(every @ top for top in tops[:1])]
        return found

    def split(self, element: Element) -> tuple[Element, tuple[Element, ...]] | None:
        """The block permutation and the element that lands in each block row, or None if it has no such form."""
        part = self._part(element.size)
        blocks = self.blocks
        pattern = support(element).reshape(blocks, part, blocks, part).any(axis=(1, 3))
        if (pattern.sum(axis=0) != 1).any() or (pattern.sum(axis=1) != 1).any():
            return None
        sources = pattern.argmax(axis=1)
        top = Element.from_exact(pattern.astype(int).tolist())
        if element.rows is None:
            known = element.is_orthogonal
            matrix = element.matrix.reshape(blocks, part, blocks, part)
            parts = [Element.from_float(matrix[b, :, sources[b]], orthogonal=known) for b in range(blocks)]
        else:
            parts = [
                Element.from_sparse(
                    tuple(
                        tuple((j % part, value) for j, value in element.rows[i])
                        for i in range(b * part, (b + 1) * part)
                    )
                )
                for b in range(blocks)
            ]
        return top, tuple(parts)

    def _contains(self, element: Element) -> bool:
        found = self.split(element)
        return found is not None and self.top.contains(found[0]) and all(map(self.inner.contains, found[1]))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        import hypothesis.strategies as st

        part = self._part(n)
        found = [s.map(lambda top: self.lift(top, part)) for s in self.top._moves(self.blocks)]
        inner = self.inner._moves(part)
        if inner:
            found.append(st.builds(self._in_block, st.integers(0, self.blocks - 1), st.one_of(inner)))
        return found

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        import torch

        part = self._part(n)
        inner = self.inner._draw(part, count * self.blocks, rng).reshape(count, self.blocks, part, part)
        top = self.top._draw(self.blocks, count, rng)
        # Block (a, b) of the result is top[a, b] times the inner element of block b.
        return torch.einsum("cab,cbij->caibj", top, inner).reshape(count, n, n)
