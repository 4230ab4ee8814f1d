"""The compact continuous families: O(n), the stabiliser of the all-ones vector, and the plane rotations of RoPE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from groups import moves
from groups.element import Element, FloatArray, block_diagonal
from groups.group import Group, is_orthogonal, rounding_bound, support
from groups.permutation import Perm, SPerm

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


def rotation_generator(n: int, *planes: tuple[int, int]) -> FloatArray:
    """The sum of the infinitesimal rotations ``e_i -> e_j`` of the planes ``(i, j)``."""
    matrix = np.zeros((n, n))
    for i, j in planes:
        matrix[j, i] += 1
        matrix[i, j] -= 1
    return matrix


def _repeated(block: Element, n: int) -> Element:
    """The block on the diagonal as often as it fits, then ones."""
    times, rest = divmod(n, block.size)
    return block_diagonal([block] * times + [Element.identity(1)] * rest)


def _hadamards(n: int) -> Element:
    """Hadamard blocks on all consecutive quadruples of coordinates that fit."""
    return _repeated(moves.hadamard(4, range(4)), n)


@dataclass(frozen=True)
class _O(Group):
    """Orthogonal matrices."""

    is_orthogonal: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "O"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return (moves.scaling(n, {0: -1}),)

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return tuple(rotation_generator(n, plane) for plane in combinations(range(n), 2))

    def _exact(self, n: int) -> Iterable[Element]:
        found = [moves.scaling(n, {0: -1}), *Perm.generators(n)[:1]]
        if n >= 4:
            blocks = _hadamards(n)
            signed_cycle = SPerm.generators(n)[0] @ moves.cycle(n)
            # The last one mixes every coordinate with others also when n is not a multiple of 4.
            found += [moves.hadamard(n, range(4)), blocks @ signed_cycle @ blocks]
        if n >= 2:
            cosine, sine = moves.PYTHAGOREAN[0]
            found += [moves.rotation(n, 0, 1, cosine, sine)]
            found += [_repeated(moves.rotation(2, 0, 1, cosine, sine), n) @ moves.cycle(n)]
        if n >= 3:
            found += [moves.reflection(n, {0: 1, 1: 1, n - 1: 1})]
        return found

    def _contains(self, element: Element) -> bool:
        return is_orthogonal(element)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        found = SPerm._moves(n)
        if n >= 2:
            found += [moves.rotations(n), moves.reflections(n)]
        if n >= 4:
            found += [moves.hadamards(n)]
        return found

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.orthogonal(n, count, rng)


@dataclass(frozen=True)
class _Stab1(Group):
    """Orthogonal matrices that fix the all-ones vector; what centring commutes with."""

    is_orthogonal: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "Stab1"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        # A transposition is a reflection of the complement of the ones vector: the component outside SO(n - 1).
        return (moves.transposition(n, 0, 1),) if n > 1 else ()

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return tuple(rotation_generator(n, (0, j), (j, k), (k, 0)) for j, k in combinations(range(1, n), 2))

    def _exact(self, n: int) -> Iterable[Element]:
        found = list(Perm.generators(n))
        if n >= 4:
            halves = _repeated(moves.reflection(4, _signed(range(4), (1, 1, -1, -1))), n)
            found += [moves.reflection(n, {0: 1, 1: 1, 2: -1, 3: -1}), halves @ moves.cycle(n) @ halves]
        if n >= 3:
            turn = moves.reflection(n, {0: 1, 1: 1, n - 1: -2})
            found += [turn, turn @ moves.reflection(n, {0: -2, 1: 1, n - 1: 1})]
        return found

    def _contains(self, element: Element) -> bool:
        if not is_orthogonal(element):
            return False
        if element.rows is not None:
            return all(sum(value for _, value in row) == 1 for row in element.rows)
        n = element.size
        # A row of n rounded entries, summed: n times the bound of one entry.
        return bool(np.abs(element.matrix.sum(axis=1) - 1).max() <= n * rounding_bound(n))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        import hypothesis.strategies as st

        found = Perm._moves(n)
        if n >= 3:
            triples = st.lists(st.integers(0, n - 1), min_size=3, max_size=3, unique=True)
            found += [triples.map(lambda indices: moves.reflection(n, _signed(indices, (1, 1, -2))))]
        if n >= 4:
            found += [moves.quadruples(n).map(lambda indices: moves.reflection(n, _signed(indices, (1, 1, -1, -1))))]
        return found

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.stabiliser(n, count, rng)


@dataclass(frozen=True)
class _U1(Group):
    """One rotation angle per coordinate plane: what commutes with rotary position embedding (RoPE).

    ``half`` pairs coordinate ``j`` with ``j + n/2`` (the layout of transformers), ``interleaved`` pairs ``2j`` with
    ``2j + 1``.
    """

    layout: Literal["half", "interleaved"]
    is_orthogonal: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"U1[{self.layout}]"

    def check_size(self, n: int) -> None:
        super().check_size(n)
        if n % 2:
            raise ValueError(f"{self}: coordinates come in planes, so the size of the axis is even, got {n}")

    def planes(self, n: int) -> list[tuple[int, int]]:
        """The coordinate planes."""
        self.check_size(n)
        return [(j, j + n // 2) if self.layout == "half" else (2 * j, 2 * j + 1) for j in range(n // 2)]

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return ()

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        return tuple(rotation_generator(n, plane) for plane in self.planes(n))

    def _exact(self, n: int) -> Iterable[Element]:
        planes = self.planes(n)
        turns = [(Fraction(0), Fraction(1)), (Fraction(-1), Fraction(0)), moves.PYTHAGOREAN[0]]
        single = [moves.rotation(n, *planes[0], *turn) for turn in turns]
        # All planes at once, by different angles.
        mixed = [moves.rotation(2, 0, 1, *turns[k % 3]) for k in range(len(planes))]
        order = moves.permutation([index for plane in planes for index in plane])
        return (*single, order @ block_diagonal(mixed) @ ~order)

    def _contains(self, element: Element) -> bool:
        if not is_orthogonal(element):
            return False
        planes = self.planes(element.size)
        inside = np.zeros((element.size, element.size), dtype=np.bool_)
        for plane in planes:
            inside[np.ix_(plane, plane)] = True
        if (support(element) & ~inside).any():
            return False
        # An orthogonal 2 x 2 block is a rotation exactly if its determinant is 1, otherwise that is -1.
        return all(np.linalg.det(element.matrix[np.ix_(plane, plane)]) > 0 for plane in planes)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        import hypothesis.strategies as st

        planes = st.sampled_from(self.planes(n))
        return [
            st.builds(lambda plane, turn: moves.rotation(n, *plane, *turn), planes, st.sampled_from(moves.PYTHAGOREAN))
        ]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.plane_rotations(n, self.planes(n), count, rng)


def _signed(indices: Sequence[int], values: Sequence[int]) -> dict[int, int]:
    return dict(zip(indices, values, strict=True))


O, Stab1 = _O(), _Stab1()  # noqa: E741  (the name of the group)
U1_HALF, U1_INTERLEAVED = _U1("half"), _U1("interleaved")
