"""The simple exact elements that exact elements are products of, and hypothesis strategies for them.

A counterexample that is a product of few moves reads like a textbook example, and the empty product is the identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from groups.element import Element, SparseRow

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

ONE, HALF = Fraction(1), Fraction(1, 2)
PYTHAGOREAN = ((Fraction(3, 5), Fraction(4, 5)), (Fraction(0), ONE), (Fraction(5, 13), Fraction(12, 13)))
"""Cosine and sine of the rational plane rotations: 3-4-5, a quarter turn, 5-12-13."""

_HADAMARD = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


def embed(size: int, indices: Sequence[int], block: Sequence[Sequence[Fraction]]) -> Element:
    """The identity of that size with ``block`` on the rows and columns ``indices``."""
    place = {index: k for k, index in enumerate(indices)}

    def row(i: int) -> SparseRow:
        if i not in place:
            return ((i, ONE),)
        return tuple(sorted((j, value) for j, value in zip(indices, block[place[i]], strict=True) if value))

    return Element.from_sparse(tuple(row(i) for i in range(size)))


def permutation(images: Sequence[int]) -> Element:
    """The permutation that moves coordinate ``j`` to ``images[j]``."""
    source = {image: j for j, image in enumerate(images)}
    return Element.from_sparse(tuple(((source[i], ONE),) for i in range(len(images))))


def transposition(size: int, i: int, j: int) -> Element:
    """Exchanges coordinates ``i`` and ``j``."""
    images = list(range(size))
    images[i], images[j] = j, i
    return permutation(images)


def cycle(size: int, shift: int = 1) -> Element:
    """The cyclic shift: coordinate ``j`` goes to ``j + shift`` modulo the size."""
    return permutation([(j + shift) % size for j in range(size)])


def diagonal(values: Sequence[Fraction | int]) -> Element:
    """The diagonal matrix."""
    return Element.from_sparse(tuple(((i, Fraction(value)),) for i, value in enumerate(values)))


def scaling(size: int, factors: Mapping[int, Fraction | int]) -> Element:
    """The diagonal matrix with these factors, 1 elsewhere; a factor -1 is a sign flip."""
    return diagonal([factors.get(i, 1) for i in range(size)])


def rotation(size: int, i: int, j: int, cosine: Fraction, sine: Fraction) -> Element:
    """The rotation of the plane ``(i, j)`` that sends ``e_i`` to ``cosine e_i + sine e_j``."""
    return embed(size, (i, j), ((cosine, -sine), (sine, cosine)))


def shear(size: int, i: int, j: int, amount: Fraction) -> Element:
    """Adds ``amount`` times coordinate ``j`` to coordinate ``i``."""
    return embed(size, (i, j), ((ONE, amount), (Fraction(0), ONE)))


def reflection(size: int, vector: Mapping[int, int]) -> Element:
    """The Householder reflection ``I - 2 v v^T / v^T v`` along an integer vector, given by its non-zero entries."""
    norm = sum(value * value for value in vector.values())
    indices = sorted(vector)
    block = [[Fraction(int(i == j)) - Fraction(2 * vector[i] * vector[j], norm) for j in indices] for i in indices]
    return embed(size, indices, block)


def hadamard(size: int, indices: Sequence[int]) -> Element:
    """The dyadic orthogonal matrix ``H_4 / 2`` on four coordinates."""
    return embed(size, indices, [[HALF * value for value in row] for row in _HADAMARD])


def pairs(size: int) -> SearchStrategy[tuple[int, int]]:
    """Strategy: two different indices, simplest ``(0, 1)``. Needs ``size >= 2``."""
    import hypothesis.strategies as st

    return st.tuples(st.integers(0, size - 1), st.integers(0, size - 2)).map(
        lambda pair: (pair[0], pair[1] + (pair[1] >= pair[0]))
    )


def quadruples(size: int) -> SearchStrategy[list[int]]:
    """Strategy: four different indices. Needs ``size >= 4``."""
    import hypothesis.strategies as st

    return st.lists(st.integers(0, size - 1), min_size=4, max_size=4, unique=True)


def transpositions(size: int) -> SearchStrategy[Element]:
    """Strategy: transpositions. Needs ``size >= 2``."""
    return pairs(size).map(lambda pair: transposition(size, *pair))


def flips(size: int) -> SearchStrategy[Element]:
    """Strategy: one sign flip."""
    import hypothesis.strategies as st

    return st.integers(0, size - 1).map(lambda i: scaling(size, {i: -1}))


def rotations(size: int) -> SearchStrategy[Element]:
    """Strategy: rational plane rotations. Needs ``size >= 2``."""
    import hypothesis.strategies as st

    return st.builds(lambda pair, angle: rotation(size, *pair, *angle), pairs(size), st.sampled_from(PYTHAGOREAN))


def reflections(size: int) -> SearchStrategy[Element]:
    """Strategy: reflections along integer vectors with one to four entries of size at most 2."""
    import hypothesis.strategies as st

    vectors = st.dictionaries(
        st.integers(0, size - 1), st.sampled_from((1, -1, 2, -2)), min_size=1, max_size=min(size, 4)
    )
    return vectors.map(lambda vector: reflection(size, vector))


def hadamards(size: int) -> SearchStrategy[Element]:
    """Strategy: Hadamard blocks. Needs ``size >= 4``."""
    return quadruples(size).map(lambda indices: hadamard(size, indices))


def positive_scalings(size: int) -> SearchStrategy[Element]:
    """Strategy: one coordinate times a small positive rational."""
    import hypothesis.strategies as st

    factors = st.sampled_from([Fraction(2), HALF, Fraction(3), Fraction(3, 2)])
    return st.builds(lambda i, factor: scaling(size, {i: factor}), st.integers(0, size - 1), factors)


def shears(size: int) -> SearchStrategy[Element]:
    """Strategy: shears by a small rational. Needs ``size >= 2``."""
    import hypothesis.strategies as st

    amounts = st.sampled_from([ONE, -ONE, HALF, Fraction(2)])
    return st.builds(lambda pair, amount: shear(size, pair[0], pair[1], amount), pairs(size), amounts)
