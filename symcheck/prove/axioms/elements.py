"""Generic group elements with symbols for entries, and how an equation between polynomials in them is decided.

Everything is written out entry by entry. An equation holds if its numerator, a polynomial, has remainder zero modulo
the relations of its symbols (``c^2 + s^2 = 1`` and the like): polynomial division, no simplifier.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import sympy
from sympy import Matrix, Symbol, eye

Equation = Any
"""An expression or matrix that must be zero, or a sympy truth value that must be true."""

C, S, C2, S2 = sympy.symbols("c s c2 s2", real=True)
SIGNS = sympy.symbols("e1:5", real=True)
SCALES = sympy.symbols("d1:5", positive=True)
RELATIONS = (C**2 + S**2 - 1, C2**2 + S2**2 - 1, *(sign**2 - 1 for sign in SIGNS))
"""Each in symbols of its own, so together a Groebner basis."""


def holds(equation: Equation, relations: Sequence[Any] = RELATIONS) -> bool:
    """Whether an equation is true: a truth value, or an expression that vanishes modulo the relations."""
    if isinstance(equation, sympy.MatrixBase):
        return all(holds(entry, relations) for entry in equation)
    if equation in (sympy.true, sympy.false) or isinstance(equation, bool):
        return bool(equation)
    numerator = sympy.expand(sympy.together(sympy.expand(equation)).as_numer_denom()[0])
    if numerator == 0:
        return True
    found = [relation for relation in relations if relation.free_symbols & numerator.free_symbols]
    if not found:
        return False
    generators = sorted(set().union(*(relation.free_symbols for relation in found)), key=str)
    _, remainder = sympy.reduced(numerator, found, *generators, order="grevlex")
    return bool(sympy.expand(remainder) == 0)


def matrix(name: str, rows: int, columns: int | None = None) -> Matrix:
    """A matrix of independent real symbols."""
    columns = rows if columns is None else columns
    return Matrix(rows, columns, lambda i, j: Symbol(f"{name}{i}{j}", real=True))


def column(name: str, rows: int) -> Matrix:
    """A column of independent real symbols."""
    return matrix(name, rows, 1)


def orthogonal(c: Any = C, s: Any = S) -> tuple[Matrix, Matrix]:
    """All of O(2): rotations and reflections, by a cosine and a sine."""
    return Matrix([[c, -s], [s, c]]), Matrix([[c, s], [s, -c]])


@cache
def stab1() -> tuple[Matrix, ...]:
    """All orthogonal 3 x 3 matrices that fix the all-ones vector: O(2) on its complement."""
    root = sympy.sqrt
    basis = Matrix([[1 / root(3), 1 / root(2), 1 / root(6)],
                    [1 / root(3), -1 / root(2), 1 / root(6)],
                    [1 / root(3), 0, -2 / root(6)]])  # fmt: skip
    return tuple((basis * sympy.diag(1, plane) * basis.T).applyfunc(sympy.expand) for plane in orthogonal())


def permutations(size: int) -> Iterator[Matrix]:
    """Generators of all permutations: a transposition and a cycle."""
    if size > 1:
        yield eye(size).permute_rows([1, 0, *range(2, size)])
    if size > 2:
        yield eye(size).permute_rows([*range(1, size), 0])


def every_permutation(size: int) -> Iterator[Matrix]:
    """All permutations."""
    for order in itertools.permutations(range(size)):
        yield eye(size).permute_rows(list(order))


def signs(size: int) -> Matrix:
    """A diagonal matrix of signs."""
    return sympy.diag(*SIGNS[:size])


def scales(size: int) -> Matrix:
    """A positive diagonal matrix."""
    return sympy.diag(*SCALES[:size])


def entrywise(one: Matrix, two: Matrix) -> Matrix:
    """The entrywise product."""
    return one.multiply_elementwise(two)


def in_eigenspaces() -> Iterator[tuple[Matrix, Matrix]]:
    """Rotations within eigenspaces of dimensions 2 and 1, and what is constant on these eigenspaces."""
    a, b = sympy.symbols("a b", real=True)
    for plane in orthogonal():
        yield sympy.diag(plane, SIGNS[0]), sympy.diag(a, a, b)
