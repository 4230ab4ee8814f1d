"""Shifts, column sums and independence."""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy import Function, Symbol, eye, ones, symbols

from symcheck.prove.axioms.elements import Equation, column, matrix

ONE = ones(3, 1)


def shift_linear() -> Iterator[Equation]:
    """Linear maps of ``X + q 1 c^T``; what is added stays constant along the rows when rows are not mixed."""
    x, y, c, b = matrix("x", 3, 2), matrix("y", 3, 2), column("c", 2), matrix("b", 2)
    q, r, s, t = symbols("q r s t", real=True)
    moved = s * (x + q * ONE * c.T) + t * (y + r * ONE * c.T)
    yield moved - (s * x + t * y) - (s * q + t * r) * ONE * c.T
    yield (x + ONE * c.T) * b - x * b - ONE * (b.T * c).T
    weights = sympy.diag(*symbols("w1 w2", real=True))
    change = (x + ONE * c.T) * weights - x * weights
    yield change[0, :] - change[1, :]
    yield change[1, :] - change[2, :]
    yield ((x + ONE * c.T).T - x.T) - c * ONE.T  # of the transposed array, along the other axis


def shift_centre() -> Iterator[Equation]:
    """``X - 1 mean(X)`` forgets ``1 c^T``."""
    x, c = matrix("x", 3, 2), column("c", 2)
    centre = eye(3) - ONE * ONE.T / 3
    yield centre * (x + ONE * c.T) - centre * x
    yield centre * x - (x - ONE * (ONE.T * x) / 3)


def sum_linear() -> Iterator[Equation]:
    """``1^T X = 0`` survives sums, scalars, and products on the right; and ``q W`` is added up along."""
    free, w, b = matrix("x", 3, 2), matrix("w", 3, 2), matrix("b", 2)
    x, y = free - ONE * (ONE.T * free) / 3, (free - ONE * (ONE.T * free) / 3) * b
    s, t, q, r = symbols("s t q r", real=True)
    yield ONE.T * (s * x + t * y)
    yield ONE.T * (x * b)
    yield ONE.T * (x * sympy.diag(s, t))
    yield ONE.T * (s * (q * w + x) + t * (r * w + y) - (s * q + t * r) * w)


def sum_centre() -> Iterator[Equation]:
    """``1^T (X - 1 mean(X)) = 0``."""
    x = matrix("x", 3, 2)
    yield ONE.T * (x - ONE * (ONE.T * x) / 3)


def independence() -> Iterator[Equation]:
    """A function of values whose derivative in ``z`` is zero has derivative zero."""
    x, y, z = symbols("x y z", real=True)
    f, g = Function("f"), Function("g")
    yield sympy.diff(f(x, g(y)), z)


def rounding() -> Iterator[Equation]:
    """A cast is the identity."""
    x = Symbol("x", real=True)
    cast = sympy.Lambda(x, x)
    yield cast(x) - x
