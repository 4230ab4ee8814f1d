"""The subgroup order between families: sound, and complete for the named ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType

from groups.copies import Copies
from groups.group import Group
from groups.linear import GL, Monomial, PositiveMonomial, PositiveScale, Scale
from groups.matrix_group import MatrixGroup
from groups.orthogonal import U1_HALF, U1_INTERLEAVED, O, Stab1
from groups.permutation import Cyclic, Perm, Sign, SPerm, Trivial
from groups.rational import Span
from groups.wreath import Wreath

FAMILIES: Mapping[str, Group] = MappingProxyType(
    {
        group.name: group
        for group in (
            *(Trivial, Sign, Cyclic, Perm, SPerm, Stab1, O),
            *(PositiveScale, Scale, PositiveMonomial, Monomial, GL),
            *(U1_HALF, U1_INTERLEAVED),
        )
    }
)
"""The families that spec strings know by name, in the order in which they are listed."""

_COVERS: Mapping[Group, tuple[Group, ...]] = {
    Sign: (SPerm, Scale),
    Cyclic: (Perm,),
    Perm: (SPerm, Stab1, PositiveMonomial),
    SPerm: (O, Monomial),
    Stab1: (O,),
    O: (GL,),
    PositiveScale: (Scale, PositiveMonomial),
    Scale: (Monomial,),
    PositiveMonomial: (Monomial,),
    Monomial: (GL,),
    U1_HALF: (O,),
    U1_INTERLEAVED: (O,),
}
"""The families directly above each (theory: Lau and Su, arXiv 2605.18106, and the classical inclusions)."""

BLOCK_DIAGONAL_CLOSED = frozenset(
    {Trivial, Sign, Perm, SPerm, Stab1, O, PositiveScale, Scale, PositiveMonomial, Monomial, GL}
)
"""Families F such that a block diagonal matrix of elements of F, and a Kronecker product of two, is again in F."""
_PERMUTING = frozenset({Perm, SPerm, Stab1, O, PositiveMonomial, Monomial, GL})
"""Those of them that also contain the permutations."""
_DIAGONAL = frozenset({Sign, PositiveScale, Scale})
"""Families of diagonal matrices: the blocks on the diagonal of an element are in the same family."""


def _above(group: Group) -> Iterator[Group]:
    yield group
    for cover in _COVERS.get(group, ()):
        yield from _above(cover)


def is_subfamily(small: Group, large: Group) -> bool:
    """Whether ``small(n)`` is a subgroup of ``large(n)`` wherever both exist. False also where that is not known."""
    if small in (Trivial, large) or large == GL:
        return True
    if isinstance(small, MatrixGroup):
        return _matrix_group_below(small, large)
    if isinstance(small, Copies):
        return _copies_below(small, large)
    if isinstance(small, Wreath):
        return _wreath_below(small, large)
    if isinstance(large, Wreath):
        if large.blocks == 1:
            return is_subfamily(small, large.inner)
        return small in _DIAGONAL and is_subfamily(small, large.inner)
    return any(large == group for group in _above(small))


def _copies_below(small: Copies, large: Group) -> bool:
    if small.blocks == 1:
        return is_subfamily(small.inner, large)
    if isinstance(large, Copies):
        return (small.blocks, True, True) == (large.blocks, small.top <= large.top, small.inner <= large.inner)
    if isinstance(large, Wreath) and large.blocks == 1:
        return is_subfamily(small, large.inner)
    if isinstance(large, Wreath):  # copies in any order, here all moved alike
        return (small.blocks, True) == (large.blocks, small.top <= large.top) and small.inner <= large.inner
    return large in (_PERMUTING if small.top == Perm else BLOCK_DIAGONAL_CLOSED) and small.inner <= large


def _flat(top: Group, within: Group) -> Group:
    """The permutations of all blocks of a wreath product of wreath products."""
    return Trivial if top == within == Trivial else Perm


def _wreath_below(small: Wreath, large: Group) -> bool:
    if small.blocks == 1:
        return is_subfamily(small.inner, large)
    if small.inner == Trivial and small.top == Trivial:
        return True
    if isinstance(large, Wreath):
        if large.blocks == 1:
            return is_subfamily(small, large.inner)
        if isinstance(small.inner, Copies) and large.blocks == small.blocks * small.inner.blocks:
            return _flat(small.top, small.inner.top) <= large.top and small.inner.inner <= large.inner
        return (small.blocks, True, True) == (large.blocks, small.inner <= large.inner, small.top <= large.top)
    closed = _PERMUTING if small.top != Trivial else BLOCK_DIAGONAL_CLOSED
    return large in closed and small.inner <= large


def _matrix_group_below(small: MatrixGroup, large: Group) -> bool:
    """By generators: they and the Lie algebra of ``small`` lie in ``large``, hence so does all that they generate."""
    try:
        large.check_size(small.size)
    except ValueError:
        return False
    if isinstance(large, MatrixGroup) and not set(small.discrete) <= set(large.discrete):
        return False
    if not isinstance(large, MatrixGroup) and not all(map(large.contains, small.discrete)):
        return False
    # The bases of the built-in families have small integer entries, so this is exact.
    span = Span([Fraction(value) for value in x.ravel().tolist()] for x in large.lie_algebra(small.size))
    return all(span.contains([value for row in x for value in row]) for x in small.basis)
