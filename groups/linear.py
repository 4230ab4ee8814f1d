"""The non-compact families: scalings, monomial matrices, all invertible ones. Gradients move by other matrices than
weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from groups import moves
from groups.element import Element, FloatArray
from groups.group import Group, monomial
from groups.permutation import Perm, Sign

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


def _unit(n: int, i: int, j: int) -> FloatArray:
    matrix = np.zeros((n, n))
    matrix[i, j] = 1
    return matrix


@dataclass(frozen=True)
class _PositiveScale(Group):
    """Positive diagonal matrices."""

    is_orthogonal: ClassVar[bool] = False
    law: ClassVar[str] = "each factor log-uniform on [1/2, 2]"

    @property
    def name(self) -> str:
        return "Scale+"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return ()

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return tuple(_unit(n, i, i) for i in range(n))

    def _exact(self, n: int) -> Iterable[Element]:
        spread = {i: Fraction(2) ** (i % 4 - 1) for i in range(n)}
        patterns = ({0: 2}, dict.fromkeys(range(n), 2), spread, {n - 1: Fraction(3, 2)})
        return (moves.scaling(n, pattern) for pattern in patterns)

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and all(i == j and value > 0 for i, (j, value) in enumerate(entries))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [moves.positive_scalings(n)]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.positive_scalings(n, count, rng)


@dataclass(frozen=True)
class _Scale(Group):
    """Diagonal matrices without a zero on the diagonal."""

    is_orthogonal: ClassVar[bool] = False
    law: ClassVar[str] = "each factor log-uniform on [1/2, 2] with a random sign"

    @property
    def name(self) -> str:
        return "Scale"

    def generators(self, n: int) -> tuple[Element, ...]:
        return Sign.generators(n)

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return PositiveScale.lie_algebra(n)

    def _exact(self, n: int) -> Iterable[Element]:
        positive = PositiveScale.exact(n)
        return (positive[0], moves.scaling(n, {0: -1}), moves.scaling(n, {0: -2}), *positive[1:])

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and all(i == j for i, (j, _) in enumerate(entries))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [*Sign._moves(n), *PositiveScale._moves(n)]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.positive_scalings(n, count, rng) @ haar.signs(n, count, rng)


@dataclass(frozen=True)
class _GL(Group):
    """All invertible matrices."""

    is_orthogonal: ClassVar[bool] = False
    law: ClassVar[str] = "U D V with U, V Haar orthogonal and D of Scale+, so that the condition number is at most 4"

    @property
    def name(self) -> str:
        return "GL"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return (moves.scaling(n, {0: -1}),)

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return tuple(_unit(n, i, j) for i in range(n) for j in range(n))

    def _exact(self, n: int) -> Iterable[Element]:
        if n == 1:
            return Scale.exact(1)
        steps = (moves.shear(n, 0, 1, Fraction(1)), moves.shear(n, n - 1, 0, Fraction(-1, 2)))
        cyclic_shear = steps[0] @ moves.cycle(n)
        found = (
            steps[0],
            moves.scaling(n, {0: 2}),
            moves.scaling(n, {0: -1}),
            *Perm.generators(n)[:1],
            steps[1],
            cyclic_shear,
        )
        return (*found, moves.scaling(n, {0: Fraction(3, 2)}) @ steps[1])

    def _contains(self, element: Element) -> bool:
        return True  # an Element is invertible

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return Scale._moves(n) + ([*Perm._moves(n), moves.shears(n)] if n > 1 else [])

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.orthogonal(n, count, rng) @ haar.positive_scalings(n, count, rng) @ haar.orthogonal(n, count, rng)


@dataclass(frozen=True)
class _Monomial(Group):
    """Monomial matrices: a permutation times non-zero factors (`Monomial+`: positive ones)."""

    positive: bool
    is_orthogonal: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "Monomial+" if self.positive else "Monomial"

    @property
    def summary(self) -> str:
        return f"Permutations times {'positive' if self.positive else 'non-zero'} diagonal matrices."

    @property
    def law(self) -> str:  # type: ignore[override]
        return f"uniform permutation, {self._scale.law}"

    @property
    def _scale(self) -> Group:
        return PositiveScale if self.positive else Scale

    def generators(self, n: int) -> tuple[Element, ...]:
        return (*self._scale.generators(n), *Perm.generators(n))

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return PositiveScale.lie_algebra(n)

    def _exact(self, n: int) -> Iterable[Element]:
        scales, permutations = self._scale.exact(n), Perm.exact(n)
        mixed = [scales[-2] @ p for p in permutations[-1:]]
        return (*scales[:4], *permutations, *mixed)

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and (not self.positive or all(value > 0 for _, value in entries))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [*Perm._moves(n), *self._scale._moves(n)]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        return Perm._draw(n, count, rng) @ self._scale._draw(n, count, rng)


PositiveScale, Scale, GL = _PositiveScale(), _Scale(), _GL()
PositiveMonomial, Monomial = _Monomial(positive=True), _Monomial(positive=False)
