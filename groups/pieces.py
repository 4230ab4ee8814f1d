# ruff: noqa: D102  (what overrides a documented method is documented there)
"""What head structures have in common: an axis cut into equal pieces, moved by elements of a family, then permuted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from groups.element import Element
from groups.group import Group, support
from groups.permutation import Cyclic, Perm, Trivial


@dataclass(frozen=True)
class Pieces(Group):
    """An axis of ``blocks`` equal consecutive pieces: ``inner`` moves each of them, ``top`` changes their order."""

    inner: Group
    top: Group
    blocks: int

    tops: ClassVar[tuple[Group, ...]] = (Trivial, Cyclic, Perm)
    """The orders that an element of such a family may put its pieces in."""

    def __post_init__(self) -> None:
        if self.top not in self.tops:
            *names, last = reversed([str(top) for top in self.tops])
            raise ValueError(f"blocks are permuted by {', '.join(names)} or {last}, got {self.top}")
        if self.blocks < 1:
            raise ValueError(f"there is at least one block, got {self.blocks}")

    @property
    def is_orthogonal(self) -> bool:  # type: ignore[override]
        return self.inner.is_orthogonal

    @property
    def is_self_dual(self) -> bool:
        return self.inner.is_self_dual

    @property
    def is_finite(self) -> bool:  # type: ignore[override]
        return self.inner.is_finite

    def check_size(self, n: int) -> None:
        super().check_size(n)
        if n % self.blocks:
            raise ValueError(f"{self}: the size of the axis is a multiple of {self.blocks}, got {n}")
        self.inner.check_size(n // self.blocks)

    def part(self, n: int) -> int:
        """The size of a piece of an axis of size ``n``. ValueError: there is none."""
        self.check_size(n)
        return n // self.blocks

    def lift(self, top: Element, part: int) -> Element:
        """The permutation of whole pieces."""
        rows = top.rows or ()
        return Element.from_sparse(
            tuple(tuple((j * part + k, value) for j, value in row) for row in rows for k in range(part))
        )

    def split(self, element: Element) -> tuple[Element, tuple[Element, ...]] | None:
        """The permutation of the pieces, and the element that lands in each of them; None if it has no such form."""
        part, blocks = self.part(element.size), self.blocks
        pattern = support(element).reshape(blocks, part, blocks, part).any(axis=(1, 3))
        if (pattern.sum(axis=0) != 1).any() or (pattern.sum(axis=1) != 1).any():
            return None
        top = Element.from_exact(pattern.astype(int).tolist())
        if element.rows is None:
            matrix = element.matrix.reshape(blocks, part, blocks, part)
            found = [matrix[b, :, source] for b, source in enumerate(pattern.argmax(axis=1))]
            return top, tuple(Element.from_float(x, orthogonal=element.is_orthogonal) for x in found)
        rows = [tuple((j % part, value) for j, value in row) for row in element.rows]
        return top, tuple(Element.from_sparse(tuple(rows[b * part : (b + 1) * part])) for b in range(blocks))
