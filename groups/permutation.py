"""The finite families: trivial, cyclic shifts, permutations, sign flips, signed permutations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from groups import moves
from groups.element import Element
from groups.group import Group, monomial

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class _Trivial(Group):
    """Only the identity; the group of an axis that a spec does not mention."""

    is_orthogonal: ClassVar[bool] = True
    is_finite: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "1"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return ()

    def _exact(self, n: int) -> Iterable[Element]:
        return ()

    def _contains(self, element: Element) -> bool:
        return element.is_identity

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return []

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.identities(n, count, rng)


@dataclass(frozen=True)
class _Cyclic(Group):
    """Cyclic shifts of the coordinates; what commutes with them is circulant."""

    is_orthogonal: ClassVar[bool] = True
    is_finite: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "Cyclic"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return (moves.cycle(n),) if n > 1 else ()

    def _exact(self, n: int) -> Iterable[Element]:
        return (moves.cycle(n, shift) for shift in (1, n // 2, n - 1))

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        if entries is None:
            return False
        return all(value == 1 and (j - i - entries[0][0]) % element.size == 0 for i, (j, value) in enumerate(entries))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        import hypothesis.strategies as st

        return [st.integers(1, n - 1).map(lambda shift: moves.cycle(n, shift))] if n > 1 else []

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.cyclic_shifts(n, count, rng)


@dataclass(frozen=True)
class _Perm(Group):
    """Permutations of the coordinates."""

    is_orthogonal: ClassVar[bool] = True
    is_finite: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "Perm"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return tuple(dict.fromkeys((moves.transposition(n, 0, 1), moves.cycle(n)))) if n > 1 else ()

    def _exact(self, n: int) -> Iterable[Element]:
        return (*self.generators(n), moves.permutation(range(n - 1, -1, -1)))

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and all(value == 1 for _, value in entries)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [moves.transpositions(n)] if n > 1 else []

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.permutations(n, count, rng)


@dataclass(frozen=True)
class _Sign(Group):
    """Sign flips of single coordinates."""

    is_orthogonal: ClassVar[bool] = True
    is_finite: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "Sign"

    def generators(self, n: int) -> tuple[Element, ...]:
        self.check_size(n)
        return tuple(moves.scaling(n, {i: -1}) for i in range(n))

    def _exact(self, n: int) -> Iterable[Element]:
        patterns = ({0: -1}, dict.fromkeys(range(n), -1), dict.fromkeys(range(0, n, 2), -1), {n - 1: -1})
        return (moves.scaling(n, pattern) for pattern in patterns)

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and all(i == j and value in (1, -1) for i, (j, value) in enumerate(entries))

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [moves.flips(n)]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.signs(n, count, rng)


@dataclass(frozen=True)
class _SPerm(Group):
    """Signed permutations, the hyperoctahedral group B_n."""

    is_orthogonal: ClassVar[bool] = True
    is_finite: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "SPerm"

    def generators(self, n: int) -> tuple[Element, ...]:
        return (moves.scaling(n, {0: -1}), *Perm.generators(n))

    def _exact(self, n: int) -> Iterable[Element]:
        alternating = moves.scaling(n, dict.fromkeys(range(0, n, 2), -1))
        return (*self.generators(n), alternating @ moves.cycle(n), *Sign.exact(n)[:2])

    def _contains(self, element: Element) -> bool:
        entries = monomial(element)
        return entries is not None and all(value in (1, -1) for _, value in entries)

    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        return [*Perm._moves(n), *Sign._moves(n)]

    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        from groups import haar

        return haar.permutations(n, count, rng) @ haar.signs(n, count, rng)


Trivial, Cyclic, Perm, Sign, SPerm = _Trivial(), _Cyclic(), _Perm(), _Sign(), _SPerm()
